"""What a reader must see first: random weights, operations that were not counted, a comparison that cannot be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikeattn.boundary.number_format import known, significant
from spikeattn.boundary.terms import WEIGHTED_RATE
from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.estimate import EnergyTable

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile


def cautions(profile: Profile, energy: EnergyTable, comparison: Comparison | None) -> list[tuple[str, str]]:
    """Name and sentence of every warning, the gravest first; untrained weights have a banner of their own."""
    notes = [*profile.warnings, *(note for note in energy.notes if note.code == "unpriced")]
    found = [(note.code or "warning", note.text) for note in notes]
    if comparison is not None:
        found += _break_even(comparison)
    order = ("uncounted", "break-even")
    ranked = sorted(found, key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))
    return [(name, text) for name, text in ranked if name != "untrained"]


def _break_even(comparison: Comparison) -> list[tuple[str, str]]:
    """A warning where the whole network breaks even at a rate above 1, under the report's own costs."""
    price = comparison.prices.iloc[0]
    parts = comparison.parts
    total = parts[
        (parts["costs"] == price["costs"]) & (parts["against"] == price["against"]) & (parts["part"] == "total")
    ].iloc[0]
    if not known(total["break_even"]) or not total["break_even"] > 1:
        return []
    at = "" if comparison.gamma is None or comparison.gamma.measured else f" at gamma {price['gamma']:.3g}"
    text = (
        f"Under {price['costs']} the network would cost as much as {price['against']} at a {WEIGHTED_RATE} of "
        f"{significant(total['break_even'], 3)}. No rate exceeds 1, so this comparison cannot come out against it{at}."
        if total["cannot_lose"]
        else f"Under {price['costs']} the network would cost as much as {price['against']} at "
        f"{significant(total['break_even'], 3)} spikes per element and step."
    )
    return [("break-even", text)]
