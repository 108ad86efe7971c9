"""`spikeattn energy RUN --energy-model A,B,... | all`: energy models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.cli.output import LIST_FORMATS, hand_over, records, text
from spikeattn.cli.printed_table import Line, Page

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.boundary.notes import Note
    from spikeattn.energy import ModelTable


def show_models(table: ModelTable, heading: str, warnings: tuple[Note, ...], out: Path | None, as_json: bool) -> None:
    """Print the table, or write it; JSON holds rows, parts, records, notes and provenance."""
    record = {
        "title": heading,
        "models": records(table),
        "parts": records(table.parts),
        "unpriced": records(table.unpriced),
        "missing": table.missing,
        "records": [each.as_dict() for each in table.records],
        "provenance": table.provenance,
        "notes": table.notes,
        "warnings": list(warnings),
    }
    hand_over(table, record, lambda: _as_text(table, heading, warnings), out, as_json, LIST_FORMATS)


def _as_text(table: ModelTable, heading: str, warnings: tuple[Note, ...]) -> Page:
    import pandas as pd

    from spikeattn.boundary.number_format import known, significant
    from spikeattn.reporting.tables.model_sheet import units_of, value_and_interval

    rows, units = [], units_of(table)
    for row in table.to_dict("records"):
        value, unit, limits = value_and_interval(row, units)
        over = row["over_compute"]
        rows.append(
            {
                "model": row["model"],
                "side": row["side"],
                "per image": value,
                "interval": limits,
                "unit": unit,
                "x compute": significant(over, 3) if known(over) else None,
                "fidelity": row["fidelity"],
            }
        )
    rests = table.provenance
    drawn = "classes, each with its images" if rests.get("cluster") else "images"
    lines: list[Line] = [
        f"energy models side by side, per image, {heading}",
        f"costs       {rests['costs']}: {rests['cost_source']}",
        *([f"interval    {rests['confidence']:.0%} over {drawn}"] if rests["n_images"] > 1 else []),
        "",
        text(pd.DataFrame(rows), spare=(["fidelity"], ["x compute"])),
        "",
    ]
    if len(table.records) == 1 and len(table.parts):
        lines += [text(_split(table)), ""]
    for each in table.records:
        lines += [f"{each.name}", f"  inside    {'; '.join(each.inside)}", f"  not in it {'; '.join(each.outside)}"]
    lines += ["", *(f"verdict     {model}: {said}" for model, said in table.verdicts())]
    lines += [f"note        {line}" for line in table.notes] + [f"warning     {line}" for line in warnings]
    return lines


def _split(table: ModelTable) -> pd.DataFrame:
    """One model by part and component."""
    from spikeattn.reporting.tables.model_sheet import units_of, value_and_interval

    units = units_of(table.parts)
    found = [value_and_interval(row, units) for row in table.parts.to_dict("records")]
    frame = table.parts[["side", "part", "component"]]
    columns = ("per image", "unit", "interval")
    return frame.assign(**dict(zip(columns, map(list, zip(*found, strict=True)), strict=True)))
