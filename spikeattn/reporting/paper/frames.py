"""Two tables of a paper as frames: what Table 3 and Table 4 of the Spike-driven Transformer say, for any runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.energy.estimate import EnergyTable
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.tables.run_tables import data_name, pricing

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

_FAMILIES = {"SpikeDrivenTransformer": "Spike-driven Transformer"}


def model_table(
    *profiles: Profile,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
) -> pd.DataFrame:
    """Method, architecture, size, time steps, energy and accuracy, one row per run, all priced alike.

    Returns:
        Columns method, architecture, name, data, images, parameters, time_steps, energy_mj, energy_low, energy_high and
        interval (its method), accuracy, accuracy_low, accuracy_high (shares, NaN without labels), untrained,
        incomplete (operations that were not counted or have no price). `attrs` carries a caption.

    Raises:
        SpikeattnError: no profile.
    """
    if not profiles:
        raise SpikeattnError("model_table needs a profile per row and got none; give model_table(profile, ...)")
    costs, convention = get_costs(costs), get_convention(convention)
    priced = [(each, each.energy(costs, convention), each.summary(costs, convention)) for each in profiles]
    return models_of(priced)


def models_of(runs: Sequence[tuple[Profile, EnergyTable, dict[str, Any]]]) -> pd.DataFrame:
    """As `model_table`, from energies and summaries that have been computed."""
    frame = pd.DataFrame([_row(*run) for run in runs])
    networks = frame["name"].iloc[0] if len(runs) == 1 else f"{len(runs)} networks"
    said = f"Energy per image and accuracy of {networks}"
    data = list(dict.fromkeys(zip(frame["data"], frame["images"], strict=True)))
    if len(data) == 1:
        name, images = data[0]
        said += f" on {images:,} image{'s' if images != 1 else ''}{f' of {name}' if name else ''}"
    energy = runs[0][1]
    confidence = energy.provenance["confidence"] * 100
    frame.attrs["caption"] = f"{said}. {pricing(energy)} Intervals: {confidence:g} %, over images."
    return frame


def part_table(comparison: Comparison) -> pd.DataFrame:
    """Energy of the ANN and of the SNN, part by part, then of attention with Q, K, V, under the first prices.

    Returns:
        Columns part, ann_mj, snn_mj, snn_low, snn_high, ratio (ANN / SNN), ratio_low, ratio_high, interval (the
        method), break_even (firing rate at which both cost the same). `attrs` carries a caption.
    """
    first = comparison.prices.iloc[0]
    frames: list[pd.DataFrame] = []
    for each in (comparison.parts, comparison.attention):
        of_first = each[(each["costs"] == first["costs"]) & (each["against"] == first["against"])]
        frames.append(of_first[~of_first["part"].isin(frames[0]["part"])] if frames else of_first)
    names = {"against_mj": "ann_mj", "energy_mj": "snn_mj", "ci_low": "snn_low", "ci_high": "snn_high"}
    both = pd.concat([frame for frame in frames if len(frame)], ignore_index=True).rename(columns=names)
    columns = ["part", "ann_mj", "snn_mj", "snn_low", "snn_high", "ratio", "ratio_low", "ratio_high", "interval",
               "break_even"]  # fmt: skip
    found = both[columns].copy()
    found.attrs["caption"] = (
        f"Energy per image of {first['against']} (ANN) and {comparison.name} (SNN), part by part. "
        f"Costs {first['costs']}; arithmetic only, on both sides."
    )
    return found


def _row(profile: Profile, energy: EnergyTable, summary: dict[str, Any]) -> dict[str, Any]:
    model = profile.ledger.model
    kind, config = str(model.get("class") or "").rpartition(".")[2], model.get("config") or {}
    name = str(model.get("name") or kind or "model")
    sized = {"depth", "embed_dim"} <= set(config)
    low, high = summary["accuracy_interval"]
    total = energy.total
    return {
        "method": _FAMILIES.get(kind, kind or name),
        "architecture": f"{config['depth']}-{config['embed_dim']}" if sized else name,
        "name": name,
        "data": data_name(profile),
        "images": profile.n_images,
        "parameters": model.get("parameters"),
        "time_steps": profile.time_steps,
        "energy_mj": total.value,
        "energy_low": total.low,
        "energy_high": total.high,
        "interval": total.method,
        "accuracy": math.nan if summary["accuracy"] is None else summary["accuracy"],
        "accuracy_low": math.nan if low is None else low,
        "accuracy_high": math.nan if high is None else high,
        "untrained": profile.untrained,
        "incomplete": bool(profile.ledger.uncounted) or any(note.code == "unpriced" for note in energy.notes),
    }
