"""The points of a measured sweep: a network at another T, at another threshold or with other weights, each run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from spikeattn.data.loaders import batches_of
from spikeattn.energy.paired_runs import check_same_images
from spikeattn.errors import SpikeattnError
from spikeattn.runs.result import Profile
from spikeattn.runs.run import profile
from spikeattn.storage.folder import ledger_of
from spikeattn.tracing.neurons import is_spiking_neuron
from spikeattn.tracing.thresholds import scaled_thresholds

TIME_STEPS, THRESHOLD, CHECKPOINT = OVER = ("time steps", "threshold", "checkpoint")
_FOLDER = {TIME_STEPS: "T{}", THRESHOLD: "threshold-{}", CHECKPOINT: "checkpoint-{}"}


@dataclass(frozen=True)
class Opened:
    """What runs at a point: network, loader and further arguments of `profile`."""

    model: nn.Module
    loader: Iterable[Any]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
        over: what the sweep goes over, one of OVER.
        value: T, the factor of the thresholds, or the file of weights.
        open: makes the network and the loader ready; not called where the run is finished.
        scaled: whether the thresholds are still to be multiplied.
    """

    over: str
    value: Any
    open: Callable[[], Opened]
    scaled: bool = False

    @property
    def label(self) -> str:
        """The value for people."""
        return Path(self.value).name if self.over == CHECKPOINT else f"{self.value:g}"


def run_points(
    points: Sequence[Point], out: Path | None = None, said: Callable[[str], None] | None = None
) -> list[Profile]:
    """The run of every point, in their order.

    Args:
        out: a folder with a run per point. Finished ones are read, and interrupted ones finished, so that the same call
            goes on where it was; each is checked to be of the same network, weights and data.
        said: told of every point before it runs.

    Raises:
        SpikeattnError: as `profile`; a network whose T stays what it was; points of different images.
    """
    runs: list[Profile] = []
    for point, folder in zip(points, _folders(points), strict=True):
        if said is not None:
            said(f"{point.over} {point.label} ({len(runs) + 1} of {len(points)})")
        runs.append(_run(point, None if out is None else out / folder))
        if len(runs) > 1:
            check_same_images(runs[0], runs[-1], f"the points {points[0].label} and {point.label}")
    return runs


def _run(point: Point, folder: Path | None) -> Profile:
    opened = point.open()
    options = dict(opened.options)
    with _at_threshold(point, opened.model, options.get("neurons", is_spiking_neuron)):
        if point.over == TIME_STEPS and (folder is None or ledger_of(folder) is None):
            _check_time_steps(point, opened, options)
        run = profile(opened.model, opened.loader, folder, resume=folder is not None, **options)
    if point.over == TIME_STEPS and run.time_steps != point.value:
        raise _other_time_steps(point, run.time_steps)
    return run


@contextmanager
def _at_threshold(point: Point, model: nn.Module, neurons: Any) -> Iterator[None]:
    """The network at the point's thresholds, which its provenance says."""
    known: Any = getattr(model, "provenance", None)
    if point.over == THRESHOLD:
        setattr(model, "provenance", {**(known or {}), "threshold_scale": float(point.value)})  # noqa: B010 - a fact beside it
    try:
        with scaled_thresholds(model, point.value, neurons) if point.scaled else nullcontext():
            yield
    finally:
        if point.over == THRESHOLD and known is not None:
            setattr(model, "provenance", known)  # noqa: B010
        elif point.over == THRESHOLD:
            delattr(model, "provenance")


def _check_time_steps(point: Point, opened: Opened, options: dict[str, Any]) -> None:
    """Run the first image, so that a T that stays what it was is an error before the others have run."""
    if iter(opened.loader) is opened.loader:  # it can be read once alone
        return
    first = next((batch.images for batch, _ in batches_of(opened.loader) if len(batch.images)), None)
    if first is not None:
        quiet = {key: value for key, value in options.items() if key not in ("progress", "provenance", "names")}
        found = profile(opened.model, [first[:2]], progress=False, **quiet).time_steps
        if found != point.value:
            raise _other_time_steps(point, found)


def _other_time_steps(point: Point, found: int) -> SpikeattnError:
    return SpikeattnError(
        f"T = {point.value} was asked for, and the network runs {found} time steps: what was set is not where it takes "
        "its T from. Name the argument of its factory that is T (--time-steps-arg NAME), or in Python give a function "
        "of T that returns the network: sa.measured_sweep(build, loader, time_steps=[1, 2, 4]); frames of event "
        "data need a loader of as many"
    )


def _folders(points: Sequence[Point]) -> list[str]:
    """A name for the folder of every point, none of them twice."""
    names: list[str] = []
    for point in points:
        label = Path(point.value).stem if point.over == CHECKPOINT else point.label
        name = _FOLDER[point.over].format(re.sub(r"[^A-Za-z0-9._+-]+", "_", label))
        names.append(f"{name}-{names.count(name) + 1}" if name in names else name)
    return names
