"""Energy and synaptic operations of every image of a run, and which classes a figure of them shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spikeattn.energy.amounts import COLUMNS, OPS, amounts_by_part
from spikeattn.energy.estimate import EnergyTable
from spikeattn.energy.profile_argument import counted

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

MOST_CLASSES = 20  # rows that a figure of 7 inches holds with a readable label each


def image_table(profile: Profile, energy: EnergyTable) -> pd.DataFrame:
    """One row per image, in the order of the run.

    Args:
        energy: of the same profile; its costs and its convention hold.

    Returns:
        Columns image (its number in the data), id, label (NA: unknown), prediction (after all steps; NA: none), sops,
        macs, acs, mask_ops, energy_mj. Their means are the "total" row of the energy table.
    """
    rows = profile.counts.rows
    blocks = amounts_by_part(counted(profile), energy.convention).blocks()
    amounts = np.concatenate([block.sum(axis=1) for _, block in blocks])
    last = f"pred_{profile.time_steps}"
    labels = rows["label"].astype("Int64")
    found = {
        "image": rows["index"].to_numpy(),
        "id": rows["id"].to_numpy(),
        "label": labels.mask(labels < 0),
        "prediction": rows[last].astype("Int64") if last in rows else pd.array([pd.NA] * len(rows), dtype="Int64"),
    }
    found |= {COLUMNS[op]: amounts[:, OPS.index(op)] for op in ("sop", "mac", "ac", "mask")}
    return pd.DataFrame(found | {"energy_mj": energy.per_image})


def classes_shown(images: pd.DataFrame, most: int = MOST_CLASSES) -> tuple[list[int], int]:
    """Labels in rising order of their mean energy, and how many there are in all.

    Where there are more than `most`, those of the lowest and of the highest means, half of each.
    """
    means = images.dropna(subset=["label"]).groupby("label")["energy_mj"].mean().sort_values(kind="stable")
    labels = [int(label) for label in means.index]
    half = most // 2
    chosen = labels if len(labels) <= most else [*labels[:half], *labels[len(labels) - half :]]
    return chosen, len(labels)


def classes_said(images: pd.DataFrame) -> str:
    """Which classes a figure of the images shows, in a sentence; "" where no image has a label."""
    shown, n = classes_shown(images)
    half = len(shown) // 2
    if len(shown) < n:
        return f"Of {n} classes the {half} with the lowest and the {half} with the highest mean energy are shown."
    return f"The {n} classes stand in rising order of their mean energy." if n else ""
