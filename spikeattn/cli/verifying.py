"""`spikeattn verify`: a run checked again from its provenance."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.options import Json, Run, Verbose, WrongCommandLine
from spikeattn.cli.output import note, print_json, to_json, write_file
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from spikeattn.recording.ledger import Ledger


def verify(
    run: Run,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The run's weights, where they no longer lie where they did.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="SPEC", help="The run's data, likewise.")] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:N or auto.")] = "auto",
    batches: Annotated[int, typer.Option(metavar="N", help="Batches to run again; 0: check the files alone.")] = 3,
    seed: Annotated[int, typer.Option(metavar="S", help="Which batches.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the checks there, as .json.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Check a finished run again.

    The count table is compared with its checksum and with the ledger; then the model and the data are opened as the
    run's own command line says, and some of its batches are run once more: every count must be the same. Where the
    device or versions are others than the run's, numbers may move; that is said and is no failure.

    \b
    Examples:
      spikeattn verify runs/8_512
      spikeattn verify runs/8_512 --checkpoint weights/8_512.pth.tar --data imagenet:/data/imagenet --batches 10
    """
    from spikeattn.results import Profile
    from spikeattn.verify import FAILED
    from spikeattn.verify import verify as check

    if out is not None and out.suffix != ".json":
        raise WrongCommandLine(f"--out {out}: the checks are written as .json")
    if batches < 0:
        raise WrongCommandLine(f"--batches {batches}: give a whole number from 0; 0 checks the files alone")
    ledger = Profile.load(run).ledger
    net, loader, why = None, None, "--batches 0"
    if batches > 0:
        try:
            net, loader = _opened(ledger, checkpoint, data, device)
        except SpikeattnError as error:
            why = str(error)
    done = check(run, net, loader, batches, seed)
    checks = [{"name": c.name, "result": c.result, "detail": c.detail} for c in done.checks]
    record = {"run": str(run), "passed": done.passed, "checks": checks}
    if out is not None:
        write_file(out, to_json(record).encode())
    if as_json:
        print_json(record)
    else:
        for entry in done.checks:
            typer.echo(f"{entry.result:<9} {entry.name:<8} {entry.detail}")
        if net is None and batches > 0:
            note(f"no batch was run again: {why}")
    if not done.passed:
        failed = ", ".join(entry.name for entry in done.checks if entry.result == FAILED)
        raise SpikeattnError(f"{run}: the run does not stand the check ({failed}); profile again, or restore the files")


def _opened(ledger: Ledger, checkpoint: Path | None, data: str | None, device: str) -> tuple[Any, Any]:
    """The model and the loader of a run, from the command line it was made with."""
    from spikeattn.cli.machine import choose_device
    from spikeattn.cli.profiling import given_of

    words = shlex.split(str(ledger.provenance.get("command", "")))
    place = choose_device(device)
    if words[:2] == ["spikeattn", "profile"]:
        given, choice = given_of(words[2:], checkpoint, data)
        return given.load(place, choice)
    return _described(ledger, data, place)


def _described(ledger: Ledger, data: str | None, place: Any) -> tuple[Any, Any]:
    """The same for a run that was made otherwise, with weights that come with the package."""
    from spikeattn.data import make_loader, open_dataset
    from spikeattn.models import create_model
    from spikeattn.models.checkpoints import shipped_weights

    settings = ledger.provenance.get("settings", {})
    model, source = settings.get("model") or {}, settings.get("data") or {}
    try:
        shipped = shipped_weights(model["name"]).name
        if shipped != model["checkpoint"]:
            raise KeyError(shipped)
        net = create_model(model["name"], pretrained=True, **model["config"])
        choice = {name: source[name] for name in ("batch_size", "limit", "sample", "seed")}
        dataset = open_dataset(data or source["spec"], net, split=source["split"])
    except KeyError as error:
        raise SpikeattnError(
            "the run was made from Python; call spikeattn.verify.verify(path, model, loader) there"
        ) from error
    return net.to(place), make_loader(dataset, **choice)
