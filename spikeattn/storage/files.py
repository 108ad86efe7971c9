"""Files that appear whole or not at all: written under a name of their own, brought to the disk, renamed.

The name is not to be foreseen, and the file is made new and never opened through a link, so nobody can have put
something in its place.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from spikeattn.errors import SpikeattnError

_UNFINISHED = re.compile(
    r"\.spikeattn-[0-9a-f]{16}\.part"
    r"|(counts\.parquet|model\.json|\d{8}-[0-9a-f]{16}\.arrow)\.part"  # the names of the first edition
)
INTACT = "what was written before is intact"


@contextmanager
def whole(target: Path, advice: str = INTACT) -> Iterator[BinaryIO]:
    """A file to write to; it becomes `target` when the block ends, and nothing when the block fails.

    Args:
        advice: the end of the error.

    Raises:
        SpikeattnError: the disk is full, the folder is read-only or gone, `target` is a folder or a device.
    """
    part = target.with_name(f".spikeattn-{secrets.token_hex(8)}.part")
    try:
        if target.exists() and not target.is_file():
            raise SpikeattnError(f"{target}: is {'a folder' if target.is_dir() else 'no file'}; {advice}")
        with part.open("xb") as file:  # made new, or not at all: nobody's link is followed
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        discard(part)
        reason = error.strerror or " ".join(str(error).split())
        raise SpikeattnError(f"{target}: cannot write ({reason}); {advice}") from error
    except BaseException:
        discard(part)
        raise


def write(target: Path, content: bytes | str, advice: str = INTACT) -> Path:
    """Write a file in one step, text as UTF-8, and return its path; see `whole`."""
    with whole(target, advice) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace"))
    return target


def unfinished(folder: Path) -> list[Path]:
    """What processes that were killed have left in a folder under the names of `whole`."""
    there = folder.iterdir() if folder.is_dir() else ()
    return [path for path in there if _UNFINISHED.fullmatch(path.name) and (path.is_symlink() or path.is_file())]


def discard(path: Path) -> None:
    """Remove a file if it is there and can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:  # read-only: it stays, and no one takes it for a finished file
        pass
