"""The results of a run in sentences with numbers and intervals, each with the table or figure that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from spikeattn.boundary.number_format import (
    amount,
    energy_in,
    energy_unit,
    known,
    percent,
    rate_with_limits,
    significant,
)
from spikeattn.boundary.terms import MEAN_RATE, MEAN_RATE_IS, WEIGHTED_RATE
from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.estimate import EnergyTable
from spikeattn.energy.scope_line import ScopeLine, ratio_text
from spikeattn.reporting.paper.sentences import Code, Piece, Ref, Sentence

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

NAMED = 2  # parts that are named with their share: what most of the energy goes to
GAMMA = "Gamma is the share of zeros in the ANN's activations whose multiply-accumulates are skipped."


def results(
    profile: Profile, table: pd.DataFrame, energy: EnergyTable, summary: dict[str, Any], comparison: Comparison | None
) -> list[Sentence]:
    """Accuracy, firing rates, operations, energy and, with a comparison, both networks: one sentence each.

    Args:
        table: of `rate_table`.
        energy, summary: of the run, under the same costs and convention.
        comparison: the run beside its ANN, where there is one.
    """
    name = str(profile.ledger.model.get("name") or "model")
    found: list[Sentence] = []
    if profile.untrained:
        found.append(("UNTRAINED: the weights are random, and the numbers describe nothing.",))
    found += [_accuracy(name, summary), _rates(table, summary), _energy(energy, summary), *_parts(energy)]
    if comparison is not None:
        found += [_line(line) for line in comparison.lines]
        found += [(GAMMA,)] if comparison.gamma is not None else []
        found += _break_even(comparison)
    return found


def _accuracy(name: str, summary: dict[str, Any]) -> Sentence:
    accuracy, (low, high) = summary["accuracy"], summary["accuracy_interval"]
    if accuracy is None:
        return ("No accuracy is given for ", Code(name), f": {summary['no_accuracy']}.")
    limits = "" if low is None else f" [{low * 100:.2f}, {high * 100:.2f}]"
    n = summary["labelled_images"]
    return (Code(name), f" answers {accuracy * 100:.2f} %{limits} of {n:,} image{'s' if n != 1 else ''} correctly",
            Ref("Table", "tab:models"), ".")  # fmt: skip


def _rates(table: pd.DataFrame, summary: dict[str, Any]) -> Sentence:
    rated = table[(table["part"] != "Input") & table["average"].notna()]
    said: list[Piece] = [f"Its {MEAN_RATE}, {MEAN_RATE_IS}, is {significant(summary['mean_rate'], 3)}"]
    if len(rated) > 1:
        ends = rated.sort_values("average", kind="stable").iloc[[0, -1]].to_dict("records")
        said += ["; the averages of single tensors lie between ", *_end(ends[0]), " and ", *_end(ends[1])]
    return (*said, Ref("Table", "tab:rates"), ".")


def _end(row: dict[Any, Any]) -> list[Piece]:
    value, limits = rate_with_limits(row["average"], row["low"], row["high"], row["interval"] == "upper bound")
    said = limits.replace("≤ ", ", at most ") if limits.startswith("≤") else f" {limits}" if limits else ""
    return [f"{value}{said} (", Code(str(row["code"])), ")"]


def _energy(energy: EnergyTable, summary: dict[str, Any]) -> Sentence:
    total = str(energy.total).replace(f" per {energy.total.per}", "")
    return (
        f"An image takes {amount(summary['sops_per_image'])} synaptic operations and "
        f"{amount(summary['macs_per_image'])} multiply-accumulates, and costs {total}",
        Ref("Table", "tab:models"), "; arithmetic only.",
    )  # fmt: skip


def _parts(energy: EnergyTable) -> list[Sentence]:
    parts = energy[(energy["part"] != "total") & (energy["share"] > 0)].sort_values("share", ascending=False)
    if len(parts) < 2:
        return []
    shares = [f"{row['part']} takes {percent(row['share'])}" for row in parts.head(NAMED).to_dict("records")]
    return [(f"Of this energy {' and '.join(shares)}", Ref("Figure", "fig:energy_by_part"), ".")]


def _line(line: ScopeLine) -> Sentence:
    said = f"With neurons, addressing and {line.scope} too" if line.scope == "memory" else "In arithmetic alone"
    if line.missing:
        return (f"{said} the comparison is not known: {line.missing}.",)
    unit, factor = energy_unit([line.other.value, line.own.value])
    other, own = (energy_in(each.value, unit, factor, 4) for each in (line.other, line.own))
    zeros = f" {line.zeros}" if line.zeros else ""
    without = f"; {', '.join(line.without)} of it is not known, and left out" if line.without else ""
    return (
        f"{said} ", Code(line.against), f" costs {other} per image and ", Code(line.name),
        f" {own}, a ratio of {' '.join(ratio_text(line.ratio))}{zeros}{without}", Ref("Table", "tab:scopes"), ".",
    )  # fmt: skip


def _break_even(comparison: Comparison) -> list[Sentence]:
    first = comparison.prices.iloc[0]
    parts = comparison.parts
    rows = parts[(parts["costs"] == first["costs"]) & (parts["against"] == first["against"])]
    total = rows[rows["part"] == "total"].iloc[0]
    if not known(total["break_even"]):
        return []
    beyond = ", and no binary spikes exceed 1" if total["break_even"] > 1 else ""
    return [(
        f"Both would cost the same at a {WEIGHTED_RATE} of {significant(total['break_even'], 3)}; it is "
        f"{significant(total['rate'], 3)} here{beyond}", Ref("Table", "tab:parts"), ".",
    )]  # fmt: skip
