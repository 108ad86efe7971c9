"""Files of a data set as they lie on a disk that nobody has tidied: loops of links, pipes, enormous files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from spikeattn.errors import SpikeattnError

LARGEST = 1 << 30  # bytes of one sample; the largest images that Pillow accepts are smaller


def refuse_loops(root: Path) -> None:
    """A link to a folder that it lies in is an error: a search through it would count every sample many times."""
    pending = [(str(root), (os.path.realpath(root),))]
    while pending:
        folder, ancestors = pending.pop()
        try:
            entries = [entry for entry in os.scandir(folder) if _is_folder(entry)]
        except OSError as error:
            raise SpikeattnError(f"{folder}: cannot be searched for data ({error.strerror})") from error
        for entry in entries:
            if not entry.is_symlink():
                pending.append((entry.path, (*ancestors, os.path.join(ancestors[-1], entry.name))))
                continue
            target = os.path.realpath(entry.path)
            if target in ancestors:
                raise SpikeattnError(
                    f"{entry.path} is a link to {target}, a folder that it lies in: its samples would be counted again "
                    "and again; remove the link"
                )
            pending.append((entry.path, (*ancestors, target)))


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
