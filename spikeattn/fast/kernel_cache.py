"""A folder of compiled libraries that nobody but the user can have put there.

To load a library is to run it. So every folder on the way to it, links resolved, must belong to the user or to the
system and be closed to others, as must the library itself; its name bears the hash of its content, by which a file that
a full disk cut short is told from a whole one. The hash is no protection against people: who can write into the folder
can name a file as he likes.
"""

from __future__ import annotations

import ctypes
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from spikeattn.compat.python_names import file_sha256

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UnusableFolder(Exception):
    """A folder that others could have written to, or whose libraries do not load; the text says which and why."""


def cache_folders() -> Iterator[Path]:
    """Where libraries may be kept: the user's cache folder if there is one, then a folder of temporary files."""
    own = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(own):  # the standard of these folders says to leave relative ones unread
        yield Path(own) / "spikeattn"
    else:
        try:
            yield Path.home() / ".cache" / "spikeattn"
        except RuntimeError:  # no HOME, and a user id without an entry in the list of users
            pass
    try:
        yield Path(tempfile.gettempdir()) / f"spikeattn-{os.geteuid()}"
    except FileNotFoundError:  # no folder for temporary files can be written to
        pass


def private_folder(path: Path) -> Path:
    """The folder with its links resolved, made if need be, once it is sure that only the user can write there.

    Raises:
        UnusableFolder: a folder on the way belongs to somebody else or can be written to by others. One that is sticky
            may be: in it, as in /tmp, nobody can replace what is the user's own. Or it is mounted `noexec`.
        OSError: it is not there and cannot be made.
    """
    real = Path(os.path.realpath(path))
    for folder in (*reversed(real.parents), real):
        try:
            folder.mkdir(mode=0o700)
        except OSError:
            if not folder.is_dir():
                raise
    chain = [*reversed(real.parents), real]
    for folder, inside in zip(chain, [*chain[1:], None], strict=True):
        _check_folder(folder, inside)
    if os.statvfs(real).f_flag & os.ST_NOEXEC:
        raise UnusableFolder(f"{real} lies on a file system that runs no programs (mounted noexec)")
    return real


def _check_folder(folder: Path, inside: Path | None) -> None:
    """Refuse a folder in which others could replace `inside`, the next one on the way, or anything where it is None."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):  # a link: somebody has changed the way since it was resolved
        raise UnusableFolder(f"{folder} is no folder any more")
    trusted = {os.geteuid(), *_system()} if inside is not None else {os.geteuid()}
    if found.st_uid not in trusted:
        raise UnusableFolder(f"{folder} belongs to another user (id {found.st_uid})")
    if not found.st_mode & _OTHERS:
        return
    if not (inside is not None and found.st_mode & stat.S_ISVTX and inside.lstat().st_uid == os.geteuid()):
        mode = stat.S_IMODE(found.st_mode)
        raise UnusableFolder(f"{folder} can be written to by others (mode {mode:04o}; close it with chmod go-w)")


def _system() -> set[int]:
    """Ids of users who own the system, and could replace every program in it anyway.

    Root, and whoever owns "/": within a user namespace, as of a container, root's files bear another id.
    """
    return {0, os.lstat("/").st_uid}


def find_library(folder: Path, key: str) -> Path | None:
    """The whole library of this key in a private folder; a damaged one is removed, to be made anew."""
    for path in sorted(folder.glob(f"native-{key}-*.so")):
        if _is_whole(path):
            return path
        path.unlink(missing_ok=True)
    return None


def keep_library(folder: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Have a library made, at a path which others cannot reach, and keep it in a private folder under its content."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "native.so"
        make(made)
        made.chmod(0o700)  # whatever the user's umask allows others
        target = folder / f"native-{key}-{_digest(made)}.so"
        made.replace(target)
    return target


def _is_whole(path: Path) -> bool:
    """Whether a file is the user's own, closed to others, and has the content that its name tells."""
    found = path.lstat()
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_uid == os.geteuid()
        and not found.st_mode & _OTHERS
        and path.stem.rpartition("-")[2] == _digest(path)
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_sha256(file)


def load_library(path: Path) -> ctypes.CDLL:
    """Load a library that is whole.

    Raises:
        UnusableFolder: the system refuses it.
    """
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UnusableFolder(f"a library in {path.parent} cannot be loaded ({reason})") from error
