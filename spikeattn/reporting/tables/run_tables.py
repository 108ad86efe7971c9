"""The tables of a report as DataFrames: Table S1's layout, the energy of every block, and captions that say it all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from spikeattn.energy.amounts import OPS, amounts_of
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import PJ_TO_MJ, CostTable, get_costs
from spikeattn.energy.estimate import EnergyTable, prices_of
from spikeattn.energy.profile_argument import counted
from spikeattn.errors import SpikeattnError
from spikeattn.structure.entry import PRODUCTS

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

INPUT = "Input"  # the part of the row that is no spike tensor of the network but what it is shown
INTERVAL_METHODS = {
    "percentile": "percentile bootstrap",
    "studentised": "studentised bootstrap",
    "t": "Student's t",
    "two-part": "share of spiking images times the mean over them, where images are silent",
    "upper bound": "one-sided bounds where one image or none spikes",
}
_OF_RATES = ("tensor", "role", "part", "block", "kind", "t", "nonzero_rate", "interval")
_MLP = ("MLP1", "MLP2")
PAPERS_OWN = "V_S"  # a role that only tensors of the Spike-driven Transformer have


def rate_table(source: Profile | pd.DataFrame, cluster: Literal["label"] | None = None) -> pd.DataFrame:
    """Firing rates in the layout of the Spike-driven Transformer paper's Table S1, with both names of every tensor.

    Args:
        source: a profile, or the frame of its `rates()`.
        cluster: of `rates()`, where a profile is given.

    Returns:
        One row per spike tensor, in the order of the network, after a row of part "Input" for the model's input.
        Columns: part ("SPS", "Block1", ..., "Head"), module ("MLP", "attention"; in a Spike-driven Transformer the
        latter is "SDSA", as in the paper), tensor (the paper's name), code (dotted path), T1..Tn and average (share of
        non-zero elements), low, high and interval (limits of the average, and their method). Tensors that nobody can
        place have an empty part; those without a name in the paper have their dotted path in both columns. `attrs`
        carries a caption.
        Without the row "Input", `spikeattn.energy_from_rates` reads the table back.

    Raises:
        SpikeattnError: a frame that is not one of rates.
    """
    rates = source if isinstance(source, pd.DataFrame) else source.rates(cluster=cluster)
    missing = [column for column in _OF_RATES if column not in rates.columns]
    if missing:
        raise SpikeattnError(f"rate_table needs a profile or the frame of its rates(); it lacks {', '.join(missing)}")
    attention = "SDSA" if rates["role"].eq(PAPERS_OWN).any() else PRODUCTS
    rows = []
    for name, group in rates.groupby("tensor", sort=False):
        steps, mean = group[group["t"] != "mean"], group[group["t"] == "mean"].iloc[0]
        if mean["kind"] == "real" and name != "input":
            continue
        role = mean["role"] if pd.notna(mean["role"]) else name
        part, module = (INPUT, "") if name == "input" else _place(mean["part"], mean["block"], attention)
        row = {"part": part, "module": module, "tensor": role, "code": name}
        row |= {f"T{t}": value for t, value in zip(steps["t"], steps["nonzero_rate"], strict=True)}
        limits = {"low": mean["ci_low"], "high": mean["ci_high"], "interval": mean["interval"]}
        rows.append(row | {"average": mean["nonzero_rate"]} | limits)
    table = pd.DataFrame(rows)
    if not isinstance(source, pd.DataFrame):
        table.attrs["caption"] = caption(source, "Firing rates (share of non-zero elements)", rates)
    return table


def _place(part: Any, block: Any, attention: str) -> tuple[str, str]:
    """Part and module of a tensor as Table S1 prints them; `attention` is what it calls the attention."""
    if pd.isna(part):
        return "", ""
    if pd.isna(block):
        return ("Head" if part == "head" else str(part)), ""
    return f"Block{int(block) + 1}", {**dict.fromkeys(_MLP, "MLP"), PRODUCTS: attention}.get(str(part), str(part))


def block_energy(
    profile: Profile,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
) -> pd.DataFrame:
    """Energy per image of every block, split by part; the sum of all rows is the total of `profile.energy()`.

    Returns:
        Columns block ("SPS", "Block1", ..., "Head"; in a network without blocks, the dotted path up to its first
        number), part and energy_mj, in the order of the network.
    """
    costs, convention = get_costs(costs), get_convention(convention)
    prices = dict(zip(OPS, prices_of(costs), strict=True))
    energies: dict[tuple[str, str], float] = {}
    for amount in amounts_of(counted(profile), convention):
        term = amount.term
        key = _block(term.name, term.part, term.block), term.part
        operations = float(amount.total.mean()) * term.factor
        energies[key] = energies.get(key, 0.0) + operations * prices[term.op] * PJ_TO_MJ
    blocks = list(dict.fromkeys(block for block, _ in energies))
    rows = [{"block": block, "part": part, "energy_mj": energy} for (block, part), energy in energies.items()]
    rows.sort(key=lambda row: blocks.index(str(row["block"])))
    return pd.DataFrame(rows)


def _block(name: str, part: str, block: int | None) -> str:
    if block is not None:
        return f"Block{block + 1}"
    if part == "head":
        return "Head"
    if part == "SPS":
        return "SPS"
    match = re.match(r".*?(?:^|\.)\d+(?=\.|$)", name)
    return match.group(0) if match else name.split(".")[0]


def caption(profile: Profile, what: str, table: pd.DataFrame | None = None) -> str:
    """What a table shows and rests on, as plain text: model, data, N, T; of an energy table, convention and costs too.

    Args:
        what: the first words, e.g. "Energy per image".
        table: the rates or the energy table that the caption is for; its intervals are named.
    """
    model = profile.ledger.model.get("name") or "model"
    weights = " with UNTRAINED (random) weights" if profile.untrained else ""
    images = "1 image" if profile.n_images == 1 else f"{profile.n_images} images"
    data = data_name(profile)
    text = f"{what} of {model}{weights} on {images}{f' of {data}' if data else ''}, T = {profile.time_steps}."
    if isinstance(table, EnergyTable):
        text += f" {pricing(table)}"
    if table is not None:
        text += f" {intervals(table)}"
    return text


def pricing(energy: EnergyTable) -> str:
    """Convention and prices of an energy table in a sentence."""
    entries = energy.costs.entries
    prices = ", ".join(f"{op.upper()} {entries[op].pj:g} pJ" for op in ("mac", "ac", "sop") if op in entries)
    return f"Convention {energy.convention.name}; costs {energy.costs.name} ({prices}); arithmetic only."


def intervals(table: pd.DataFrame) -> str:
    """How the intervals of a table of rates or energies came about, in a sentence."""
    rests = dict(getattr(table, "provenance", None) or table.attrs)
    if "n_images" in table.columns:
        rests["n_images"] = table["n_images"].iloc[0]
    rows = table[table["t"] == "mean"] if "t" in table.columns else table
    used = [method for method in dict.fromkeys(rows["interval"]) if method in INTERVAL_METHODS]
    if not used:
        return "No interval: one image." if rests.get("n_images") == 1 else "No interval could be formed."
    confidence = f"{rests['confidence'] * 100:g} % intervals" if "confidence" in rests else "Intervals"
    drawn = "classes, each with its images" if rests.get("cluster") else "images"
    return f"{confidence} over {drawn}: {', '.join(INTERVAL_METHODS[method] for method in used)}."


def data_name(profile: Profile) -> str:
    """Name and split of the data, "" where the loader did not say."""
    data = profile.ledger.settings.data or {}
    name, split = data.get("name"), data.get("split")
    if not name:
        return ""
    return f"{name} ({split})" if split else str(name)
