"""The five numbers of a run: as a record, and as the text that it shows of itself."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.boundary.notes import Note
from spikeattn.boundary.number_format import amount, energy_in, energy_unit, known, percent, rate
from spikeattn.energy.dense_twin import dense_twin
from spikeattn.energy.estimate import EnergyTable
from spikeattn.stats.accuracy import NO_ACCURACY
from spikeattn.storage.ledger import Ledger

SCREEN = 80  # columns of a terminal that nobody has made wider
NAME = 11  # of them before a value
BAR = 28  # of them for a bar
MOST = 14  # parts with a line of their own: with the five numbers and two warnings they fill 24 lines
Record = dict[str, Any]


def numbers_of(ledger: Ledger, over_time: pd.DataFrame, table: EnergyTable, n_images: int) -> Record:
    """The five numbers with intervals, units and what they rest on; JSON types only.

    Args:
        over_time: accuracy and mean firing rate after every step.
        table: energies of the run.
    """
    last = over_time.iloc[-1]
    twin = dense_twin(ledger)
    counted = table.convention.additions == "counted"
    ann = twin.mj(table.costs, counted) if table.costs.has("mac") else float("nan")
    ratio = ann / table.total.value if table.total.value > 0 else float("nan")
    return {
        "model": ledger.model.get("name"),
        "untrained": ledger.model.get("trained") is False,
        "images": n_images,
        "labelled_images": int(last["n_labelled"]),
        "time_steps": ledger.time_steps,
        "accuracy": _number(last["accuracy"]),
        "accuracy_interval": [_number(last["accuracy_low"]), _number(last["accuracy_high"])],
        "no_accuracy": None,
        "mean_rate": float(last["mean_rate"]),
        "sops_per_image": float(table.iloc[-1]["sops"]),
        "macs_per_image": float(table.iloc[-1]["macs"]),
        "energy_mj": table.total.value,
        "energy_interval_mj": [_number(table.total.low), _number(table.total.high)],
        "ann_macs": twin.macs,
        "ann_energy_mj": _number(ann),
        "ann_over_snn": _number(ratio),
        "ann": twin.note,
        "costs": table.costs.name,
        "convention": table.convention.name,
        "first_conv": table.convention.first_conv,
        "warnings": [],
        "notes": list(table.notes),
    }


def as_text(numbers: Mapping[str, Any], table: EnergyTable, warnings: Sequence[Note]) -> str:
    """The five numbers and the energy of every part in lines of at most `SCREEN` columns.

    Args:
        numbers: of `numbers_of`, with the energies of the table.
    """
    accuracy = "not known"
    if numbers["accuracy"] is not None:
        limits = ", ".join(percent(limit).removesuffix(" %") for limit in numbers["accuracy_interval"])
        accuracy = f"{percent(numbers['accuracy'])} [{limits}] of {numbers['labelled_images']} labelled images"
    elif numbers["no_accuracy"]:
        accuracy = f"not known: {numbers['no_accuracy']}"
    ratio, ann = numbers["ann_over_snn"], numbers["ann_energy_mj"]
    beside = "not known" if ratio is None else f"{ratio:.3g} : 1, arithmetic only"
    unit, factor = energy_unit([ann] if ann is not None else [])
    beside += f" (the ANN: {amount(numbers['ann_macs'])} MACs, {energy_in(ann, unit, factor)})" if ann else ""
    macs = f" and {amount(numbers['macs_per_image'])} MACs" if numbers["macs_per_image"] else ""
    lines = [
        *_said("accuracy", accuracy),
        *_said("mean rate", f"{rate(numbers['mean_rate'])} of all outputs of neurons are spikes"),
        *_said("SOPs", f"{amount(numbers['sops_per_image'])}{macs} per image"),
        *_said("energy", f"{table.total}; {table.convention.name}, {table.costs.name}"),
        *_said("ANN : SNN", beside),
        *_parts(table),
    ]
    told = [note for note in warnings if note.code not in (NO_ACCURACY, "untrained")]
    for note in told[:2]:  # the gravest come first; one screen is no place for more
        lines += _said("warning", note.text, most=2)
    if len(told) > 2:
        lines += _said("", f"and {len(told) - 2} more: profile.warnings")
    return "\n".join(lines)


def _parts(table: EnergyTable) -> list[str]:
    """A bar for every part, the shares in its length."""
    parts = [row for row in table.to_dict("records") if row["part"] != "total"]
    unit, factor = energy_unit(table["energy_mj"])
    width = max((len(str(row["part"])) for row in parts), default=0)
    width = min(width, SCREEN - NAME - BAR - 24)  # 24: of the share and the energy behind the bar
    lines = []
    for number, row in enumerate(parts[:MOST]):
        name = textwrap.shorten(str(row["part"]), width, placeholder="…")
        bar = "█" * round(BAR * row["share"]) if known(row["share"]) else ""
        energy = energy_in(row["energy_mj"], unit, factor) if known(row["energy_mj"]) else "no price"
        text = f"{name:<{width}}  {bar:<{BAR}}  {percent(row['share']):>7}  {energy}"
        lines.append(f"{'by part' if number == 0 else '':<{NAME}}{text}".rstrip())
    if len(parts) > MOST:
        lines += _said("", f"and {len(parts) - MOST} more: profile.energy()")
    return lines


def _said(name: str, text: str, most: int = 3) -> list[str]:
    """A name and what is said of it, in lines."""
    lines = textwrap.wrap(text, SCREEN - NAME, max_lines=most, placeholder=" …", break_on_hyphens=False) or [""]
    return [f"{name if number == 0 else '':<{NAME}}{line}" for number, line in enumerate(lines)]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
