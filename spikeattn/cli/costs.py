"""`spikeattn costs`: cost tables, the energy of one operation and its source."""

from __future__ import annotations

from typing import Annotated

import typer

from spikeattn.cli.completing import COSTS, offering
from spikeattn.cli.options import Json, ListOut, Verbose
from spikeattn.cli.output import LIST_FORMATS, hand_over, records, text
from spikeattn.cli.printed_table import Page


def costs(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=offering(COSTS), help="One table, with meanings and sources."),
    ] = None,
    out: ListOut = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Cost tables: the energy of one operation and its source.

    \b
    Examples:
      spikeattn costs
      spikeattn costs horowitz-45nm-fp32
      spikeattn costs --out costs.csv
    """
    import pandas as pd

    from spikeattn.energy import get_costs, list_costs
    from spikeattn.energy.costs import DEFAULT, OPERATIONS

    tables = [get_costs(each) for each in ([name] if name else list_costs())]
    frame = pd.concat([table.frame().assign(table=table.name) for table in tables], ignore_index=True)
    frame["meaning"] = [OPERATIONS.get(entry, "access of a memory") for entry in frame["entry"]]
    frame = frame.rename(columns={"entry": "operation"})
    frame = frame[["table", "operation", "pj", "per", "bytes", "status", "meaning", "source"]]

    def as_text() -> Page:
        if name:
            prices = text(frame.drop(columns="table"), {"pj": "{:g}".format}, [["meaning"], ["status"]])
            return [tables[0].title, tables[0].source, "", prices]
        short = [
            {
                "name": table.name,
                "pJ per operation": ", ".join(
                    f"{op} {table.entries[op].pj:g}" for op in ("mac", "ac", "mask", "sop") if op in table.entries
                ),
                "memories": "yes" if table.memory else "–",
                "status": table.status,
                "title": table.title,
            }
            for table in tables
        ]
        listed = text(pd.DataFrame(short), spare=(["memories"], ["status"]))
        return [listed, "", f"Default: {DEFAULT}. Meanings and sources: spikeattn costs NAME"]

    rows = records(frame)
    record = [{**row, "default": row["table"] == DEFAULT} for row in rows]
    hand_over(frame, record, as_text, out, as_json, LIST_FORMATS, filed=rows)
