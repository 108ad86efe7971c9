"""A folder of results that appears whole or not at all, whatever ends the command that makes it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spikeattn.cli.launching import finishing
from spikeattn.errors import SpikeattnError
from spikeattn.storage import files, lock
from spikeattn.storage.lock import FolderLock

PREFIX = ".unfinished-"
_ORDER = ".order.json"  # names in the order in which they are moved: whoever finds them half moved moves the rest


@contextmanager
def fresh_folder(out: Path, last: str, interrupted: Callable[[str], None] = lambda told: None) -> Iterator[Path]:
    """A folder to write into; when the block ends its content becomes that of `out`, the file `last` after all others.

    After an error or an interruption `out` is as it was: not there, or empty. A process that was killed leaves a folder
    of its own in it, which the next call removes, or whose files it moves where that had begun.

    Args:
        out: missing, or an empty folder.
        last: the file whose presence says that the result is finished.
        interrupted: takes a sentence for the user, after Ctrl-C.

    Raises:
        SpikeattnError: `out` holds anything, is no folder, or cannot be written to.
    """
    recover(out)
    _check(out, last)
    made = [path for path in (out, *out.parents) if not path.exists()]
    try:
        with staging(out) as place:
            yield place
            names = sorted(path.name for path in place.iterdir() if path.name != lock.NAME)
            order = sorted(names, key=lambda name: name == last)
            finishing()
            files.write(place / _ORDER, json.dumps(order))
            _move(order, place, out)
    except BaseException as error:
        _remove(made)
        if isinstance(error, KeyboardInterrupt):
            interrupted(f"stopped; {out} is as it was before, run the command again for the whole result")
        raise


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A new folder in `out` that goes when the block ends, and is known for a dead process's where it could not.

    Raises:
        SpikeattnError: `out` is no folder, or cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=out))
    except OSError as error:
        raise SpikeattnError(f"--out {out}: cannot write there ({error.strerror}); give another folder") from error
    held = FolderLock(place)
    try:
        held.acquire()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        held.release(remove=False)


def finished_before(out: Path, last: str, command: str) -> dict[str, Any] | None:
    """What `last` says in a folder that this very command has finished already; None where it has not."""
    recover(out)
    try:
        record = json.loads((out / last).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.get("command") == command else None


def recover(out: Path) -> None:
    """Put in order what processes that were killed have left in `out`; what a living one writes stays."""
    for place in sorted(out.glob(f"{PREFIX}*")) if out.is_dir() and not out.is_symlink() else ():
        if place.is_symlink() or not (place / lock.NAME).is_file():
            continue  # not ours, or of a version that left no lock: nobody can tell
        left = FolderLock(place)
        try:
            left.acquire()
        except SpikeattnError:
            continue
        try:
            if (place / _ORDER).is_file():
                _move(json.loads((place / _ORDER).read_text()), place, out)
            shutil.rmtree(place, ignore_errors=True)
        finally:
            left.release(remove=False)


def _move(names: list[str], place: Path, out: Path) -> None:
    for name in names:
        if Path(name).name == name and (place / name).exists():
            os.replace(place / name, out / name)


def _check(out: Path, last: str) -> None:
    try:
        held = sorted(path.name for path in out.iterdir()) if out.exists() or out.is_symlink() else []
    except OSError as error:
        raise SpikeattnError(f"--out {out}: {error.strerror}; give a folder that is empty or not there yet") from error
    if last in held:
        raise SpikeattnError(f"--out {out}: holds a finished result; give another folder, or delete it first")
    if working := [name for name in held if name.startswith(PREFIX)]:
        raise SpikeattnError(
            f"--out {out}: another process is writing there, or an older version was ended while it did; give another "
            f"folder, or delete {working[0]} in it"
        )
    if held:
        raise SpikeattnError(f"--out {out}: holds other files ({', '.join(held[:3])}); give an empty or a new folder")


def _remove(made: list[Path]) -> None:
    """The folders that were made for the result, as far as nothing lies in them."""
    for path in made:
        try:
            path.rmdir()
        except OSError:
            return
