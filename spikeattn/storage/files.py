"""Files that appear whole or not at all: written beside their name, brought to the disk, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikeattn.errors import SpikeattnError

SUFFIX = ".part"


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """The path to write a file to; it becomes `target` when the block ends, and nothing when the block fails.

    Raises:
        SpikeattnError: the disk is full, the folder is read-only or gone.
    """
    part = target.with_name(target.name + SUFFIX)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        discard(part)
        reason = error.strerror or " ".join(str(error).split())
        raise SpikeattnError(f"{target}: cannot write ({reason}); what was written before is intact") from error
    except BaseException:
        discard(part)
        raise


def write(target: Path, content: bytes) -> None:
    """Write a file in one step; see `whole`."""
    with whole(target) as part:
        part.write_bytes(content)


def discard(path: Path) -> None:
    """Remove a file if it is there and can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:  # read-only: it stays, and no one takes it for a finished file
        pass
