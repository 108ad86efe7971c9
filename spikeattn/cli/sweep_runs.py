"""`spikeattn sweep RUN --time-steps | --threshold-scale | --checkpoint`: the run's network run again at every point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.machine import choose_device, set_threads
from spikeattn.cli.networks import EVENTS
from spikeattn.cli.options import WrongCommandLine
from spikeattn.cli.output import note
from spikeattn.cli.stored_networks import stored_inputs
from spikeattn.cli.terminal import quiet

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from spikeattn.cli.inputs import Inputs
    from spikeattn.runs.result import Profile
    from spikeattn.runs.sweep_points import Opened, Point


@dataclass(frozen=True)
class Axis:
    """What a sweep of runs goes over; the options of the same names.

    Attributes:
        argument: of the factory of a network of one's own that is T.
        runs: the folder of the runs of all points.
    """

    time_steps: str | None = None
    threshold_scale: str | None = None
    checkpoint: tuple[Path, ...] = ()
    argument: str | None = None
    runs: Path | None = None
    device: str = "auto"
    threads: int | None = None

    @property
    def given(self) -> list[str]:
        """The options that name an axis."""
        named = {"--time-steps": self.time_steps, "--threshold-scale": self.threshold_scale}
        return [
            *(name for name, value in named.items() if value is not None),
            *(["--checkpoint"] * bool(self.checkpoint)),
        ]

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            WrongCommandLine: naming them.
        """
        if len(self.given) > 1:
            raise WrongCommandLine(f"{' and '.join(self.given)}: a sweep goes over one of them; give one at a time")
        if not self.given and self.runs is not None:
            raise WrongCommandLine(
                f"--runs {self.runs}: nothing is run; give --time-steps, --threshold-scale or --checkpoint"
            )
        if self.argument is not None and self.time_steps is None:
            raise WrongCommandLine(f"--time-steps-arg {self.argument}: give --time-steps too")

    def values(self) -> list[Any]:
        """One per point."""
        if self.time_steps is not None:
            return _numbers("--time-steps", self.time_steps, int, "whole numbers from 1 on, such as 1 2 4")
        if self.threshold_scale is not None:
            return _numbers("--threshold-scale", self.threshold_scale, float, "numbers above 0, such as 0.8 1 1.2")
        if len(set(self.checkpoint)) < len(self.checkpoint):
            raise WrongCommandLine("--checkpoint: a file is given twice; give one file per point")
        return list(self.checkpoint)


def run_sweep(run: Profile, axis: Axis, costs: Sequence[str], convention: str) -> pd.DataFrame:
    """The table of a sweep whose points are run.

    Raises:
        SpikeattnError: the run's network cannot be opened, or its T or thresholds cannot be set.
    """
    from spikeattn.runs.sweep_points import CHECKPOINT, THRESHOLD, TIME_STEPS, Point, run_points
    from spikeattn.runs.sweep_result import sweep_table

    set_threads(axis.threads)
    place, inputs = choose_device(axis.device), stored_inputs(run.ledger)
    over = {"--time-steps": TIME_STEPS, "--threshold-scale": THRESHOLD, "--checkpoint": CHECKPOINT}[axis.given[0]]
    points: list[Point] = []
    for value in axis.values():
        changed = inputs
        if over == TIME_STEPS:
            changed = _with_time_steps(inputs, value, axis.argument)
        elif over == CHECKPOINT:
            changed = replace(inputs, checkpoint=str(value), pretrained=False)
        points.append(Point(over, value, _Opener(changed, place), scaled=over == THRESHOLD))
    if axis.runs is None:
        note("the counts of every point stay in memory; --runs DIR keeps them, and goes on after an interruption")
    return sweep_table(points, run_points(points, axis.runs, note), costs, convention)


@dataclass(frozen=True)
class _Opener:
    """Opens the network and the images of one point."""

    inputs: Inputs
    place: torch.device

    def __call__(self) -> Opened:
        from spikeattn.runs.sweep_points import Opened

        net = self.inputs.network()
        options = self.inputs.options(net)
        loader = self.inputs.images(net, self.place, options.get("forward"))
        return Opened(net, loader, options | {"progress": not quiet(), "provenance": {"inputs": self.inputs.record()}})


def _with_time_steps(inputs: Inputs, T: int, argument: str | None) -> Inputs:
    """The inputs of the same network at another T.

    Raises:
        WrongCommandLine: a network of one's own, whose argument for T nobody has named.
    """
    from spikeattn.models.address import is_address

    pairs = [pair for pair in inputs.model_arg if pair.partition("=")[0] not in ("time_steps", argument)]
    if not is_address(inputs.model):
        if argument is not None:
            raise WrongCommandLine(f"--time-steps-arg {argument}: {inputs.model} takes its T without it; leave it out")
        return replace(inputs, time_steps=T, model_arg=tuple(pairs))
    if argument is None:
        raise WrongCommandLine(
            f"--time-steps {T}: T of {inputs.model} cannot be set, for nobody says which argument of its factory it "
            "is; name it, such as --time-steps-arg T"
        )
    frames = inputs.data.partition(":")[0] in EVENTS
    told = inputs.time_steps is not None or frames  # as many frames, or a T that the network does not tell
    return replace(inputs, model_arg=(*pairs, f"{argument}={T}"), time_steps=T if told else None)


def _numbers(option: str, listed: str, kind: type, expected: str) -> list[Any]:
    try:
        values = [kind(word) for word in listed.split(",")]
    except ValueError as error:
        raise WrongCommandLine(f"{option} {listed}: give {expected}") from error
    if not all(0 < value < float("inf") for value in values) or len(set(values)) < len(values):
        raise WrongCommandLine(f"{option} {listed}: give {expected}, each once")
    return values
