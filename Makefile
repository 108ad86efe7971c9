# make report   set up .venv and run the embedded default end to end: reports/demo/
# make test     set up .venv, ruff and mypy, then all tests, by WORKERS=2 processes that take a test file each
# make test-versions   three environments of older and newer versions, tests and a report in each: reports/versions.md
# make docs     set up .venv, mkdocs too, and build the pages into build/docs/
# make dist     set up .venv, build and twine too, and make the wheel and the sdist of a release in dist/
#
# The pinned versions of constraints.txt need Python 3.11; spikeattn itself, with older ones, runs on 3.10 too.
#
# .venv belongs to this file. Its stamp holds the path of this checkout and is written after a complete installation:
# an interrupted one is taken up again by the next call, a moved or copied checkout is installed anew.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
WORKERS ?= 2

.PHONY: help setup report test test-versions lint docs dist clean FORCE
.DEFAULT_GOAL := help

help:
	@echo "make report   run the embedded default end to end, into reports/demo/"
	@echo "make test     ruff, mypy and all tests"
	@echo "make test-versions   tests under older and newer versions, 18 GB below build/versions/, into reports/versions.md"
	@echo "make lint     ruff and mypy alone"
	@echo "make docs     the documentation as web pages, into build/docs/"
	@echo "make dist     wheel and sdist, checked, into dist/"
	@echo "make setup    only set up .venv (PYTHON=python3.12 chooses the interpreter of a new one)"
	@echo "make clean    remove .venv, caches and reports/demo/"

setup: $(STAMP)
	@:

report: $(STAMP)
	@$(VENV)/bin/spikeattn report --out reports/demo

test: lint
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile

test-versions: $(STAMP)
	@$(PY) scripts/try_versions.py

lint: $(STAMP)
	@$(PY) -m ruff check --quiet
	@$(PY) -m mypy --no-error-summary

docs: $(STAMP)
	@$(PY) -c 'import mkdocs, mkdocstrings, latex2mathml' 2>/dev/null || $(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "build/docs/index.html"

# Without an environment of its own, so that hatchling is the pinned one.
dist: $(STAMP)
	@$(PY) -c 'import build, twine' 2>/dev/null || $(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[release]'
	@rm -rf dist
	@$(PY) -m build --no-isolation >/dev/null
	@$(PY) -m twine --no-color check --strict dist/*

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis reports/demo
	find $(wildcard spikeattn tests scripts) -name __pycache__ -type d -prune -exec rm -rf {} +

ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif

$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  command -v "$(PYTHON)" >/dev/null || { echo "error: $(PYTHON) is not on the PATH; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }; \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$("$(PYTHON)" --version 2>&1), the pinned versions of constraints.txt need Python 3.11 or newer; name one: make PYTHON=python3.12 (on 3.10, without make and pins: pip install .)" >&2; exit 1; }; \
	  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments with pip (module ensurepip or venv is missing); on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	  "$(PYTHON)" -m venv --clear $(VENV); \
	fi
	@echo "installing spikeattn and its pinned dependencies into $(VENV) (torch with CUDA: about 6 GB on disk)" >&2
	@$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@echo "$(CURDIR)" > $@
