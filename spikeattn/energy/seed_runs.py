"""Runs of one training recipe that differ in their seed: checked to be that, and their mean as one activity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeattn.boundary.notes import Note
from spikeattn.energy.activity import CountedActivity, Run, Source, check_run
from spikeattn.energy.paired_runs import check_same_images, images_of, model_name
from spikeattn.energy.profile_argument import counted
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Floats
from spikeattn.storage.ledger import Ledger

# Of the settings of the data: where they lie, how they are cut into batches and what read them moves no image.
_ELSEWHERE = ("spec", "batch_size", "versions")


@dataclass(frozen=True)
class MeanActivity:
    """The mean of several runs over the same images, image by image."""

    ledger: Ledger
    activities: tuple[CountedActivity, ...]

    @property
    def n_images(self) -> int:
        """Images of every run."""
        return self.activities[0].n_images

    def total(self, source: Source) -> NDArray[Any]:
        """Sum of a source over the time steps, the mean over runs, [n_images]."""
        return np.mean([activity.total(source) for activity in self.activities], axis=0)


@dataclass(frozen=True, eq=False)
class SeedRuns:
    """One side of a comparison: the runs of one recipe, a training seed each.

    Attributes:
        runs: one or more.
        names: of each, for people: its folder, or its place in the list.
        ledger: of all of them, with the extremes of integer spikes over all.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    ledger: Ledger

    @classmethod
    def of(cls, runs: Sequence[Run], what: str) -> SeedRuns:
        """The runs of one side, checked.

        Args:
            what: the argument that they were given as, for errors.

        Raises:
            SpikeattnError: no run, something else, different images or networks, the same weights twice.
        """
        if not runs:
            raise SpikeattnError(f"{what} is an empty list; give the runs of one training recipe, one per seed")
        for place, run in enumerate(runs):
            check_run(f"{what}[{place}]", run)
        named = _names(runs, what)
        for run in runs:
            counted(run)
        for run, label in zip(runs[1:], named[1:], strict=True):
            _check_alike(runs[0], run, (named[0], label))
        _check_other_weights(runs, named)
        return cls(tuple(runs), named, _joined([run.ledger for run in runs]))

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def name(self) -> str:
        """Of the network."""
        return model_name(self.ledger)

    @cached_property
    def activities(self) -> tuple[CountedActivity, ...]:
        """The counts of every run under the common ledger."""
        return tuple(CountedActivity(self.ledger, run.counts) for run in self.runs)

    @cached_property
    def mean(self) -> MeanActivity:
        """The mean over seeds of every image."""
        return MeanActivity(self.ledger, self.activities)

    def rates(self) -> Floats:
        """Mean firing rate of every image and run, [N, seeds]."""
        neurons = [tensor for tensor in self.ledger.tensors if tensor.maker == "neuron"]
        places = self.ledger.time_steps * sum(tensor.elements for tensor in neurons)
        spikes = [sum(run.counts.column("nnz", t.name).sum(axis=1) for t in neurons) for run in self.runs]
        return np.stack(spikes, axis=1).astype(np.float64) / places

    def correct(self) -> Floats:
        """Which images every run answers right after its last step, [labelled images, seeds]; none where unknown."""
        rows: list[Any] = [getattr(run.counts, "rows", None) for run in self.runs]
        last = f"pred_{self.ledger.time_steps}"
        if any(each is None or last not in each for each in rows):
            return np.zeros((0, len(self.runs)))
        labelled = np.logical_and.reduce([(each["label"] >= 0).to_numpy() for each in rows])
        right = [(each[last] == each["label"]).to_numpy()[labelled] for each in rows]
        return np.stack(right, axis=1).astype(np.float64)

    def unscored(self) -> str:
        """Why the accuracy is unknown."""
        labels = images_of(self.runs[0])["label"]
        return "the images have no labels" if (labels < 0).all() else "the output holds no class scores"

    def notes(self) -> list[Note]:
        """What is not the same in all runs and may be what differs between recipes, not seeds."""
        first = self.ledger.settings.model.get("config") or {}
        notes = []
        for run, label in zip(self.runs[1:], self.names[1:], strict=True):
            other = run.ledger.settings.model.get("config") or {}
            apart = sorted(key for key in {*first, *other} if first.get(key) != other.get(key))
            if apart:
                told = ", ".join(f"{key} = {first.get(key)!r} and {other.get(key)!r}" for key in apart[:3])
                text = (
                    f"{self.names[0]} and {label} have other arguments ({told}): unless these are the seed, the spread "
                )
                text += "is that over recipes"
                notes.append(Note("arguments", text))
        return notes


def _names(runs: Sequence[Run], what: str) -> tuple[str, ...]:
    """The folder of every run as it was given, or where it stands in the list."""
    paths = [getattr(run, "path", None) for run in runs]
    return tuple(f"{what}[{i}]" if path is None else str(path) for i, path in enumerate(paths))


def _check_alike(run: Run, other: Run, names: tuple[str, str]) -> None:
    both, advice = f"{names[0]} and {names[1]}", "the runs of one side are one recipe, trained with different seeds"
    if reason := _difference(run.ledger, other.ledger):
        raise SpikeattnError(f"{both} are runs of different networks: {reason}; {advice}")
    check_same_images(run, other, both)
    mine, theirs = (
        {key: value for key, value in (side.ledger.settings.data or {}).items() if key not in _ELSEWHERE}
        for side in (run, other)
    )
    if mine and theirs and mine != theirs:
        key = next(key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key))
        raise SpikeattnError(
            f"{both} are of different data: {key} is {mine.get(key)!r} and {theirs.get(key)!r}; {advice}, on the same "
            "images prepared in the same way"
        )


def _difference(ledger: Ledger, other: Ledger) -> str:
    """Where two ledgers are of different networks; "" where they are not."""
    if model_name(ledger) != model_name(other):
        return f"{model_name(ledger)} and {model_name(other)}"
    if ledger.time_steps != other.time_steps:
        return f"T = {ledger.time_steps} and T = {other.time_steps}"
    for what in ("tensors", "synapses", "products"):
        mine, theirs = ({row.name: row for row in getattr(side, what)} for side in (ledger, other))
        if apart := sorted(mine.keys() ^ theirs.keys()):
            return f"only one of them has {apart[0]!r} among its {what}"
    kinds = ((t, other.tensor(t.name)) for t in ledger.tensors)
    if (changed := next((pair for pair in kinds if pair[0].kind != pair[1].kind), None)) is not None:
        return f"tensor {changed[0].name!r} is {changed[0].kind} in one and {changed[1].kind} in the other"
    if ledger.labels() != other.labels():
        name = next(key for key, label in ledger.labels().items() if other.labels().get(key) != label)
        return f"part, block or role of {name} differ"
    return "" if ledger.hash() == other.hash() else "their layers have other sizes"


def _check_other_weights(runs: Sequence[Run], names: Sequence[str]) -> None:
    """The same weights twice are one training seed, whose spread would be none."""
    seen: dict[str, str] = {}
    for run, name in zip(runs, names, strict=True):
        weights = run.ledger.settings.weights_sha256
        if weights is not None and weights in seen:
            raise SpikeattnError(
                f"{seen[weights]} and {name} are runs of the same weights: one training seed twice, which says nothing "
                "of the spread between seeds; give a run of another checkpoint, or leave one out"
            )
        if weights is not None:
            seen[weights] = name


def _joined(ledgers: Sequence[Ledger]) -> Ledger:
    """The first ledger, with the smallest and largest spikes that any of the runs has seen."""

    def extreme(name: str, end: str) -> float | None:
        seen: list[Any] = [getattr(ledger.tensor(name), end) for ledger in ledgers]
        return None if None in seen else (min(seen) if end == "low" else max(seen))

    tensors = (replace(t, low=extreme(t.name, "low"), high=extreme(t.name, "high")) for t in ledgers[0].tensors)
    return replace(ledgers[0], tensors=tuple(tensors))


def listed(runs: Any) -> list[Any] | None:
    """The runs of a list or tuple; None for anything else, which is one network."""
    return list(runs) if isinstance(runs, Sequence) and not isinstance(runs, str | Mapping) else None
