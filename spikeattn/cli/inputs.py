"""The model and the data of a profile, as a command line names them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.networks import Input, arguments_of, network, run_options
from spikeattn.cli.options import WrongCommandLine
from spikeattn.storage.ledger_rows import Number, Size

if TYPE_CHECKING:
    import torch
    from torch import nn

    from spikeattn.data import Dataset

CALIBRATION = 8  # images
CALIBRATED = "batch norms calibrated on images"  # how the note in the provenance of the model begins

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """The model and the data as the user named them, and which images; the options of the same names.

    A run keeps them (`record`), so that they can be opened again.
    """

    model: str
    data: str
    checkpoint: str | None = None
    weights: str = "auto"
    pretrained: bool = False
    split: str | None = None
    calibrate: bool = False
    model_arg: tuple[str, ...] = ()
    time_steps: Size | None = None
    neuron_class: tuple[str, ...] = ()
    layout: str | None = None
    forward: str | None = None
    input_shape: str | None = None
    mean: str | None = None
    std: str | None = None
    crop_pct: float | None = None
    input: str | None = None
    batch_size: Size = 32
    limit: Size | None = None
    sample: Size | None = None
    seed: Number = 0

    @classmethod
    def of(cls, record: Mapping[str, Any], where: str) -> Inputs:
        """Those that a run has kept; entries of a newer version are left out.

        Raises:
            SpikeattnError: naming the entry that is wrong.
        """
        from spikeattn.boundary import schema

        return schema.read(cls, dict(record), where, "provenance.inputs", others=True)

    def record(self) -> dict[str, Any]:
        """What `of` reads; JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def network(self) -> nn.Module:
        """The model, not yet calibrated."""
        arguments = arguments_of(self.model, self.model_arg, self.time_steps)
        checkpoint = None if self.checkpoint is None else Path(self.checkpoint)
        return network(self.model, arguments, checkpoint, self.weights, self.pretrained)

    def options(self, net: nn.Module) -> dict[str, Any]:
        """How the model is run, as keyword arguments of `sa.profile`; to be asked for before its images."""
        from spikeattn.models.address import is_address

        own = is_address(self.model)
        options = run_options(net, own, self.neuron_class, self.forward, self.time_steps)
        return options | ({} if self.input is None else {"input": self.input})

    def images(self, net: Any, place: torch.device, forward: Any = None, workers: int | None = None) -> Any:
        """The loader of its images; the model goes to its device, and is calibrated if that was asked for."""
        import torch

        from spikeattn.data import make_loader, open_dataset
        from spikeattn.data.workers import workers_for

        fed = Input(self.input_shape, self.mean, self.std, self.crop_pct)
        wants, time_steps = fed.of(net, self.data, self.time_steps)
        dataset = open_dataset(self.data, wants, time_steps=time_steps, split=self.split)
        fed.check(dataset)
        if workers is None:  # as many as the device of this run needs, whatever other ones there are
            batches = -(-(self.limit or self.sample or len(dataset)) // self.batch_size)
            workers = workers_for(dataset.slow, batches, place.type == "cuda")
        loader = make_loader(
            dataset, self.batch_size, limit=self.limit, sample=self.sample, seed=self.seed, workers=workers,
            pin_memory=place.type == "cuda",
        )  # fmt: skip
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
        net.provenance["notes"].append(f"{CALIBRATED} {', '.join(batch.ids)}")
