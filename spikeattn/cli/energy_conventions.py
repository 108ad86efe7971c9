"""`spikeattn energy --convention A,B,...`: conventions side by side, and what every switch between them makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.cli.output import LIST_FORMATS, hand_over, records, text
from spikeattn.cli.printed_table import Line, Page

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.boundary.notes import Note
    from spikeattn.energy import Convention, CostTable
    from spikeattn.energy.activity import Activity, Run


def show_conventions(
    profile: Run | Activity,
    conventions: Sequence[Convention],
    start: str,
    costs: CostTable,
    heading: str,
    warnings: tuple[Note, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Print both tables, or write the first; JSON holds all."""
    from spikeattn.energy.convention_notes import notes_of
    from spikeattn.energy.convention_switches import side_by_side, waterfall

    table = side_by_side(profile, conventions, costs)
    ways = {each.name: waterfall(profile, each, costs, start) for each in conventions}
    said = [(each.name, note) for each in conventions for note in notes_of(profile.ledger, each)]
    notes = list(dict.fromkeys(f"{name}: {note}" for name, note in said))
    record = {
        "title": heading,
        "costs": costs.name,
        "parts": records(table),
        "conventions": {
            each.name: {
                "source": each.source,
                "evidence": each.evidence,
                "checked_on": each.checked_on,
                "switches": each.switches(),
                "waterfall": records(ways[each.name]),
            }
            for each in conventions
        },
        "notes": notes,
        "warnings": list(warnings),
    }

    def as_text() -> Page:
        lines: list[Line] = [
            f"energy per image under {len(conventions)} conventions, {heading}",
            f"costs  {costs.name}",
            "",
        ]
        lines += _tables(table, ways, start)
        lines += [f"evidence  {each.name}: {each.evidence}; checked on: {each.checked_on}" for each in conventions]
        lines += [f"note      {line}" for line in notes] + [f"warning   {line}" for line in warnings]
        return lines

    hand_over(table, record, as_text, out, as_json, LIST_FORMATS)


def _tables(table: pd.DataFrame, ways: dict[str, pd.DataFrame], start: str) -> list[Line]:
    from spikeattn.boundary.number_format import energy_unit

    unit, factor = energy_unit(table.drop(columns="part").to_numpy().ravel())

    def energy(mj: float) -> str:
        return f"{mj / factor:.4f}"

    def change(mj: float) -> str:
        return f"{mj / factor:+.4f}"

    lines: list[Line] = [text(table.rename(columns={"part": unit}), dict.fromkeys(table.columns[1:], energy)), ""]
    for name, way in ways.items():
        if len(way) == 1:
            continue
        shown = way[1:].rename(columns={"energy_mj": f"{unit} after it", "difference_mj": "difference"})
        formats = {f"{unit} after it": energy, "difference": change}
        lines += [f"from {start}, {energy(way['energy_mj'].iloc[0])} {unit}, to {name}, one switch at a time"]
        lines += [text(shown, formats), ""]
    return lines
