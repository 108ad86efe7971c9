"""`spikeattn energy RUN --energy-model ...`: arithmetic, neurons, addressing and memory apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.cli.output import LIST_FORMATS, hand_over, records, text

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


def _as_text(table: ComponentTable, heading: str, warnings: tuple[Note, ...]) -> str:
    from spikeattn.boundary.number_format import NO_INTERVAL, joules, known

    wide = table.wide().rename(columns=lambda name: name.replace("_", " "))
    totals = table[table["part"] == "total"]
    limits = [
        f"[{joules(low)}, {joules(high)}]" if known(low) else NO_INTERVAL
        for low, high in zip(totals["ci_low"], totals["ci_high"], strict=True)
    ]
    names = totals["component"].str.replace("_", " ")
    listed = totals.assign(component=names, ci_low=limits)[["component", "energy_mj", "ci_low", "interval"]]
    listed.columns = ["whole network", "energy", "limits", "interval"]
    lines = [
        f"energy per image, component by component, {heading}",
        f"model       {table.model.name}: {table.model.source}",
        f"costs       {table.costs.name}: {table.costs.source}",
        f"\n{text(wide, dict.fromkeys(wide.columns[1:], joules))}\n",
        f"{text(listed, {'energy': joules})}\n",
    ]
    lines += [f"note        {line}" for line in table.notes] + [f"warning     {line}" for line in warnings]
    return "\n".join(lines)
