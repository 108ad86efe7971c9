"""`spikeattn energy RUN --energy-model ...`: arithmetic, neurons, addressing and memory apart."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.output import LIST_FORMATS, hand_over, records, text
from spikeattn.cli.printed_table import Line, Page

if TYPE_CHECKING:
    from spikeattn.boundary.notes import Note
    from spikeattn.energy import ComponentTable


def show_components(
    table: ComponentTable, heading: str, warnings: tuple[Note, ...], out: Path | None, as_json: bool
) -> None:
    """Print the table, or write it; JSON holds rows, notes and provenance."""
    record = {
        "title": heading,
        "components": records(table),
        "lines": records(table.lines),
        "provenance": table.provenance,
        "notes": table.notes,
        "warnings": list(warnings),
    }
    hand_over(table, record, lambda: _as_text(table, heading, warnings), out, as_json, LIST_FORMATS)


def _as_text(table: ComponentTable, heading: str, warnings: tuple[Note, ...]) -> Page:
    import pandas as pd

    from spikeattn.boundary.number_format import NO_INTERVAL, energy_unit, significant, with_bound, with_limits

    unit, factor = energy_unit(table["energy_mj"])

    def energy(mj: float) -> str:
        return significant(mj / factor, 3)

    def limited(row: dict[Hashable, Any]) -> tuple[str, str]:
        if row["interval"] == "upper bound":
            return with_bound(row["energy_mj"] / factor, row["ci_high"] / factor)
        value, limits = with_limits(*(row[key] / factor for key in ("energy_mj", "ci_low", "ci_high")))
        return value, limits or NO_INTERVAL

    wide = table.wide().rename(columns=lambda name: name.replace("_", " "))
    totals = table[table["part"] == "total"]
    names = totals["component"].str.replace("_", " ")
    pairs = [limited(row) for row in totals.to_dict("records")]
    listed = pd.DataFrame(
        {
            "whole network": names.to_list(),
            f"energy ({unit})": [value for value, _ in pairs],
            "limits": [limits for _, limits in pairs],
            "interval": totals["interval"].to_list(),
        }
    )
    wide = wide.rename(columns={"part": f"part ({unit})"})
    lines: list[Line] = [
        f"energy per image, component by component, {heading}",
        f"model       {table.model.name}: {table.model.source}",
        f"costs       {table.costs.name}: {table.costs.source}",
        "",
        text(wide, dict.fromkeys(wide.columns[1:], energy), spare=(["neuron updates"], ["biases"], ["leak"])),
        "",
        text(listed, {f"energy ({unit})": str}),
        "",
    ]
    if table.provenance.get("cluster"):
        lines.append("interval    over classes, each with its images")
    lines += [f"note        {line}" for line in table.notes] + [f"warning     {line}" for line in warnings]
    return lines
