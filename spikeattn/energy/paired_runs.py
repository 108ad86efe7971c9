"""Two runs beside each other: of the same images, and told apart by name."""

from __future__ import annotations

import pandas as pd

from spikeattn.energy.activity import Run
from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger import Ledger


def model_name(ledger: Ledger) -> str:
    """The name of a network in sentences."""
    return str(ledger.model.get("name", "the model"))


def images_of(run: Run) -> pd.DataFrame:
    """Number, name and label of every image."""
    rows: pd.DataFrame | None = getattr(run.counts, "rows", None)
    if rows is None:
        raise SpikeattnError("the counts of a profile do not say which images they are of; give two finished runs")
    return rows[["index", "id", "label"]]


def check_same_images(profile: Run, other: Run, names: str = "the two profiles") -> None:
    """Refuse runs of different images, or of the same ones with other labels.

    Args:
        names: of the two, in the error.
    """
    mine, theirs = images_of(profile), images_of(other)
    if len(mine) == len(theirs) and mine[["index", "id"]].equals(theirs[["index", "id"]]):
        known = (mine["label"] >= 0) & (theirs["label"] >= 0)
        if (wrong := known & (mine["label"] != theirs["label"])).any():
            first = mine[wrong].iloc[0]
            raise SpikeattnError(
                f"image {first['id']} has label {first['label']} in one profile and "
                f"{theirs['label'][wrong].iloc[0]} in the other: these are different data sets; a paired comparison "
                "needs the same images"
            )
        return
    common = len(mine.merge(theirs, on=["index", "id"]))
    raise SpikeattnError(
        f"{names} are of different images: {len(mine)} and {len(theirs)}, of which {common} are the same by "
        "number and name; a paired comparison needs the same images, so profile both with the same data, split and "
        "selection"
    )


def names_of(profile: Run, other: Run) -> tuple[str, str]:
    """The names of two models; the same model twice is told apart by T, or by its order."""
    name, against = model_name(profile.ledger), model_name(other.ledger)
    if name != against:
        return name, against
    if profile.ledger.time_steps != other.ledger.time_steps:
        return f"{name}, T={profile.ledger.time_steps}", f"{against}, T={other.ledger.time_steps}"
    return name, f"the other {against}"
