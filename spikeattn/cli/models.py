"""`spikeattn models`: what --model takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Any

from spikeattn.boundary.own_networks import ADDRESSES
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

    room = resources.files("spikeattn") / "models"  # its files alone: importing the room would load torch
    listed = pd.DataFrame(json.loads((room / "listing.json").read_text(encoding="utf-8")))
    listed["T"] = listed["T"].astype("Int64")
    there = [(room / "weights" / f"{name}.safetensors").is_file() for name in listed["name"]]
    listed.insert(len(listed.columns) - 1, "pretrained", there)  # what it is stands last

    def as_text() -> Page:
        shown = listed.assign(pretrained=["yes" if there else "-" for there in listed["pretrained"]])
        formats: dict[str, Callable[[Any], str]] = {
            "parameters": number,
            "T": lambda T: "-" if pd.isna(T) else str(T),
            "classes": str,
        }
        return [
            text(shown, formats, spare=(["about"], ["classes"])),
            "",
            f"In their place: {ADDRESSES}; for attend and compare --against, which take networks without spikes, any "
            "name that timm lists.",
        ]

    hand_over(listed, records(listed), as_text, out, as_json, LIST_FORMATS)
