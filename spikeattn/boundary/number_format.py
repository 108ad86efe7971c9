"""Numbers as people read them: SI prefixes, an interval's digits, small firing rates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}
MISSING = "–"
NO_INTERVAL = "no interval"
NO_UPPER_LIMIT = "no upper limit"


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


def energy_unit(values: Iterable[float]) -> tuple[str, float]:
    """Unit for energies given in mJ, by the largest of them, and how many mJ it is: ("µJ", 0.001)."""
    largest = max((abs(v) for v in values if known(v)), default=0.0)
    prefix, factor = prefix_of(largest * 1e-3) if largest > 0 else ("m", 1e-3)
    return f"{prefix}J", factor * 1e3


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
    return f"{value:.4f}" if abs(value) >= 5e-5 else _short_exponent(f"{value:.0e}")


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; a share that is not zero never reads as zero."""
    if share is None or not known(share):
        return MISSING
    smallest = 10.0**-digits
    if 0 < share * 100 < smallest / 2:
        return f"<{smallest:.{digits}f} %"
    return f"{share * 100:.{digits}f} %"


def with_limits(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """A value and its interval "[low, high]": two digits of the interval's width, three at least of the value.

    Without limits the value keeps four significant digits and the interval is "". An infinite upper limit, as of a
    ratio whose other side may be nothing, reads "[low, no upper limit]".
    """
    if low is None or high is None or not known(low) or not known(high):
        return significant(value), ""
    width = high - low
    if width <= 0:
        text = significant(value)
        return text, f"[{text}, {text}]"
    if math.isinf(width):
        return significant(value, 3), f"[{significant(low, 3)}, {NO_UPPER_LIMIT}]"
    places = max(1 - math.floor(math.log10(width)), 2 - math.floor(math.log10(abs(value))) if value else 0, 0)
    if places > 4:
        return significant(value, 3), f"[{significant(low, 3)}, {significant(high, 3)}]"
    return f"{value:.{places}f}", f"[{low:.{places}f}, {high:.{places}f}]"


def _short_exponent(text: str) -> str:
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"
