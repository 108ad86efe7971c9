"""The networks and the images that a command line of `spikeattn attend` names, ready to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from spikeattn.cli.attention_inputs import build, open_images, same_crop, twin_name
from spikeattn.cli.attention_run import Network, Settings, unreadable
from spikeattn.cli.inputs import calibrate_untrained
from spikeattn.cli.networks import Input, run_options
from spikeattn.cli.output import note
from spikeattn.data import open_dataset
from spikeattn.data.dataset import Skipped
from spikeattn.reporting.figures.input_pictures import is_events
from spikeattn.tracing.neurons import stated

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spikeattn.data import Dataset


@dataclass(frozen=True)
class Named:
    """A network as the user named it."""

    name: str
    checkpoint: Path | None = None
    weights: str = "auto"
    pretrained: bool = False
    model_arg: Sequence[str] | None = None
    time_steps: int | None = None
    neuron_class: Sequence[str] | None = None
    forward: str | None = None

    def options(self, model: nn.Module) -> Mapping[str, Any]:
        """How it is run: `neurons` and `forward` as of `sa.profile`, where they were given."""
        return run_options(model, False, self.neuron_class, self.forward, None, None)

    def built(self, like: nn.Module | None = None) -> nn.Module:
        """The network; `like` as for `build`."""
        return build(
            self.name, self.checkpoint, self.weights, self.pretrained, self.model_arg, self.time_steps, like=like
        )

    def beside(self, first: Named) -> Named:
        """The same as the second network; `twin` takes the structure of the first."""
        if self.name != "twin":
            return self
        shared = ("embed_dim", "depth", "num_heads", "mlp_ratio", "pooling_stat")
        pairs = [pair for pair in first.model_arg or () if pair.partition("=")[0] in shared]
        return replace(self, name=twin_name(first.name), model_arg=pairs)


@dataclass(frozen=True)
class Images:
    """The images as the user named them: files and folders, or a data set."""

    paths: Sequence[Path]
    data: str | None
    split: str | None
    limit: int | None
    fed: Input = Input()

    def opened(self, model: object, time_steps: int | None) -> Dataset:
        """As the model wants them."""
        wants, time_steps = self.fed.of(model, None if self.paths else self.data, time_steps)
        if self.paths:
            return open_images(self.paths, wants)
        dataset = open_dataset(self.data or "", wants, time_steps=time_steps, split=self.split)
        self.fed.check(dataset)
        return dataset

    def number(self, dataset: Dataset) -> int:
        """How many of them."""
        return len(dataset) if self.limit is None else min(self.limit, len(dataset))


def networks_of(
    named: Named, against: Named | None, images: Images, settings: Settings, place: torch.device, any_null: bool,
    stack: ExitStack, any_layer: bool = False,
) -> list[Network]:  # fmt: skip
    """The network, and the one beside it if there is one, on their device.

    Args:
        any_null: whether the null may be another one than that of `settings`, where the images want it.
        any_layer: whether the layer may be the last instead of all, where their maps do not go together.
        stack: as long as it is open, the neurons that the user named are neurons.

    Raises:
        SpikeattnError: what `build`, `open_dataset` and `Network` raise.
    """
    model = named.built()
    called = named.options(model)
    if "neurons" in called:
        stack.enter_context(stated(model, called["neurons"]))
    dataset = images.opened(model, named.time_steps)
    if any_null and _has_events(dataset, images.number(dataset)):
        settings = replace(settings, null="events")
    more = {"forward": called["forward"]} if "forward" in called else {}
    networks = [Network(model.to(place).eval(), dataset, settings, any_layer=any_layer, **more)]
    if against is not None:
        other = against.beside(named).built(like=model).to(place)
        own = replace(settings, statistic=None, layer="all" if settings.layer == "all" else -1)
        wants = same_crop(other, model)
        networks.append(Network(other, images.opened(wants, wants.time_steps), own))
    return networks


def calibrate_all(networks: Sequence[Network]) -> None:
    """Calibrate the networks without weights; where there is none, the error of the first says so."""
    untrained = [network for network in networks if not network.model.provenance["trained"]]
    for network in untrained or networks[:1]:
        calibrate_untrained(network.model, network.dataset, network.forward)


def look(networks: Sequence[Network], number: int) -> tuple[list[int], list[Skipped]]:
    """Attend to every image that can be read; indices of these, and the others."""
    kept, skipped = [], []
    for index in tqdm(range(number), unit="image", smoothing=0.1):
        samples = [network.dataset[index] for network in networks]
        bad = next((sample for sample in samples if isinstance(sample, Skipped)), None)
        if bad is not None:
            note(f"warning: {bad.id}: skipped, {bad.reason}")
            skipped.append(bad)
            continue
        for network, (image, _) in zip(networks, samples, strict=True):
            network.look(index, image)
        kept.append(index)
    if not kept:
        raise unreadable(skipped)
    return kept, skipped


def stacked(network: Network, kept: Sequence[int]) -> Tensor:
    """The images kept, as one batch."""
    return torch.stack([network.dataset[index][0] for index in kept])


def _has_events(dataset: Dataset, number: int) -> bool:
    samples = (dataset[i] for i in range(number))
    first = next((sample for sample in samples if not isinstance(sample, Skipped)), None)
    return first is not None and is_events(first[0])
