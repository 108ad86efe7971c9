"""`spikeattn verify`: a run checked again from its provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikeattn.cli.machine import choose_device
from spikeattn.cli.option_types import seed_of_sample, within
from spikeattn.cli.options import Device, Json, Run, Verbose, WrongCommandLine
from spikeattn.cli.output import note, print_json, to_json, write_file
from spikeattn.cli.stored_networks import Instead, Opened, open_stored
from spikeattn.cli.terminal import say
from spikeattn.errors import SpikeattnError

_INSTEAD = Instead(
    "--batches 0 checks the files alone", "call spikeattn.runs.verification.verify(path, model, loader) there"
)


def verify(
    run: Run,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The run's weights, where they no longer lie where they did.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="SPEC", help="The run's data, likewise.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="FILE.py:NAME", help="The code of a network of your own, likewise.")
    ] = None,
    device: Device = "auto",
    batches: Annotated[
        int, typer.Option(metavar="N", callback=within(0), help="Batches to run again; 0: check the files alone.")
    ] = 3,
    seed: Annotated[int, typer.Option(metavar="S", callback=seed_of_sample, help="Which batches.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the checks there, as .json.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Check a finished run again.

    The count table is compared with its checksum and with the ledger; then the model and the data are opened as the
    run's own settings say, and some of its batches are run once more: every count must be the same. Where the
    device or versions are others than the run's, numbers may move; that is said and is no failure. What could not be
    checked is named; it is a failure where --checkpoint, --data or --model says where to look. A file of your own that
    the network was built by is run again, provided that it is the same to the byte.

    \b
    Examples:
      spikeattn verify runs/8_512
      spikeattn verify runs/8_512 --checkpoint weights/8_512.pth.tar --data imagenet:/data/imagenet --batches 10
    """
    from spikeattn.runs.result import Profile
    from spikeattn.runs.verification import verify as check

    if out is not None and out.suffix != ".json":
        raise WrongCommandLine(f"--out {out}: the checks are written as .json")
    given = (("--checkpoint", checkpoint), ("--data", data), ("--model", model))
    named = [option for option, value in given if value is not None]
    if named and not batches:
        raise WrongCommandLine(f"--batches 0 checks the files alone; leave out {' and '.join(named)}")
    opened = Opened(missing=dict.fromkeys(("model", "data"), "--batches 0 leaves it out"))
    if batches:
        opened = open_stored(Profile.load(run).ledger, checkpoint, data, model, choose_device(device), _INSTEAD)
    done = check(run, opened.net, opened.loader, batches, seed, opened.missing, opened.options)
    unopened = bool(named and opened.missing)
    record = {
        "run": str(run),
        "passed": done.passed and not unopened,
        "failed": list(done.failed),
        "not_done": list(done.not_done),
        "checks": [{"name": c.name, "result": c.result, "detail": c.detail} for c in done.checks],
    }
    if out is not None:
        write_file(out, to_json(record).encode())
    if as_json:
        print_json(record)
    else:
        for entry in done.checks:
            say(f"{entry.result:<9} {entry.name:<8} {entry.detail}")
    if done.failed:
        raise SpikeattnError(
            f"{run}: the run does not stand the check ({', '.join(done.failed)}); profile again, or restore the files"
        )
    if unopened:
        raise SpikeattnError(f"{run}: NOT verified: {', '.join(done.not_done)}. {opened.why}")
    if batches and done.not_done:
        code = any(each.name == "code" for each in done.checks)
        note(
            f"warning: NOT verified: {', '.join(done.not_done)}; --checkpoint and --data say where they are now"
            + (", and --model where its code is" if code else "")
        )
