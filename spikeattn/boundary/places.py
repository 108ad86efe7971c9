"""Places in a record and its values, as errors about a file show them."""

from __future__ import annotations

import json
import re
from typing import Any

INT64 = 1 << 63  # counts are stored in 64 bits
SHOWN = 60  # characters of a wrong value in an error: a line of a terminal holds the sentence around it, too

_WORD = re.compile(r"[\w-]+", re.ASCII)


def step(key: str) -> str:
    """A key as the next step of a path, in quotes where it is no plain word."""
    return f".{key}" if _WORD.fullmatch(key) else f"[{json.dumps(key)}]"


def value_text(value: Any) -> str:
    """A value as it stands in the file, shortened."""
    if isinstance(value, int) and abs(value) >= INT64:
        return "a whole number that is too long for 64 bits"
    text = json.dumps(value, default=repr)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
