"""Three tables of a paper in LaTeX: the layouts of Table S1, 3 and 4 of the Spike-driven Transformer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import (
    MISSING,
    count_unit,
    counted_in,
    energy_unit,
    known,
    rate,
    rate_with_limits,
    significant,
    with_bound,
    with_limits,
)
from spikeattn.boundary.terms import WEIGHTED_RATE
from spikeattn.reporting.latex.booktabs import LONGEST_NAME, Field, code, table
from spikeattn.reporting.latex.environments import escape_latex
from spikeattn.reporting.latex.typeset import paper_latex

# Widths in points at \scriptsize: text, a letter, a step, one with a power of ten, the average with its interval.
TEXT, LETTER, STEP, POWER, AVERAGE = 460.0, 3.75, 28.0, 36.0, 92.0
_ROLES = {"total": "Total", "QKV + attention": "QKV and attention"}
MARKS = {
    "untrained": (r"$^\dagger$", r"$^\dagger$ Untrained: random weights; the numbers describe nothing."),
    "incomplete": (
        r"$^\ddagger$",
        r"$^\ddagger$ Not every operation is counted or priced: the energy is a lower bound.",
    ),
}


def rates_latex(rates: pd.DataFrame) -> str:
    """Table S1: part, module, tensor, T1 to Tn and the average of `rate_table(profile)`."""
    steps = [column for column in rates.columns if column[:1] == "T" and column[1:].isdigit()]
    named = bool((rates["tensor"] != rates["code"]).any())
    rows = rates.to_dict("records")
    names: list[Field] = []
    if named:
        names.append(_text("Part", [row["part"] for row in rows]))
        if (rates["module"] != "").any():
            names.append(_text("Module", [row["module"] for row in rows]))
        roles = [paper_latex(row["tensor"]) if row["tensor"] != row["code"] else "--" for row in rows]
        names.append(Field("Tensor", tuple(roles)))
    names.append(Field("In the code" if named else "Tensor", tuple(code(row["code"]) for row in rows), "code"))
    shown = [rates["part"], rates["module"], rates["tensor"]] if named else []
    letters = sum(column.str.len().max() for column in shown) + min(rates["code"].str.len().max(), LONGEST_NAME)
    room = TEXT - LETTER * letters - 6 * (len(shown) + 1) - AVERAGE
    widths = [POWER if any("e" in rate(value) for value in rates[step]) else STEP for step in steps]
    each = len(steps) if sum(widths) <= room else max(int(room // max(widths)), 1)
    count = -(-len(steps) // each)
    share = -(-len(steps) // count)
    panels = []
    for start in range(0, len(steps), share):
        panel = [_rates(f"$T_{{{step[1:]}}}$", rates[step]) for step in steps[start : start + share]]
        panels.append([*names, *panel])
    averages = [
        rate_with_limits(row["average"], row["low"], row["high"], row["interval"] == "upper bound") for row in rows
    ]
    panels[-1] += [
        Field("Average", tuple(value for value, _ in averages), "number"),
        Field("Interval", tuple(limits or MISSING for _, limits in averages), "interval"),
    ]
    places = [row["part"] if named else row["part"] == "Input" for row in rows]
    rules = [i for i in range(1, len(rows)) if places[i] != places[i - 1]]
    return table(panels, rules, rates.attrs.get("caption", "Firing rates."), "tab:rates", size="scriptsize")


def models_latex(models: pd.DataFrame) -> str:
    """Table 3: one row per run of `model_table(...)`, its energies and its parameters in one unit each."""
    unit, factor = energy_unit(models["energy_mj"])
    prefix, size = count_unit(models["parameters"])
    rows = models.to_dict("records")
    marks = ["".join(mark for flag, (mark, _) in MARKS.items() if row[flag]) for row in rows]
    energies = [
        _value(row["energy_mj"], row["energy_low"], row["energy_high"], row["interval"], factor) for row in rows
    ]
    shares = [_share(row) for row in rows]
    fields = [
        Field("Method", tuple(escape_latex(row["method"]) + mark for row, mark in zip(rows, marks, strict=True))),
        _text("Architecture", [row["architecture"] for row in rows]),
    ]
    if len({(row["data"], row["images"]) for row in rows}) > 1:
        fields.append(_text("Data", [row["data"] or MISSING for row in rows]))
        fields.append(Field("Images", tuple(str(row["images"]) for row in rows), "number"))
    fields += [
        Field(
            f"Param ({prefix})" if prefix else "Param",
            tuple(counted_in(row["parameters"], size) for row in rows),
            "number",
        ),
        Field("$T$", tuple(str(row["time_steps"]) for row in rows), "number"),
        Field(f"Energy ({escape_latex(unit)})", tuple(value for value, _ in energies), "number"),
        Field("Interval", tuple(limits for _, limits in energies), "interval"),
        Field(r"Acc.\ (\%)", tuple(value for value, _ in shares), "number"),
        Field("Interval", tuple(limits for _, limits in shares), "interval"),
    ]
    notes = r"\quad ".join(text for flag, (_, text) in MARKS.items() if any(row[flag] for row in rows))
    return table([fields], (), models.attrs.get("caption", "Models."), "tab:models", notes)


def parts_latex(parts: pd.DataFrame) -> str:
    """Table 4: the rows of `part_table(comparison)`, energies in one unit."""
    unit, factor = energy_unit(parts["ann_mj"])
    rows = parts.to_dict("records")
    turned = {"lower bound": "upper bound"}  # of the ratio's divisor
    spiking = [
        _value(row["snn_mj"], row["snn_low"], row["snn_high"], turned.get(row["interval"], row["interval"]), factor)
        for row in rows
    ]
    ratios = [_value(row["ratio"], row["ratio_low"], row["ratio_high"], row["interval"], 1.0) for row in rows]
    total = next((i for i, row in enumerate(rows) if row["part"] == "total"), len(rows) - 1)
    labels = [_ROLES.get(row["part"], row["part"]) for row in rows]
    fields = [
        _text("Part", labels),
        Field(f"ANN ({escape_latex(unit)})", tuple(significant(row["ann_mj"] / factor) for row in rows), "number"),
        Field(f"SNN ({escape_latex(unit)})", tuple(value for value, _ in spiking), "number"),
        Field("Interval", tuple(limits for _, limits in spiking), "interval"),
        Field("ANN / SNN", tuple(value for value, _ in ratios), "number"),
        Field("Interval", tuple(limits for _, limits in ratios), "interval"),
        Field("Break-even", tuple(significant(row["break_even"], 3) for row in rows), "number"),
    ]
    notes = f"Break-even: the {WEIGHTED_RATE} at which both cost the same; no binary spikes exceed 1."
    return table([fields], {total, total + 1}, parts.attrs.get("caption", "Parts."), "tab:parts", notes)


def _text(title: str, cells: Sequence[object]) -> Field:
    return Field(title, tuple(escape_latex(str(cell)) for cell in cells))


def _rates(title: str, values: pd.Series) -> Field:
    return Field(title, tuple(rate(value) for value in values), "number")


def _value(value: float, low: float, high: float, method: str, factor: float) -> tuple[str, str]:
    """A value and its interval, in units of so many mJ."""
    if not known(value):
        return MISSING, MISSING
    bound = {"upper bound": (high, "≤"), "lower bound": (low, "≥")}.get(method)
    if bound is not None and known(bound[0]):
        text, limit = with_bound(value / factor, bound[0] / factor, bound[1])
        return text, limit or MISSING
    if not all(map(known, (low, high))) or not math.isfinite(value) or method == "constant":
        return significant(value / factor), MISSING
    text, limits = with_limits(value / factor, low / factor, high / factor)
    return text, limits or MISSING


def _share(row: Mapping[Any, Any]) -> tuple[str, str]:
    if not known(row["accuracy"]):
        return MISSING, MISSING
    return f"{row['accuracy'] * 100:.2f}", f"[{row['accuracy_low'] * 100:.2f}, {row['accuracy_high'] * 100:.2f}]"
