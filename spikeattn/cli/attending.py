"""`spikeattn attend`: where a network looks, what of it is more than noise, as pictures and as numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.fresh_folder import fresh_folder
from spikeattn.cli.given import calibrate_untrained
from spikeattn.cli.machine import choose_device, set_threads
from spikeattn.cli.options import (
    CONVENTION,
    COSTS,
    ConventionName,
    Costs,
    Json,
    ModelArgs,
    TimeSteps,
    Verbose,
    Weights,
    WrongCommandLine,
)
from spikeattn.cli.output import note, print_json, to_json, write_file
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spikeattn.cli.attention_run import Network
    from spikeattn.data import Dataset
    from spikeattn.data.dataset import Skipped
    from spikeattn.results import Profile

SUMMARY = "summary.json"


def attend(
    context: typer.Context,
    model: Annotated[str, typer.Option(metavar="NAME", help="Model: sdt_*, ann_*, vit_digits, or one of timm's ViTs.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for pictures, tables and summary.json.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="More --images.")] = None,
    images: Annotated[
        list[Path] | None, typer.Option(metavar="PATH...", help="Image files, or folders of them.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SPEC", help="A data set instead: digits, or NAME:PATH as for profile.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(metavar="FILE", help="Trained weights.")] = None,
    weights: Annotated[Weights, typer.Option(help="Trained weights or their EMA, where the file has both.")] = (
        Weights.auto
    ),
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
    replicates: Annotated[int, typer.Option(metavar="B", help="Maps of resampled input per image.")] = 200,
    statistic: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Map: Vhat_S, V_S, gate, drive; cls, received, rollout. Default: the first."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="N|all", help="Block, from 0 or from the end. Default: -1, the last; all with --run."),
    ] = None,
    estimator: Annotated[str, typer.Option(metavar="NAME", help="Of p: plus-one, published or per-token.")] = (
        "plus-one"
    ),
    ties: Annotated[str, typer.Option(metavar="NAME", help="Ties of spike counts: plain or random.")] = "plain",
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What is kept: p, q, lfdr, pi0 or soft. p does not control the false discovery rate, q does.",
        ),
    ] = "p",
    threshold: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of --method p, q and lfdr; 0.1 unless given.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of the resampled inputs.")] = 0,
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
    costs: Costs = COSTS,
    convention: ConventionName = CONVENTION,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Plant squares of noise and measure the attention they keep.")
    ] = False,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Of --data, where it has splits.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first N images.")] = None,
    pictures: Annotated[int, typer.Option(metavar="N", help="Draw the first N images; the tables hold all.")] = 20,
    memory: Annotated[float, typer.Option(metavar="GIB", help="Memory that a batch of replicates may take.")] = 1.0,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads; torch's own choice unless given.")] = (
        None
    ),
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:N or auto (a GPU if there is one).")] = (
        "auto"
    ),
    time_steps: TimeSteps = None,
    model_arg: ModelArgs = None,
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
    DIR gets, for each image: a panel (image, map, significant tokens, regularised map), a grid over layers and time
    steps or heads, and with --against both networks side by side, as SVG, PDF and PNG; every number in attention.npz
    and attention.csv; and summary.json, with the command that makes it again. DIR must be new or empty.

    \b
    Examples:
      spikeattn attend --model sdt_digits --pretrained --data digits --limit 8 --out digits
      spikeattn attend --model vit_small_patch16_224 --checkpoint vit.safetensors --images cat.jpg dog.jpg --out pets
      spikeattn attend --model sdt_8_512 --checkpoint 8_512.pth.tar --images photos --null token \\
          --against ann_8_512 --against-checkpoint twin.safetensors --out photos_attention
      spikeattn attend --model sdt_digits --pretrained --data digits --limit 50 --evaluate --pictures 0 --out noise
      spikeattn attend --model sdt_digits --pretrained --data digits --limit 8 --run runs/digits --out joules
    """
    from spikeattn.cli.attention_files import draw, write_tables
    from spikeattn.cli.attention_inputs import build
    from spikeattn.cli.attention_run import Network, Settings
    from spikeattn.cli.attention_summary import as_text, summarise

    paths = [*(images or ()), *(more or ())]
    if bool(paths) == (data is not None):
        raise WrongCommandLine("give either --images PATH... or --data SPEC" + (", not both" if paths else ""))
    if against is None and (against_checkpoint is not None or against_pretrained):
        raise WrongCommandLine("--against-checkpoint and --against-pretrained need --against NAME")
    if checkpoint is None and weights is not Weights.auto:
        raise WrongCommandLine(f"--weights {weights} chooses from a file: give --checkpoint FILE too")
    if paths and split is not None:
        raise WrongCommandLine("--split chooses from --data; leave it out with --images")
    if pictures < 0 or (limit is not None and limit < 1):
        raise WrongCommandLine("--pictures takes 0 or more, --limit 1 or more")
    block = _layer(layer or ("all" if run else "-1"))
    settings = Settings(
        null or "normal", replicates, statistic, block, estimator, ties, method, threshold, seed, memory
    )
    settings.check()
    set_threads(threads)
    place = choose_device(device)
    with fresh_folder(out, SUMMARY) as staging:
        net = _seeded(lambda: build(model, checkpoint, weights.value, pretrained, model_arg, time_steps))
        dataset = _open(paths, data, split, time_steps, net)
        number = len(dataset) if limit is None else min(limit, len(dataset))
        if null is None and _has_events(dataset, number):
            settings = _with_null(settings, "events")
        if evaluate and settings.null == "events":
            raise WrongCommandLine("--evaluate plants normal noise, which is no event count; give --null pixel with it")
        networks = [Network(net.to(place).eval(), dataset, settings)]
        if against is not None:
            other = _other(net, model, against, against_checkpoint, against_pretrained, model_arg)
            networks.append(_second(other.to(place), net, settings, paths, data, split))
        if calibrate:
            _calibrate(networks, number)
        profile = None if run is None else _profile(run, networks[0])
        kept, skipped = _look(networks, number)
        evaluations = [network.evaluate(_stacked(network, kept)) for network in networks] if evaluate else []
        for network in networks:
            network.say_warnings()
        if profile is not None:
            _add_energy(networks[0], profile, kept, costs, convention)
        command = shlex.join(["spikeattn", *context.obj])
        summary = summarise(networks, skipped, evaluations, command)
        files = draw(staging, networks, kept[:pictures])
        files += write_tables(staging, networks, evaluations)
        summary["files"] = [*sorted(files), SUMMARY]
        write_file(staging / SUMMARY, to_json(summary).encode())
    if as_json:
        print_json({"result": str(out), **summary})
    else:
        typer.echo(as_text(summary, out))


def _layer(given: str) -> int | str:
    try:
        return given if given == "all" else int(given)
    except ValueError:
        raise WrongCommandLine(f"--layer {given!r}: give the number of a block, or all") from None


def _seeded(make: Any) -> nn.Module:
    import torch

    torch.manual_seed(0)  # untrained weights, too, must be the same when the command is run again
    return make()


def _open(paths: Sequence[Path], data: str | None, split: str | None, time_steps: int | None, model: Any) -> Dataset:
    from spikeattn.cli.attention_inputs import open_images
    from spikeattn.data import open_dataset

    if paths:
        return open_images(paths, model)
    return open_dataset(data or "", model, time_steps=time_steps, split=split)


def _has_events(dataset: Dataset, number: int) -> bool:
    from spikeattn.data.dataset import Skipped
    from spikeattn.report.pictures import is_events

    samples = (dataset[i] for i in range(number))
    first = next((sample for sample in samples if not isinstance(sample, Skipped)), None)
    return first is not None and is_events(first[0])


def _with_null(settings: Any, null: str) -> Any:
    from dataclasses import replace

    return replace(settings, null=null)


def _other(
    net: nn.Module, name: str, against: str, checkpoint: Path | None, pretrained: bool, pairs: Sequence[str] | None
) -> nn.Module:
    """The second network, in eval mode; a twin takes the input of the first."""
    from spikeattn.cli.attention_inputs import build, twin_name

    if against == "twin":
        against = twin_name(name)
        shared = ("embed_dim", "depth", "num_heads", "mlp_ratio", "pooling_stat")
        pairs = [pair for pair in pairs or () if pair.partition("=")[0] in shared]
    else:
        pairs = None
    return _seeded(lambda: build(against, checkpoint, "auto", pretrained, pairs, like=net))


def _second(
    other: nn.Module, net: nn.Module, settings: Any, paths: Sequence[Path], data: str | None, split: str | None
) -> Network:
    from dataclasses import replace

    from spikeattn.cli.attention_inputs import same_crop
    from spikeattn.cli.attention_run import Network

    own = replace(settings, statistic=None, layer="all" if settings.layer == "all" else -1)
    wants = same_crop(other, net)
    return Network(other, _open(paths, data, split, wants.time_steps, wants), own)


def _calibrate(networks: Sequence[Network], number: int) -> None:
    """Calibrate the networks without weights; where there is none, the error of the first says so."""
    untrained = [network for network in networks if not network.model.provenance["trained"]]
    for network in untrained or networks[:1]:
        calibrate_untrained(network.model, network.dataset)


def _profile(run: Path, network: Network) -> Profile:
    from spikeattn.cli.attention_energy import open_run

    return open_run(run, network)


def _add_energy(network: Network, profile: Profile, kept: Sequence[int], costs: str, convention: str) -> None:
    from spikeattn.cli.attention_energy import energy_on_noise
    from spikeattn.energy import get_convention, get_costs

    network.energy = energy_on_noise(network, profile, kept, get_costs(costs), get_convention(convention))


def _look(networks: Sequence[Network], number: int) -> tuple[list[int], list[Skipped]]:
    """Attend to every image that can be read; indices of these, and the others."""
    from tqdm import tqdm

    from spikeattn.data.dataset import Skipped

    kept, skipped = [], []
    for index in tqdm(range(number), unit="image", smoothing=0.1):
        samples = [network.dataset[index] for network in networks]
        bad = next((sample for sample in samples if isinstance(sample, Skipped)), None)
        if bad is not None:
            note(f"warning: {bad.id}: skipped, {bad.reason}")
            skipped.append(bad)
            continue
        for network, (image, _) in zip(networks, samples, strict=True):
            network.look(index, image)
        kept.append(index)
    if not kept:
        reasons = "; ".join(f"{one.id}: {one.reason}" for one in skipped[:3])
        raise SpikeattnError(f"no image could be read, {len(skipped)} were skipped. {reasons}")
    return kept, skipped


def _stacked(network: Network, kept: Sequence[int]) -> Tensor:
    import torch

    return torch.stack([network.dataset[index][0] for index in kept])
