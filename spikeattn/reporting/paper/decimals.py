"""Columns of a paper's tables whose numbers all have as many decimal places: the places, and a cell at so many.

A number in a sentence or on the page has the digits of its own interval. In a column, which people read from top to
bottom, the total or the least precise row decides for all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from spikeattn.boundary.number_format import MISSING, NO_UPPER_LIMIT, known, significant, with_bound, with_limits

MOST = 4  # decimal places; smaller numbers read "<0.0001", and the csv beside the table has their digits
LEAST = 3  # significant digits that the smallest number of a column keeps
_BOUNDS = {"upper bound": "≤", "lower bound": "≥"}

Measured = tuple[float, float, float, str]  # value, low, high, method of the interval


def alone(number: Measured) -> tuple[str, str]:
    """A value and its interval with the digits that they have by themselves; "–" for what is not known."""
    value, low, high, method = number
    if not known(value):
        return MISSING, MISSING
    if known(bound := _bound(number)):
        text, limit = with_bound(value, bound, _BOUNDS[method])
        return text, limit or MISSING
    if not _has_limits(number):
        return significant(value), MISSING
    text, limits = with_limits(value, low, high)
    return text, limits or MISSING


def places_of(number: Measured) -> int:
    """Decimal places that a number and its interval have by themselves, `MOST` at most."""
    found = re.fullmatch(r"-?\d+(?:\.(\d+))?", alone(number)[0])
    return min(len(found[1] or ""), MOST) if found else MOST


def common_places(numbers: Iterable[Measured]) -> int:
    """The places of the row that has fewest, or more where the smallest number would keep fewer than `LEAST` digits."""
    shown = [number for number in numbers if known(number[0]) and math.isfinite(number[0]) and number[0]]
    if not shown:
        return 0
    smallest = min(abs(number[0]) for number in shown)
    return min(max(min(map(places_of, shown)), LEAST - 1 - math.floor(math.log10(smallest))), MOST)


def plain(values: Sequence[float]) -> list[Measured]:
    """Numbers without intervals."""
    return [(float(value), math.nan, math.nan, "none") for value in values]


def fixed(value: float, places: int) -> str:
    """A number to so many places; "<0.001" where it would read as zero and is not."""
    if not known(value) or not math.isfinite(value) or value == 0:
        return significant(value)
    smallest = 10.0**-places
    return f"<{smallest:.{places}f}" if abs(value) < smallest / 2 else f"{value:.{places}f}"


def fixed_with_limits(number: Measured, places: int) -> tuple[str, str]:
    """A value and its interval to so many places; no interval beside a value that is too small to be shown."""
    value, low, high, method = number
    text = fixed(value, places)
    if text == MISSING or text.startswith("<"):
        return text, MISSING
    if known(bound := _bound(number)):
        return text, f"{_BOUNDS[method]} {fixed(bound, places)}"
    if not _has_limits(number):
        return text, MISSING
    upper = NO_UPPER_LIMIT if math.isinf(high) else f"{high:.{places}f}"
    return text, f"[{low:.{places}f}, {upper}]"


def _bound(number: Measured) -> float:
    """The one limit of a one-sided interval, NaN of any other."""
    _, low, high, method = number
    return {"upper bound": high, "lower bound": low}.get(method, math.nan)


def _has_limits(number: Measured) -> bool:
    value, low, high, method = number
    return known(low) and known(high) and math.isfinite(value) and method != "constant"
