"""Folders of results: whole or not at all, and the names of the files in them."""

from __future__ import annotations

import pytest

from spikeattn.cli.fresh_folder import fresh_folder
from spikeattn.errors import SpikeattnError
from spikeattn.report.files import stems

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


def test_names_of_files_are_safe_and_each_once() -> None:
    assert stems(["a/b.png", "a_b.jpg", "../x y.png", "A/b.png", "é.png", "..."]) == [
        "a_b", "a_b-2", "x_y", "A_b-3", "é", "image",
    ]  # fmt: skip
