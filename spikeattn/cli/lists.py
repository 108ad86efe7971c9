"""`spikeattn models | costs | conventions`: what can be named in the other commands."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.options import Json, ListOut, Verbose
from spikeattn.cli.output import LIST_FORMATS, hand_over, number, records, text

if TYPE_CHECKING:
    from spikeattn.energy import Convention


def models(out: ListOut = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """What --model takes: models of this package, those of timm, and networks of your own.

    \b
    Examples:
      spikeattn models
      spikeattn models --json
    """
    import pandas as pd
    import timm

    from spikeattn.models import model_names, twin_names
    from spikeattn.models.load import ADDRESSES

    frame = pd.DataFrame([_row(name) for name in (*model_names(), *twin_names(), "vit_digits")])
    frame["T"] = frame["T"].astype("Int64")

    def as_text() -> str:
        shown = frame.assign(pretrained=["yes" if there else "-" for there in frame["pretrained"]])
        listed = text(shown, {"parameters": number, "T": lambda T: "-" if pd.isna(T) else str(T), "classes": str})
        number_of_timm = len(timm.list_models()) - len(frame)
        return (
            f"{listed}\n\nIn their place: {ADDRESSES}; for attend and compare --against, which take networks "
            f"without spikes, any of the {number_of_timm:,} names of timm."
        )

    hand_over(frame, records(frame), as_text, out, as_json, LIST_FORMATS)


def _row(name: str) -> dict[str, Any]:
    """A model of this package, as the list shows it."""
    import torch
    from timm.models import model_entrypoint

    from spikeattn.models.checkpoints import SHIPPED

    entry = model_entrypoint(name)
    with torch.device("meta"):
        model = entry()
    channels, height, width = model.default_cfg["input_size"]
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "T": getattr(model, "time_steps", None),
        "input": f"{channels}x{height}x{width}",
        "classes": model.num_classes,
        "pretrained": (SHIPPED / f"{name}.safetensors").is_file(),
        "about": (entry.__doc__ or "").strip().partition("\n")[0],
    }


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

    def as_text() -> str:
        if name:
            entries = text(frame.drop(columns="table"), {"pj": "{:g}".format})
            return f"{tables[0].title}\n{tables[0].source}\n\n{entries}"
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
        return f"{text(pd.DataFrame(short))}\n\nDefault: {DEFAULT}. Meanings and sources: spikeattn costs NAME"

    rows = records(frame)
    record = [{**row, "default": row["table"] == DEFAULT} for row in rows]
    hand_over(frame, record, as_text, out, as_json, LIST_FORMATS, filed=rows)


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
    from spikeattn.energy.conventions import DEFAULT, EVIDENCE, SWITCHES

    presets = [get_convention(each) for each in ([name] if name else list_conventions())]
    frame = pd.DataFrame([_about(p) | p.switches() for p in presets])

    def as_text() -> str:
        if not name:
            lines = [_brief(preset, get_convention(DEFAULT)) for preset in presets]
            return "\n".join(
                [*lines, "", f"Default: {DEFAULT}. Sources and what the values mean: spikeattn conventions NAME"]
            )
        rows = [
            {"switch": switch, "value": value, "meaning": SWITCHES[switch][value]}
            for switch, value in presets[0].switches().items()
        ]
        about = [presets[0].source, f"evidence    {presets[0].evidence}: {EVIDENCE[presets[0].evidence]}"]
        return "\n".join([*about, f"checked on  {presets[0].checked_on}", "", text(pd.DataFrame(rows))])

    listed = [_about(p) | {"switches": p.switches(), "default": p.name == DEFAULT} for p in presets]
    record = {"conventions": listed, "switches": SWITCHES, "evidence": EVIDENCE}
    hand_over(frame, record, as_text, out, as_json, LIST_FORMATS, filed=records(frame))


def _about(convention: Convention) -> dict[str, str]:
    keys = ("name", "source", "evidence", "checked_on")
    return {key: getattr(convention, key) for key in keys}


def _brief(convention: Convention, default: Convention) -> str:
    """A convention in a few lines: all switches of the default, what differs from it for any other."""
    changed = {k: v for k, v in convention.switches().items() if v != default.switches()[k]} or convention.switches()
    switches = textwrap.fill(
        ", ".join(f"{switch}={value}" for switch, value in changed.items()), 110, initial_indent=" " * 20,
        subsequent_indent=" " * 20, break_on_hyphens=False,
    )  # fmt: skip
    return f"{convention.name:18}  {convention.evidence}\n{switches}"
