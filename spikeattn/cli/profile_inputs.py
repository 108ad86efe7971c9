"""The model and the data of a profile, as a command line names them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.networks import Input, arguments_of, network, run_options
from spikeattn.cli.options import WrongCommandLine

if TYPE_CHECKING:
    import torch
    from torch import nn

    from spikeattn.data import Dataset

CALIBRATION = 8  # images

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """The model and the data as the user named them; the options of the same names."""

    model: str
    data: str
    checkpoint: Path | None
    weights: str
    pretrained: bool
    split: str | None
    calibrate: bool
    model_arg: list[str] | None
    time_steps: int | None
    neuron_class: list[str] | None = None
    layout: str | None = None
    forward: str | None = None
    input_shape: str | None = None
    mean: str | None = None
    std: str | None = None
    crop_pct: float | None = None

    def network(self) -> nn.Module:
        """The model, not yet calibrated."""
        arguments = arguments_of(self.model, self.model_arg, self.time_steps)
        return network(self.model, arguments, self.checkpoint, self.weights, self.pretrained)

    def options(self, net: nn.Module) -> dict[str, Any]:
        """How the model is run, as keyword arguments of `sa.profile`; to be asked for before its images."""
        from spikeattn.models.own_code import is_address

        own = is_address(self.model)
        return run_options(net, own, self.neuron_class, self.forward, self.layout, self.time_steps)

    def images(self, net: Any, place: torch.device, choice: Mapping[str, Any], forward: Any = None) -> Any:
        """The loader of its images; the model goes to its device, and is calibrated if that was asked for."""
        import torch

        from spikeattn.data import make_loader, open_dataset

        fed = Input(self.input_shape, self.mean, self.std, self.crop_pct)
        wants, time_steps = fed.of(net, self.data, self.time_steps)
        dataset = open_dataset(self.data, wants, time_steps=time_steps, split=self.split)
        fed.check(dataset)
        loader = make_loader(dataset, pin_memory=place.type == "cuda", **choice)
        net.to(place)
        if self.calibrate:
            calibrate_untrained(net, dataset, forward)
        threads = torch.get_num_threads()
        chosen: Any = loader.dataset  # a selection of the data set; torch's type knows no length
        logger.info("%s: %d images of %d; %s, %d threads", self.data, chosen.n_samples, len(dataset), place, threads)
        return loader


def calibrate_untrained(net: Any, dataset: Dataset, forward: Any = None) -> None:
    """Calibrate an untrained model on the first images of the data that can be read, and say so in its provenance.

    Always on the same images, whatever the batch size and the choice of images, so that the model is the same.
    """
    from itertools import islice

    from spikeattn.data.batches import collate
    from spikeattn.data.dataset import Skipped
    from spikeattn.models.calibrate import calibrate_batch_norm
    from spikeattn.provenance import device_of

    if net.provenance["trained"] is not False:
        raise WrongCommandLine("--calibrate would overwrite trained batch norms; it is for models without weights")
    readable = (i for i in range(len(dataset)) if not isinstance(dataset[i], Skipped))
    batch = collate(dataset, list(islice(readable, CALIBRATION)), 0)
    if batch.ids:
        calibrate_batch_norm(net, batch.images.to(device_of(net)), forward)
        net.provenance["notes"].append(f"batch norms calibrated on images {', '.join(batch.ids)}")
