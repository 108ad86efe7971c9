"""What a reader must see first: random weights, operations that were not counted, a comparison that cannot be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikeattn.boundary.number_format import known, significant
from spikeattn.boundary.terms import WEIGHTED_RATE
from spikeattn.energy.accumulators import said_of
from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.estimate import EnergyTable
from spikeattn.stats.accuracy import NO_ACCURACY

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.runs.result import Profile


def cautions(profile: Profile, energy: EnergyTable, comparison: Comparison | None) -> list[tuple[str, str]]:
    """Name and sentence of every warning, the gravest first.

    Untrained weights have a banner of their own, and why no accuracy is known stands in its place.
    """
    notes = [*profile.warnings, *(note for note in energy.notes if note.code == "unpriced")]
    found = [(note.code or "warning", note.text) for note in notes]
    if comparison is not None:
        found += _break_even(comparison)
    order = ("uncounted", "break-even")
    ranked = sorted(found, key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))
    return [(name, text) for name, text in ranked if name not in ("untrained", NO_ACCURACY)]


def _break_even(comparison: Comparison) -> list[tuple[str, str]]:
    """A warning where the whole network breaks even at a rate above 1, under the report's own costs.

    That it cannot lose is said only where it holds under every accumulator and at every gamma of the range.
    """
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
