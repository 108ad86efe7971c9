"""Structure of random transformers whose truth is known; more seeds by `python -m tests.structure.random_networks`."""

from __future__ import annotations

import pytest

from tests.structure.random_networks import network, wrong

SEEDS = 100  # some 20 s


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_random_networks(first: int) -> None:
    found = {seed: wrong(network(seed)) for seed in range(first, first + 20)}
    assert {seed: faults for seed, faults in found.items() if faults} == {}
