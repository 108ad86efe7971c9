"""What a terminal is shown: tables as wide as it is, nothing broken inside a word, colour only where there is some."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest

from spikeattn.cli.drawing import drawn, fitted
from spikeattn.cli.printed_table import PrintedTable
from spikeattn.cli.terminal import in_colour, say, width_of
from spikeattn.cli.tree_text import stems

ESCAPE = re.compile("\x1b\\[[0-9;]*m")
TABLE = PrintedTable(
    [
        ["part", "code name", "T1", "T2", "what it is about"],
        ["stem", "patch_embed.proj_lif", "0.0123", "0.0456", "the first layers of the network, of convolutions"],
        ["total", "a name with spaces in it", "0.1234", "0.4567", "short"],
    ],
    [False, False, True, True, False],
    (["T2"], ["code"]),
)


class Screen(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no number")


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_table_fits_and_no_word_is_broken(width):
    lines = ESCAPE.sub("", drawn([TABLE], width, False)).splitlines()
    assert max(map(len, lines)) <= width
    words = {word for row in TABLE.rows for cell in row for word in cell.split()}
    table = "\n".join(lines).partition("(")[0]  # what was left out is named in brackets
    for word in table.split():
        assert word in words
    assert all(row[0] in table for row in TABLE.rows), "the first column stays"


def test_spare_columns_go_first_and_are_named():
    assert fitted(TABLE, 200)[0] == [0, 1, 2, 3, 4]
    assert fitted(TABLE, 70)[0] == [0, 1, 2, 4]
    assert fitted(TABLE, 60)[0] == [0, 2, 4]
    assert "60 columns have no room for code name, T2: a wider" in drawn([TABLE], 60, False).replace("\n", " ")
    assert "no room" not in drawn([TABLE], 200, False)


def test_a_pipe_gets_every_column_a_row_a_line():
    lines = str(TABLE).splitlines()
    assert len(lines) == 3 and "code name" in lines[0] and lines[1].endswith("of convolutions")


def test_prose_is_wrapped_below_its_label_and_commands_are_left_whole():
    note = "note        " + "some words of a sentence that goes on for more than a line of a narrow terminal"
    command = "  spikeattn profile --model sdt_digits --pretrained --data digits --out a_long_folder_name --resume"
    first, *rest = drawn([note, command], 60, False).splitlines()
    assert first.startswith("note        some") and len(first) <= 60
    assert re.match(" {12}[a-z]", rest[0])
    assert rest[-1] == command


def test_colours_say_what_matters_and_what_a_name_holds_is_never_obeyed():
    loud = drawn(["warning     UNTRAINED: random weights", "a\x1b[31mname", TABLE], 80, True)
    assert "\x1b[33mwarning\x1b[0m" in loud and "\\x1b[31mname" in loud and "\x1b[1m" in loud
    assert "\x1b" not in drawn(["warning     UNTRAINED: random weights", TABLE], 80, False)


@pytest.mark.parametrize(
    ("variables", "width", "colour"),
    [
        ({}, 80, True),
        ({"COLUMNS": "120"}, 120, True),
        ({"COLUMNS": "7"}, 40, True),
        ({"COLUMNS": "wide"}, 80, True),
        ({"NO_COLOR": "1"}, 80, False),
        ({"TERM": "dumb"}, 80, False),
    ],
)
def test_a_terminal_has_a_width_and_colours_unless_someone_forbids(monkeypatch, variables, width, colour):
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (width_of(Screen()), in_colour(Screen())) == (width, colour)


def test_a_pipe_has_neither_but_a_width_where_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width_of(sys.stdout) is None and not in_colour(sys.stdout) and width_of(None) is None
    say([TABLE])
    assert capsys.readouterr().out == f"{TABLE}\n"
    monkeypatch.setenv("COLUMNS", "60")
    say([TABLE])
    out = capsys.readouterr().out
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= 60
    assert width_of(sys.stderr) is None, "messages to a file stay in one line each"


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("columns", [80, 120])
def test_a_command_on_a_terminal_and_in_a_pipe(columns):
    import pty

    command = [sys.executable, "-m", "spikeattn", "costs"]
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdout=theirs, stdin=theirs, env=variables | {"TERM": "xterm", "COLUMNS": str(columns)}
    ) as started:
        os.close(theirs)
        shown = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not read:
                break
            shown += read
    os.close(ours)
    assert started.returncode == 0
    text = shown.decode().replace("\r\n", "\n")
    assert "\x1b[1m" in text and max(map(len, ESCAPE.sub("", text).splitlines())) <= columns
    piped = subprocess.run(command, capture_output=True, env=variables, check=True, text=True).stdout
    assert "\x1b" not in piped and "memories" in piped.splitlines()[0]


def test_the_lines_of_a_tree():
    assert stems([0, 1, 2, 2, 1, 2]) == ["", "├─ ", "│  ├─ ", "│  └─ ", "└─ ", "   └─ "]


def test_a_profile_is_a_tree_that_fits_a_screen_and_every_layer_with_full(spikeattn):
    ask = ["profile", "--model", "sdt_digits", "--pretrained", "--data", "digits", "--limit", 2, "--out"]
    short, full = spikeattn(*ask, "short").out, spikeattn(*ask, "full", "--full").out
    assert len(short.splitlines()) <= 40 < 60 < len(full.splitlines())
    assert "│  ├─ QKV" in short and "block.0.attn.q_conv" not in short and "--full has every layer" in short
    assert "block.0.attn.q_conv" in full and "Conv1 max-pooled" in full and "--full" not in full
    assert short.splitlines()[3].split()[::4] == ["sdt_digits", "M"] and "100.0 %" in short.splitlines()[3]
