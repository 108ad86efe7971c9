"""`spikeattn energy-models`: the energy models by name, each with its record."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from spikeattn.cli.completing import ENERGY_MODELS, offering
from spikeattn.cli.options import Json, ListOut, Verbose
from spikeattn.cli.output import LIST_FORMATS, hand_over, records, text
from spikeattn.cli.printed_table import Line, Page

if TYPE_CHECKING:
    from spikeattn.energy import ModelRecord


def energy_models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", autocompletion=offering(ENERGY_MODELS), help="One model, with its whole record."
        ),
    ] = None,
    out: ListOut = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Energy models: what a figure has in it, and what its prices rest on.

    \b
    Examples:
      spikeattn energy-models
      spikeattn energy-models sana-fe-loihi
      spikeattn energy-models --out models.csv
    """
    import pandas as pd

    from spikeattn.energy import get_energy_model, list_energy_models

    models = [get_energy_model(each) for each in ([name] if name else list_energy_models())]
    frame = pd.DataFrame(
        [
            {
                "name": model.name,
                "unit": model.record.unit,
                "sides": ", ".join(model.sides),
                "technology": model.record.technology,
                "precision": model.record.precision,
                "fidelity": model.record.fidelity,
                "title": model.record.title,
                "formula": model.record.formula,
                "inside": "; ".join(model.record.inside),
                "outside": "; ".join(model.record.outside),
                "checked_on": model.record.checked_on,
                "source": model.record.source,
            }
            for model in models
        ]
    )
    listed = [model.record.as_dict() | {"sides": list(model.sides)} for model in models]

    def as_text() -> Page:
        if name:
            return _whole(models[0].record, list(models[0].sides))
        short = frame[["name", "unit", "sides", "technology", "fidelity", "title"]]
        more = "Side by side on a run: spikeattn energy RUN --energy-model all. Constants with their sources, and what"
        listed = text(short, spare=(["technology"], ["unit"], ["fidelity"]))
        return [listed, "", f"{more} a figure leaves out: spikeattn energy-models NAME"]

    hand_over(frame, listed, as_text, out, as_json, LIST_FORMATS, filed=records(frame))


def _whole(record: ModelRecord, sides: list[str]) -> Page:
    import pandas as pd

    from spikeattn.energy.costs import STATUSES
    from spikeattn.energy.models.record import FIDELITIES

    def line(label: str, said: str) -> str:
        return textwrap.fill(
            said, 110, initial_indent=f"{label:12}", subsequent_indent=" " * 12, break_on_hyphens=False
        )

    lines: list[Line] = [f"{record.name}: {record.title}", ""]
    said = {
        "formula": record.formula,
        "source": record.source,
        "sides": ", ".join(sides),
        "unit": "no energy and no unit" if record.unit == "1" else record.unit,
        "technology": record.technology,
        "precision": record.precision,
        "fidelity": f"{record.fidelity}: {FIDELITIES[record.fidelity]}",
        "checked on": record.checked_on,
    }
    lines += [line(label, what) for label, what in said.items()]
    lines += [line("inside", what) for what in record.inside] + [line("not in it", what) for what in record.outside]
    if record.costs:
        lines.append(line("cost table", "the prices are those of --costs"))
    if record.constants:
        rows = [
            {
                "constant": each.name,
                "value": "of the table" if each.value is None else f"{each.value:g}",
                "unit": each.unit,
                "status": each.status,
                "source": each.source,
            }
            for each in record.constants
        ]
        lines += ["", text(pd.DataFrame(rows))]
        lines += [f"{status}: {STATUSES[status]}" for status in dict.fromkeys(each.status for each in record.constants)]
    return lines
