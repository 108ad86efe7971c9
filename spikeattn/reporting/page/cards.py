"""The five numbers of the first screen, each with its interval and what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikeattn.boundary.number_format import (
    MISSING,
    NO_INTERVAL,
    amount,
    energy_unit,
    percent,
    rate,
    significant,
    with_bound,
    with_limits,
)
from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS, begun
from spikeattn.energy.estimate import EnergyTable
from spikeattn.reporting.tables.run_tables import INTERVAL_METHODS

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile


def cards(profile: Profile, summary: dict[str, Any], energy: EnergyTable) -> list[dict[str, str]]:
    """The five numbers: each with value, interval, and what it is."""
    n = profile.n_images
    low, high = summary["accuracy_interval"]
    limits = "" if low is None else f"[{low * 100:.1f}, {high * 100:.1f}] %"
    accuracy = {"value": percent(summary["accuracy"]), "interval": limits, "note": "Wilson interval"}
    if summary["accuracy"] is None:
        accuracy = {"value": MISSING, "interval": "", "note": summary["no_accuracy"]}
    unit, factor = energy_unit([summary["energy_mj"]])
    low, high = (None if limit is None else limit / factor for limit in summary["energy_interval_mj"])
    value, limits = with_limits((summary["energy_mj"] or 0.0) / factor, low, high)
    method = energy.total.method
    confidence = f"{energy.total.confidence * 100:g} %"
    how = f"{confidence}, {INTERVAL_METHODS.get(method, method)} over images" if limits else ""
    if not limits:
        how = "one image has no interval" if n == 1 else NO_INTERVAL
    if method == "upper bound":
        value, limits = with_bound((summary["energy_mj"] or 0.0) / factor, high or 0.0)
        how = f"{confidence} one-sided bound"
    elif method == "constant":
        limits, how = "", "the same on every image"
    ratio, ann = summary["ann_over_snn"], summary["ann_energy_mj"]
    ann_unit, ann_factor = energy_unit([ann] if ann is not None else [])
    as_ann = f"its {amount(summary['ann_macs'])} MACs cost {significant((ann or 0) / ann_factor, 3)} {ann_unit}"
    return [
        {"label": "Accuracy"} | accuracy,
        {
            "label": begun(MEAN_RATE),
            "value": rate(summary["mean_rate"]),
            "interval": "",
            "note": MEAN_RATE_IS,
        },
        {
            "label": "SOPs per image",
            "value": amount(summary["sops_per_image"]),
            "interval": f"+ {amount(summary['macs_per_image'])} MACs" if summary["macs_per_image"] else "",
            "note": "additions that spikes cause",
        },
        {"label": "Energy per image", "value": f"{value} {unit}", "interval": limits, "note": how},
        {
            "label": "ANN / SNN",
            "value": MISSING if ratio is None else f"× {significant(ratio, 3)}",
            "interval": "" if ratio is None else "arithmetic only",
            "note": as_ann if ann is not None else "the cost table has no price for a MAC",
        },
    ]
