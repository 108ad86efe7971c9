"""`spikeattn verify`: a run checked again from its provenance."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.machine import choose_device
from spikeattn.cli.options import Device, Json, Run, Verbose, WrongCommandLine
from spikeattn.cli.output import note, print_json, to_json, write_file
from spikeattn.cli.profiling import given_of
from spikeattn.cli.terminal import say
from spikeattn.cli.values import CommandLineError, seed_of_sample, within
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    import torch

    from spikeattn.cli.given import Given
    from spikeattn.storage.ledger import Ledger


def verify(
    run: Run,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The run's weights, where they no longer lie where they did.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="SPEC", help="The run's data, likewise.")] = None,
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
    run's own command line says, and some of its batches are run once more: every count must be the same. Where the
    device or versions are others than the run's, numbers may move; that is said and is no failure. What could not be
    checked is named; it is a failure where --checkpoint or --data says where to look.

    \b
    Examples:
      spikeattn verify runs/8_512
      spikeattn verify runs/8_512 --checkpoint weights/8_512.pth.tar --data imagenet:/data/imagenet --batches 10
    """
    from spikeattn.results import Profile
    from spikeattn.verify import verify as check

    if out is not None and out.suffix != ".json":
        raise WrongCommandLine(f"--out {out}: the checks are written as .json")
    named = [option for option, value in (("--checkpoint", checkpoint), ("--data", data)) if value is not None]
    if named and not batches:
        raise WrongCommandLine(f"--batches 0 checks the files alone; leave out {' and '.join(named)}")
    opened = _Opened(missing=dict.fromkeys(("model", "data"), "--batches 0 leaves it out"))
    if batches:
        opened = _open(Profile.load(run).ledger, checkpoint, data, choose_device(device))
    done = check(run, opened.net, opened.loader, batches, seed, opened.missing)
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
        note(f"warning: NOT verified: {', '.join(done.not_done)}; --checkpoint and --data say where they are now")


@dataclass(frozen=True)
class _Opened:
    """The model and the loader of a run, which of them is not there, and why in all."""

    net: Any = None
    loader: Any = None
    missing: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


def _open(ledger: Ledger, checkpoint: Path | None, data: str | None, place: torch.device) -> _Opened:
    """From the command line that the run was made with, or from its provenance."""
    commanded, net = _commanded(ledger, checkpoint, data), None
    try:
        if commanded is not None:
            given, choice = commanded
            net = given.network().to(place)
            uncalibrated = given.calibrate
            return _Opened(net, given.images(net, place, choice))
        uncalibrated = False
        net = _described_model(ledger, checkpoint).to(place)
        return _Opened(net, _described_data(ledger, data, net))
    except SpikeattnError as error:
        why = str(error)
        if net is None:
            return _Opened(missing={"model": why, "data": "they are opened as the model wants them"}, why=why)
        if uncalibrated:  # its batch norms come from the data
            return _Opened(missing={"model": "it is calibrated on the data", "data": why}, why=why)
        return _Opened(net, missing={"data": why}, why=why)


def _commanded(ledger: Ledger, checkpoint: Path | None, data: str | None) -> tuple[Given, dict[str, Any]] | None:
    """What the run's own command line named; None for a run that was made from Python."""
    command = ledger.provenance.get("command", "")
    try:
        words = shlex.split(command)
        return given_of(words[2:], checkpoint, data) if words[:2] == ["spikeattn", "profile"] else None
    except (ValueError, CommandLineError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise SpikeattnError(
            f"model.json: provenance.command is {command[:60]!r}, which this version of spikeattn cannot read "
            f"({reason}); --batches 0 checks the files alone"
        ) from error


def _described_model(ledger: Ledger, checkpoint: Path | None) -> Any:
    """The model of a run that was made from Python: with the weights given, or those that come with the package."""
    from spikeattn.models import create_model
    from spikeattn.models.checkpoints import shipped_weights

    model = ledger.provenance.get("settings", {}).get("model") or {}
    try:
        if checkpoint is not None:
            return create_model(model["name"], checkpoint=checkpoint, **model["config"])
        shipped = shipped_weights(model["name"]).name
        if shipped != model["checkpoint"]:
            raise KeyError(shipped)
        return create_model(model["name"], pretrained=True, **model["config"])
    except KeyError as error:
        raise SpikeattnError(
            "the run was made from Python; call spikeattn.verify.verify(path, model, loader) there"
        ) from error


def _described_data(ledger: Ledger, data: str | None, net: Any) -> Any:
    """Its images, where they are a data set of this package."""
    from spikeattn.data import make_loader, open_dataset

    source = ledger.provenance.get("settings", {}).get("data") or {}
    try:
        choice = {name: source[name] for name in ("batch_size", "limit", "sample", "seed")}
        return make_loader(open_dataset(data or source["spec"], net, split=source["split"]), **choice)
    except KeyError as error:
        raise SpikeattnError(
            "the run's loader was made in Python; call spikeattn.verify.verify(path, model, loader) there"
        ) from error
