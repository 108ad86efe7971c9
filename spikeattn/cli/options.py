"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from spikeattn.boundary.literals import read_value
from spikeattn.boundary.visible_text import visible
from spikeattn.cli import completing
from spikeattn.cli.completing import offering
from spikeattn.cli.option_types import WrongCommandLine, choice, level, seed_of_sample, within
from spikeattn.compat.python_names import StrEnum
from spikeattn.errors import unknown


class Weights(StrEnum):
    """Which weights of a training checkpoint."""

    auto = "auto"
    model = "model"
    ema = "ema"


class FirstConv(StrEnum):
    """How often the MACs of a still image's first layer are charged."""

    once = "once"
    every_step = "every-step"


def _set_logging(verbose: int) -> None:
    """Send the package's log to standard error: warnings, with -v its progress, with -vv everything."""
    logger = logging.getLogger("spikeattn")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LowerCase("%(levelname)s: %(message)s"))
    logger.handlers = [handler]
    # Once, also where a library has set up logging for all of Python: `logging.info` does, in SpikingJelly 0.0.0.0.12.
    logger.propagate = False
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])


class _LowerCase(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return visible(super().format(record))


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text, and nothing else.")]
Full = Annotated[bool, typer.Option("--full", help="Print everything, not what fits a screen.")]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Write the table there instead of printing it; .csv, .parquet, .tex, .md or .json.",
    ),
]
ListOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write the list there instead of printing it; .csv, .parquet or .json."),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        callback=_set_logging,
        show_default=False,
        help="Say more on standard error; -vv: everything.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `spikeattn profile --out` wrote.")]
Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...", help="Folder that `spikeattn profile --out` wrote; of several training seeds one each."
    ),
]
RunOrRates = Annotated[Path | None, typer.Argument(metavar="RUN", help="Folder that `spikeattn profile --out` wrote.")]
Rates = Annotated[
    Path | None,
    typer.Option("--rates", metavar="CSV", help="A published table of rates (layout of Table S1) in place of RUN."),
]
Costs = Annotated[
    str,
    typer.Option(
        "--costs",
        metavar="NAME|FILE",
        autocompletion=offering(completing.COSTS),
        help="Cost table (see `spikeattn costs`) or a .toml file.",
    ),
]
ConventionName = Annotated[
    str,
    typer.Option(
        "--convention",
        metavar="NAME",
        autocompletion=offering(completing.CONVENTIONS),
        help="See `spikeattn conventions`.",
    ),
]
First = Annotated[
    FirstConv | None,
    typer.Option(
        "--first-conv",
        help="Charge the first layer of a still image once or at every step.",
        **choice("--first-conv", FirstConv),
    ),
]
Confidence = Annotated[
    float,
    typer.Option("--confidence", metavar="SHARE", callback=level, help="Level of the intervals."),
]
Replicates = Annotated[
    int, typer.Option("--replicates", metavar="N", callback=within(100), help="Bootstrap replicates.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="S", callback=within(0), help="Seed of the bootstrap.")]
ClusterByClass = Annotated[
    bool,
    typer.Option("--cluster-by-class", help="Intervals: draw classes, each with its images, in place of images."),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="FILE", help="Trained weights: .pth.tar, state dict or safetensors."),
]
WhichWeights = Annotated[
    Weights,
    typer.Option(
        "--weights", help="Trained weights or their EMA, where the file has both.", **choice("--weights", Weights)
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", callback=within(1), help="Only the first N images.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", callback=within(1, 4096), help="CPU threads; torch's own choice unless given."
    ),
]
MeasureTwin = Annotated[
    bool,
    typer.Option(
        "--measure-twin", help="Build the ANN twin from the run's own network, run it once and count it, not by hand."
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:N or auto (a GPU if there is one).")
]
ModelArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg",
        metavar="KEY=VALUE",
        help="Argument of the model or factory, as a Python literal, in place of its own; repeatable.",
    ),
]
TimeSteps = Annotated[
    int | None,
    typer.Option(
        "--time-steps",
        metavar="T",
        callback=within(1),
        help="T in place of the model's own; T of a network of your own where it does not show.",
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        "--input-shape",
        metavar="[T,]C,H,W",
        help="What the model takes, in place of what it says itself; T for event data alone.",
    ),
]
Mean = Annotated[
    str | None, typer.Option("--mean", metavar="M,...", help="Subtracted from the pixels (0 to 1), per channel.")
]
Std = Annotated[str | None, typer.Option("--std", metavar="S,...", help="The pixels are divided by it, per channel.")]
CropPct = Annotated[
    float | None,
    typer.Option("--crop-pct", metavar="SHARE", callback=within(0.01, 1), help="Share of an image's side to keep."),
]

NeuronClass = Annotated[
    list[str] | None,
    typer.Option(
        "--neuron-class",
        metavar="NAME",
        help="A class of spiking neurons beside SpikingJelly's: of the model's own file, or package.module.NAME; "
        "repeatable.",
    ),
]
OwnForward = Annotated[
    str | None,
    typer.Option(
        "--forward", metavar="FILE.py:NAME", help="A function that calls the model on a batch; else model(images)."
    ),
]
NamesFile = Annotated[
    Path | None,
    typer.Option(
        "--names", metavar="FILE", help="Part, block and role of layers, in place of what is inferred: .toml."
    ),
]

Pretrained = Annotated[bool, typer.Option("--pretrained", help="Weights that come with the package.")]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="train, val or test, where the data has it.")]
BatchSize = Annotated[int, typer.Option(metavar="N", callback=within(1), help="Images per forward pass.")]
Sample = Annotated[
    int | None, typer.Option(metavar="N", callback=within(1), help="Only N images drawn at random by --seed.")
]
SampleSeed = Annotated[int, typer.Option("--seed", metavar="S", callback=seed_of_sample, help="Seed of --sample.")]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=within(0),
        help="Processes that read images ahead; by default none on a CPU of few cores, and most cores beside a GPU.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Finish the interrupted run in --out.")]
Calibrate = Annotated[
    bool,
    typer.Option("--calibrate", help="Untrained model: batch-norm statistics from the first images, so it fires."),
]

COSTS, CONVENTION = "horowitz-45nm-fp32", "exact"  # the defaults of spikeattn.energy, here without importing it


def check_run_or_rates(run: Path | None, rates: Path | None) -> None:
    """One of both names what is computed."""
    if (run is None) == (rates is None):
        raise WrongCommandLine("give either the folder of a run, or --rates CSV with --model NAME")


def check_weights(weights: Weights, checkpoint: Path | None) -> None:
    """--weights goes with --checkpoint."""
    if checkpoint is None and weights is not Weights.auto:
        raise WrongCommandLine(f"--weights {weights} chooses from a file: give --checkpoint FILE too")


def model_arguments(pairs: Iterable[str] | None, time_steps: int | None) -> dict[str, Any]:
    """Keyword arguments of this package's own models from KEY=VALUE pairs and --time-steps.

    A value is read as Python would read it (64, 0.5, True, (128, 96)), unless the argument is a text such as
    pooling_stat, where 0011 is no number.
    """
    from spikeattn.models import SpikeDrivenTransformer

    valid = inspect.signature(SpikeDrivenTransformer).parameters
    arguments: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, text = pair.partition("=")
        if not equals:
            raise WrongCommandLine(f"--model-arg {pair!r} is no KEY=VALUE pair, such as num_classes=100")
        if key not in valid:
            raise unknown("model argument", key, valid)
        arguments[key] = text if isinstance(valid[key].default, str) else read_value(text)
    if time_steps is not None:
        if arguments.get("time_steps", time_steps) != time_steps:
            raise WrongCommandLine(
                f"--time-steps {time_steps} and --model-arg time_steps={arguments['time_steps']}: give one of them"
            )
        arguments["time_steps"] = time_steps
    return arguments
