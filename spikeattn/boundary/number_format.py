"""Numbers as people read them: SI prefixes, an interval's digits, small firing rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}
MISSING = "–"
NO_INTERVAL = "no interval"
NO_UPPER_LIMIT = "no upper limit"
SHOWN = 5e-5  # a rate below it would read as 0.0000


def known(value: Any) -> bool:
    """Whether there is a value: not None, NaN or NA."""
    return not bool(pd.isna(value))


def prefix_of(value: float) -> tuple[str, float]:
    """The SI prefix under which a value reads as 1 to 999, and its factor: 2.1e-6 gives ("µ", 1e-6)."""
    if not known(value) or value == 0 or not math.isfinite(value):
        return "", 1.0
    power = 3 * math.floor(math.log10(abs(value)) / 3 + 1e-12)
    power = max(min(power, max(_PREFIXES)), min(_PREFIXES))
    return _PREFIXES[power], 10.0**power


def amount(value: float | None, digits: int = 4) -> str:
    """A count with an SI prefix: 339694.9 is "339.7 k", 12 is "12", 0.5 is "0.5000"."""
    if value is None or not known(value):
        return MISSING
    if float(value).is_integer() and abs(value) < 10_000:
        return f"{int(value):d}"
    prefix, factor = prefix_of(value) if abs(value) >= 1 else ("", 1.0)
    return f"{significant(value / factor, digits)} {prefix}".strip()


def count_unit(values: Iterable[float | None]) -> tuple[str, float]:
    """One SI prefix for the counts of a column, by the largest of them as `amount` writes it: ("M", 1e6)."""
    found = [float(value) for value in values if value is not None and known(value)]
    largest = max(map(abs, found), default=0.0)
    if largest < 1 or (largest < 10_000 and all(value.is_integer() for value in found)):
        return "", 1.0
    return prefix_of(largest)


def counted_in(value: float | None, factor: float, digits: int = 4) -> str:
    """A count in the unit of its column, whose factor `count_unit` gives."""
    if value is None or not known(value):
        return MISSING
    if factor == 1 and float(value).is_integer():
        return f"{int(value):d}"
    return significant(value / factor, digits)


def energy_unit(values: Iterable[float]) -> tuple[str, float]:
    """Unit for energies given in mJ, by the largest of them, and how many mJ it is: ("µJ", 0.001)."""
    largest = max((abs(v) for v in values if known(v)), default=0.0)
    prefix, factor = prefix_of(largest * 1e-3) if largest > 0 else ("m", 1e-3)
    return f"{prefix}J", factor * 1e3


def energy_in(mj: float | None, unit: str, factor: float, digits: int = 3) -> str:
    """An energy given in mJ, in the unit of its column or chart, as `energy_unit` gives it: "0.677 µJ"."""
    return MISSING if mj is None or not known(mj) else f"{significant(mj / factor, digits)} {unit}"


def joules(mj: float, digits: int = 3) -> str:
    """An energy given in mJ, in the unit that suits it: 6.45e-9 is "6.45 pJ"."""
    if not known(mj):
        return MISSING
    if mj == 0:
        return "0 J"
    unit, factor = energy_unit([mj])
    return f"{significant(mj / factor, digits)} {unit}"


def significant(value: float, digits: int = 4) -> str:
    """A plain decimal number of so many significant digits; "2.1e-5" below 0.001, "0" for zero."""
    if not known(value):
        return MISSING
    if value == 0 or math.isinf(value):
        return "0" if value == 0 else "∞" if value > 0 else "−∞"
    if abs(value) < 1e-3:
        return _short_exponent(f"{value:.{max(digits - 2, 0)}e}")
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(places, 0)}f}"


def rate(value: float) -> str:
    """A firing rate with four decimals as in the paper's Table S1, "2e-5" where these would show 0.0000."""
    if not known(value):
        return MISSING
    if value == 0:
        return "0"
    return f"{value:.4f}" if abs(value) >= SHOWN else _short_exponent(f"{value:.0e}")


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; a share that is not zero never reads as zero."""
    if share is None or not known(share):
        return MISSING
    smallest = 10.0**-digits
    if 0 < share * 100 < smallest / 2:
        return f"<{smallest:.{digits}f} %"
    return f"{share * 100:.{digits}f} %"


def with_limits(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """A value and its interval "[low, high]", digits and exponent the same in all three.

    Two digits of the interval's width, three at least of the value, and no more than three where that takes more than
    four decimal places. Without limits the value keeps four significant digits and the interval is ""; an infinite
    upper limit, as of a ratio whose other side may be nothing, reads "[low, no upper limit]".
    """
    if not known(value) or low is None or high is None or not known(low) or not known(high):
        return significant(value), ""
    width = high - low
    if width <= 0:
        text = significant(value)
        return text, f"[{text}, {text}]"
    three = 2 - _power(value or (high if math.isfinite(high) else low))
    places = max(1 - _power(width), three if value else 0) if math.isfinite(width) else three
    places = three if places > 4 else places
    text, *limits = alike((value, low, high), places)
    limits = [NO_UPPER_LIMIT if limit == "∞" else limit for limit in limits]
    return text, f"[{', '.join(limits)}]"


def with_bound(value: float, bound: float, sign: str = "≤") -> tuple[str, str]:
    """A value and the one limit it has, "≤ 0.031", digits and exponent the same in both."""
    if not known(value) or not known(bound) or not math.isfinite(bound):
        return significant(value), ""
    text, limit = alike((value, bound), max(1 - _power(value) if value else 0, 2 - _power(bound)))
    return text, f"{sign} {limit}"


def rate_with_limits(value: float, low: float, high: float, bound: bool = False) -> tuple[str, str]:
    """A firing rate and its interval as of `rate`, digits and exponent the same in all three.

    Args:
        bound: the upper limit is one-sided, "≤ 0.0031".
    """
    if not known(value) or not known(high) or not (bound or known(low)):
        return rate(value), ""
    numbers = [value, high] if bound else [value, low, high]
    if any(0 < abs(number) < SHOWN for number in numbers):  # one of them would read as 0.0000
        return with_bound(value, high) if bound else with_limits(value, low, high)
    text, *limits = (f"{number:.4f}" if number else "0" for number in numbers)
    return text, f"≤ {limits[0]}" if bound else f"[{', '.join(limits)}]"


def alike(numbers: Sequence[float], places: int) -> list[str]:
    """Numbers to so many decimal places; where the first is below 0.001 all have its exponent, "4.4e-4".

    With an exponent there is a digit less, as in `significant`. Where another is a hundred times as large, that one
    decides.
    """
    sizes = [abs(number) for number in numbers if math.isfinite(number)]
    largest = max(sizes, default=0.0)
    first = sizes[0] if sizes and largest < 100 * sizes[0] else largest
    exponent = _power(first) if 0 < first < 1e-3 else 0
    places = max(places - 1 + exponent, 1) if exponent else max(places, 0)

    def written(number: float) -> str:
        if math.isinf(number):
            return significant(number)
        text = f"{number / 10.0**exponent:.{places}f}"
        return text if not exponent else f"{text}e{exponent}" if number else "0"

    return [written(number) for number in numbers]


def _power(value: float) -> int:
    """The power of ten of the first digit; 0 of zero."""
    return math.floor(math.log10(abs(value)) + 1e-12) if value and math.isfinite(value) else 0


def _short_exponent(text: str) -> str:
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"
