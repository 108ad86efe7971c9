"""`spikeattn attend`: where a network looks, what of it is more than noise, as pictures and as numbers."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.completing import DATA, NETWORKS, offering
from spikeattn.cli.fresh_folder import finished_before, fresh_folder
from spikeattn.cli.machine import choose_device, set_threads
from spikeattn.cli.option_types import within
from spikeattn.cli.options import (
    CONVENTION,
    COSTS,
    Checkpoint,
    ConventionName,
    Costs,
    CropPct,
    Device,
    InputShape,
    Json,
    Limit,
    Mean,
    ModelArgs,
    NeuronClass,
    OwnForward,
    Std,
    Threads,
    TimeSteps,
    Verbose,
    Weights,
    WhichWeights,
    WrongCommandLine,
    check_weights,
)
from spikeattn.cli.output import note, print_json, to_json, write_file
from spikeattn.cli.terminal import quiet, say
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.attention.study import Study
    from spikeattn.data.dataset import Skipped
    from spikeattn.runs.result import Profile

SUMMARY = "summary.json"


def attend(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.py:NAME",
            autocompletion=offering(NETWORKS),
            help="sdt_*, ann_*, vit_digits, a model of timm's or your own.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for pictures, tables and summary.json.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="More --images.")] = None,
    images: Annotated[
        list[Path] | None, typer.Option(metavar="PATH...", help="Image files, or folders of them.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            autocompletion=offering(DATA),
            help="A data set instead: digits, or NAME:PATH as for profile.",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    weights: WhichWeights = Weights.auto,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Weights that come with the package, or timm's own.")
    ] = False,
    null: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the maps are tested against: normal, uniform, pixel, patch, token, events or exact. "
            "Default: events for event data, normal for images.",
        ),
    ] = None,
    replicates: Annotated[
        int, typer.Option(metavar="B", callback=within(1), help="Maps of resampled input per image.")
    ] = 200,
    statistic: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|ROLE|PATH",
            help="Map: Vhat_S, V_S, gate, drive; cls, received, rollout; of any network attention, q, k, v, gate, "
            "products, or a tensor's path, as `spikeattn structure` lists them. Default: the first.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="N|all", help="Block, from 0 or from the end. Default: -1, the last; all with --run."),
    ] = None,
    estimator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of p: standardised keeps its level at every place and asks for more attention than noise gets; "
            "published, plus-one and per-token ask for less or more of it.",
        ),
    ] = "standardised",
    ties: Annotated[str, typer.Option(metavar="NAME", help="Ties of spike counts: plain or random.")] = "plain",
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What is kept: q, p, lfdr, pi0 or soft. q controls the false discovery rate, p does not.",
        ),
    ] = "q",
    threshold: Annotated[
        float | None,
        typer.Option(metavar="SHARE", callback=within(0, 1), help="Of --method p, q and lfdr; 0.1 unless given."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", callback=within(0), help="Seed of the resampled inputs.")] = 0,
    against: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A second network beside it: another model, or twin for the ANN twin."),
    ] = None,
    against_checkpoint: Annotated[Path | None, typer.Option(metavar="FILE", help="Its trained weights.")] = None,
    against_pretrained: Annotated[bool, typer.Option("--against-pretrained", help="Its own trained weights.")] = False,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Run of `spikeattn profile` over the same data: adds the energy spent on noise, of all blocks.",
        ),
    ] = None,
    also_null: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --run, another null for the grid of that energy by specification; repeatable. Each takes as "
            "long as the first.",
        ),
    ] = None,
    costs: Costs = COSTS,
    convention: ConventionName = CONVENTION,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Plant squares of noise and measure the attention they keep.")
    ] = False,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Of --data, where it has splits.")] = None,
    limit: Limit = None,
    pictures: Annotated[
        int, typer.Option(metavar="N", callback=within(0), help="Draw the first N images; the tables hold all.")
    ] = 20,
    memory: Annotated[float, typer.Option(metavar="GIB", help="Memory that a batch of replicates may take.")] = 1.0,
    threads: Threads = None,
    device: Device = "auto",
    time_steps: TimeSteps = None,
    model_arg: ModelArgs = None,
    neuron_class: NeuronClass = None,
    forward: OwnForward = None,
    input_shape: InputShape = None,
    mean: Mean = None,
    std: Std = None,
    crop_pct: CropPct = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="Untrained models: batch-norm statistics from the first images, so they fire."
        ),
    ] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Where a network looks, and which of it is more than noise.

    Every image's attention map is tested, token by token, against the maps of the same network on resampled input.
    A map of spikes is asked two questions, how much attention a token gets and where the attention of the image is; a
    map of softmax attention adds up to a constant, so that both are one. Two networks are asked the same questions.

    DIR gets, for each image: a panel (image, heat map over it, significant tokens), a grid over layers and time steps
    or heads, and with --against both networks side by side, as SVG, PDF and PNG; the pictures of the page's gallery;
    every number in attention.npz and attention.csv; and summary.json, with the command that makes it again. DIR must
    be new or empty.

    \b
    Examples:
      spikeattn attend --model sdt_digits --pretrained --data digits --limit 8 --out digits
      spikeattn attend --model vit_small_patch16_224 --checkpoint vit.safetensors --images cat.jpg dog.jpg --out pets
      spikeattn attend --model sdt_8_512 --checkpoint 8_512.pth.tar --images photos --null patch \\
          --against ann_8_512 --against-checkpoint twin.safetensors --out photos_attention
      spikeattn attend --model sdt_digits --pretrained --data digits --limit 50 --evaluate --pictures 0 --out noise
      spikeattn attend --model sdt_digits --pretrained --data digits --limit 8 --run runs/digits \\
          --also-null pixel --also-null patch --out joules
    """
    from tqdm import tqdm

    from spikeattn.runs.ticking import Doing, ticking

    with Doing(not quiet()) as doing:
        doing("loading torch and timm")
        from spikeattn.attention.questions import check_comparable
        from spikeattn.attention.study import StudySettings, look
        from spikeattn.cli.attention_inputs import Images, Named, calibrate_all, studies_of
        from spikeattn.cli.networks import Input
        from spikeattn.energy import get_convention, get_costs
        from spikeattn.reporting.study.arrays import write_tables
        from spikeattn.reporting.study.gallery_pictures import draw_gallery
        from spikeattn.reporting.study.pictures import draw
        from spikeattn.reporting.study.summary import summary_of
        from spikeattn.spurious.study_energy import study_energy, with_nulls

    paths = [*(images or ()), *(more or ())]
    if bool(paths) == (data is not None):
        raise WrongCommandLine("give either --images PATH... or --data SPEC" + (", not both" if paths else ""))
    if against is None and (against_checkpoint is not None or against_pretrained):
        raise WrongCommandLine("--against-checkpoint and --against-pretrained need --against NAME")
    if paths and split is not None:
        raise WrongCommandLine("--split chooses from --data; leave it out with --images")
    if also_null and run is None:
        raise WrongCommandLine("--also-null adds a null to the energy spent on noise, which needs --run RUN")
    check_weights(weights, checkpoint)
    block = _layer(layer or ("all" if run else "-1"))
    settings = StudySettings(
        null or "normal", replicates, statistic, block, estimator, ties, method, threshold, seed, memory
    )
    settings.check_names()
    try:
        settings.check_values()
    except SpikeattnError as error:
        raise WrongCommandLine(f"--{error}") from error
    prices, rules = get_costs(costs), get_convention(convention)
    set_threads(threads)
    place = choose_device(device)
    named = Named(model, checkpoint, weights.value, pretrained, model_arg, time_steps, neuron_class, forward)
    second = None if against is None else Named(against, against_checkpoint, "auto", against_pretrained)
    chosen = Images(paths, data, split, limit, Input(input_shape, mean, std, crop_pct))
    command = shlex.join(["spikeattn", *context.obj])
    if (before := finished_before(out, SUMMARY, command)) is not None:
        note(f"{out} holds the finished result of this very command; delete it to have it made again")
        _hand_over(before, out, as_json)
        return
    with fresh_folder(out, SUMMARY, interrupted=note) as staging, ExitStack() as stack, Doing(not quiet()) as doing:
        doing("opening the network and the images")
        studies = studies_of(named, second, chosen, settings, place, null is None, stack, layer is None)
        check_comparable(studies)
        first, number = studies[0], chosen.number(studies[0].dataset)
        if evaluate and first.settings.null == "events":
            raise WrongCommandLine("--evaluate plants normal noise, which is no event count; give --null pixel with it")
        if calibrate:
            calibrate_all(studies)
        profile = None if run is None else _open_run(run, first, number)
        others = with_nulls(first, also_null or ())
        doing(None)
        with tqdm(range(number), unit="image", smoothing=0.1, disable=quiet()) as bar, ticking(bar):
            attended, skipped = look([*studies, *others], bar, _say_skipped)
        doing("planting noise in the images" if evaluate else None)
        evaluations = [study.evaluate(attended) for study in studies] if evaluate else []
        doing(None)
        for study in studies:
            _say_warnings(study)
        doing("pricing attention" if profile is not None else None)
        energy = None if profile is None else study_energy(first, profile, attended, prices, rules, others)
        summary = summary_of(studies, skipped, evaluations, energy, command)
        doing("drawing")
        files = draw(staging, studies, attended[:pictures], energy)
        shown, summary["gallery"] = draw_gallery(staging, first, attended[:pictures], energy)
        files += shown + write_tables(staging, studies, evaluations, energy)
        summary["files"] = [*sorted(files), SUMMARY]
        write_file(staging / SUMMARY, to_json(summary).encode())
    _hand_over(summary, out, as_json)


def _hand_over(summary: dict[str, Any], out: Path, as_json: bool) -> None:
    from spikeattn.cli.attention_summary import as_text

    if as_json:
        print_json({"result": str(out), **summary})
    else:
        say(as_text(summary, out))


def _open_run(path: Path, study: Study, number: int) -> Profile:
    """The run of --run, checked for the model and the first `number` images of a study."""
    from spikeattn.runs.result import Profile
    from spikeattn.spurious.study_energy import check_run_of

    profile = Profile.load(path)
    try:
        check_run_of(study, profile, set(range(number)))
    except SpikeattnError as error:
        raise SpikeattnError(f"--run {path}: {error}") from error
    return profile


def _say_skipped(sample: Skipped) -> None:
    note(f"warning: {sample.id}: skipped, {sample.reason}")


def _say_warnings(study: Study) -> None:
    """Each warning once, with the number of images and the first of them."""
    for text, names in study.grouped_warnings().items():
        where = names[0] if len(names) == 1 else f"{len(names)} images, first {names[0]}"
        note(f"warning: {where}: {text}")


def _layer(text: str) -> int | str:
    try:
        return text if text == "all" else int(text)
    except ValueError:
        raise WrongCommandLine(f"--layer {text!r}: give the number of a block, or all") from None
