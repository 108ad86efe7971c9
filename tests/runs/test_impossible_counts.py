"""Counts that no run can have, which `verify` looks for in the table."""

from __future__ import annotations

import numpy as np
import pytest

from spikeattn.runs.verification import _impossible
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Synapse


class Table:
    """Two images and two time steps, as `Counts` hands them out."""

    def __init__(self, kind: str = "integer", **changes) -> None:
        tensors = (CountedTensor("lif", (4,), 4, kind=kind),)
        self.ledger = Ledger(2, True, tensors, (Synapse("conv", "conv2d", "lif", 36),), ())
        self._columns = {("nnz", "lif"): [[4, 0], [2, 3]], ("abs", "lif"): [[4, 0], [5, 3]]}
        self._columns[("fan_nnz", "conv")] = [[9, 0], [4, 7]]
        self._columns |= {tuple(name.split("_of_")): rows for name, rows in changes.items()}

    def has(self, measure: str, name: str) -> bool:
        return self._columns.get((measure, name)) is not None

    def column(self, measure: str, name: str) -> np.ndarray:
        return np.array(self._columns[measure, name])


def test_counts_that_can_be_have_nothing_to_say():
    assert list(_impossible(Table())) == []
    assert list(_impossible(Table(fan_nnz_of_conv=None))) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nnz_of_lif": [[5, 0], [2, 3]], "abs_of_lif": [[5, 0], [2, 3]]}, "lif: 5 non-zero elements of 4"),
        ({"nnz_of_lif": [[4, 0], [-1, 3]]}, "lif: -1 non-zero elements of 4"),
        ({"abs_of_lif": [[4, 0], [1, 3]]}, "lif: a sum of values is smaller than their number"),
        ({"fan_nnz_of_conv": [[9, 0], [-1, 7]]}, "conv: a negative number of operations"),
    ],
)
def test_counts_that_cannot_be_are_named(changes, message):
    assert list(_impossible(Table(**changes))) == [message]


def test_values_of_a_real_tensor_may_sum_to_less_than_their_number():
    assert list(_impossible(Table("real", abs_of_lif=[[0.5, 0], [0.1, 0.2]]))) == []
