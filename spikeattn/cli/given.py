"""The model and the data of a profile, as a command line names them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.options import WrongCommandLine, model_arguments

if TYPE_CHECKING:
    import torch

    from spikeattn.data import Dataset
    from spikeattn.models import SpikeDrivenTransformer

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

    def network(self) -> SpikeDrivenTransformer:
        """The model, not yet calibrated."""
        import torch

        from spikeattn.models import create_model

        arguments = model_arguments(self.model_arg, self.time_steps)
        torch.manual_seed(0)  # untrained weights, too, must be the same in a resumed run
        return create_model(
            self.model, checkpoint=self.checkpoint, weights=self.weights, pretrained=self.pretrained, **arguments
        )

    def images(self, net: SpikeDrivenTransformer, place: torch.device, choice: Mapping[str, Any]) -> Any:
        """The loader of its images; the model goes to its device, and is calibrated if that was asked for."""
        import torch

        from spikeattn.data import make_loader, open_dataset

        dataset = open_dataset(self.data, net, time_steps=self.time_steps, split=self.split)
        loader = make_loader(dataset, pin_memory=place.type == "cuda", **choice)
        net.to(place)
        if self.calibrate:
            calibrate_untrained(net, dataset)
        threads = torch.get_num_threads()
        logger.info(
            "%s: %d images of %d; %s, %d threads", self.data, loader.dataset.n_samples, len(dataset), place, threads
        )
        return loader


def calibrate_untrained(net: SpikeDrivenTransformer, dataset: Dataset) -> None:
    """Calibrate an untrained model on the first images of the data that can be read, and say so in its provenance.

    Always on the same images, whatever the batch size and the choice of images, so that the model is the same.
    """
    from itertools import islice

    from spikeattn.data.batches import collate
    from spikeattn.data.dataset import Skipped
    from spikeattn.models.calibrate import calibrate_batch_norm

    if net.provenance["trained"]:
        raise WrongCommandLine("--calibrate would overwrite trained batch norms; it is for models without weights")
    readable = (i for i in range(len(dataset)) if not isinstance(dataset[i], Skipped))
    batch = collate(dataset, list(islice(readable, CALIBRATION)), 0)
    if batch.ids:
        calibrate_batch_norm(net, batch.images.to(next(net.parameters()).device))
        net.provenance["notes"].append(f"batch norms calibrated on images {', '.join(batch.ids)}")
