"""`spikeattn compare`: a run beside an ANN, or beside another run of the same images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeattn.cli.completing import COSTS as NAMES
from spikeattn.cli.completing import offering
from spikeattn.cli.option_types import within
from spikeattn.cli.options import (
    CONVENTION,
    ClusterByClass,
    Confidence,
    ConventionName,
    First,
    Full,
    Json,
    MeasureTwin,
    Replicates,
    Runs,
    Seed,
    Verbose,
    WrongCommandLine,
)
from spikeattn.cli.output import LIST_FORMATS, hand_over
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from spikeattn.energy import Comparison
    from spikeattn.runs.result import Profile

COSTS = "horowitz-45nm-fp32,horowitz-45nm-int8-acc32"


def compare(
    runs: Runs,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="RUN|MODEL",
            help="Folder of another run over the same images, or of several, one per training seed; or the name of an "
            "ANN that timm builds (ann_8_512, vit_small_patch16_224), or FILE.py:NAME for one of your own. Default: "
            "the ANN twin of the run's model, or its own layers as dense ones.",
        ),
    ] = None,
    costs: Annotated[
        str,
        typer.Option(
            "--costs", metavar="NAME|FILE,...", autocompletion=offering(NAMES), help="Cost tables, separated by commas."
        ),
    ] = COSTS,
    convention: ConventionName = CONVENTION,
    first_conv: First = None,
    measure_twin: MeasureTwin = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME", help="With --measure-twin: the code of the run's network, where it has moved."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --measure-twin: the run's weights, likewise.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="SPEC", help="With --measure-twin: its data, likewise.")] = None,
    gamma: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            callback=within(0, 1),
            help="Price the tables with this share of zeros, skipped by the ANN's hardware, behind ReLUs and in the "
            "image. Default: 0, and the ratio as a range; measured with --measure-twin.",
        ),
    ] = None,
    confidence: Confidence = 0.95,
    replicates: Replicates = 2000,
    seed: Seed = 0,
    cluster_by_class: ClusterByClass = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write all rows there instead of printing; .csv, .parquet, or .json for everything."
        ),
    ] = None,
    as_json: Json = False,
    full: Full = False,
    verbose: Verbose = 0,
) -> None:
    """A spiking network beside an ANN or another run: who is cheaper.

    Per part, per block and for attention alone: the ratio of the energies with its interval, the firing rate at which
    both cost the same, and in words where the spiking network loses, or cannot. Beside an ANN there is a second one,
    quantised to the bits that T time steps are worth. The first two lines are both networks in arithmetic alone, which
    all tables are about, and with neurons, addressing and memory. Zeros behind the ANN's ReLUs may be skipped: where
    their share, gamma, is not measured, the ratio is printed from gamma 0 to .5, or to where both cost the same. int8
    adds up in 32 bits; horowitz-45nm-int8 has the 8 of papers. Attention alone is charged its AND gates and the leak of
    its q, k and v neurons, which the parts and the total are not.

    The run's network is not run, but for --measure-twin: a copy of it with ReLUs in place of its neurons then runs once
    on one image, and torch counts its MACs, and on the first images, whose zeros are its gamma. Where no twin can be
    built, a note says why, and the one by hand stands.

    Several RUNs are training seeds of one recipe over the same images, and so are several runs behind --against, as
    many or not. Total energy, ratio, SOPs, rate and accuracy are then means over seeds, with the standard deviation
    and range between seeds, an interval over training seeds (Student's), and beside it the interval over images.

    \b
    Examples:
      spikeattn compare runs/8_512
      spikeattn compare runs/8_512 --against vit_small_patch16_224 --costs horowitz-45nm-fp16
      spikeattn compare runs/T4 --against runs/T2 --out compare.csv
      spikeattn compare runs/mine --measure-twin
      spikeattn compare runs/a1 runs/a2 runs/a3 --against runs/b1 runs/b2 runs/b3 --out seeds.tex
    """
    from spikeattn.cli.compare_seeds import hand_over_seeds
    from spikeattn.cli.compare_text import compare_text
    from spikeattn.cli.run_summary import title
    from spikeattn.cli.twin_of_run import twin_of_run
    from spikeattn.energy import get_convention
    from spikeattn.energy.comparison import compare as compare_networks
    from spikeattn.runs.result import Profile

    moved = {"--model": model, "--checkpoint": checkpoint, "--data": data}
    others = against or []
    if measure_twin and others:
        message = f"--measure-twin and --against {' '.join(others)}: give the twin of the run, or another network"
        raise WrongCommandLine(message)
    if measure_twin and len(runs) > 1:
        raise WrongCommandLine(
            f"--measure-twin and {len(runs)} runs: it is the twin of one network; give one run, or leave it out"
        )
    if measure_twin and gamma is not None:
        message = f"--measure-twin and --gamma {gamma:g}: the twin's zeros are measured; leave one of the two out"
        raise WrongCommandLine(message)
    if not measure_twin and (named := [option for option, value in moved.items() if value is not None]):
        raise WrongCommandLine(f"{' and '.join(named)}: without --measure-twin the network is not opened; leave it out")
    chosen = get_convention(convention) if first_conv is None else get_convention(convention, first_conv=first_conv)
    tables = [name.strip() for name in costs.split(",") if name.strip()]
    profiles = [Profile.load(run) for run in runs]
    profile, cluster = profiles[0], "label" if cluster_by_class else None
    if len(runs) > 1 or len(others) > 1:
        beside = _runs(others) if len(others) > 1 else _other(others[0] if others else None)
        seeds = compare_networks(profiles, beside, tables, chosen, gamma, replicates, seed, confidence, cluster)
        hand_over_seeds(seeds, profiles, out, as_json)
        return
    other = (
        twin_of_run(profile.ledger, checkpoint, data, model) if measure_twin else _other(others[0] if others else None)
    )
    comparison = compare_networks(profile, other, tables, chosen, gamma, replicates, seed, confidence, cluster)
    as_text = partial(compare_text, comparison, title(profile), full)
    hand_over(_all_rows(comparison), comparison.to_dict(), as_text, out, as_json, LIST_FORMATS)


def _other(against: str | None) -> Profile | nn.Module | str | None:
    """A run where there is a folder of that name, or a path was meant; otherwise an ANN, by its name or address."""
    from spikeattn.cli.networks import ann_named
    from spikeattn.models.address import is_address
    from spikeattn.runs.result import Profile

    if against is not None and is_address(against) and not Path(against).is_dir():
        return ann_named(against)
    if against is not None and (Path(against).is_dir() or os.sep in against):
        return Profile.load(against)
    return against


def _runs(folders: Sequence[str]) -> list[Profile]:
    """The runs of the other side's training seeds."""
    from spikeattn.runs.result import Profile

    if names := [folder for folder in folders if not Path(folder).is_dir()]:
        raise SpikeattnError(
            f"--against {' '.join(folders)}: several of them are the runs of training seeds, and {names[0]} is no "
            "folder; give the folders of runs, or one ANN"
        )
    return [Profile.load(folder) for folder in folders]


def _all_rows(comparison: Comparison) -> pd.DataFrame:
    """The three tables in one, told apart by the first column; parts with their ratio over gamma."""
    import pandas as pd

    parts, zeros = comparison.parts, comparison.zeros
    if len(zeros):
        ends = {name: f"gamma_{name}" for name in ("measured", "low", "high", "break_even")}
        same = ["costs", "against", "part"]
        parts = parts.merge(
            zeros.rename(columns=ends)[[*same, *ends.values(), "ratio_at_low", "ratio_at_high"]], "left", same
        )
    tables = {"parts": parts, "blocks": comparison.blocks, "attention": comparison.attention}
    joined = pd.concat([frame.assign(table=name) for name, frame in tables.items()], ignore_index=True)
    first = ["table", "costs", "against", "block", "part"]
    return joined[[*first, *(column for column in joined.columns if column not in first)]]
