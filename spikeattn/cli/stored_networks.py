"""The model and the data of a finished run, opened again as its provenance says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.inputs import CALIBRATED, Inputs
from spikeattn.cli.networks import network, run_options
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    import torch

    from spikeattn.storage.ledger import Ledger

SCALE = "threshold_scale"  # of a run's model: what a sweep has multiplied its thresholds by


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
    """From what the run was made with: the inputs that a run of `spikeattn profile` keeps, or else its settings.

    Args:
        checkpoint, data, model: to take in place of the run's own.
        place: the device.
        do: what to do where they cannot be opened.
    """
    return _at_its_thresholds(_opened(ledger, checkpoint, data, model, place, do), ledger)


def _opened(
    ledger: Ledger, checkpoint: Path | None, data: str | None, model: str | None, place: torch.device, do: Instead
) -> Opened:
    inputs, net = _inputs(ledger, checkpoint, data, model), None
    if changed := _changed(ledger, model if inputs is None else inputs.model):
        both = {"model": "its code has changed", "data": "they are opened as the model wants them"}
        return Opened(missing={"code": changed, **both}, why=changed)
    try:
        if inputs is not None:
            net = inputs.network().to(place)
            options = inputs.options(net)
            return Opened(net, inputs.images(net, place, options.get("forward")), options=options)
        if checkpoint is None and _is_random(ledger):
            return _random_again(ledger, data, place, do)
        net = _described_model(ledger, checkpoint, model, do).to(place)
        options = _described_options(ledger, net, model, do)
        return Opened(net, _described_data(ledger, data, net, do), options=options)
    except SpikeattnError as error:
        why = str(error)
        if net is None:
            return Opened(missing={"model": why, "data": "they are opened as the model wants them"}, why=why)
        if inputs is not None and inputs.calibrate:  # its batch norms come from the data
            return Opened(missing={"model": "it is calibrated on the data", "data": why}, why=why)
        return Opened(net, missing={"data": why}, why=why)


def stored_inputs(ledger: Ledger) -> Inputs:
    """What a run of `spikeattn profile` was made with, to run its network once more.

    Raises:
        SpikeattnError: the run keeps no inputs, its code has changed, or its thresholds were scaled.
    """
    inputs = _inputs(ledger, None, None, None)
    if inputs is None:
        raise SpikeattnError(
            "the run was made from Python, or by an older version, and says nothing of how its network is opened; call "
            "sa.measured_sweep(build, loader, ...) there, or give a run of `spikeattn profile`"
        )
    if changed := _changed(ledger, inputs.model):
        raise SpikeattnError(f"the network of the run cannot be opened again: {changed}")
    if SCALE in ledger.settings.model:
        raise SpikeattnError(
            "the run is itself a point of a sweep over thresholds; give the run that the sweep began with"
        )
    return inputs


def _at_its_thresholds(opened: Opened, ledger: Ledger) -> Opened:
    """The network of a point of a sweep over thresholds has them scaled, as its run had."""
    scale: Any = ledger.settings.model.get(SCALE)
    if opened.net is not None and scale is not None:
        from spikeattn.tracing.neurons import is_spiking_neuron
        from spikeattn.tracing.thresholds import scale_thresholds

        scale_thresholds(opened.net, scale, opened.options.get("neurons", is_spiking_neuron))
    return opened


def _changed(ledger: Ledger, address: str | None) -> str:
    """Which file of a network of the user's own is another one than the run's; before any of them is run."""
    from spikeattn.models.address import changed_files

    model = ledger.settings.model
    return changed_files(model, address) if "code" in model and address is not None else ""


def _inputs(ledger: Ledger, checkpoint: Path | None, data: str | None, model: str | None) -> Inputs | None:
    """What the run keeps of its own inputs; None for one that was made from Python, or by an older version."""
    record = ledger.provenance.get("inputs")
    if record is None:
        return None
    inputs = Inputs.of(record, "model.json")
    if checkpoint is not None:
        inputs = replace(inputs, checkpoint=str(checkpoint), pretrained=False)
    return replace(inputs, data=data or inputs.data, model=model or inputs.model)


def _described_model(ledger: Ledger, checkpoint: Path | None, address: str | None, do: Instead) -> Any:
    """The model of a run that keeps no inputs: with the weights given, or those that come with the package."""
    from spikeattn.models import create_model
    from spikeattn.models.checkpoints import EMA_KEYS, shipped_weights

    model = ledger.settings.model
    weights = "ema" if model.get("weights") in EMA_KEYS else "auto"  # which of the two, where the file has both
    if "code" in model:
        if address is None:
            raise SpikeattnError(
                "the run keeps no inputs, and its network has code of its own; --model FILE.py:NAME says where that is "
                "now, and has it run"
            )
        return network(address, dict(model["code"]["arguments"]), checkpoint, weights)
    try:
        if checkpoint is not None:
            return create_model(model["name"], checkpoint=checkpoint, weights=weights, **model["config"])
        shipped = shipped_weights(model["name"]).name
        if shipped != model["checkpoint"]:
            raise KeyError(shipped)
        return create_model(model["name"], pretrained=True, **model["config"])
    except KeyError as error:
        raise SpikeattnError(f"the run was made from Python, or by an older version; {do.in_python}") from error


def _is_random(ledger: Ledger) -> bool:
    """Whether the run was of a model of this package without weights, which commands make from seed 0."""
    from spikeattn.models import model_names

    return ledger.model.get("trained") is False and ledger.settings.model.get("name") in model_names()


def _random_again(ledger: Ledger, data: str | None, place: torch.device, do: Instead) -> Opened:
    """The same random weights, calibrated as they were; what comes out otherwise is another model, and no answer."""
    from spikeattn.cli.inputs import calibrate_untrained
    from spikeattn.provenance import weights_hash

    model = ledger.settings.model
    net = network(str(model["name"]), dict(model["config"])).to(place)
    loader = _described_data(ledger, data, net, do)
    if any(note.startswith(CALIBRATED) for note in model.get("notes", ())):
        calibrate_untrained(net, loader.dataset.dataset)
    if weights_hash(net) != ledger.settings.weights_sha256:
        raise SpikeattnError(f"the run was made from Python, or by an older version; {do.in_python}")
    return Opened(net, loader)


def _described_options(ledger: Ledger, net: Any, address: str | None, do: Instead) -> dict[str, Any]:
    """How a run that keeps no inputs ran its network, as keyword arguments of `sa.profile`.

    Its own function is run where the user has named the network's code, whose files `_changed` has compared.
    """
    model = ledger.settings.model
    forward = (model.get("functions") or {}).get("forward")
    if forward is not None and address is None:
        raise SpikeattnError(f"the run called its network by a function of its own, {forward['name']}; {do.in_python}")
    own = "code" in model
    calls = None if forward is None else f"{forward['file']}:{forward['name']}"
    return run_options(net, own, model.get("neuron_class"), calls, ledger.time_steps)


def _described_data(ledger: Ledger, data: str | None, net: Any, do: Instead) -> Any:
    """Its images, where they are a data set of this package."""
    from spikeattn.data import make_loader, open_dataset

    source = ledger.settings.data or {}
    try:
        choice = {name: source[name] for name in ("batch_size", "limit", "sample", "seed")}
        return make_loader(open_dataset(data or source["spec"], net, split=source["split"]), **choice)
    except KeyError as error:
        raise SpikeattnError(f"the run does not say how its data were opened; {do.in_python}") from error
