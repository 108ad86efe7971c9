"""The five numbers of the first screen, each with its interval and what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeattn.boundary.number_format import (
    MISSING,
    NO_INTERVAL,
    amount,
    energy_unit,
    known,
    percent,
    rate_with_limits,
    significant,
    with_bound,
    with_limits,
)
from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS, begun
from spikeattn.energy.comparison_tables import divided
from spikeattn.energy.estimate import EnergyTable
from spikeattn.reporting.tables.run_tables import INTERVAL_METHODS
from spikeattn.runs.firing_rates import image_rates
from spikeattn.stats.intervals import Interval, mean_intervals

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

Card = dict[str, str]
_ONE_IMAGE = "one image has no interval"


def cards(profile: Profile, summary: Mapping[str, Any], energy: EnergyTable) -> list[Card]:
    """Label, value, interval and note of each.

    Args:
        summary: `profile.summary()` under the costs and the convention of `energy`.
    """
    return [
        _accuracy(summary),
        _mean_rate(profile),
        {
            "label": "SOPs per image",
            "value": amount(summary["sops_per_image"]),
            "interval": f"+ {amount(summary['macs_per_image'])} MACs" if summary["macs_per_image"] else "",
            "note": "additions that spikes cause",
        },
        _energy(profile, summary, energy),
        _ratio(summary, energy.total),
    ]


def _accuracy(summary: Mapping[str, Any]) -> Card:
    if summary["accuracy"] is None:
        return {"label": "Accuracy", "value": MISSING, "interval": "", "note": summary["no_accuracy"]}
    low, high = summary["accuracy_interval"]
    limits = "" if low is None else f"[{low * 100:.1f}, {high * 100:.1f}] %"
    return {"label": "Accuracy", "value": percent(summary["accuracy"]), "interval": limits, "note": "Wilson interval"}


def _mean_rate(profile: Profile) -> Card:
    """With the interval over images of the mean of their rates, as the rates of single layers have it."""
    every = image_rates(profile.ledger, profile.counts)
    if not np.isfinite(every).all():  # a network without neurons has no rate
        return {"label": begun(MEAN_RATE), "value": MISSING, "interval": "", "note": MEAN_RATE_IS}
    found = mean_intervals(every[:, None], ceiling=1.0)[0]
    value, limits = rate_with_limits(found.value, found.low, found.high, found.method == "upper bound")
    limits = "" if found.method == "constant" else limits
    return {"label": begun(MEAN_RATE), "value": value, "interval": limits, "note": MEAN_RATE_IS}


def _energy(profile: Profile, summary: Mapping[str, Any], energy: EnergyTable) -> Card:
    unit, factor = energy_unit([summary["energy_mj"]])
    low, high = (None if limit is None else limit / factor for limit in summary["energy_interval_mj"])
    value, limits = with_limits((summary["energy_mj"] or 0.0) / factor, low, high)
    method = energy.total.method
    confidence = f"{energy.total.confidence * 100:g} %"
    how = f"{confidence}, {INTERVAL_METHODS.get(method, method)} over images" if limits else ""
    if not limits:
        how = _ONE_IMAGE if profile.n_images == 1 else NO_INTERVAL
    if method == "upper bound":
        value, limits = with_bound((summary["energy_mj"] or 0.0) / factor, high or 0.0)
        how = f"{confidence} one-sided bound"
    elif method == "constant":
        limits, how = "", "the same on every image"
    return {"label": "Energy per image", "value": f"{value} {unit}", "interval": limits, "note": how}


def _ratio(summary: Mapping[str, Any], total: Interval) -> Card:
    """The ANN costs the same for every image, so the interval is that of the energy, turned round."""
    ratio, ann = summary["ann_over_snn"], summary["ann_energy_mj"]
    unit, factor = energy_unit([ann] if ann is not None else [])
    as_ann = f"ANN twin: {amount(summary['ann_macs'])} MACs, {significant((ann or 0) / factor, 3)} {unit}"
    card = {"label": "ANN / SNN", "value": MISSING, "interval": "", "note": f"{as_ann}; arithmetic only"}
    if ann is None:
        return card | {"note": "the cost table has no price for a MAC"}
    if ratio is None:
        return card
    low, high = (float(limit) for limit in divided(ann, [total.high, total.low]))
    value, limits = with_limits(ratio, low, high)
    if total.method == "upper bound":
        value, limits = with_bound(ratio, low, "≥")
    elif total.method == "constant" or not (known(low) and known(high)):
        value, limits = significant(ratio, 3), ""
    return card | {"value": f"× {value}", "interval": limits}
