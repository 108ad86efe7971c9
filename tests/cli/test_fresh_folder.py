"""Folders of results: whole or not at all, and the names of the files in them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from spikeattn.cli.fresh_folder import fresh_folder, recover, staging
from spikeattn.cli.launching import Terminated, stoppable
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.output_folder import stems
from spikeattn.storage import lock

from .attending import files


def test_a_folder_appears_whole_or_not_at_all(tmp_path) -> None:
    told = []
    with pytest.raises(KeyboardInterrupt), fresh_folder(tmp_path / "a/b", "last", told.append) as staging:
        (staging / "x").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    assert told == [f"stopped; {tmp_path / 'a/b'} is as it was before, run the command again for the whole result"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError), fresh_folder(empty, "last"):
        raise ValueError
    assert list(empty.iterdir()) == []
    with fresh_folder(empty, "last") as staging:
        (staging / "last").write_text("done")
        (staging / "sub").mkdir()
        (staging / "sub/x").write_text("x")
        with pytest.raises(SpikeattnError, match="another process is writing there"), fresh_folder(empty, "last"):
            pass
    assert files(empty) == {"last", "sub/x"}
    with pytest.raises(SpikeattnError, match="holds a finished result"), fresh_folder(empty, "last"):
        pass


def left_by_a_dead_process(out: Path, *moved: str, order: bool = False) -> None:
    """What SIGKILL leaves of a folder with the files x, y and last, some of which have been moved."""
    place = out / ".unfinished-dead"
    place.mkdir(parents=True)
    (place / lock.NAME).write_text("process 1 on a machine")
    for name in ("x", "y", "last"):
        (out if name in moved else place).joinpath(name).write_text(name)
    if order:
        (place / ".order.json").write_text('["x", "y", "last", "../escaped"]')


def test_what_a_killed_process_has_left_is_removed(tmp_path) -> None:
    left_by_a_dead_process(tmp_path / "out")
    with fresh_folder(tmp_path / "out", "last") as staging:
        (staging / "last").write_text("new")
    assert files(tmp_path / "out") == {"last"} and (tmp_path / "out/last").read_text() == "new"


@pytest.mark.parametrize("moved", [(), ("x",), ("x", "y"), ("x", "y", "last")])
def test_a_result_that_was_being_moved_is_finished(tmp_path, moved) -> None:
    left_by_a_dead_process(tmp_path / "out", *moved, order=True)
    (tmp_path / "out/.unfinished-dead/escaped").write_text("")
    with pytest.raises(SpikeattnError, match="holds a finished result"), fresh_folder(tmp_path / "out", "last"):
        pass
    assert files(tmp_path) == {"out/x", "out/y", "out/last"}


def test_folders_of_living_processes_and_of_nobody_stay(tmp_path) -> None:
    (tmp_path / "out/.unfinished-old").mkdir(parents=True)  # of a version that left no lock
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / lock.NAME).write_text("")
    (tmp_path / "out/.unfinished-link").symlink_to(tmp_path / "other")
    with staging(tmp_path / "out") as place:
        recover(tmp_path / "out")
        assert place.is_dir() and (tmp_path / "out/.unfinished-old").is_dir() and (tmp_path / "other").is_dir()
        with (
            pytest.raises(SpikeattnError, match="another process is writing there"),
            fresh_folder(tmp_path / "out", "x"),
        ):
            pass
    assert not place.exists() and (tmp_path / "other" / lock.NAME).is_file()


def test_a_signal_that_comes_late_does_not_undo_the_result(tmp_path) -> None:
    with stoppable():
        with fresh_folder(tmp_path / "out", "last") as place:
            (place / "last").write_text("done")
        signal.raise_signal(signal.SIGTERM)  # between the last file and what the command prints
    assert files(tmp_path / "out") == {"last"}
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
    try:
        with pytest.raises(Terminated) as stop, stoppable(), fresh_folder(tmp_path / "two", "last"):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stop.value.code == 129 and not (tmp_path / "two").exists()


def test_names_of_files_are_safe_and_each_once() -> None:
    assert stems(["a/b.png", "a_b.jpg", "../x y.png", "A/b.png", "é.png", "..."]) == [
        "a_b", "a_b-2", "x_y", "A_b-3", "é", "image",
    ]  # fmt: skip
