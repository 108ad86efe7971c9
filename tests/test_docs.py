"""Every block of code in README.md and docs/: Python runs as it stands; commands exist, with their options.

A page's Python blocks share one namespace and an empty folder; those of the tutorial are files and programs, in order.
Blocks that need files of the reader (a checkpoint, ImageNet) have `<!-- needs: files -->` on the line before:
those are compiled, and their names checked.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer

import spikeattn as sa
from spikeattn.cli import app
from spikeattn.cli.run_summary import summary_text

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"(<!-- needs: files -->\n)?```(\w*)\n(.*?)```", re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[bool, str]]:
    """(needs the reader's files, code) of every block of a language."""
    return [(bool(needs), code) for needs, name, code in BLOCK.findall(page.read_text()) if name == language]


@pytest.fixture
def empty_folder(tmp_path: Path) -> Iterator[Path]:
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(tmp_path)
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)
    os.chdir(before)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "python") and p.name != "tutorial.md"], ids=lambda page: page.name
)
def test_python_blocks_run(page: Path, empty_folder: Path) -> None:
    namespace: dict[str, object] = {}
    for number, (needs_files, code) in enumerate(blocks(page, "python"), 1):
        program = compile(code, f"{page.name}, block {number}", "exec")
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sa":
                assert hasattr(sa, node.attr), f"{page.name}: sa.{node.attr} does not exist"
        if not needs_files:
            exec(program, namespace)


def test_the_quick_start_prints_what_its_network_gives(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the network under "Your own network", and that it fires: a table of zeros would show nothing."""
    page = ROOT / "docs" / "index.md"
    ours, _, rest = page.read_text(encoding="utf-8").partition("## Your own network")[2].partition("## While")
    assert rest
    (code,) = [code for _, language, code in BLOCK.findall(ours) if language == "python"]
    (printed,) = [code for _, language, code in BLOCK.findall(ours) if language == "text"]
    model = sa.create_model("sdt_digits", pretrained=True)
    loader = sa.make_loader(sa.open_dataset("digits", model), batch_size=40, limit=40)
    exec(compile(code, page.name, "exec"), {"sa": sa, "loader": loader})
    assert capsys.readouterr().out.split() == printed.split()
    assert int(printed.split()[-2]) > 0  # SOPs of the last layer


def test_the_tutorial_runs_from_the_first_block_to_the_last(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are written and programs run as a reader does, in order; a page or a table that is promised is there. Three
    epochs in place of eight: what is printed is not compared."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    namespace: dict[str, object] = {}
    for _, language, code in BLOCK.findall(page):
        if language == "python" and (named := re.match(r"# (\w+\.py)\n", code)):
            shorter = code.replace("for epoch in range(8):", "for epoch in range(3):")
            assert (shorter != code) == (named[1] == "train.py")
            Path(named[1]).write_text(shorter, encoding="utf-8")
        elif language == "python":
            exec(compile(code, "tutorial.md", "exec"), namespace)
        for line in code.replace("\\\n", " ").splitlines() if language == "sh" else ():
            words = shlex.split(line, comments=True)
            call = words[1:] if words[0] == "python" else ["-m", "spikeattn", *words[1:]]
            assert words[0] in ("python", "spikeattn")
            done = subprocess.run([sys.executable, *call], capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stderr[-2000:])
    for name in ("table.tex", "results.tex", "methods.tex", "references.bib", "main.tex", "figures/energy_by_part.pdf"):
        assert (empty_folder / "report" / name).stat().st_size, name
    assert "my_net" in (empty_folder / "report" / "report.html").read_text(encoding="utf-8")
    profile = namespace["profile"]
    assert isinstance(profile, sa.Profile) and profile.energy().total.value > 0 and not profile.ledger.uncounted
    assert profile.summary()["accuracy"] > 0.3  # it has learned something: chance is 0.1


def said(text: str) -> tuple[list[str], list[float]]:
    """The words of what was printed, and its numbers; rules of tables count as one dash each."""
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)", text)
    words = re.sub(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)", "#", re.sub("-+", "-", text)).split()
    return words, [float(number) for number in numbers]


def test_the_readme_prints_what_its_ten_lines_and_its_command_give(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers to 1 %: another processor may round a membrane potential across the threshold."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    commands, _, rest = page.partition("## Two commands")[2].partition("## Ten lines of Python")
    ours = rest.partition("\n## ")[0]
    (code,) = [code for _, language, code in BLOCK.findall(ours) if language == "python"]
    (printed,) = [code for _, language, code in BLOCK.findall(ours) if language == "text"]
    (headline,) = [code for _, language, code in BLOCK.findall(commands) if language == "text"]
    assert len([line for line in code.splitlines() if line and not line.startswith("#")]) <= 10
    exec(compile(code, "README.md", "exec"), {})
    words, numbers = said(capsys.readouterr().out)
    assert words == said(printed)[0] and numbers == pytest.approx(said(printed)[1], rel=0.01)
    parts = [part for part in summary_text(sa.Profile.load("runs/digits"), full=False) if isinstance(part, str)]
    shown = [said(line) for part in parts for line in part.splitlines()]
    for line in headline.splitlines():
        same = [found for words, found in shown if words == said(line)[0]]
        assert [found for found in same if found == pytest.approx(said(line)[1], rel=0.01)], line


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table below a heading, by their first cell."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells, f"{page} has no table below {heading!r}"
    return {first: rest for first, *rest in cells}


def test_the_questions_have_the_conventions_energies() -> None:
    table = rows("faq.md", "Why is my number not the paper's?")
    printed = {name.strip("`"): float(mj) for name, (mj, _) in table.items() if name.startswith("`")}
    assert len(printed) == 6
    for name, mj in printed.items():
        total = sa.energy_from_rates("table_s1_sdt_8_512", "sdt_8_512", convention=name).total
        assert f"{float(total):.3f}" == f"{mj:.3f}", name


def test_the_questions_have_the_numbers_of_the_reports() -> None:
    measured = (ROOT / "reports/measured/measured.md").read_text(encoding="utf-8").partition("## The N-MNIST")[0]
    modelled = {name: rest for name, rest in rows("faq.md", "Is this measured?").items() if name.startswith("`")}
    for name, (mj, factor) in modelled.items():
        (line,) = re.findall(rf"^\| {re.escape(name.split('`')[1])} \| (.*?) \| (.*?) \|", measured, re.MULTILINE)
        assert [float(mj), float(factor)] == pytest.approx(list(map(float, line)), rel=0.01), name  # rounded
    assert len(modelled) == 5
    for name, (_, accuracy, operations, energy, ratio, memory) in rows("faq.md", "Event data").items():
        if not name.startswith("`sdt"):
            continue
        report = (ROOT / "reports" / name.strip("`")[4:] / "report.md").read_text(encoding="utf-8")
        sops, macs = operations.split(", ")
        assert f"accuracy   {accuracy} " in report and f"energy     {energy} per image" in report, name
        assert f"SOPs       {sops} per image, and {macs} MACs" in report and f"ANN : SNN  {ratio} : 1" in report, name
        (said,) = re.findall(r"^memory .* ratio (\S+) ", report, re.MULTILINE)
        assert f"{float(said):.1f}" == memory, name
    layers = (ROOT / "reports/digits/report.md").read_text(encoding="utf-8")
    assert re.search(r"Conv1  .* 0\.0594 ", layers) and re.search(r"Conv1 max-pooled .* 0\.1801 ", layers)
    overhead = (ROOT / "reports/benchmark/overhead.md").read_text(encoding="utf-8").partition("paired ratios")[2]
    for times in ("1.082", "0.238", "1.246", "1.299", "2.323", "2.588"):
        assert f"| {times} |" in overhead and f"| {float(times):.2f} |" in (ROOT / "docs/faq.md").read_text()


COMMANDS = [
    (page.name, line)
    for page in PAGES
    for _, code in blocks(page, "sh")
    for line in code.replace("\\\n", " ").splitlines()
    if line.strip().startswith("spikeattn ")
]


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda text: text[:60])
def test_commands_exist_with_their_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    group = typer.main.get_command(app.app)
    assert words[0] in group.commands, f"{page}: there is no command {words[0]!r}"
    known = {name for option in group.commands[words[0]].params for name in (*option.opts, *option.secondary_opts)}
    given = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
    assert given <= known | {"--help"}, f"{page}: {words[0]} has no option {sorted(given - known)}"
