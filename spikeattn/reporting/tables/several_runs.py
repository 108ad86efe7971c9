"""Several runs side by side: what each gives by itself, and how far it is from the first, image by image.

Both the differences and the ratio are formed on the same images where the runs have them, so that what makes an image
cheap or dear in both falls out of the interval. Runs of other images are set beside each other without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import CostTable
from spikeattn.energy.estimate import EnergyTable
from spikeattn.energy.paired_runs import check_same_images, images_of, model_name
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.tables.image_tables import image_table
from spikeattn.reporting.tables.run_tables import data_name
from spikeattn.runs.firing_rates import image_rates
from spikeattn.stats.intervals import Interval, mean_intervals
from spikeattn.stats.ratios import ratio_intervals

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

QUANTITIES = ("accuracy", "mean_rate", "sops", "energy_mj")  # of an image: right or not, rate, additions, mJ
_MOST = {"accuracy": 1.0, "mean_rate": 1.0}  # that two images can differ by
OTHER_IMAGES = "other images: not paired"
_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"), "none")


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Runs beside the first of them.

    Attributes:
        names: of the runs, in their order, each once.
        runs: a row per run: run, model, data, images, time_steps, weights; and for each of `QUANTITIES` its mean, with
            limits in columns _low and _high and their method in _interval.
        differences: a row per run but the first: run, against, images (that both have), paired; for each of
            `QUANTITIES` the mean difference to the first, and ratio (energy / energy of the first), with limits as in
            `runs`; without limits, method "other images: not paired", where the runs are of other images.
        parts: energy_mj of every part ("total" last), a row per run and part, with ci_low, ci_high and interval.
        notes: what a reader must know.
        energies: of every run.
    """

    names: tuple[str, ...]
    runs: pd.DataFrame
    differences: pd.DataFrame
    parts: pd.DataFrame
    notes: tuple[Note, ...]
    energies: tuple[EnergyTable, ...]


def side_by_side(profiles: Sequence[Profile], costs: CostTable, convention: Convention) -> SideBySide:
    """Set runs of one data set beside the first of them, under one cost table and one convention.

    Raises:
        SpikeattnError: fewer than two runs, a run given twice, runs of different data sets, or of the same images with
            other labels.
    """
    check(profiles)
    names = run_names(profiles)
    energies = [profile.energy(costs, convention) for profile in profiles]
    images = [_of_images(profile, energy) for profile, energy in zip(profiles, energies, strict=True)]
    rows, beside, notes = [], [], []
    for i, (profile, energy, own) in enumerate(zip(profiles, energies, images, strict=True)):
        rows.append(_run(names[i], profile, energy, own))
        if i:
            order, note = _paired(profiles[0], profile, names[0], names[i])
            notes += [note] if note else []
            beside.append({"run": names[i], "against": names[0]} | _difference(images[0], own, order))
    parts = [
        energy.assign(run=name)[["run", "part", "energy_mj", "ci_low", "ci_high", "interval"]]
        for name, energy in zip(names, map(pd.DataFrame, energies), strict=True)
    ]
    return SideBySide(
        tuple(names), pd.DataFrame(rows), pd.DataFrame(beside), pd.concat(parts, ignore_index=True),
        (*_steps(profiles, names), *notes), tuple(energies),
    )  # fmt: skip


def check(profiles: Sequence[Profile]) -> None:
    """Refuse what cannot be set side by side; see `side_by_side`."""
    if len(profiles) < 2:
        raise SpikeattnError("one run has nothing beside it; give two or more")
    places = Counter(profile.path.resolve() for profile in profiles if profile.path is not None)
    if twice := [path for path, times in places.items() if times > 1]:
        raise SpikeattnError(f"{twice[0]}: given {places[twice[0]]} times; give every run once")
    first = profiles[0]
    for other in profiles[1:]:
        if data_name(first) and data_name(other) and _data(first) != _data(other):
            raise SpikeattnError(
                f"{_where(first)} is of {data_name(first)}, {_where(other)} of {data_name(other)}: between them data "
                "and network differ at once; give runs of one data set"
            )


def run_names(profiles: Sequence[Profile]) -> list[str]:
    """Names that tell runs apart: of the models, else of their folders, else their paths, else their places."""
    models = [model_name(profile.ledger) for profile in profiles]
    paths = [profile.path or Path(f"run {i}") for i, profile in enumerate(profiles, 1)]
    folders = [path.resolve().name for path in paths]
    tails = ["/".join(path.resolve().parts[-2:]) for path in paths]
    for names in (models, folders, tails, list(map(str, paths))):
        if len(set(names)) == len(names):
            return names
    return [f"run {i}" for i in range(1, len(profiles) + 1)]


def _of_images(profile: Profile, energy: EnergyTable) -> dict[str, NDArray[np.float64]]:
    """Each of `QUANTITIES` of every image, [N]; NaN where it is not known."""
    table = image_table(profile, energy)
    right = (table["label"] == table["prediction"]).astype("Float64").mask(table["label"].isna())
    return {
        "accuracy": right.to_numpy(float, na_value=np.nan),
        "mean_rate": image_rates(profile.ledger, profile.counts),
        "sops": table["sops"].to_numpy(float),
        "energy_mj": table["energy_mj"].to_numpy(float),
    }


def _run(name: str, profile: Profile, energy: EnergyTable, own: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    trained = {True: "trained", False: "UNTRAINED", None: "not stated"}[profile.ledger.model.get("trained")]
    row: dict[str, Any] = {
        "run": name, "model": model_name(profile.ledger), "data": data_name(profile), "images": profile.n_images,
        "time_steps": profile.time_steps, "weights": trained,
    }  # fmt: skip
    last = profile.over_time().iloc[-1]  # Wilson's limits, as on the page of a single run
    row |= _columns("accuracy", Interval(last["accuracy"], last["accuracy_low"], last["accuracy_high"], "wilson"))
    for quantity, most in (("mean_rate", 1.0), ("sops", np.inf)):
        values = own[quantity]
        known = bool(np.isfinite(values).all())
        row |= _columns(quantity, mean_intervals(values[:, None], ceiling=most)[0] if known else _UNKNOWN)
    return row | _columns("energy_mj", energy.total)


def _difference(
    first: dict[str, NDArray[np.float64]], other: dict[str, NDArray[np.float64]], order: NDArray[np.intp] | None
) -> dict[str, Any]:
    """Mean differences and the ratio of the energies; `order` are the other's images in the first's order."""
    row: dict[str, Any] = {"images": 0 if order is None else len(order), "paired": order is not None}
    for quantity in QUANTITIES:
        mine, theirs = first[quantity], other[quantity]
        if order is None:
            means = float(np.nanmean(theirs) - np.nanmean(mine)) if _some(mine, theirs) else np.nan
            row |= _columns(quantity, Interval(means, np.nan, np.nan, OTHER_IMAGES))
            continue
        apart = theirs[order] - mine
        apart = apart[np.isfinite(apart)]  # an image without a label is neither right nor wrong
        row |= _columns(quantity, _mean_difference(apart, _MOST.get(quantity, np.inf)) if len(apart) else _UNKNOWN)
    mine, theirs = first["energy_mj"], other["energy_mj"]
    if order is not None:
        return row | _columns("ratio", ratio_intervals(theirs[order], mine)[0])
    ratio = theirs.mean() / mine.mean() if mine.mean() > 0 else np.nan
    return row | _columns("ratio", Interval(float(ratio), np.nan, np.nan, OTHER_IMAGES))


def _mean_difference(apart: NDArray[np.float64], most: float) -> Interval:
    """Of differences [N]; those that are never above 0 have the limits of their opposites, turned round.

    `mean_intervals` knows what to do where most of a column is 0 and nothing is below; so it holds in both directions.
    """
    if not (apart.max() <= 0 and apart.min() < 0):
        return mean_intervals(apart[:, None], ceiling=most)[0]
    found = mean_intervals(-apart[:, None], ceiling=most)[0]
    method = "lower bound" if found.method == "upper bound" else found.method
    return Interval(-found.value, -found.high, -found.low, method, found.confidence)


def _some(*sides: NDArray[np.float64]) -> bool:
    return all(bool(np.isfinite(side).any()) for side in sides)


def _columns(name: str, found: Interval) -> dict[str, Any]:
    limits = {f"{name}_low": found.low, f"{name}_high": found.high, f"{name}_interval": found.method}
    return {name: found.value} | limits


def _paired(first: Profile, other: Profile, name: str, other_name: str) -> tuple[NDArray[np.intp] | None, Note | None]:
    """The other's images in the first's order, or why there is none.

    Raises:
        SpikeattnError: the same images with other labels.
    """
    mine, theirs = images_of(first), images_of(other)
    keys = ["index", "id"]
    common = mine[keys].merge(theirs[keys].assign(place=np.arange(len(theirs))), on=keys, how="inner")
    if len(common) == len(mine) == len(theirs):
        if mine[keys].equals(theirs[keys]):
            check_same_images(first, other, f"{name} and {other_name}")
        return common["place"].to_numpy(np.intp), None
    text = f"{name} and {other_name} are of different images ({len(mine)} and {len(theirs)}, {len(common)} of them the "
    return None, Note("not-paired", f"{text}same), so the differences between them have no paired interval")


def _steps(profiles: Sequence[Profile], names: Sequence[str]) -> list[Note]:
    """A warning where runs differ in the number of time steps, which energies grow with and mean rates do not."""
    if len({profile.time_steps for profile in profiles}) == 1:
        return []
    each = ", ".join(f"{name} T = {profile.time_steps}" for name, profile in zip(names, profiles, strict=True))
    return [Note("time-steps", f"the runs differ in their time steps ({each}): an energy is of all steps of its run")]


def _data(profile: Profile) -> str:
    return str((profile.ledger.settings.data or {}).get("name"))


def _where(profile: Profile) -> str:
    return str(profile.path) if profile.path is not None else model_name(profile.ledger)
