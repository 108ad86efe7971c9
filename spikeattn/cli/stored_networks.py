"""The model and the data of a finished run, opened again as its command line or its provenance says."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.networks import network
from spikeattn.cli.option_types import CommandLineError
from spikeattn.cli.profile import given_of
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    import torch

    from spikeattn.cli.profile_inputs import Given
    from spikeattn.storage.ledger import Ledger


@dataclass(frozen=True)
class Opened:
    """The model and the loader of a run, which of them is not there, why in all, and how the model is run."""

    net: Any = None
    loader: Any = None
    missing: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Instead:
    """What to do in place of a command that cannot open a run's model and data.

    Attributes:
        without: the command without them.
        in_python: the call for a run that was made from Python.
    """

    without: str
    in_python: str


def open_stored(
    ledger: Ledger, checkpoint: Path | None, data: str | None, model: str | None, place: torch.device, do: Instead
) -> Opened:
    """From the command line that the run was made with, or from its provenance.

    Args:
        checkpoint, data, model: to take in place of the run's own.
        place: the device.
        do: what to do where they cannot be opened.
    """
    commanded, net = _commanded(ledger, checkpoint, data, model, do), None
    if changed := _changed(ledger, commanded[0].model if commanded is not None else model):
        both = {"model": "its code has changed", "data": "they are opened as the model wants them"}
        return Opened(missing={"code": changed, **both}, why=changed)
    try:
        if commanded is not None:
            given, choice = commanded
            net = given.network().to(place)
            options = given.options(net)
            uncalibrated = given.calibrate
            return Opened(net, given.images(net, place, choice, options.get("forward")), options=options)
        uncalibrated = False
        net = _described_model(ledger, checkpoint, model, do).to(place)
        return Opened(net, _described_data(ledger, data, net, do))
    except SpikeattnError as error:
        why = str(error)
        if net is None:
            return Opened(missing={"model": why, "data": "they are opened as the model wants them"}, why=why)
        if uncalibrated:  # its batch norms come from the data
            return Opened(missing={"model": "it is calibrated on the data", "data": why}, why=why)
        return Opened(net, missing={"data": why}, why=why)


def _changed(ledger: Ledger, address: str | None) -> str:
    """Which file of a network of the user's own is another one than the run's; before any of them is run."""
    from spikeattn.models.address import changed_files

    model = ledger.provenance.get("settings", {}).get("model") or {}
    return changed_files(model, address) if "code" in model and address is not None else ""


def _commanded(
    ledger: Ledger, checkpoint: Path | None, data: str | None, model: str | None, do: Instead
) -> tuple[Given, dict[str, Any]] | None:
    """What the run's own command line named; None for a run that was made from Python."""
    command = ledger.provenance.get("command", "")
    try:
        words = shlex.split(command)
        return given_of(words[2:], checkpoint, data, model) if words[:2] == ["spikeattn", "profile"] else None
    except (ValueError, CommandLineError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise SpikeattnError(
            f"model.json: provenance.command is {command[:60]!r}, which this version of spikeattn cannot read "
            f"({reason}); {do.without}"
        ) from error


def _described_model(ledger: Ledger, checkpoint: Path | None, address: str | None, do: Instead) -> Any:
    """The model of a run that was made from Python: with the weights given, or those that come with the package."""
    from spikeattn.models import create_model
    from spikeattn.models.checkpoints import shipped_weights

    model = ledger.provenance.get("settings", {}).get("model") or {}
    if "code" in model:
        if address is None:
            raise SpikeattnError(
                "the run was made from Python, with a network of its own code; --model FILE.py:NAME says where that is "
                "now, and has it run"
            )
        return network(address, dict(model["code"]["arguments"]), checkpoint)
    try:
        if checkpoint is not None:
            return create_model(model["name"], checkpoint=checkpoint, **model["config"])
        shipped = shipped_weights(model["name"]).name
        if shipped != model["checkpoint"]:
            raise KeyError(shipped)
        return create_model(model["name"], pretrained=True, **model["config"])
    except KeyError as error:
        raise SpikeattnError(f"the run was made from Python; {do.in_python}") from error


def _described_data(ledger: Ledger, data: str | None, net: Any, do: Instead) -> Any:
    """Its images, where they are a data set of this package."""
    from spikeattn.data import make_loader, open_dataset

    source = ledger.provenance.get("settings", {}).get("data") or {}
    try:
        choice = {name: source[name] for name in ("batch_size", "limit", "sample", "seed")}
        return make_loader(open_dataset(data or source["spec"], net, split=source["split"]), **choice)
    except KeyError as error:
        raise SpikeattnError(f"the run's loader was made in Python; {do.in_python}") from error
