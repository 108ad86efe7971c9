"""Tables of means with intervals, from one value per image (and seed)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .intervals import of_each
from .scenes import NOISES
from .scores import Floats

RAW = "raw"  # what every other way of scoring is compared with, on the same images
DIFFERENCES = ("digit - noise", "in - outside")  # of shares: from -1 to 1; all other measures lie between 0 and 1
CUT = "threshold"  # and every rule that chooses tokens with this one


def summaries(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables by name; those that are means already stay as they are."""
    found = {name: table for name, table in tables.items() if name in ("accuracy", "sanity")}
    if "scenes" in tables:
        known = tables["scenes"]["noise"] == NOISES[0]
        table = tables["scenes"].assign(noises=np.where(known, "as in training", "unseen"))
        keys = ["weights", "kind", "null", "layer", "noises", "contrast", "measure", "way"]
        found["scenes"] = _summary(table, keys, ["seed"], ["noise", "image"])
    if "alarms" in tables:
        keys = ["weights", "kind", "null", "layer", "shown", "measure", "way"]
        found["alarms"] = _summary(tables["alarms"], keys, ["seed"], ["image"])
    if "photos" in tables:
        keys = ["network", "weights", "kind", "layer", "measure", "way"]
        found["photos"] = _summary(tables["photos"], keys, [], ["image"])
    if "curves" in tables:
        keys = ["data", "network", "weights", "kind", "measure", "way"]
        found["curves"] = _summary(tables["curves"], keys, [], ["image"])
    return found


def _summary(table: pd.DataFrame, keys: list[str], seeds: list[str], images: list[str]) -> pd.DataFrame:
    """A row per key: mean and limits, and those of the paired difference from the raw map or one threshold."""
    rows = []
    first = [key for key in keys if key != "way"]
    for key, group in table.groupby(first, sort=False):
        values = {way: _wide(rows_of, seeds, images) for way, rows_of in group.groupby("way", sort=False)}
        base = values.get(RAW, values.get(CUT))
        others = [way for way in values if base is not None and values[way] is not base]
        means = of_each([*values.values(), *(values[way] - base for way in others)])
        differences = dict(zip(others, means[len(values) :], strict=True))
        lowest = -1 if group["measure"].iloc[0] in DIFFERENCES else 0
        for way, (mean, *limits) in zip(values, means[: len(values)], strict=True):
            low, high = np.clip(limits, lowest, 1)  # Student's limits know of no bounds
            row = dict(zip(first, key, strict=True)) | {"way": way, "mean": mean, "low": low, "high": high}
            if way in differences:
                row |= dict(zip(("more", "more_low", "more_high"), differences[way], strict=True))
            rows.append(row)
    return pd.DataFrame(rows)


def _wide(group: pd.DataFrame, seeds: list[str], images: list[str]) -> Floats:
    """Values [seed, image], or [image]."""
    if not seeds:
        return group.sort_values(images)["value"].to_numpy()
    return group.pivot_table(index=seeds, columns=images, values="value", dropna=False).to_numpy()
