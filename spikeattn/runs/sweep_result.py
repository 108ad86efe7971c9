"""A sweep whose every point is a run: T, thresholds or checkpoints, with the accuracy, energy, SOPs and rate of each.

`energy.what_if.sweep` computes what a run would have cost; nothing there is run, and the answers of a network at other
thresholds, or with another T, are not known. Here they are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from spikeattn.boundary import arguments
from spikeattn.boundary.notes import Note
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_cost_tables
from spikeattn.energy.dense_twin import dense_twin
from spikeattn.errors import SpikeattnError
from spikeattn.runs.result import Profile
from spikeattn.runs.sweep_points import CHECKPOINT, THRESHOLD, TIME_STEPS, Opened, Point, run_points
from spikeattn.stats.accuracy import accuracy_over_time
from spikeattn.stats.bootstrap import check_resampling
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES
from spikeattn.tracing.thresholds import THRESHOLD as ATTRIBUTE
from spikeattn.tracing.thresholds import check_scale

Network = nn.Module | Callable[[Any], nn.Module]


def measured_sweep(
    model: Network,
    loader: Iterable[Any] | Callable[[Any], Iterable[Any]],
    *,
    time_steps: Sequence[int] | None = None,
    threshold_scales: Sequence[float] | None = None,
    checkpoints: Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    costs: str | Path | CostTable | Sequence[str | Path | CostTable] = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    **options: Any,
) -> pd.DataFrame:
    """Run a network at several T, thresholds or checkpoints, each on all images, and price every run.

    Give one of `time_steps`, `threshold_scales` and `checkpoints`.

    Args:
        model: a function of the value (T, a scale, a path) that returns the network there, such as
            `lambda T: sa.load_model("sdt_digits", pretrained=True, time_steps=T)`. For threshold scales a network will
            do: the `v_threshold` of all its neurons is then multiplied, resets and weights stay, and it is as it was
            afterwards.
        loader: as of `profile`, the same images at every point; or a function of the value that returns one, where the
            images have a time axis.
        out: a folder with a run per point ("T4", "threshold-0.8", "checkpoint-best"); finished ones are kept, so that
            the same call goes on after an interruption. Without it the counts stay in memory.
        costs, convention, replicates, seed, confidence: as of `Profile.energy`; of several cost tables each.
        **options: of `profile`: forward, neurons, input, plain, strict, progress and others.

    Returns:
        A row per cost table and point. Columns costs, over ("time steps", "threshold", "checkpoint"), value (as text;
        of a checkpoint its file's name), t (T of the run); accuracy with Wilson's limits accuracy_low and accuracy_high
        (NaN where labels or class scores are missing), n_labelled; mean_rate (the mean firing rate), sops (per image),
        energy_mj with ci_low, ci_high and interval (the method), ann_mj, ratio (ANN / SNN), run (its folder, None in
        memory). `attrs` holds convention, notes and n_images.

    Raises:
        SpikeattnError: none or several of the three, values that cannot be, a network that is no function where one is
            needed, a T that stays what it was, neurons whose threshold cannot be set, and what `profile` raises.
    """
    check_resampling(replicates, seed, confidence)
    get_convention(convention), get_cost_tables(costs)  # before anything runs
    if taken := sorted({"resume", "shard", "ranks", "time_steps"} & options.keys()):
        raise SpikeattnError(
            f"{', '.join(taken)}: the points of a sweep are whole runs, resumed where `out` has them; leave it out"
        )
    over, values = _axis(time_steps, threshold_scales, checkpoints)
    if over != THRESHOLD and (isinstance(model, nn.Module) or not callable(model)):
        raise SpikeattnError(
            f"model is {arguments.shown(model)}; over {over} give a function of the value that returns the network, "
            'such as lambda T: sa.load_model("sdt_digits", pretrained=True, time_steps=T)'
        )
    points = [_point(over, value, model, loader, options) for value in values]
    runs = run_points(points, None if out is None else arguments.path("out", out))
    return sweep_table(points, runs, costs, convention, replicates, seed, confidence)


def sweep_table(
    points: Sequence[Point],
    runs: Sequence[Profile],
    costs: str | Path | CostTable | Sequence[str | Path | CostTable] = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """The table of `measured_sweep` from the runs of its points."""
    chosen = get_convention(convention)
    rows = []
    for table in get_cost_tables(costs):
        for point, run in zip(points, runs, strict=True):
            spent, T = run.energy(table, chosen, replicates, seed, confidence), run.time_steps
            last = accuracy_over_time(run.counts.rows, T, confidence).iloc[-1]
            twin, total = dense_twin(run.ledger), spent.total
            ann = twin.mj(table, chosen.additions == "counted") if table.has("mac") else float("nan")
            rows.append(
                {
                    "costs": table.name,
                    "over": point.over,
                    "value": point.label,
                    "t": T,
                    **{key: last[key] for key in ("accuracy", "accuracy_low", "accuracy_high")},
                    "n_labelled": int(last["n_labelled"]),
                    "mean_rate": float(run.over_time()["mean_rate"].iloc[-1]),
                    "sops": float(spent.iloc[-1]["sops"]),
                    "energy_mj": total.value,
                    "ci_low": total.low,
                    "ci_high": total.high,
                    "interval": total.method,
                    "ann_mj": ann,
                    "ratio": ann / total.value if total.value > 0 else float("nan"),
                    "run": None if run.path is None else str(run.path),
                }
            )
    frame = pd.DataFrame(rows)
    frame.attrs = {
        "convention": chosen.name,
        "n_images": runs[0].n_images,
        "notes": [*_notes(points, runs), *(note for table in get_cost_tables(costs) for note in table.notes())],
    }
    return frame


def _axis(time_steps: Any, threshold_scales: Any, checkpoints: Any) -> tuple[str, list[Any]]:
    """What the sweep goes over, and its values, checked."""
    given = {
        name: values
        for name, values in (
            ("time_steps", time_steps), ("threshold_scales", threshold_scales), ("checkpoints", checkpoints)
        )
        if values is not None
    }  # fmt: skip
    if len(given) != 1:
        named = " and ".join(given) if given else "none of them"
        raise SpikeattnError(
            f"{named} given; a measured sweep goes over one of time_steps, threshold_scales, checkpoints"
        )
    name, values = next(iter(given.items()))
    if isinstance(values, str | Path) or not isinstance(values, Iterable):
        raise SpikeattnError(f"{name} is {arguments.shown(values)}; give a list of values")
    listed: list[Any] = [value.item() if isinstance(value, np.generic) else value for value in values]
    if name == "time_steps":
        listed = [arguments.whole_number("a value of time_steps", value, 1) for value in listed]
    elif name == "threshold_scales":
        listed = [check_scale(value) for value in listed]
    else:
        listed = [arguments.path("a checkpoint", value) for value in listed]
    if not listed or len(set(listed)) < len(listed):
        what = "is empty" if not listed else "has a value twice"
        raise SpikeattnError(f"{name} {what}; give one value per point")
    return {"time_steps": TIME_STEPS, "threshold_scales": THRESHOLD, "checkpoints": CHECKPOINT}[name], listed


def _point(over: str, value: Any, model: Any, loader: Any, options: dict[str, Any]) -> Point:
    network = isinstance(model, nn.Module)

    def opened() -> Opened:
        made = model if network else model(value)
        if not isinstance(made, nn.Module):
            raise SpikeattnError(f"model({value!r}) returns {arguments.shown(made)}; it must return the network")
        return Opened(made, loader(value) if callable(loader) else loader, options)

    return Point(over, value, opened, scaled=network and over == THRESHOLD)


def _notes(points: Sequence[Point], runs: Sequence[Profile]) -> list[Note]:
    over, notes = points[0].over, []
    notes.append(Note("counted", f"every row is a run of its own on the same {runs[0].n_images} images"))
    if over == THRESHOLD:
        kinds: dict[str, int] = {}
        for tensor in runs[0].ledger.tensors:
            if tensor.maker == "neuron":
                kinds[str(tensor.neuron)] = kinds.get(str(tensor.neuron), 0) + 1
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        text = f"{ATTRIBUTE} of every spiking neuron ({named}) x the value; weights, batch norms and resets stay"
        if not points[0].scaled:
            text = f"thresholds x the value, as the function that returns the network sets them ({named})"
        notes.append(Note("thresholds", text))
    labelled = runs[0].counts.rows["label"].to_numpy() >= 0
    last = f"pred_{runs[0].time_steps}"
    if not labelled.any():
        notes.append(
            Note("accuracy", "accuracy unknown: the images have no labels; less energy may be for less accuracy")
        )
    elif last not in runs[0].counts.rows:
        text = "accuracy unknown: the output holds no class scores; less energy may be for less accuracy"
        notes.append(Note("accuracy", text))
    warnings: dict[str, list[str]] = {}
    for point, run in zip(points, runs, strict=True):
        for warning in run.warnings:
            warnings.setdefault(str(warning), []).append(point.label)
    for told, labels in warnings.items():
        note = Note.read(told)
        notes.append(note if len(labels) == len(runs) else Note.plain(note.code, f"{', '.join(labels)}: {note}"))
    return notes
