"""Names of Python 3.11's standard library that Python 3.10 does not have."""

from __future__ import annotations

import hashlib
import sys
from typing import BinaryIO

if sys.version_info >= (3, 11):
    from enum import StrEnum
    from importlib.resources.abc import Traversable

    import tomllib
else:
    from enum import Enum
    from importlib.abc import Traversable

    import tomli as tomllib

    class StrEnum(str, Enum):
        """Members are texts, and print as such."""

        __str__ = str.__str__
        __format__ = str.__format__


__all__ = ["StrEnum", "Traversable", "file_sha256", "tomllib"]
_PIECE = 1 << 18  # bytes read at once, as hashlib.file_digest does


def file_sha256(file: BinaryIO) -> str:
    """Sha256 of what is left of an open file, in hexadecimal digits."""
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()
