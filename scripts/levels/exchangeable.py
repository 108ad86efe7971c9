"""Maps among which there is nothing to find: each of B + 1 replicates in turn is the observed map of the other B."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from levels.questions import LEVEL, PLUS_ONE, Flags, Floats, by_assess, log_scores, q_values
from spikeattn.attention.local_fdr import local_fdr
from spikeattn.attention.significance import benjamini_hochberg
from spikeattn.attention.standardised import SAME, count_reaching, in_deviations, leads, p_values

SAMPLE = 3  # maps of each cell that `assess` itself does as well, and the calls have to agree


def turns(maps: Floats, unit: float | None, test: str, number: int) -> tuple[Flags, Flags, Flags]:
    """p, q and lfdr at most .1, each [maps, m]: every map of [B + 1, m] in turn against the others.

    The z-scores of the standardised test are the same whichever map is the observed one, so they are computed once, and
    the calls are those of `assess`; constant maps and those whose null is constant go to `assess` itself. Of plus-one,
    `number` of the maps are done, and no lfdr.
    """
    x = log_scores(maps, unit, test)
    if test == PLUS_ONE:
        pairs = [q_values(x[i], np.delete(x, i, 0), test) for i in range(min(number, len(x)))]
        p, q = (np.array(values) <= LEVEL for values in zip(*pairs, strict=True))
        return p, q, np.zeros_like(q)
    same = SAME * max(1.0, float(np.abs(x).max()))
    flags = _together(x, same)
    moves_alone = _constant_null(x, same) & (np.ptp(x, axis=0) > same)
    alone = (np.ptp(x, axis=1) <= same) | moves_alone.any(axis=1)
    _replace(flags, maps, unit, test, np.flatnonzero(alone), check=False)
    others = np.flatnonzero(~alone)
    chosen = np.random.default_rng(0).choice(others, min(SAMPLE, others.size), replace=False)
    _replace(flags, maps, unit, test, chosen, check=True)
    return flags


def reach(maps: Floats) -> Floats:
    """The share of the maps [B + 1, m] that an exact test of each place by itself calls at .1.

    It is below .1 where scores tie: of a place that has a spike in two of a hundred maps it is .02, and 0 of one whose
    largest score is that of every fifth map. A map whose null is constant at a place is not called there.
    """
    ordered = np.sort(maps, axis=0)
    ranks = [len(maps) - np.searchsorted(ordered[:, place], maps[:, place]) for place in range(maps.shape[1])]
    return ((np.transpose(ranks) <= LEVEL * len(maps)) & ~_constant_null(maps, 0.0)).mean(axis=0)


def _replace(
    flags: Sequence[Flags], maps: Floats, unit: float | None, test: str, numbers: NDArray[np.int64], check: bool
) -> None:
    """What `assess` calls in the maps of these numbers; an error if it is to `check` and there is a difference."""
    for number in numbers:
        for mine, theirs in zip(flags, by_assess(maps[number], np.delete(maps, number, 0), unit, test), strict=True):
            if check and not np.array_equal(mine[number], theirs):
                raise AssertionError(f"map {number}: all maps together and `assess` do not call the same tokens")
            mine[number] = theirs


def _constant_null(x: Floats, same: float) -> Flags:
    """Where all other maps, the null, are equal: [B + 1, m]."""
    ordered = np.sort(x, axis=0)
    top = np.where(x == ordered[-1], ordered[-2], ordered[-1])
    bottom = np.where(x == ordered[0], ordered[1], ordered[0])
    equal: Flags = top - bottom <= same
    return equal


def _together(x: Floats, same: float) -> tuple[Flags, Flags, Flags]:
    """The calls of every map [B + 1, m]."""
    moves = np.ptp(x, axis=0) > same
    called_p, called_q, called_lfdr = (np.zeros(x.shape, bool) for _ in range(3))
    z, p = np.zeros_like(x), np.ones_like(x)
    if moves.any():
        z[:, moves], p[:, moves] = _standardised(x[:, moves], same)
    called_p[:] = p <= LEVEL
    for number in np.flatnonzero(called_p.any(axis=1)):  # no q is below the smallest p
        q = benjamini_hochberg(p[number])
        called_q[number] = q <= LEVEL
        if called_q[number].any():  # no lfdr is below its q
            called_lfdr[number] = np.maximum(local_fdr(z[number]), q) <= LEVEL
    return called_p, called_q, called_lfdr


def _standardised(x: Floats, same: float) -> tuple[Floats, Floats]:
    """z and p of every map against the others, as of `standardised`; every place moves."""
    n, m = x.shape
    z = in_deviations(x)
    number, lead = leads(z, same)
    size = 1 + (n - 1) * m
    above = count_reaching(np.sort(z, axis=None), z - same)
    ahead = 1 + count_reaching(np.sort(lead[number >= 0]), lead - same)
    beyond = np.full_like(z, np.nan)
    for row, scores in enumerate(z):  # a map is not part of its own null
        above[row] -= count_reaching(np.sort(scores), scores - same)
        mine = number == row
        beyond[row, mine] = (ahead[mine] - count_reaching(np.sort(lead[mine]), lead[mine] - same)) / size
    own = np.stack([count_reaching(np.sort(column), column - same) for column in z.T], axis=1) / n
    return z, p_values(own, (1 + above) / size, beyond)
