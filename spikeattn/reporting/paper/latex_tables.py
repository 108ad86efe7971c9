"""Three tables of a paper in LaTeX: the layouts of Table S1, 3 and 4 of the Spike-driven Transformer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from spikeattn.boundary.number_format import MISSING, count_unit, energy_unit, known, rate, rate_with_limits
from spikeattn.boundary.terms import WEIGHTED_RATE
from spikeattn.reporting.latex.booktabs import LONGEST_NAME, Field, code, table
from spikeattn.reporting.latex.environments import escape_latex
from spikeattn.reporting.latex.typeset import paper_latex
from spikeattn.reporting.paper.decimals import Measured, common_places, fixed, fixed_with_limits, places_of, plain

# Widths in points at \scriptsize: text, a letter, a step, one with a power of ten, the average with its interval.
TEXT, LETTER, STEP, POWER, AVERAGE = 460.0, 3.75, 28.0, 36.0, 92.0
EVEN = 2  # decimal places of a break-even rate: it is compared with 1, and with the rates of other networks
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
    averages = [
        rate_with_limits(row["average"], row["low"], row["high"], row["interval"] == "upper bound") for row in rows
    ]
    room = TEXT - LETTER * letters - 6 * (len(shown) + 1) - AVERAGE
    widths = [POWER if any("e" in rate(value) for value in rates[step]) else STEP for step in steps]
    each = len(steps) if sum(widths) <= room else max(int(room // max(widths)), 1)
    count = -(-len(steps) // each)
    share = -(-len(steps) // count)
    panels = []
    for start in range(0, len(steps), share):
        panel = [_rates(f"$T_{{{step[1:]}}}$", rates[step]) for step in steps[start : start + share]]
        panels.append([*names, *panel])
    panels[-1] += [
        Field("Average", tuple(value for value, _ in averages), "number"),
        Field("Interval", tuple(limits or MISSING for _, limits in averages), "interval"),
    ]
    places = [row["part"] if named else row["part"] == "Input" for row in rows]
    rules = [i for i in range(1, len(rows)) if places[i] != places[i - 1]]
    return table(panels, rules, rates.attrs.get("caption", "Firing rates."), "tab:rates", size="scriptsize")


def models_latex(models: pd.DataFrame) -> str:
    """Table 3: a row per run of `model_table(...)`; energies, and parameters, in one unit and to as many places."""
    unit, factor = energy_unit(models["energy_mj"])
    prefix, size = count_unit(models["parameters"])
    rows = models.to_dict("records")
    marks = ["".join(mark for flag, (mark, _) in MARKS.items() if row[flag]) for row in rows]
    found = _numbers(rows, ("energy_mj", "energy_low", "energy_high"), factor)
    energies = [fixed_with_limits(number, common_places(found)) for number in found]
    sizes = plain([math.nan if row["parameters"] is None else row["parameters"] / size for row in rows])
    whole = all(value.is_integer() for value, *_ in sizes if known(value))
    digits = 0 if whole else common_places(sizes)
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
            tuple(fixed(value, digits) for value, *_ in sizes),
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
    """Table 4: the rows of `part_table(comparison)`, energies in one unit; each column has the places of the total."""
    unit, factor = energy_unit(parts["ann_mj"])
    rows = parts.to_dict("records")
    total = next((i for i, row in enumerate(rows) if row["part"] == "total"), len(rows) - 1)
    turned = {"lower bound": "upper bound"}  # of the ratio's divisor
    own = _numbers(rows, ("snn_mj", "snn_low", "snn_high"), factor)
    own = [(value, low, high, turned.get(method, method)) for value, low, high, method in own]
    both = _numbers(rows, ("ratio", "ratio_low", "ratio_high"), 1.0)
    places, of_ratio = places_of(own[total]), places_of(both[total])
    spiking = [fixed_with_limits(number, places) for number in own]
    ratios = [fixed_with_limits(number, of_ratio) for number in both]
    labels = [_ROLES.get(row["part"], row["part"]) for row in rows]
    fields = [
        _text("Part", labels),
        Field(f"ANN ({escape_latex(unit)})", tuple(fixed(row["ann_mj"] / factor, places) for row in rows), "number"),
        Field(f"SNN ({escape_latex(unit)})", tuple(value for value, _ in spiking), "number"),
        Field("Interval", tuple(limits for _, limits in spiking), "interval"),
        Field("ANN / SNN", tuple(value for value, _ in ratios), "number"),
        Field("Interval", tuple(limits for _, limits in ratios), "interval"),
        Field("Break-even", tuple(fixed(row["break_even"], EVEN) for row in rows), "number"),
    ]
    notes = f"Break-even: the {WEIGHTED_RATE} at which both cost the same; no binary spikes exceed 1."
    return table([fields], {total, total + 1}, parts.attrs.get("caption", "Parts."), "tab:parts", notes)


def _text(title: str, cells: Sequence[object]) -> Field:
    return Field(title, tuple(escape_latex(str(cell)) for cell in cells))


def _rates(title: str, values: pd.Series) -> Field:
    return Field(title, tuple(rate(value) for value in values), "number")


def _numbers(rows: Sequence[Mapping[Any, Any]], names: Sequence[str], factor: float) -> list[Measured]:
    """Value, low, high (names of columns) and the method of every row, in units of so many mJ."""
    return [(*(row[name] / factor for name in names), row["interval"]) for row in rows]


def _share(row: Mapping[Any, Any]) -> tuple[str, str]:
    if not known(row["accuracy"]):
        return MISSING, MISSING
    return f"{row['accuracy'] * 100:.2f}", f"[{row['accuracy_low'] * 100:.2f}, {row['accuracy_high'] * 100:.2f}]"
