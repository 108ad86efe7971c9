"""Numbers in a row: value and limits share digits and exponent; numbers in a column share a unit."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from spikeattn.boundary.number_format import count_unit, counted_in, rate_with_limits, with_bound, with_limits

INF, NAN = float("inf"), float("nan")


def form(number: str) -> tuple[int, str]:
    """Decimal places and exponent of a number as printed."""
    mantissa, _, exponent = number.partition("e")
    return len(mantissa.partition(".")[2]), exponent


def forms(*texts: str) -> set[tuple[int, str]]:
    """Of every number in these texts that is not 0 or infinite."""
    found = re.findall(r"\d[\d.]*(?:e-?\d+)?", " ".join(texts))
    return {form(number) for number in found if float(number) != 0}


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (with_limits(4.4e-4, 4.2e-4, 4.6e-4), "4.4e-4 [4.2e-4, 4.6e-4]"),
        (with_limits(4.2e-4, 8.7e-5, 1.1e-3), "4.2e-4 [0.9e-4, 11.0e-4]"),
        (with_limits(12.0, 3.0, INF), "12.0 [3.0, no upper limit]"),
        (with_limits(0.0, 0.0, 0.012), "0.000 [0.000, 0.012]"),
        (with_limits(4.19, 4.19 - 1e-9, 4.19 + 1e-9), "4.19 [4.19, 4.19]"),
        (with_limits(NAN, 1.0, 2.0), "– "),
        (with_bound(0.0042, 0.031), "0.0042 ≤ 0.0310"),
        (with_bound(2e-5, 0.0031), "0.000020 ≤ 0.003100"),
        (with_bound(12.0, 9.0, "≥"), "12.00 ≥ 9.00"),
        (with_bound(12.0, INF), "12.00 "),
        (rate_with_limits(0.0594, 0.0586, 0.0603), "0.0594 [0.0586, 0.0603]"),
        (rate_with_limits(2e-5, 1e-5, 4e-5), "2.0e-5 [1.0e-5, 4.0e-5]"),
        (rate_with_limits(0.0, 0.0, 0.0031, bound=True), "0 ≤ 0.0031"),
        (rate_with_limits(0.3, NAN, NAN), "0.3000 "),
    ],
)
def test_value_and_limits_as_they_are_printed(made: tuple[str, str], text: str) -> None:
    assert " ".join(made) == text


def test_digits_and_exponent_agree_for_any_interval() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        value = float(10 ** rng.uniform(-9, 6))
        low = value * (1 - float(10 ** rng.uniform(-6, 0)))
        high = value * (1 + float(10 ** rng.uniform(-6, 1)))
        for text, limits in (with_limits(value, low, high), with_bound(value, high)):
            assert len(forms(text, limits)) == 1, (text, limits)
            assert math.isclose(float(text), value, rel_tol=0.06), text
        text, limits = rate_with_limits(value, low, high)
        assert len(forms(text, limits)) == 1, (text, limits)
        assert abs(float(text) - value) <= max(5.1e-5, 0.06 * value), text  # four decimals as in Table S1


def test_a_column_of_counts_has_one_unit() -> None:
    assert count_unit([4_566_010.2, 658_012, 895.5, None, NAN]) == ("M", 1e6)
    assert count_unit([9999, 12]) == ("", 1.0) and count_unit([9999.5]) == ("k", 1e3)
    assert count_unit([]) == count_unit([0]) == count_unit([0.25]) == ("", 1.0)
    assert [counted_in(count, 1e6) for count in (4_566_010, 895.5, 0, None)] == ["4.566", "8.96e-4", "0", "–"]
    assert counted_in(9999, 1.0) == "9999" and counted_in(0.25, 1.0) == "0.2500"
