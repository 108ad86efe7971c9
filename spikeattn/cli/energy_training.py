"""`spikeattn energy RUN --training`: one training step beside inference, phase by phase."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.cli.output import hand_over, records, text
from spikeattn.cli.printed_table import Line, Page

if TYPE_CHECKING:
    from spikeattn.boundary.notes import Note
    from spikeattn.energy import TrainingTable


def show_training(
    table: TrainingTable, heading: str, warnings: tuple[Note, ...], out: Path | None, as_json: bool
) -> None:
    """Print the table, or write it; JSON holds phases, lines, notes and provenance."""
    from spikeattn.energy.scope_line import interval_record

    record = {
        "title": heading,
        "total_mj": interval_record(table.total),
        "inference_mj": interval_record(table.inference),
        "over_inference": interval_record(table.over_inference),
        "step_mj": table.step_mj,
        "phases": records(table),
        "lines": records(table.lines),
        "unpriced": table.unpriced,
        "provenance": table.provenance,
        "notes": table.notes,
        "warnings": list(warnings),
    }
    hand_over(table, record, lambda: _as_text(table, heading, warnings), out, as_json)


def _as_text(table: TrainingTable, heading: str, warnings: tuple[Note, ...]) -> Page:
    import pandas as pd

    from spikeattn.boundary.number_format import NO_INTERVAL, energy_in, energy_unit, with_limits
    from spikeattn.energy.scope_line import ratio_text

    unit, factor = energy_unit(table["energy_mj"])
    counted = [name for name in table.columns[1:9] if (table[name] > 0).any()]
    rows = pd.DataFrame({"phase": table["phase"], **{name.replace("_", " "): table[name] for name in counted}})
    pairs = [
        with_limits(*(row[key] / factor for key in ("energy_mj", "ci_low", "ci_high")))
        if row["interval"] not in ("constant", "none")
        else (energy_in(row["energy_mj"], unit, factor, 3).removesuffix(f" {unit}"), "")
        for row in table.to_dict("records")
    ]
    one = table.provenance["n_images"] == 1
    rows[f"energy ({unit})"] = [value for value, _ in pairs]
    rows["limits"] = [limits or (NO_INTERVAL if one else "constant") for _, limits in pairs]
    whole = {name.replace("_", " "): "{:,.0f}".format for name in counted}
    update = f"{table.provenance['parameters']:,} parameters once per batch of {table.batch_size}"
    step, step_factor = energy_unit([table.step_mj])
    ratio = " ".join(ratio_text(table.over_inference))
    lines: list[Line] = [
        f"energy of a training step per image, {heading}",
        f"convention  {table.convention.name}: {table.convention.source}",
        f"costs       {table.costs.name}: {table.costs.source}",
        f"optimizer   {table.optimizer.name}: {table.optimizer.formula}; {update}",
        "",
        text(rows, whole | {f"energy ({unit})": str}, spare=([n.replace("_", " ") for n in counted[4:]], ["mask ops"])),
        "",
        f"inference   {table.inference}, convention exact, arithmetic",
        f"training    {table.total}, arithmetic: {ratio} times inference",
        f"step        {energy_in(table.step_mj, step, step_factor, 4)} for {table.batch_size} images",
        f"not in it   {'; '.join(table.outside)}",
    ]
    if table.total.method != "none":
        drawn = "classes, each with its images" if table.provenance.get("cluster") else "images"
        lines.append(f"interval    {table.total.confidence:.0%} over {drawn} ({table.total.method})")
    lines += [f"note        {line}" for line in table.notes] + [f"warning     {line}" for line in warnings]
    return lines
