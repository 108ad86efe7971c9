"""`spikeattn models`: what --model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spikeattn.cli.options import Json, ListOut, Verbose
from spikeattn.cli.output import LIST_FORMATS, hand_over, number, records, text
from spikeattn.cli.printed_table import Page


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

    def as_text() -> Page:
        shown = frame.assign(pretrained=["yes" if there else "-" for there in frame["pretrained"]])
        formats: dict[str, Callable[[Any], str]] = {
            "parameters": number,
            "T": lambda T: "-" if pd.isna(T) else str(T),
            "classes": str,
        }
        listed = text(shown, formats, spare=(["about"], ["classes"]))
        number_of_timm = len(timm.list_models()) - len(frame)
        return [
            listed,
            "",
            f"In their place: {ADDRESSES}; for attend and compare --against, which take networks without spikes, any "
            f"of the {number_of_timm:,} names of timm.",
        ]

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
