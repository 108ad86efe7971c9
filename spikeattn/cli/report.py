"""`spikeattn report`: tables, figures and one HTML page of a run; without a run, of the embedded default."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeattn.cli.completing import DATA, MODELS, offering
from spikeattn.cli.composing import run_command, stated, words_for
from spikeattn.cli.fresh_folder import recover, staging
from spikeattn.cli.launching import stored_command
from spikeattn.cli.option_types import within
from spikeattn.cli.options import (
    CONVENTION,
    COSTS,
    BatchSize,
    Calibrate,
    Checkpoint,
    ConventionName,
    Costs,
    CropPct,
    Device,
    InputShape,
    Json,
    Limit,
    Mean,
    MeasureTwin,
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
)
from spikeattn.cli.output import headline, note, print_json
from spikeattn.cli.terminal import quiet, say
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.energy import Convention, CostTable
    from spikeattn.reporting import Report
    from spikeattn.runs.result import Profile

DEMO_MODEL, DEMO_DATA, RUN, ATTENTION = "sdt_digits", "digits", "run", "attention"
ATTENTION_FILES = {"attention.npz", "attention.csv", "layers.csv", "energy.csv", "summary.json", "gallery", "panels"}


def report(
    context: typer.Context,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...",
            help="Folder that `spikeattn profile --out` wrote; several: one page of all of them, beside the first. "
            "Default: a new demo run.",
        ),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that `spikeattn attend --out` wrote, of the same model: a gallery."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the report.")] = Path("spikeattn-report"),
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.py:NAME|FILE.nir",
            autocompletion=offering(MODELS),
            help="In place of RUN: profile this network first, into DIR/run.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="SPEC", autocompletion=offering(DATA), help="With --model: as for `spikeattn profile`."),
    ] = None,
    attend: Annotated[
        int | None,
        typer.Option(
            metavar="N", callback=within(1), help="With --model: attend to the first N images too, into DIR/attention."
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    weights: WhichWeights = Weights.auto,
    pretrained: Pretrained = False,
    model_arg: ModelArgs = None,
    time_steps: TimeSteps = None,
    neuron_class: NeuronClass = None,
    forward: OwnForward = None,
    names: NamesFile = None,
    input_shape: InputShape = None,
    mean: Mean = None,
    std: Std = None,
    crop_pct: CropPct = None,
    calibrate: Calibrate = False,
    split: Split = None,
    batch_size: BatchSize = 32,
    limit: Limit = None,
    sample: Sample = None,
    seed: SampleSeed = 0,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    resume: Resume = False,
    costs: Costs = COSTS,
    convention: ConventionName = CONVENTION,
    measure_twin: MeasureTwin = False,
    serif: Annotated[
        bool, typer.Option("--serif", help="Letters with serifs in figures/*.pdf, as in the text of most papers.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Write tables, figures and one self-contained HTML page.

    Without RUN and --model, the embedded default end to end: a small trained spike-driven transformer on the held-out
    digits of scikit-learn, on one CPU thread, and its attention to a few of them, kept in DIR/run and DIR/attention.
    With --model the same for any network: `spikeattn profile` into DIR/run and, with --attend, `spikeattn attend` into
    DIR/attention, whose options are taken here too; an interrupted run is finished with --resume. Files of an earlier
    report in DIR are replaced, each in one step; other files there stay.

    With several RUNs, models or epochs over one data set, a page that sets them side by side: accuracy, rate, SOPs and
    energy, and the differences to the first with intervals over the images that both have.

    \b
    Examples:
      spikeattn report
      spikeattn report runs/8_512 --out reports/8_512
      spikeattn report runs/8_512 --attention attended/8_512 --out reports/8_512
      spikeattn report runs/epoch_10 runs/epoch_20 runs/epoch_30 --out reports/epochs
      spikeattn report --model repository/model.py:build --model-arg depths=8 --checkpoint best.pth \\
          --data imagenet:/data --attend 8 --out report
    """
    from spikeattn.runs.ticking import Doing

    if out.exists() and not out.is_dir():
        raise SpikeattnError(f"--out {out}: this is a file; give a folder for the report")
    given = runs or []
    _check(context, given, model, data, {"--attention": attention, "--measure-twin": measure_twin, "--serif": serif})
    with Doing(not quiet()) as doing:
        doing("loading torch and matplotlib")
        from spikeattn.cli.twin_of_run import twin_of_run
        from spikeattn.energy import get_convention, get_costs
        from spikeattn.reporting import write_report
        from spikeattn.runs.result import Profile

    prices, chosen, failed = get_costs(costs), get_convention(convention), ""
    command = shlex.join(["spikeattn", *context.obj])
    if len(given) > 1:
        _several(given, out, prices, chosen, command, as_json)
        return
    if given:
        profile = Profile.load(given[0])
    elif model is not None:
        profile = _of_network(context, out)
        attention, failed = _attended(context, profile, out, attend)
    else:
        profile, attention = _demo(out, prices, chosen, command), out / ATTENTION
    note("writing the report ...")
    with Doing(not quiet()) as doing:
        doing("counting the ANN twin" if measure_twin else None)
        twin = twin_of_run(profile.ledger) if measure_twin else None
        doing("tables, figures, page")
        written = write_report(profile, out, prices, chosen, attention, command, twin, serif)
    if as_json:
        files = {name: str(path) for name, path in written.files.items()}
        print_json({"run": str(profile.path), "files": files, "summary": written.summary})
    else:
        _say(profile, written, out, attention)
    if failed:
        raise SpikeattnError(f"the report in {out} stands without maps: --attend failed, for {failed}")


def _several(
    runs: Sequence[Path], out: Path, costs: CostTable, convention: Convention, command: str, as_json: bool
) -> None:
    """The page of several runs, and what was written."""
    from spikeattn.reporting.page.several_page import several_lines, write_several
    from spikeattn.runs.result import Profile
    from spikeattn.runs.ticking import Doing

    profiles = [Profile.load(run) for run in runs]
    note("writing the report ...")
    with Doing(not quiet()) as doing:
        doing("drawing")
        written = write_several(profiles, out, costs, convention, command)
    if as_json:
        files = {name: str(path) for name, path in written.files.items()}
        print_json({"runs": list(map(str, runs)), "files": files, "summary": written.summary})
        return
    for line in several_lines(written.summary):
        say(line)
    tables = [path.name for path in written.files.values() if path != written.page and path.parent == out]
    say(f"report     {written.page}\ntables     {out}: {', '.join(tables)}\nfigures    {out / 'figures'}")


def _say(profile: Profile, written: Report, out: Path, attention: Path | None) -> None:
    """What was written, and the headline of it."""
    if profile.untrained:
        say("UNTRAINED: the weights are random, these numbers describe nothing")
    figures = out / "figures"
    others = [path.name for path in written.files.values() if path != written.page and path.parent == out]
    say([headline(written.summary), *(f"warning    {line}" for line in _told(profile))])
    say(f"report     {written.page}\ntables     {out}: {', '.join(others)}")
    say(f"figures    {figures}\nrun        {profile.path}")
    if attention is not None:
        say(f"attention  {attention}")


def _told(profile: Profile) -> list[str]:
    """The warnings of a run but those that its headline has: why it has no accuracy, that it is untrained."""
    from spikeattn.stats.accuracy import NO_ACCURACY

    return [line for line in profile.warnings if line.code not in (NO_ACCURACY, "untrained")]


_ANYWHERE = ("runs", "attention", "out", "model", "costs", "convention", "measure_twin", "serif", "as_json", "verbose")


def _check(
    context: typer.Context,
    runs: Sequence[Path],
    model: str | None,
    data: str | None,
    alone: Mapping[str, object],
) -> None:
    """RUN, --model and the demo exclude each other; options of a profile go with --model, `alone` with one RUN."""
    if runs and model is not None:
        raise WrongCommandLine(f"RUN {runs[0]} and --model {model}: give a finished run, or a network to profile")
    for option, given in alone.items():
        if given and len(runs) > 1:
            raise WrongCommandLine(f"{option} and {len(runs)} runs: it is about one run; leave it out, or give one RUN")
    if alone["--attention"] is not None and not runs:
        instead = "--attend N attends to N images" if model else "the demo attends by itself"
        raise WrongCommandLine(f"--attention goes with a RUN; {instead}")
    if model is not None and data is None:
        raise WrongCommandLine(f"--model {model}: give --data too, as for `spikeattn profile`")
    for parameter in context.command.params if model is None else ():
        if parameter.name not in _ANYWHERE and stated(context, str(parameter.name)):
            raise WrongCommandLine(f"{parameter.opts[0]} goes with --model; a finished run is as it is")


def _of_network(context: typer.Context, out: Path) -> Profile:
    """A run of the network that --model names, as `spikeattn profile` makes it."""
    from spikeattn.cli.profile import profile
    from spikeattn.runs.result import Profile
    from spikeattn.storage.folder import ledger_of

    words = [*words_for(context, profile), "--out", str(out / RUN)]
    before = ledger_of(out / RUN) if (out / RUN).is_dir() else None
    if before is not None and before.provenance.get("command") == stored_command(["profile", *words]):
        words.append("--resume")  # of this very command: what it has counted is kept
    run_command(profile, words)
    return Profile.load(out / RUN)


def _attended(context: typer.Context, made: Profile, out: Path, images: int | None) -> tuple[Path | None, str]:
    """The folder that `spikeattn attend` makes of the first images, and why there is none where it fails.

    The energy spent on single tokens is left out, with a warning, where it cannot be told.
    """
    from spikeattn.cli.attend import attend

    if images is None:
        return None, ""
    if made.ledger.structure and not made.structure.attention:
        note("warning: --attend: no attention was found in this network; the page says more")
        return None, ""
    words = words_for(context, attend, besides=("limit", "seed"))  # those choose the run's images
    words += ["--limit", str(images), "--out", str(out / ATTENTION)]
    try:
        run_command(attend, [*words, "--run", str(out / RUN)])
        return out / ATTENTION, ""
    except SpikeattnError as error:
        note(f"warning: the energy of single tokens is left out: {error}")
    try:
        run_command(attend, words)
        return out / ATTENTION, ""
    except SpikeattnError as error:
        return None, str(error)


def _demo(out: Path, costs: CostTable, convention: Convention, command: str) -> Profile:
    """The embedded default, on one CPU thread: the same numbers on every machine of a kind.

    The run is `out`/run, its attention `out`/attention.
    """
    import torch

    from spikeattn.cli.demo_attention import attend_demo
    from spikeattn.data import make_loader, open_dataset
    from spikeattn.models import create_model
    from spikeattn.runs.result import Profile
    from spikeattn.runs.run import profile
    from spikeattn.runs.ticking import Doing

    torch.set_num_threads(1)
    with _staging(out) as place, Doing(not quiet()) as doing:
        doing("opening the network and the images")
        model = create_model(DEMO_MODEL, pretrained=True)
        dataset = open_dataset(DEMO_DATA, model, split="test")
        loader = make_loader(dataset)
        doing(None)
        note(f"profiling {DEMO_MODEL} on {DEMO_DATA}, on one CPU thread ...")
        profile(model, loader, place / RUN, progress=not quiet(), provenance={"command": command})
        note("attending to a few of them ...")
        doing("maps, significance, pictures")
        attend_demo(place / ATTENTION, model, dataset, Profile.load(place / RUN), costs, convention, command)
        _replace(place / RUN, out / RUN, _run_files())
        _replace(place / ATTENTION, out / ATTENTION, ATTENTION_FILES)
    return Profile.load(out / RUN)


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder inside `out` in which a run is made before it takes the place of an earlier one."""
    new = not out.exists()
    recover(out)
    try:
        with staging(out) as place:
            yield place
    except KeyboardInterrupt:
        note(f"stopped; {out} is as it was before, run the command again for the whole report")
        raise
    finally:
        if new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _run_files() -> set[str]:
    from spikeattn.storage.counts import FILE
    from spikeattn.storage.folder import LEDGER

    return {FILE, LEDGER}


def _replace(new: Path, old: Path, known: set[str]) -> None:
    """Put a folder in the place of an earlier one; a folder that holds anything but the known files is left alone."""
    if old.is_symlink() or old.exists():
        names = {entry.name for entry in old.iterdir()} if old.is_dir() and not old.is_symlink() else {old.name}
        if strangers := sorted(names - known):
            raise SpikeattnError(
                f"{old}: not replaced, for it holds other files too ({', '.join(strangers[:3])}); give another "
                "--out, or move it away"
            )
        os.replace(old, new.with_name(f"replaced-{old.name}"))
    os.replace(new, old)
