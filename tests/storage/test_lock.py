"""The lock of a folder, at the moment at which its last holder takes the file away."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from spikeattn.errors import SpikeattnError
from spikeattn.storage import lock
from spikeattn.storage.lock import NAME, FolderLock


def before_the_first_flock(monkeypatch, act) -> list[int]:
    """`act` runs between the opening of the file and the first lock on it; returns the locks taken since."""
    taken: list[int] = []

    def flock(file, how: int) -> None:
        if not taken:
            act()
        taken.append(how)
        fcntl.flock(file, how)

    monkeypatch.setattr(lock, "fcntl", _Fcntl(flock))
    return taken


class _Fcntl:
    LOCK_EX, LOCK_SH, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB

    def __init__(self, flock) -> None:
        self.flock = flock


@pytest.mark.parametrize("another", [False, True])
def test_a_lock_on_a_file_that_has_just_been_removed_or_replaced_is_none(tmp_path: Path, monkeypatch, another) -> None:
    path = tmp_path / NAME

    def removed() -> None:
        path.rename(tmp_path / "earlier")  # its inode is not used again
        if another:
            path.touch()

    taken = before_the_first_flock(monkeypatch, removed)
    held = FolderLock(tmp_path)
    held.acquire()
    assert len(taken) == 2 and path.exists()
    with pytest.raises(SpikeattnError, match="another process is writing this run .process"):
        FolderLock(tmp_path).acquire()
    held.release()
    assert not path.exists()
    FolderLock(tmp_path).acquire()


def test_ranks_share_a_lock_that_nobody_else_gets(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    with pytest.raises(SpikeattnError, match="another process"):
        second.share()
    first.share()
    second.share()
    first.release(remove=False)
    with pytest.raises(SpikeattnError, match="another process"):
        FolderLock(tmp_path).acquire()
    second.release()
    FolderLock(tmp_path).acquire()
