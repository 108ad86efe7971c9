"""Networks as a command line names them: their arguments, how they are run, and what they are fed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from spikeattn.cli.options import WrongCommandLine, model_arguments
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from torch import nn

    from spikeattn.data import Dataset

EVENTS = ("digits-events", "nmnist", "dvs128-gesture", "cifar10-dvs")  # the data that have a time axis of their own


def arguments_of(model: str, pairs: Sequence[str] | None, time_steps: int | None) -> dict[str, Any]:
    """Keyword arguments for `load_model`, from --model-arg and --time-steps.

    --time-steps is an argument of this package's own models and of NIR files. A network of one's own gets its T as an
    argument of its factory, if it has one.
    """
    import timm

    from spikeattn.boundary.literals import read_value
    from spikeattn.models import model_names
    from spikeattn.models.address import is_address, is_nir
    from spikeattn.models.factory_arguments import Word

    words = {}
    for pair in pairs or ():
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise WrongCommandLine(f"--model-arg {pair!r} is no KEY=VALUE pair, such as num_classes=100")
        words[key] = text
    if is_nir(model):
        steps = {} if time_steps is None else {"time_steps": time_steps}
        return {key: read_value(text) for key, text in words.items()} | steps
    if is_address(model):
        return {key: Word(text) for key, text in words.items()}
    if model in model_names():
        return model_arguments(pairs, time_steps)
    if time_steps is not None and timm.is_model(model):
        raise SpikeattnError(f"--time-steps {time_steps}: {model} has no time steps; leave it out")
    return {key: read_value(text) for key, text in words.items()}


def network(
    model: str,
    arguments: dict[str, Any],
    checkpoint: Path | None = None,
    weights: str = "auto",
    pretrained: bool = False,
) -> nn.Module:
    """The network that --model names, with the same random weights each time; what its file prints is no result."""
    import random

    import numpy as np
    import torch

    from spikeattn.models.load import load

    torch.manual_seed(0)  # untrained weights, too, must be the same in a resumed run
    random.seed(0)  # a user's own initialisation may draw from either
    np.random.seed(0)
    with redirect_stdout(sys.stderr):
        return load(model, arguments, pretrained, checkpoint, weights)


def run_options(
    net: Any,
    own: bool,
    neuron_class: Sequence[str] | None,
    forward: str | None,
    time_steps: int | None,
) -> dict[str, Any]:
    """Keyword arguments of `sa.profile`, from the options of the same names; they are kept in the model's provenance.

    Args:
        own: whether the network is the user's own, so that --time-steps is no argument of it.
    """
    from spikeattn.models.neuron_names import neuron_predicate
    from spikeattn.models.own_code import function_at

    options: dict[str, Any] = {}
    if neuron_class:
        options["neurons"] = neuron_predicate(net, list(neuron_class))
        net.provenance["neuron_class"] = sorted(neuron_class)
    if forward is not None:
        with redirect_stdout(sys.stderr):
            options["forward"] = function_at(forward, net, "--forward")
    if own and time_steps is not None:
        options["time_steps"] = time_steps
    return options


@dataclass(frozen=True)
class Input:
    """What a network is fed, as the user states it; the options of the same names."""

    input_shape: str | None = None
    mean: str | None = None
    std: str | None = None
    crop_pct: float | None = None

    def of(self, net: Any, data: str | None, time_steps: int | None = None) -> tuple[Any, int | None]:
        """What says to `open_dataset` how the images are prepared, and the time steps of event data.

        Args:
            data: the --data that it is for, or None for image files.
            time_steps: of --time-steps.
        """
        from spikeattn.data.dataset import ModelInput

        if self == Input():
            return net, time_steps
        wants = ModelInput.of(net)
        stated = SimpleNamespace(
            in_chans=wants.channels, img_size=wants.size, num_classes=wants.num_classes, time_steps=wants.time_steps,
            pretrained_cfg=dict(wants.config),
        )  # fmt: skip
        if self.input_shape is not None:
            *T, stated.in_chans, height, width = self.shape()
            stated.img_size = (height, width)
            if T:
                time_steps = self._steps(T[0], data, time_steps)
        channels = stated.in_chans or 3
        for key in ("mean", "std"):
            if (text := getattr(self, key)) is not None:
                stated.pretrained_cfg[key] = _per_channel(f"--{key}", text, channels)
        if self.crop_pct is not None:
            stated.pretrained_cfg["crop_pct"] = self.crop_pct
        return stated, time_steps

    def check(self, dataset: Dataset) -> None:
        """Refuse options that the data set does not prepare its images by.

        Raises:
            WrongCommandLine: the first of them.
        """
        done = dataset.preparation()
        for key in ("mean", "std", "crop_pct"):
            if getattr(self, key) is not None and key not in done:
                option = f"--{key.replace('_', '-')}"
                raise WrongCommandLine(f"{option}: {dataset.name} is not prepared by it; leave it out")

    def shape(self) -> list[int]:
        """The numbers of --input-shape: [T,] C, H, W."""
        words = (self.input_shape or "").split(",")
        if len(words) not in (3, 4) or not all(word.strip().isdecimal() and int(word) for word in words):
            raise WrongCommandLine(
                f"--input-shape {self.input_shape}: give [T,]C,H,W in whole numbers, such as 3,224,224 or 4,2,128,128"
            )
        return [int(word) for word in words]

    def _steps(self, T: int, data: str | None, time_steps: int | None) -> int:
        if data is None or data.partition(":")[0] not in EVENTS:
            raise WrongCommandLine(
                f"--input-shape {self.input_shape}: images have no time axis; give C,H,W, and repeat them over time in "
                "--forward where the network does not do so itself"
            )
        if time_steps not in (None, T):
            raise WrongCommandLine(f"--input-shape {self.input_shape} and --time-steps {time_steps}: give one T")
        return T


def _per_channel(option: str, text: str, channels: int) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    finite = all(abs(value) < float("inf") for value in values)  # which NaN is not
    if len(values) not in (1, channels) or not finite or (option == "--std" and min(values) <= 0):
        positive = "positive " if option == "--std" else ""
        raise WrongCommandLine(f"{option} {text}: give one {positive}number, or one for each of {channels} channels")
    return values * (channels if len(values) == 1 else 1)


def ann_named(against: str) -> Any:
    """The ANN of one's own that `--against` names; its name where it is one of timm's."""
    from spikeattn.models.address import is_address

    return network(against, {}) if is_address(against) else against


def rated_network(model: str, pairs: Sequence[str] | None, time_steps: int | None) -> Any:
    """The network that a table of rates belongs to; of this package's own with their published arguments the name."""
    from spikeattn.models.address import is_address, is_nir

    arguments = arguments_of(model, pairs, time_steps)
    return network(model, arguments) if arguments or is_address(model) or is_nir(model) else model
