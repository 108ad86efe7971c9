"""`spikeattn profile`: a model and data in, the folder of a run and the firing rates out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.completing import DATA, MODELS, offering
from spikeattn.cli.configured import taken_from_file
from spikeattn.cli.inputs import Inputs
from spikeattn.cli.launching import joined, resume_command, stored_command, threads_of_run, written
from spikeattn.cli.machine import choose_device, set_threads
from spikeattn.cli.option_types import choice, within
from spikeattn.cli.options import (
    BatchSize,
    Calibrate,
    Checkpoint,
    CropPct,
    Device,
    Full,
    InputShape,
    Json,
    Limit,
    Mean,
    ModelArgs,
    NamesFile,
    NeuronClass,
    OwnForward,
    Pretrained,
    Resume,
    Sample,
    SampleSeed,
    Split,
    Std,
    Threads,
    TimeSteps,
    Verbose,
    Weights,
    WhichWeights,
    Workers,
    WrongCommandLine,
    check_weights,
)
from spikeattn.cli.output import note, print_json
from spikeattn.cli.run_summary import describe, summary_text
from spikeattn.cli.terminal import quiet, say
from spikeattn.compat.python_names import StrEnum
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from spikeattn.runs.ranks import Ranks
    from spikeattn.runs.result import EmptyShard, Profile


class Neurons(StrEnum):
    """SpikingJelly's implementation of the neurons on CUDA."""

    auto = "auto"
    triton = "triton"
    native = "native"
    torch = "torch"


def profile(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.py:NAME|FILE.nir",
            autocompletion=offering(MODELS),
            help="See `spikeattn models`; a FILE.py is run.",
        ),
    ],
    data: Annotated[
        str, typer.Option(metavar="SPEC", autocompletion=offering(DATA), help="A name or NAME:PATH, as listed above.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the run: counts.parquet and model.json.")],
    checkpoint: Checkpoint = None,
    weights: WhichWeights = Weights.auto,
    pretrained: Pretrained = False,
    split: Split = None,
    batch_size: BatchSize = 32,
    limit: Limit = None,
    sample: Sample = None,
    seed: SampleSeed = 0,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    neurons: Annotated[
        Neurons, typer.Option(help="Implementation of the neurons on CUDA.", **choice("--neurons", Neurons))
    ] = Neurons.auto,
    time_steps: TimeSteps = None,
    model_arg: ModelArgs = None,
    neuron_class: NeuronClass = None,
    layout: Annotated[
        str | None,
        typer.Option(metavar="TB|BT", help="Has no effect any more: where images and time lie is derived."),
    ] = None,
    forward: OwnForward = None,
    names: NamesFile = None,
    input_shape: InputShape = None,
    mean: Mean = None,
    std: Std = None,
    crop_pct: CropPct = None,
    resume: Resume = False,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Only every N-th batch from I on (0 to N-1); see `spikeattn merge`.")
    ] = "0/1",
    allow_mixed: Annotated[
        bool,
        typer.Option("--allow-mixed", help="Resume although device, threads or versions are others than before."),
    ] = False,
    save_every: Annotated[
        float,
        typer.Option(metavar="SECONDS", callback=within(0), help="The work that an interruption may cost at most."),
    ] = 30.0,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where an operation cannot be counted.")] = False,
    calibrate: Calibrate = False,
    frames: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="KIND",
            show_default=False,
            help="What whole numbers in the input are: events (added) or pixels (multiplied). Frames hold events and "
            "still images pixels, unless given.",
        ),
    ] = None,
    plain: Annotated[
        bool | None,
        typer.Option(
            "--plain/--fast",
            show_default=False,
            help="Run the model as it is, or a fast copy of it; the fast one where it pays, unless given.",
        ),
    ] = None,
    as_json: Json = False,
    full: Full = False,
    verbose: Verbose = 0,
) -> None:
    """Count every spike of a model on every image.

    Prints the network as a tree (firing rate, SOPs, energy and share of its blocks and parts), the accuracy and mean
    rate after each time step, and five numbers: accuracy, mean rate, SOPs, energy, ratio to the network without spikes.
    With --full every layer, and the firing rates in the layout of the Spike-driven Transformer paper (its Table S1).
    Without --checkpoint or --pretrained the weights are random, and every output says UNTRAINED.

    \b
    Data:
      digits                scikit-learn's digits, 1x16x16 (installed with spikeattn)
      digits-events         the same as SIMULATED events of a small saccade, 2x16x16
      digits-scenes         the same, each somewhere on a black canvas, 1x32x32
      cifar10:PATH          PATH/test.parquet and train.parquet: columns image (encoded bytes) and label
      imagenet:PATH         PATH/val/<wnid>/*.JPEG, PATH/<wnid>/*.JPEG, or a tar of such folders
      folder:PATH           any images; the folders in PATH are the classes
      nmnist:PATH, dvs128-gesture:PATH, cifar10-dvs:PATH
                            event recordings prepared by SpikingJelly (PATH/events_np)

    \b
    Examples:
      spikeattn profile --model sdt_digits --pretrained --data digits --out runs/digits
      spikeattn profile --model sdt_8_512 --checkpoint 8_512.pth.tar --data imagenet:/data/imagenet \\
          --sample 1000 --out runs/8_512
      spikeattn profile --model repository/model.py:build --model-arg depths=8 --checkpoint best.pth \\
          --data folder:/data/val --input-shape 3,32,32 --out runs/mine
    """
    from spikeattn.runs.ticking import Doing

    with Doing(not quiet()) as doing:
        doing("loading torch and SpikingJelly")
        from spikeattn.models import select_implementation
        from spikeattn.runs.ranks import restarted
        from spikeattn.runs.result import EmptyShard

    check_weights(weights, checkpoint)
    if limit is not None and sample is not None:
        raise WrongCommandLine(f"--limit {limit} and --sample {sample}: give one of them (first or random images)")
    _check_shard(shard)
    select_implementation(neurons.value)
    words = list(context.obj)
    inputs = Inputs(
        model, data, None if checkpoint is None else str(checkpoint), weights.value, pretrained, split, calibrate,
        tuple(model_arg or ()), time_steps, tuple(neuron_class or ()), layout, forward, input_shape, mean, std,
        crop_pct, frames, batch_size, limit, sample, seed,
    )  # fmt: skip
    with joined() as ranks:
        resume = resume or restarted()
        set_threads(threads_of_run(threads, out, resume))
        if ranks.rank == 0:
            _check_out(out, resume)
        with Doing(not quiet()) as doing:
            doing("opening the network and the images")
            net = inputs.network()
            called = inputs.options(net)
            loader = inputs.images(net, _place(device, ranks), called.get("forward"), workers)
        options = called | {"resume": resume, "strict": strict, "plain": plain, "allow_mixed": allow_mixed}
        options |= {"names": names, "shard": shard, "ranks": ranks, "save_every": save_every}
        options |= {"taken": taken_from_file(context)}
        try:
            done = _run(net, loader, out, words, as_json, inputs, **options)
        except EmptyShard as empty:
            if ranks.rank == 0:
                _tell_empty(empty, out, as_json)
            return
        if ranks.rank == 0:
            _tell(done, out, as_json, full, part=shard != "0/1")


def _run(
    net: nn.Module,
    loader: Any,
    out: Path,
    words: Sequence[str],
    as_json: bool,
    inputs: Inputs,
    taken: dict[str, Any],
    **options: Any,
) -> Profile:
    from spikeattn.runs.assembly import partial
    from spikeattn.runs.run import profile as run

    provenance = {"command": stored_command(words), "inputs": inputs.record()}
    provenance |= {"config": taken} if taken else {}
    try:
        return run(net, loader, out, progress=not quiet(), provenance=provenance, **options)
    except KeyboardInterrupt:
        written()
        ranks = options["ranks"]
        if ranks.rank == 0:
            note(f"stopped; what is counted is kept. To finish the run in {out}:\n  {resume_command(words, ranks)}")
            if ranks.size == 1 and (so_far := partial(out)) is not None:
                _print(so_far, out, as_json, False, partial=True)
        raise


def _tell(done: Profile, out: Path, as_json: bool, full: bool, part: bool) -> None:
    _print(done, out, as_json, full)
    if not as_json:
        following = "spikeattn merge DIR... --out DIR" if part else f"spikeattn energy {out}, spikeattn report {out}"
        say(f"run        {out}  (next: {following})")


def _tell_empty(shard: EmptyShard, out: Path, as_json: bool) -> None:
    note(f"warning: {shard}")
    if as_json:
        print_json({"run": str(out), "shard": shard.shard, "images": 0, "skipped": shard.skipped})


def _print(profile: Profile, out: Path, as_json: bool, full: bool, partial: bool = False) -> None:
    from spikeattn.runs.ticking import Doing

    with Doing(not quiet()) as doing:
        doing("tables and intervals")
        told = describe(profile) if as_json else summary_text(profile, full, "PARTIAL " if partial else "")
    if isinstance(told, dict):
        print_json({"run": str(out), **({"partial": True} if partial else {}), **told})
    else:
        say(told)


def _place(name: str, ranks: Ranks) -> torch.device:
    """The device of a rank: its own GPU, unless the user named one."""
    from spikeattn.runs.ranks import device_of_rank

    return device_of_rank(ranks) if ranks.size > 1 and name in ("auto", "cuda") else choose_device(name)


def _check_shard(text: str) -> None:
    from spikeattn.data.division import Shard

    try:
        Shard.parse(text)
    except SpikeattnError as error:
        raise WrongCommandLine(f"--{error}") from error


def _check_out(out: Path, resume: bool) -> None:
    """Say that a folder holds a run before the model and the data are loaded; the run itself looks again."""
    from spikeattn.storage.folder import RunFolder

    if out.exists():
        with RunFolder(out, resume):
            pass
