"""`spikeattn report`: tables, figures and one HTML page of a run; without a run, of the embedded default."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeattn.cli.fresh_folder import recover, staging
from spikeattn.cli.options import CONVENTION, COSTS, ConventionName, Costs, Json, Verbose, WrongCommandLine
from spikeattn.cli.output import headline, note, print_json
from spikeattn.cli.terminal import say
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.energy import Convention, CostTable
    from spikeattn.results import Profile

DEMO_MODEL, DEMO_DATA, RUN, ATTENTION = "sdt_digits", "digits", "run", "attention"
ATTENTION_FILES = {"attention.npz", "attention.csv", "layers.csv", "energy.csv", "summary.json", "panels"}


def report(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Folder that `spikeattn profile --out` wrote; default: a new demo run."),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that `spikeattn attend --out` wrote, of the same model: a gallery."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the report.")] = Path("spikeattn-report"),
    costs: Costs = COSTS,
    convention: ConventionName = CONVENTION,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Write tables, figures and one self-contained HTML page.

    Without RUN, the embedded default end to end: a small trained spike-driven transformer on the held-out digits of
    scikit-learn, on one CPU thread, and its attention to a few of them, kept in DIR/run and DIR/attention. Files of an
    earlier report in DIR are replaced, each in one step; other files there stay.

    \b
    Examples:
      spikeattn report
      spikeattn report runs/8_512 --out reports/8_512
      spikeattn report runs/8_512 --attention attended/8_512 --out reports/8_512
    """
    from spikeattn.energy import get_convention, get_costs
    from spikeattn.report import write_report
    from spikeattn.results import Profile

    if out.exists() and not out.is_dir():
        raise SpikeattnError(f"--out {out}: this is a file; give a folder for the report")
    prices, chosen = get_costs(costs), get_convention(convention)
    command = shlex.join(["spikeattn", *context.obj])
    if run is not None:
        profile = Profile.load(run)
    elif attention is not None:
        raise WrongCommandLine("--attention goes with a RUN; without one the demo attends by itself")
    else:
        profile, attention = _demo(out, prices, chosen, command), out / ATTENTION
    note("writing the report ...")
    written = write_report(profile, out, prices, chosen, attention, command)
    if as_json:
        files = {name: str(path) for name, path in written.files.items()}
        print_json({"run": str(profile.path), "files": files, "summary": written.summary})
        return
    if profile.untrained:
        say("UNTRAINED: the weights are random, these numbers describe nothing")
    figures = out / "figures"
    others = [path.name for path in written.files.values() if path != written.page and path.parent == out]
    say(headline(written.summary))
    say(f"report     {written.page}\ntables     {out}: {', '.join(others)}")
    say(f"figures    {figures}\nrun        {profile.path}")
    if attention is not None:
        say(f"attention  {attention}")


def _demo(out: Path, costs: CostTable, convention: Convention, command: str) -> Profile:
    """The embedded default, on one CPU thread: the same numbers on every machine of a kind.

    The run is `out`/run, its attention `out`/attention.
    """
    import torch

    from spikeattn.cli.demo_attention import attend_demo
    from spikeattn.data import make_loader, open_dataset
    from spikeattn.models import create_model
    from spikeattn.results import Profile
    from spikeattn.runs import profile

    torch.set_num_threads(1)
    with _staging(out) as place:
        model = create_model(DEMO_MODEL, pretrained=True)
        dataset = open_dataset(DEMO_DATA, model, split="test")
        loader = make_loader(dataset)
        note(f"profiling {DEMO_MODEL} on {DEMO_DATA}, on one CPU thread ...")
        profile(model, loader, place / RUN, progress=True, provenance={"command": command})
        note("attending to a few of them ...")
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
