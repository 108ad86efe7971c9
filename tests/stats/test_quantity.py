"""A total prints value, unit and interval, and is its value wherever a number is asked for."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

from spikeattn.energy import compare, energy
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Interval
from spikeattn.stats.quantity import Quantity

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Quantity(0.004194, 0.004156, 0.004235), "4.194 µJ [4.156, 4.235] per image"),
        (Quantity(4.2, 4.05, 4.36), "4.20 mJ [4.05, 4.36] per image"),
        (Quantity(4.4e-7, 4.2e-7, 4.6e-7), "440 pJ [420, 460] per image"),
        (Quantity(12.363, 12.24, 12.474, unit="", per=""), "12.36 [12.24, 12.47]"),
        (Quantity(0.004, NAN, NAN, "none"), "4.000 µJ per image (no interval)"),
        (Quantity(0.004, 0.004, 0.004, "constant"), "4.000 µJ per image (the same on every image)"),
        (Quantity(0.004, 0, 0.005, "upper bound"), "4.00 µJ per image, at most 5.00 µJ (one-sided bound)"),
        (Quantity(12, 9.5, INF, "lower bound", unit="", per=""), "12.00, at least 9.50 (one-sided bound)"),
        (Quantity(12, 3, INF, unit="", per=""), "12.0 [3.0, no upper limit]"),
        (Quantity(NAN, NAN, NAN, "none"), "– mJ per image (no interval)"),
    ],
)
def test_it_prints_value_unit_and_interval(made: Quantity, text: str) -> None:
    assert str(made) == f"{made}" == text
    assert text in repr(made) and repr(made).startswith("<")


def test_it_is_a_number_where_one_is_asked_for() -> None:
    total = Quantity(4.2015, 4.05, 4.36, "percentile", 0.9)
    assert float(total) == np.float64(total) == 4.2015 and round(total, 2) == 4.2 and round(total) == 4
    assert f"{total:.3f}" == "4.202" and f"{total:>9.1e}" == "  4.2e+00" and format(total, "") == str(total)
    assert isinstance(total, Interval)
    assert (total.value, total.low, total.high) == (4.2015, 4.05, 4.36)
    assert (total.method, total.confidence) == ("percentile", 0.9) and "90 %" in repr(total)
    with pytest.raises(ValueError, match="format"):
        f"{total:q}"


def test_it_is_compared_by_its_value_with_numbers_and_by_all_fields_with_its_like() -> None:
    total, wider = Quantity(4.0, 3.0, 5.0), Quantity(4.0, 2.0, 6.0)
    assert total < 5 and total <= 4 and total > 3.5 and total >= np.float64(4) and 5 > total and not total > wider
    assert total == 4.0 == total and total != 4.1 and hash(total) == hash(4.0) == hash(wider)
    assert total != wider and total == Quantity(4.0, 3.0, 5.0) and total != "4.0" and total != None  # noqa: E711
    assert Quantity(1.0, NAN, NAN, "none") == Quantity(1.0, NAN, NAN, "none")
    assert sorted([Quantity(2.0, 1, 3), Quantity(1.0, 0, 9)])[0].value == 1
    with pytest.raises(SpikeattnError, match="not in the same unit"):
        assert total < Quantity(12.0, 11, 13, unit="", per="")
    with pytest.raises(TypeError):
        assert total < "5"
    for again in (copy.deepcopy(total), pickle.loads(pickle.dumps(total)), Quantity.of(total)):
        assert again == total and again.unit == "mJ"


def test_the_totals_of_a_run_are_such_numbers(ledger, counts) -> None:
    table = energy(ledger, counts)
    for total in (table.total, table.total_t):
        assert isinstance(total, Quantity) and re.fullmatch(r"[\d.]+ [pnµm]J \[[\d.]+, [\d.]+\] per image", str(total))
    assert float(table.total) == table["energy_mj"].iloc[-1] == table.total
    assert f"{table.total:.9f}" == f"{table.total.value:.9f}"


def test_the_ratio_of_a_comparison_is_one_without_a_unit(profile) -> None:
    found = compare(profile)
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]( at gamma [\d.]+)?", str(found.total)) and str(found.total) in repr(
        found
    )
    assert float(found.total) == found.total.value and found.total > 0
