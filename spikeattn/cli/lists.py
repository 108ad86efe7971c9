"""`spikeattn models | costs | conventions`: what can be named in the other commands."""

from __future__ import annotations

from typing import Annotated

import typer

from spikeattn.cli.options import Json, ListOut, Verbose
from spikeattn.cli.output import LIST_FORMATS, number, print_json, records, text, write_table


def models(out: ListOut = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Models that `profile --model` takes.

    \b
    Examples:
      spikeattn models
      spikeattn models --json
    """
    import pandas as pd
    import torch
    from timm.models import model_entrypoint

    from spikeattn.models import model_names
    from spikeattn.models.checkpoints import SHIPPED

    rows = []
    for name in model_names():
        entry = model_entrypoint(name)
        with torch.device("meta"):
            model = entry()
        channels, height, width = model.default_cfg["input_size"]
        rows.append(
            {
                "name": name,
                "parameters": sum(p.numel() for p in model.parameters()),
                "T": model.time_steps,
                "input": f"{channels}x{height}x{width}",
                "classes": model.num_classes,
                "pretrained": (SHIPPED / f"{name}.safetensors").is_file(),
                "about": (entry.__doc__ or "").strip().partition("\n")[0],
            }
        )
    frame = pd.DataFrame(rows)
    if out is not None:
        write_table(frame, out, formats=LIST_FORMATS)
    if as_json:
        print_json(records(frame))
    elif out is None:
        shown = frame.assign(pretrained=["yes" if there else "-" for there in frame["pretrained"]])
        typer.echo(text(shown, {"parameters": number, "T": str, "classes": str}))


def costs(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One table, with meanings and sources.")] = None,
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
    if out is not None:
        write_table(frame, out, formats=LIST_FORMATS)
    if as_json:
        print_json([{**row, "default": row["table"] == DEFAULT} for row in records(frame)])
    elif out is None and name:
        typer.echo(f"{tables[0].title}\n{tables[0].source}\n")
        typer.echo(text(frame.drop(columns="table"), {"pj": "{:g}".format}))
    elif out is None:
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
        typer.echo(text(pd.DataFrame(short)))
        typer.echo(f"\nDefault: {DEFAULT}. Meanings and sources: spikeattn costs NAME")


def conventions(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One convention, with meanings.")] = None,
    out: ListOut = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Conventions: which operations an energy figure counts.

    \b
    Examples:
      spikeattn conventions
      spikeattn conventions sdt-paper
      spikeattn conventions --json
    """
    import pandas as pd

    from spikeattn.energy import get_convention, list_conventions
    from spikeattn.energy.conventions import DEFAULT, SWITCHES

    presets = [get_convention(each) for each in ([name] if name else list_conventions())]
    if out is not None:
        write_table(
            pd.DataFrame([{"name": p.name, **p.switches(), "source": p.source} for p in presets]),
            out,
            formats=LIST_FORMATS,
        )
    if as_json:
        listed = [
            {"name": p.name, "source": p.source, "switches": p.switches(), "default": p.name == DEFAULT}
            for p in presets
        ]
        print_json({"conventions": listed, "switches": SWITCHES})
    elif out is None and name:
        rows = [
            {"switch": switch, "value": value, "meaning": SWITCHES[switch][value]}
            for switch, value in presets[0].switches().items()
        ]
        typer.echo(f"{presets[0].source}\n\n{text(pd.DataFrame(rows))}")
    elif out is None:
        switches = pd.DataFrame({"switch": list(SWITCHES), **{p.name: list(p.switches().values()) for p in presets}})
        sources = pd.DataFrame({"name": [p.name for p in presets], "source": [p.source for p in presets]})
        typer.echo(f"{text(sources)}\n\n{text(switches)}")
        typer.echo(f"\nDefault: {DEFAULT}. What the values mean: spikeattn conventions NAME")
