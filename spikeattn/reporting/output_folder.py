"""Files that appear whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from spikeattn.errors import SpikeattnError
from spikeattn.storage import files


def folder(path: str | Path) -> Path:
    """The folder, made with its parents where it is missing.

    Raises:
        SpikeattnError: something else stands there, or it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def write(path: Path, content: str | bytes) -> Path:
    """Write a file in one step.

    Raises:
        SpikeattnError: the folder cannot be written to.
    """
    return files.write(path, content, "give another folder with --out")


def stems(ids: Sequence[str]) -> list[str]:
    """Names for files from those of images, each once."""
    found: list[str] = []
    for name in ids:
        stem = re.sub(r"[^\w-]+", "_", re.sub(r"\.\w+$", "", name)).strip("_")[-80:] or "image"
        number = 1
        while (candidate := stem if number == 1 else f"{stem}-{number}").lower() in {each.lower() for each in found}:
            number += 1
        found.append(candidate)
    return found


def _unwritable(path: Path, error: OSError) -> SpikeattnError:
    reason = error.strerror or str(error)
    return SpikeattnError(f"{path}: cannot write the report there ({reason}); give another folder with --out")
