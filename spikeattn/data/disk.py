"""Files of a data set as they lie on a disk that nobody has tidied: loops of links, pipes, enormous files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from spikeattn.data.sifting import is_hidden
from spikeattn.errors import SpikeattnError

LARGEST = 1 << 30  # bytes of one sample; the largest images that Pillow accepts are smaller


def expanded(path: str | Path) -> Path:
    """A path with the home folder in the place of "~", or as it is where there is no such home."""
    return Path(os.path.expanduser(path))


def files_below(root: Path) -> tuple[list[str], list[str]]:
    """Every file below a folder, by its path from there with '/': files, and links that lead nowhere.

    Links to folders are followed. What lies in hidden folders is listed as far as it can be read, and without
    following links: it is no data, and must not stop the reading of what is.

    Raises:
        SpikeattnError: a folder that cannot be read, or a link to a folder that it lies in: its samples would be
            counted again and again.
    """
    files: list[str] = []
    lost: list[str] = []
    pending: list[tuple[str, str, tuple[str, ...]]] = [(str(root), "", (os.path.realpath(root),))]
    while pending:
        folder, below, ancestors = pending.pop()
        for entry in _entries(folder):
            name = below + entry.name
            if not _is_folder(entry):
                (lost if entry.is_symlink() and not os.path.exists(entry.path) else files).append(name)
            elif is_hidden(entry.name):
                files.extend(_in_hidden(entry.path, name))
            else:
                pending.append((entry.path, f"{name}/", (*ancestors, _real(entry, ancestors))))
    return files, lost


def folders_in(root: Path) -> list[str]:
    """The folders that lie in one, hidden ones left out."""
    return sorted(entry.name for entry in _entries(str(root)) if _is_folder(entry) and not is_hidden(entry.name))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise SpikeattnError(f"{folder}: cannot be searched for data ({error.strerror})") from error


def _real(folder: os.DirEntry[str], ancestors: tuple[str, ...]) -> str:
    """Where a folder really lies, which must be in none that it lies in already."""
    if not folder.is_symlink():
        return os.path.join(ancestors[-1], folder.name)
    target = os.path.realpath(folder.path)
    if target in ancestors:
        raise SpikeattnError(
            f"{folder.path} is a link to {target}, a folder that it lies in: its samples would be counted again "
            "and again; remove the link"
        )
    return target


def _in_hidden(folder: str, name: str) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        below = name + place.removeprefix(folder).replace(os.sep, "/")
        yield from (f"{below}/{file}" for file in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; it is met again when the file is read
        return False


def open_regular(path: str) -> BinaryIO:
    """Open a file of ordinary size for reading; a pipe or a device, which could wait forever, is refused.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no regular file.
    """
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("not a regular file (a pipe, a socket or a device)")
    return file


def read_regular(path: str, offset: int = 0, size: int = -1) -> bytes:
    """Bytes of a regular file; see `open_regular`.

    Raises:
        ValueError: also where it is larger than any sample.
    """
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size - offset if size < 0 else size
        if length > LARGEST:
            raise ValueError(f"{length} bytes are more than a sample can have")
        file.seek(offset)
        return file.read(size)
