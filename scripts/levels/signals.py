"""Signals planted into maps in which there is nothing else to find: how many are called, and what beside them.

A signal adds 4 deviations of its token's log null to that token's score, on the log scale on which `assess` tests. A
count of spikes is rounded up to whole spikes. No signal is planted where the null is constant, for it has no deviation,
nor where the map would need more spikes than there are neurons and time steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from levels.questions import LEVEL, Flags, Floats, log_scores, q_values
from spikeattn.attention.standardised import FLOOR

DEVIATIONS = 4.0
SHARE, FEWEST = 0.05, 2  # of the tokens of a map that get a signal, and how many at least
ROUNDING = 1e-9  # of a spike: a count that is whole but for floating point is not rounded up
SAME = 1e-9  # log scores that differ by less do not move; one spike more moves a log by 1e-4 at least


@dataclass(frozen=True)
class Recovery:
    """What became of the signals of one map.

    Attributes:
        signals: planted ones; 0 where no token could hold one.
        power: share of them at q <= .1; NaN without signals.
        clear: share of them above every null score of their token. No test that keeps its level at that token could
            tell the others from its null: where spikes are rare, 4 deviations are one spike, and noise has that too.
        clear_power: share of the clear ones at q <= .1; NaN without any.
        false: share of the tokens at q <= .1 that have no signal; 0 where none is called.
    """

    signals: int
    power: float
    clear: float
    clear_power: float
    false: float


def recover(observed: Floats, null: Floats, unit: float | None, test: str, rng: np.random.Generator) -> Recovery:
    """Plant signals into a map [m] exchangeable with its null [B, m], and test it."""
    strong, able = shifted(observed, null, unit, test)
    places = np.flatnonzero(able)
    count = min(max(FEWEST, round(SHARE * observed.size)), places.size)
    signal = np.zeros(observed.size, bool)
    signal[rng.choice(places, count, replace=False)] = True
    both = log_scores(np.concatenate([np.where(signal, strong, observed)[None], null]), unit, test)
    called = q_values(both[0], both[1:], test)[1] <= LEVEL
    false = (called & ~signal).sum() / max(1, called.sum())
    clear = signal & (both[0] > both[1:].max(axis=0) + SAME)
    return Recovery(count, share(called, signal), share(clear, signal), share(called, clear), float(false))


def share(flags: Flags, among: Flags) -> float:
    """Mean of flags over the tokens that are meant; NaN if there is none."""
    return float(flags[among].mean()) if among.any() else math.nan


def shifted(observed: Floats, null: Floats, unit: float | None, test: str) -> tuple[Floats, Flags]:
    """Scores [m] of 4 deviations more, and the tokens that can hold them.

    The deviation of a token's log null has the floor of the test: 0.3 of the median over tokens whose null moves.
    """
    x0 = log_scores(null, unit, test)
    moves = np.ptp(x0, axis=0) > SAME
    if not moves.any():
        return observed, moves
    deviation = x0.std(axis=0)
    deviation = np.maximum(deviation, FLOOR * np.median(deviation[moves]))
    half = 0.0 if unit is None else unit / 2
    strong = np.exp(np.log(observed + half) + DEVIATIONS * deviation) - half
    if unit is None:
        return strong, moves
    strong = np.ceil(strong / unit - ROUNDING) * unit
    return strong, moves & (strong <= 1 + unit / 2)  # a rate of 1: every neuron at every time step
