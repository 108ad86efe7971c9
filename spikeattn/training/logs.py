"""The numbers of a training, epoch by epoch: to TensorBoard, or anything like it, and into a csv file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from spikeattn.boundary import arguments
from spikeattn.errors import SpikeattnError
from spikeattn.storage import csv_text

STEP = "step"  # the column that says which row is whose


def write_scalars(to: Any, step: int, values: Mapping[str, float], writes: bool = True) -> None:
    """Write named numbers to a SummaryWriter, or as a row of a csv file; see `FiringRate.log`.

    Args:
        writes: False checks `to` alone: another rank writes.

    Raises:
        SpikeattnError: `to` is neither, or a file that is no log.
    """
    add = getattr(to, "add_scalar", None)
    if callable(add):
        for name, value in values.items() if writes else ():
            add(name, value, step)
        return
    if hasattr(to, "write") or not isinstance(to, str | Path):
        raise SpikeattnError(
            f"log to {arguments.shown(to)}; give an object with add_scalar(name, value, step), such as "
            "torch.utils.tensorboard.SummaryWriter(), or the path of a csv file"
        )
    path = arguments.path("to", to)
    if writes:
        _write_row(path, step, values)


def _write_row(path: Path, step: int, values: Mapping[str, float]) -> None:
    """The row of a step, in the place of an earlier one; rows are sorted by step."""
    row = pd.DataFrame([{STEP: step, **values}])
    if path.is_file() and path.stat().st_size:
        try:
            known = csv_text.read(path)
        except (ValueError, OSError) as error:
            raise SpikeattnError(f"{path}: cannot be read as a log ({error}); give another file") from error
        if STEP not in known:
            raise SpikeattnError(f"{path}: has no column {STEP!r}, so it is no log of ours; give another file")
        row = pd.concat([known[known[STEP] != step], row], ignore_index=True)
    csv_text.save(row.sort_values(STEP, kind="stable"), path)
