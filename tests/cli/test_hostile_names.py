"""Names that would command a terminal, pass for others, or start a program in a spreadsheet."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikeattn.boundary import visible_text
from spikeattn.cli import app
from spikeattn.storage import csv_text

ESCAPE, TURNED, SHORT = "\x1b]0;owned\x07\x1b[31m", "\u202egpj\u202c", "\x9b2J"  # title and colour; direction; CSI
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MODEL = ("--model", "sdt_digits", "--pretrained", "--threads", 1, "--device", "cpu")


def test_what_a_terminal_obeys_is_shown() -> None:
    assert visible_text.visible(f"a{ESCAPE}\nb\t\r\u2028") == "a\\x1b]0;owned\\x07\\x1b[31m\nb\t\\r\\u2028"
    assert visible_text.visible_cell("a\nb\tc\x9b") == "a\\nb\\tc\\x9b"
    assert visible_text.visible("µJ – 3 % caffè 図\U0001f600") == "µJ – 3 % caffè 図\U0001f600"
    name = f"{ESCAPE}{TURNED}{SHORT}\x7f\n"
    assert json.loads(visible_text.visible_json(json.dumps(name, ensure_ascii=False))) == name


@pytest.mark.parametrize(
    "arguments",
    [
        ("energy", f"no{ESCAPE}{TURNED}{SHORT}"),
        ("profile", "--model", f"sdt{ESCAPE}", "--data", "digits", "--out", "x"),
        ("costs", f"--x{ESCAPE}"),
        ("profile", *MODEL, "--data", f"fold{SHORT}er:x", "--out", "x"),
        ("profile", *MODEL[:2], "--checkpoint", f"c{ESCAPE}.pth", "--data", "digits", "--out", "x"),
    ],
)
def test_errors_command_no_terminal(spikeattn, arguments: tuple[object, ...]) -> None:
    done = spikeattn(*arguments)
    assert done.code in (1, 2) and not OBEYED.search(done.out + done.err), done.err
    assert r"\x1b" in done.err or r"\x9b" in done.err


def test_a_fault_of_ours_commands_no_terminal(spikeattn, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(context: object) -> None:
        raise RuntimeError(ESCAPE)

    monkeypatch.setattr(app.typer.main.get_command(app.app).__class__, "invoke", lambda self, context: fail(context))
    done = spikeattn("costs")
    assert done.code == 70 and "Traceback" in done.err and not OBEYED.search(done.err)


def test_a_user_without_a_name_is_told_what_to_do(spikeattn, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, context: object) -> None:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(app.typer.main.get_command(app.app).__class__, "invoke", fail)
    done = spikeattn("costs")
    assert done.code == 1 and "set USER to any name" in done.error


def test_a_data_set_of_hostile_names(spikeattn, tmp_path: Path) -> None:
    data = tmp_path / "data"
    pixels = Image.fromarray(np.random.RandomState(0).randint(0, 256, (20, 20), dtype=np.uint8))
    for folder in (f"=cmd{ESCAPE}", f"@{TURNED}{SHORT}"):
        (data / folder).mkdir(parents=True)
        pixels.save(data / folder / f"+1{ESCAPE}.png")
        (data / folder / f"-bad{ESCAPE}.png").write_bytes(b"no image")
    done = spikeattn("profile", *MODEL, "--data", f"folder:{data}", "--out", f"run{ESCAPE}")
    assert done.code == 0 and not OBEYED.search(done.out + done.err.replace("\r", "")), done.err
    (tmp_path / f"run{ESCAPE}").rename(tmp_path / "run")
    for arguments in (("rates", "run"), ("rates", "run", "--json"), ("energy", "run")):
        done = spikeattn(*arguments)
        assert done.code == 0 and not OBEYED.search(done.out + done.err), arguments
    done = spikeattn("rates", "run", "--tidy", "--out", "rates.csv")
    assert done.code == 0 and len(csv_text.read("rates.csv"))
