"""What a reader must see first: operations that were not counted, layers that never or always fire, few images.

Where both networks would cost the same is no reason to worry, and stands apart as a remark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikeattn.boundary.number_format import known, percent, significant
from spikeattn.boundary.terms import WEIGHTED_RATE
from spikeattn.energy.accumulators import said_of
from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.estimate import EnergyTable
from spikeattn.stats.accuracy import NO_ACCURACY

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.runs.result import Profile

SATURATED = 0.99  # of the elements of a layer: what is silent in fewer than one in a hundred tells no images apart


def cautions(profile: Profile, energy: EnergyTable, rates: pd.DataFrame) -> list[tuple[str, str]]:
    """Name and sentence of every warning, the gravest first.

    Untrained weights have a banner of their own, and why no accuracy is known stands in its place.

    Args:
        rates: of `profile.rates()`.
    """
    notes = [*profile.warnings, *(note for note in energy.notes if note.code == "unpriced")]
    found = [(note.code or "warning", note.text) for note in notes]
    found += _saturated(rates)
    ranked = sorted(found, key=lambda pair: pair[0] != "uncounted")
    return [(name, text) for name, text in ranked if name not in ("untrained", NO_ACCURACY)]


def _saturated(rates: pd.DataFrame) -> list[tuple[str, str]]:
    """The layers that fire nearly everywhere; a first layer of real values is no such layer."""
    means = rates[(rates["t"] == "mean") & (rates["kind"] != "real") & (rates["tensor"] != "input")]
    full = means[means["nonzero_rate"] >= SATURATED]
    if full.empty:
        return []
    first, many = full.iloc[0], len(full)
    which = f"{many} of {len(means)} spike tensors are" if many > 1 else f"1 of {len(means)} spike tensors is"
    text = f"{which} non-zero in {percent(SATURATED, 0)} of its elements or more, the first is {first['tensor']} "
    return [("saturated", f"{text}({percent(first['nonzero_rate'])}); it tells images hardly apart")]


def remarks(comparison: Comparison | None) -> list[tuple[str, str]]:
    """Where the whole network breaks even at a rate above 1, under the report's own costs.

    That it cannot lose is said only where it holds under every accumulator and at every gamma of the range.
    """
    if comparison is None:
        return []
    price = comparison.prices.iloc[0]
    parts = comparison.parts
    total = parts[
        (parts["costs"] == price["costs"]) & (parts["against"] == price["against"]) & (parts["part"] == "total")
    ].iloc[0]
    if not known(total["break_even"]) or not total["break_even"] > 1:
        return []
    gamma, even = comparison.gamma, significant(total["break_even"], 3)
    at = "" if gamma is None or gamma.measured else f" at gamma {price['gamma']:.3g}"
    start = f"Under {price['costs']} the network would cost as much as {price['against']}{at} at "
    if not total["cannot_lose"]:
        said = said_of(str(price["costs"]))
        return [("break-even", f"{start}{even} spikes per element and step{f' ({said})' if said else ''}.")]
    text = f"{start}a {WEIGHTED_RATE} of {even}. No rate exceeds 1, "
    if gamma is None or _at_high(comparison, price):
        return [("break-even", f"{text}so this comparison cannot come out against it.")]
    return [("break-even", f"{text}but at gamma {gamma.high:.3g} enough spikes make the network lose.")]


def _at_high(comparison: Comparison, price: pd.Series) -> bool:
    """Whether even spikes everywhere cost no more where the ANN skips the most zeros of the range."""
    zeros = comparison.zeros
    own = (zeros["costs"] == price["costs"]) & (zeros["against"] == price["against"]) & (zeros["part"] == "total")
    return bool(zeros.loc[own, "cannot_lose"].all())
