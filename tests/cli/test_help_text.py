"""Help on a narrow terminal: nothing is wider than it, examples stay commands that can be copied."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from spikeattn.cli.app import app
from spikeattn.cli.help_text import fitted_help

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_line_is_wider_than_the_terminal(spikeattn, monkeypatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = spikeattn(command, "--help")
    assert done.code == 0 and max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_examples_are_the_same_words(command: str) -> None:
    def words(text: str) -> list[list[str]]:
        joined = re.sub(r"\\\n *", "", text)
        return [shlex.split(line) for line in joined.splitlines() if line.lstrip().startswith("spikeattn ")]

    text = COMMANDS[command].help or ""
    assert words(text) and words(fitted_help(text, 60)) == words(text)


def test_a_list_is_broken_below_its_second_column() -> None:
    listed = "\b\nData:\n  cifar10:PATH  columns image and label of two files that were read"
    assert fitted_help(listed, 40).splitlines()[-1].startswith(" " * 16 + "read")
    assert fitted_help("A long paragraph that click itself will wrap", 10).count("\n") == 0
