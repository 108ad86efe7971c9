"""What the annotation of a field says besides its type: bounds, texts that are valid, keys of an open record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Bounds of a number: at least `low`, or above it where `above`."""

    low: float
    above: bool = False

    def hold(self, value: float) -> bool:
        """Whether a number is within them."""
        return value > self.low if self.above else value >= self.low

    def __str__(self) -> str:
        return f" above {self.low:g}" if self.above else f" of at least {self.low:g}"


@dataclass(frozen=True)
class OneOf:
    """The texts that are valid."""

    values: tuple[str, ...]


class Printable:
    """A text that UTF-8 can hold; file names need not be, and JSON keeps them all the same."""


class Keys:
    """What is read of an open record: a type by key. A key may be absent, and others may be there, of any type."""

    def __init__(self, **types: Any) -> None:
        self.types = types
