"""A comparison in one line: both energies, their ratio and its interval, for arithmetic or for memory as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from spikeattn.boundary.number_format import energy_in, energy_unit, known, significant, with_bound, with_limits
from spikeattn.stats.intervals import CONFIDENCE, Interval
from spikeattn.stats.quantity import Quantity

ARITHMETIC, MEMORY = SCOPES = ("arithmetic", "memory")
_UNKNOWN = Interval(math.nan, math.nan, math.nan, "none")
_NAMED = 2  # of what is left out, so that a line stays one
_WIDTH = max(map(len, SCOPES)) + 2


@dataclass(frozen=True)
class ScopeLine:
    """What both networks cost in one scope; its text is one line, the same wherever it is printed.

    Attributes:
        scope: "arithmetic" alone, or "memory": arithmetic, neurons, addressing and memory together.
        name, against: the two networks, as of a `Comparison`.
        own: mJ per image of the spiking network, with its interval.
        other: of the other network; of an ANN the same for every image.
        ratio: other / own.
        costs: name of the cost table; "" where there are no numbers.
        includes: what the energies hold, in a sentence.
        without: what `other` lacks because nobody knows how large it is; it is a lower bound then.
        missing: why there are no numbers, and the intervals NaN; "" where there are.
        zeros: beside an ANN, at which share of zeros of its activations the ratio stands, and what it is elsewhere.
    """

    scope: str
    name: str
    against: str
    own: Quantity
    other: Quantity
    ratio: Quantity
    costs: str
    includes: str
    without: tuple[str, ...] = ()
    missing: str = ""
    zeros: str = ""

    def __str__(self) -> str:
        return f"{self.scope:<{_WIDTH}}{self.said}"

    @property
    def said(self) -> str:
        """The line without the word in front."""
        if self.missing:
            return f"not known: {self.missing}"
        unit, factor = energy_unit([self.other.value, self.own.value])  # one unit in the line
        other, own = (energy_in(each.value, unit, factor, 4) for each in (self.other, self.own))
        energies = f"{self.against} {other}, {self.name} {own}"
        without = f", without {_few(self.without)}" if self.without else ""
        zeros = f" {self.zeros}" if self.zeros else ""
        return f"{energies}, ratio {' '.join(ratio_text(self.ratio))}{zeros} ({self.costs}{without})"

    def to_dict(self) -> dict[str, Any]:
        """The numbers and the text in JSON types; NaN and infinity become None."""
        intervals = {"own": self.own, "other": self.other, "ratio": self.ratio}
        return {
            "scope": self.scope,
            "text": str(self),
            "name": self.name,
            "against": self.against,
            **{key: interval_record(interval) for key, interval in intervals.items()},
            "costs": self.costs,
            "includes": self.includes,
            "without": list(self.without),
            "missing": self.missing,
            "zeros": self.zeros,
        }


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def missing_line(scope: str, name: str, against: str, why: str, includes: str) -> ScopeLine:
    """A line without numbers, which says why."""
    energy = Quantity.of(_UNKNOWN)
    return ScopeLine(scope, name, against, energy, energy, a_ratio(_UNKNOWN), "", includes, (), why)


def constant(value: float, confidence: float = CONFIDENCE) -> Quantity:
    """An energy that is the same for every image."""
    return Quantity(value, value, value, "constant", confidence)


def a_ratio(interval: Interval) -> Quantity:
    """A ratio of energies: it has no unit."""
    return Quantity.of(interval, "", "")


def ratio_text(ratio: Interval) -> tuple[str, str]:
    """A ratio and its interval as text: "[a, b]", "(at least a)", or that there is none."""
    if not known(ratio.value):
        return "not defined", "(nothing was spent)"
    if ratio.method == "upper bound" and known(ratio.high):
        value, bound = with_bound(ratio.value, ratio.high, "at most")
        return value, f"({bound})"
    if ratio.method == "none" or not known(ratio.low):
        return significant(ratio.value), "(no interval)"
    if ratio.method == "lower bound" or not math.isfinite(ratio.high):
        value, bound = with_bound(ratio.value, ratio.low, "at least")
        return value, f"({bound})"
    if ratio.method == "constant":
        return significant(ratio.value), "(the same for every image)"
    return with_limits(ratio.value, ratio.low, ratio.high)


def interval_record(interval: Interval) -> dict[str, Any]:
    """An interval in JSON types."""
    limits = {key: getattr(interval, key) for key in ("value", "low", "high")}
    numbers = {key: float(value) if math.isfinite(value) else None for key, value in limits.items()}
    return numbers | {"method": interval.method, "confidence": interval.confidence}
