"""The page of the experiment: what came out first, then every table with the command that makes it."""

from __future__ import annotations

import argparse

import pandas as pd


def page(tables: dict[str, pd.DataFrame], args: argparse.Namespace, seconds: float) -> str:
    given = "".join(f" --{name} DIR" for name in ("boxes", "cifar10") if getattr(args, name) is not None)
    lines = ["# Attention experiment", "", f"`python scripts/attention_experiment.py{given}`: {seconds:.0f} s", ""]
    for name, table in tables.items():
        lines += [f"## {name}", "", table.to_markdown(index=False, floatfmt=".3f"), ""]
    return "\n".join(lines) + "\n"
