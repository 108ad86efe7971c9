"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spikeattn.errors import SpikeattnError

PREFIX = ".unfinished-"


@contextmanager
def fresh_folder(out: Path, last: str, interrupted: Callable[[str], None] = lambda told: None) -> Iterator[Path]:
    """A folder to write into; when the block ends its content becomes that of `out`, the file `last` after all others.

    After an error or an interruption `out` is as it was: not there, or empty.

    Args:
        out: missing, or an empty folder.
        last: the file whose presence says that the result is finished.
        interrupted: takes a sentence for the user, after Ctrl-C.

    Raises:
        SpikeattnError: `out` holds anything, is no folder, or cannot be written to.
    """
    _check(out, last)
    made = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=PREFIX, dir=out))
    except OSError as error:
        _remove(made)
        raise SpikeattnError(f"--out {out}: cannot write there ({error.strerror}); give another folder") from error
    try:
        yield staging
        names = sorted(path.name for path in staging.iterdir())
        for name in sorted(names, key=lambda name: name == last):
            os.replace(staging / name, out / name)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        _remove(made)
        if isinstance(error, KeyboardInterrupt):
            interrupted(f"stopped; {out} is as it was before, run the command again for the whole result")
        raise
    shutil.rmtree(staging, ignore_errors=True)


def _check(out: Path, last: str) -> None:
    try:
        held = sorted(path.name for path in out.iterdir()) if out.exists() or out.is_symlink() else []
    except OSError as error:
        raise SpikeattnError(f"--out {out}: {error.strerror}; give a folder that is empty or not there yet") from error
    if last in held:
        raise SpikeattnError(f"--out {out}: holds a finished result; give another folder, or delete it first")
    if working := [name for name in held if name.startswith(PREFIX)]:
        raise SpikeattnError(
            f"--out {out}: another process is writing there, or was ended while it did; give another folder, or delete "
            f"{working[0]} in it"
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
