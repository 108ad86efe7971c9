"""`spikeattn report`: tables, figures and one HTML page of a run; without a run, of the embedded default."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeattn.cli.options import CONVENTION, COSTS, ConventionName, Costs, Json, Verbose
from spikeattn.cli.output import headline, note, print_json
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.results import Profile

DEMO_MODEL, DEMO_DATA, RUN = "sdt_digits", "digits", "run"


def report(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Folder that `spikeattn profile --out` wrote; default: a new demo run."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the report.")] = Path("spikeattn-report"),
    costs: Costs = COSTS,
    convention: ConventionName = CONVENTION,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Write tables, figures and one self-contained HTML page.

    Without RUN, the embedded default end to end: a small trained spike-driven transformer on the held-out digits of
    scikit-learn, on one CPU thread, in some seconds. Its run is kept in DIR/run. Files of an earlier report in DIR are
    replaced, each in one step; other files there stay.

    \b
    Examples:
      spikeattn report
      spikeattn report runs/8_512 --out reports/8_512
    """
    from spikeattn.energy import get_convention, get_costs
    from spikeattn.report import write_report
    from spikeattn.results import Profile

    prices, chosen = get_costs(costs), get_convention(convention)
    profile = _demo(out) if run is None else Profile.load(run)
    note("writing the report ...")
    written = write_report(profile, out, prices, chosen)
    if as_json:
        files = {name: str(path) for name, path in written.files.items()}
        print_json({"run": str(profile.path), "files": files, "summary": written.summary})
        return
    if profile.untrained:
        typer.echo("UNTRAINED: the weights are random, these numbers describe nothing")
    figures = out / "figures"
    others = [path.name for path in written.files.values() if path != written.page and path.parent == out]
    typer.echo(headline(written.summary))
    typer.echo(f"report     {written.page}\ntables     {out}: {', '.join(others)}")
    typer.echo(f"figures    {figures}\nrun        {profile.path}")


def _demo(out: Path) -> Profile:
    """The embedded default, on one CPU thread: the same numbers on every machine of a kind. The run is `out`/run."""
    import torch

    from spikeattn.data import make_loader, open_dataset
    from spikeattn.models import create_model
    from spikeattn.results import Profile
    from spikeattn.runs import profile

    torch.set_num_threads(1)
    with _staging(out) as staging:
        model = create_model(DEMO_MODEL, pretrained=True)
        loader = make_loader(open_dataset(DEMO_DATA, model, split="test"))
        note(f"profiling {DEMO_MODEL} on {DEMO_DATA}, on one CPU thread ...")
        profile(model, loader, staging / RUN, progress=True, provenance={"command": "spikeattn report"})
        _replace_run(staging / RUN, out / RUN)
    return Profile.load(out / RUN)


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder inside `out` in which a run is made before it takes the place of an earlier one."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=out))
    except OSError as error:
        raise SpikeattnError(f"--out {out}: cannot write there ({error.strerror}); give another folder") from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace_run(new: Path, old: Path) -> None:
    """Put a run in the place of an earlier one; a folder that holds anything else is left alone."""
    from spikeattn.recording.counts import FILE
    from spikeattn.recording.folder import LEDGER

    if old.is_symlink() or old.exists():
        names = {entry.name for entry in old.iterdir()} if old.is_dir() and not old.is_symlink() else {old.name}
        if strangers := sorted(names - {FILE, LEDGER}):
            raise SpikeattnError(
                f"{old}: not replaced, for it is not only a run ({', '.join(strangers[:3])}); give another --out, or "
                "move it away"
            )
        os.replace(old, new.with_name("replaced"))
    os.replace(new, old)
