"""A number with its unit and its interval: `EnergyTable.total`, `Comparison.total`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from spikeattn.boundary.number_format import energy_unit, known, with_bound, with_limits
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Interval

__all__ = ["Quantity"]

ENERGY = "mJ"


@dataclass(frozen=True, eq=False, repr=False)
class Quantity(Interval):
    """An interval that prints value, unit and limits, and stands for its value where a number is asked for.

    `print(total)` gives "4.194 µJ [4.156, 4.235] per image"; `float(total)`, `round(total, 3)` and `f"{total:.3f}"`
    are those of `value`. `<` and its like compare values. `==` beside a number compares the value, beside another
    interval all fields (NaN limits are equal to NaN limits).

    Attributes:
        unit: of value, low and high: "mJ" ("" for a ratio). In print an energy has the prefix that suits it.
        per: what the value is of, such as "image"; "" of a ratio.
        at: under which assumption the value stands, such as "at gamma 0"; it ends the text. "" where there is none.
    """

    unit: str = ENERGY
    per: str = "image"
    at: str = ""

    @classmethod
    def of(cls, interval: Interval, unit: str = ENERGY, per: str = "image") -> Quantity:
        """The same interval with a unit."""
        plain = {field.name: getattr(interval, field.name) for field in fields(Interval)}
        return cls(**plain, unit=unit, per=per)

    def __str__(self) -> str:
        return f"{self._text()} {self.at}" if self.at else self._text()

    def _text(self) -> str:
        unit, factor = energy_unit([self.value]) if self.unit == ENERGY else (self.unit, 1.0)
        value, low, high = (number / factor for number in (self.value, self.low, self.high))
        after = f" {unit}" if unit else ""
        per = f" per {self.per}" if self.per else ""
        method = self.method.partition(",")[0]  # "upper bound, replicates" where a null adds its noise
        if method == "constant":
            return f"{with_limits(value, None, None)[0]}{after}{per} (the same on every image)"
        bounds = {"upper bound": ("at most", high), "lower bound": ("at least", low)}
        if method in bounds and known(bounds[method][1]):
            sign, bound = bounds[method]
            text, limit = with_bound(value, bound, sign)
            return f"{text}{after}{per}, {limit}{after} (one-sided bound)"
        text, limits = with_limits(value, low, high)
        return f"{text}{after} {limits}{per}" if limits else f"{text}{after}{per} (no interval)"

    def __repr__(self) -> str:
        told = f"{self.confidence * 100:g} %, {self.method}" if self.method not in ("none", "constant") else self.method
        return f"<{self}: {told}>"

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __float__(self) -> float:
        return float(self.value)

    def __round__(self, digits: int | None = None) -> float:
        return round(self.value, digits) if digits is not None else round(self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Interval):
            return type(other) is Quantity and all(map(_same, asdict(self).values(), asdict(other).values()))
        number = _number(other)
        return NotImplemented if number is None else self.value == number

    def __lt__(self, other: Any) -> bool:
        return NotImplemented if (number := self._beside(other)) is None else self.value < number

    def __le__(self, other: Any) -> bool:
        return NotImplemented if (number := self._beside(other)) is None else self.value <= number

    def __gt__(self, other: Any) -> bool:
        return NotImplemented if (number := self._beside(other)) is None else self.value > number

    def __ge__(self, other: Any) -> bool:
        return NotImplemented if (number := self._beside(other)) is None else self.value >= number

    def _beside(self, other: Any) -> float | None:
        """The number that this one is compared with; None for what is no number."""
        if isinstance(other, Quantity) and (other.unit, other.per) != (self.unit, self.per):
            raise SpikeattnError(
                f"{self} and {other} are not in the same unit, so neither is the larger; compare two energies, or two "
                "ratios"
            )
        return float(other.value) if isinstance(other, Interval) else _number(other)


def _number(other: object) -> float | None:
    if isinstance(other, str | bytes | bytearray) or not hasattr(other, "__float__"):
        return None
    try:
        return float(other)
    except (TypeError, ValueError):
        return None


def _same(one: Any, other: Any) -> bool:
    both = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both or bool(one == other)
