"""What a finished run settles from all of its parts: kinds, extremes, and an input that must not start to move."""

from __future__ import annotations

import pytest

from spikeattn.errors import SpikeattnError
from spikeattn.runs.assembly import settled
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor
from spikeattn.storage.parts import Part

# value flags: a value that is no whole number, a negative one, one above 1; of the input also: it varies over time
ONES, SIGNS, LEVELS, REALS = (False,) * 3, (False, True, False), (False, False, True), (True, True, True)
STILL, MOVING = (*REALS, False), (*REALS, True)


def ledger(static: bool = True, **changes) -> Ledger:
    return Ledger(
        2,
        static,
        tensors=(
            CountedTensor("input", (3,), 3, maker="input", kind="real", static=static),
            CountedTensor("lif", (4,), 4),
            CountedTensor("levels", (4,), 4, **changes),
        ),
        synapses=(),
        products=(),
    )


def part(number: int, lif=ONES, levels=ONES, image=STILL, extremes=None) -> Part:
    return Part((number,), {"input": image, "lif": lif, "levels": levels}, extremes=extremes or {})


def kinds(parts: list[Part]) -> dict[str, str]:
    return {tensor.name: tensor.kind for tensor in settled(ledger(), parts).tensors}


def test_kinds_are_decided_by_all_parts_in_any_order():
    parts = [part(0), part(1, lif=SIGNS), part(2, levels=LEVELS)]
    expected = {"input": "real", "lif": "ternary", "levels": "integer"}
    assert kinds(parts) == kinds(parts[::-1]) == expected
    assert kinds(parts[:1]) == {"input": "real", "lif": "binary", "levels": "binary"}
    assert kinds([*parts, part(3, lif=REALS)])["lif"] == "real"


def test_a_tensor_of_numbers_and_one_without_flags_stay_as_they_are():
    numbers = ledger(kind="real", number=True)
    assert settled(numbers, [part(0)]).tensor("levels").kind == "real"
    unseen = Part((0,), {"input": STILL, "lif": ONES})
    assert settled(ledger(kind="integer"), [unseen]).tensor("levels").kind == "integer"


def test_extremes_are_those_of_all_parts():
    parts = [part(0, extremes={"levels": (0.0, 2.0)}), part(1, extremes={"levels": (-1.0, 1.0)})]
    for order in (parts, parts[::-1]):
        tensor = settled(ledger(), order).tensor("levels")
        assert (tensor.low, tensor.high) == (-1, 2)
    stated = settled(ledger(low=0.0, high=4.0), parts).tensor("levels")
    assert (stated.low, stated.high) == (0, 4)


@pytest.mark.parametrize("extremes", [(0.0, 5.0), (-5.0, 1.0)])
def test_more_levels_than_the_user_says_are_an_error(extremes):
    stated = ledger(low=0.0, high=4.0, unit=0.5)
    settled(stated, [part(0, extremes={"levels": (-4.0, 4.0)})])
    with pytest.raises(SpikeattnError, match="neuron levels gives 5 units of 0.5, and levels= says 4 at most"):
        settled(stated, [part(0), part(1, extremes={"levels": extremes})])


def test_a_still_input_that_moves_in_a_later_part_is_an_error():
    with pytest.raises(SpikeattnError, match="same at every time step in the first batch and varies in a later one"):
        settled(ledger(), [part(0), part(1, image=MOVING)])
    assert settled(ledger(static=False), [part(0), part(1, image=MOVING)]).tensor("input").kind == "real"
