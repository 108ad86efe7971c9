"""The folder of a run: parts while it runs, `counts.parquet` and `model.json` when it has ended.

    DIR/parts/model.json            the ledger as the run started
    DIR/parts/00000000-<sha>.arrow  whole batches
    DIR/counts.parquet, model.json  the finished run; the parts are then gone, but for those of a shard, which
                                    `spikeattn merge` needs

Files appear whole or not at all, and `model.json` comes last, so a folder that has both is complete.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from spikeattn.errors import SpikeattnError
from spikeattn.storage import files, lock, parts
from spikeattn.storage.counts import FILE
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.lock import FolderLock
from spikeattn.storage.parts import Part

LEDGER = "model.json"
PARTS = "parts"


_PART = re.compile(r"\d{8,}-[0-9a-f]{16}\.arrow")
_SHOWN = 3  # names of strange files in an error: enough to recognise the folder


class RunFolder:
    """Exclusive access to the folder of a run, as a context manager.

    A folder is touched only where it is empty or a run of ours, and in it only files whose names we give; see
    `strangers`.

    Args:
        path: the folder; made if absent.
        resume: continue what an interrupted run left; without it the folder must not hold one.
        follows: a rank that joins a run whose first rank has locked and checked the folder.
        again: what an attempt left before it was finished may be written over, since it can be made again from what
            lies elsewhere (`merge`).

    Raises:
        SpikeattnError: not writable, in use by another run, already holding one, or holding files of somebody else.
    """

    def __init__(self, path: str | Path, resume: bool = False, follows: bool = False, again: bool = False) -> None:
        self.path, self.resume, self.follows, self.again = Path(path), resume, follows, again
        self._lock = FolderLock(self.path)
        self._new: list[Path] = []

    def __enter__(self) -> RunFolder:
        if self.follows:
            self._lock.share()
            return self
        shown = os.fsencode(self.path).decode("utf-8", "backslashreplace")
        if shown != str(self.path):
            raise SpikeattnError(f"{shown}: the name of this folder is no UTF-8; give another, which Parquet can open")
        self._new = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self._check_ours()
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpikeattnError(
                f"{self.path}: cannot write the run there ({error.strerror}); give another folder"
            ) from error
        self._lock.acquire()
        try:
            self._check_ours()
            self._check_empty()
            self._tidy()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def _leave(self) -> None:
        """Hand the folder back; what is empty and of our making goes."""
        if not self.follows and self._parts.is_dir() and not any(self._parts.iterdir()):
            self._parts.rmdir()
        self._lock.release(remove=not self.follows)
        for path in self._new:
            try:
                path.rmdir()
            except OSError:  # it holds the run
                break

    def share(self) -> None:
        """Let the other ranks of the run in."""
        self._lock.share()

    @property
    def _parts(self) -> Path:
        return self.path / PARTS

    def _check_ours(self) -> None:
        if not (self.path.exists() or self.path.is_symlink()):
            return
        if not self.path.is_dir():
            raise SpikeattnError(f"{self.path}: is no folder; give one for the run")
        if linked := [path for path in _own(self.path) if path.is_symlink()]:
            raise SpikeattnError(
                f"{linked[0]}: is a link, where a run keeps its own files; remove it, or give another folder"
            )
        others = strangers(self.path)
        if others and not _is_run(self.path):
            names = ", ".join(others[:_SHOWN]) + (" and others" if len(others) > _SHOWN else "")
            raise SpikeattnError(f"{self.path}: holds other files ({names}) and no run; give an empty or a new folder")

    def _check_empty(self) -> None:
        if self.finished():
            if not self.resume:
                raise SpikeattnError(f"{self.path}: holds a finished run; give another folder, or delete it first")
        elif not (self.resume or self.again) and (interrupted(self.path) or (self.path / FILE).exists()):
            raise SpikeattnError(
                f"{self.path}: holds an interrupted run; continue it with resume, or give another folder"
            )

    def _tidy(self) -> None:
        """Remove what a killed process left half written."""
        for path in (*files.unfinished(self.path), *files.unfinished(self._parts)):
            files.discard(path)
        if self.finished() and "shard" not in Ledger.load(self.path / LEDGER).provenance:
            self._drop_parts()  # of a process that was killed while it did so
        elif not interrupted(self.path):
            files.discard(self._parts / LEDGER)  # of an attempt that ended before its first part

    def finished(self) -> bool:
        """Whether the folder holds a complete run."""
        return (self.path / FILE).is_file() and (self.path / LEDGER).is_file()

    def parts(self) -> list[Part]:
        """What has been written so far, oldest batches first; a damaged part is an error that names it."""
        return parts_of(self.path)

    def write(self, part: Part) -> None:
        """Write one part."""
        self._make_parts()
        parts.save(part, self._parts)

    def start(self, ledger: Ledger) -> None:
        """Write the ledger the run starts with; a resumed run is compared with it."""
        self._make_parts()
        ledger.save(self._parts / LEDGER)

    def _make_parts(self) -> None:
        try:
            self._parts.mkdir(exist_ok=True)
        except OSError as error:
            raise SpikeattnError(f"{self._parts}: cannot write there ({error.strerror})") from error

    def ledger(self) -> Ledger | None:
        """The ledger of the run that is being resumed, if it got that far."""
        return ledger_of(self.path)

    def discard(self) -> None:
        """Drop what an attempt without a single image has written, so that the folder can be used again."""
        self._drop_parts()

    def finish(self, ledger: Ledger) -> None:
        """Write the final ledger, which makes the run complete, then drop the parts; those of a shard stay."""
        ledger.save(self.path / LEDGER)
        if "shard" not in ledger.provenance:
            self._drop_parts()

    def _drop_parts(self) -> None:
        for path in (*_arrows(self.path), self._parts / LEDGER):
            files.discard(path)


def parts_of(folder: Path) -> list[Part]:
    """The parts in the folder of a run, oldest batches first."""
    return [parts.load(path) for path in _arrows(folder)]


def interrupted(folder: Path) -> bool:
    """Whether the folder holds parts of a run."""
    return bool(_arrows(folder))


def ledger_of(folder: Path) -> Ledger | None:
    """The ledger of a run: its final one if it is finished, else the one it was started with, if it got that far."""
    finished = (folder / FILE).is_file() and (folder / LEDGER).is_file()
    return Ledger.load(folder / LEDGER) if finished else started(folder)


def started(folder: Path) -> Ledger | None:
    """The ledger that an unfinished run, or a shard, was started with; None if it did not get that far."""
    path = folder / PARTS / LEDGER
    return Ledger.load(path) if path.is_file() else None


def strangers(folder: Path) -> list[str]:
    """What lies in a folder, or in its `parts`, under a name that no run gives; a folder in place of a file, too."""
    own = set(_own(folder))
    places = [folder, *([folder / PARTS] if (folder / PARTS).is_dir() else [])]
    return sorted(str(path.relative_to(folder)) for place in places for path in place.iterdir() if path not in own)


def _own(folder: Path) -> list[Path]:
    """What lies in a folder under the names that a run gives, `parts` with its content included."""
    inside = folder / PARTS
    named = [folder / FILE, folder / LEDGER, folder / lock.NAME, folder / lock.OLD_NAME, inside / LEDGER]
    own = [path for path in named if path.is_symlink() or path.is_file()]
    if inside.is_symlink() or inside.is_dir():
        own.append(inside)
    return [*own, *files.unfinished(folder), *files.unfinished(inside), *_arrows(folder)]


def _arrows(folder: Path) -> list[Path]:
    """The files of the parts of a run, oldest batches first."""
    inside = folder / PARTS
    there = inside.iterdir() if inside.is_dir() else ()
    return sorted(path for path in there if _PART.fullmatch(path.name) and (path.is_symlink() or path.is_file()))


def _is_run(folder: Path) -> bool:
    """Whether the ledger of a run of ours lies there, of whatever version."""
    for path in (folder / LEDGER, folder / PARTS / LEDGER):
        if path.is_file():
            try:
                Ledger.load(path)
            except SpikeattnError:
                continue
            return True
    return False
