"""The networks and the images that a command line of `spikeattn attend` names, ready to be looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from spikeattn.attention.study import Study, StudySettings
from spikeattn.cli.inputs import calibrate_untrained
from spikeattn.cli.networks import Input, arguments_of, network, run_options
from spikeattn.cli.output import note
from spikeattn.data import Dataset, open_dataset
from spikeattn.data.dataset import Skipped
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.figures.input_pictures import is_events
from spikeattn.tracing.neurons import stated

if TYPE_CHECKING:
    from torch import nn


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
        return run_options(model, False, self.neuron_class, self.forward, None)

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


def studies_of(
    named: Named, against: Named | None, images: Images, settings: StudySettings, place: torch.device, any_null: bool,
    stack: ExitStack, any_layer: bool = False,
) -> list[Study]:  # fmt: skip
    """The network, and the one beside it if there is one, on their device.

    Args:
        any_null: whether the null may be another one than that of `settings`, where the images want it.
        any_layer: whether the layer may be the last instead of all, where the maps of all do not go together.
        stack: as long as it is open, the neurons that the user named are neurons.

    Raises:
        SpikeattnError: what `build`, `open_dataset` and `Study` raise.
    """
    model = named.built()
    called = named.options(model)
    if "neurons" in called:
        stack.enter_context(stated(model, called["neurons"]))
    dataset = images.opened(model, named.time_steps)
    if any_null and _has_events(dataset, images.number(dataset)):
        settings = replace(settings, null="events")
    options = {"forward": called["forward"]} if "forward" in called else {}
    model = model.to(place)
    try:
        studies = [Study(model, dataset, settings, **options)]
    except SpikeattnError as error:
        if not any_layer or settings.layer == -1:
            raise
        studies = [Study(model, dataset, replace(settings, layer=-1), **options)]
        note(f"warning: the last block alone is attended to, unless --layer names another: {error}")
    if against is not None:
        other = against.beside(named).built(like=model).to(place)
        own = replace(settings, statistic=None, layer="all" if settings.layer == "all" else -1)
        wants = same_crop(other, model)
        studies.append(Study(other, images.opened(wants, wants.time_steps), own))
    return studies


def calibrate_all(studies: Sequence[Study]) -> None:
    """Calibrate the networks without weights; where there is none, the error of the first says so."""
    for study in [study for study in studies if study.untrained] or studies[:1]:
        calibrate_untrained(study.model, study.dataset, study.forward)


def build(
    name: str,
    checkpoint: Path | None = None,
    weights: str = "auto",
    pretrained: bool = False,
    pairs: Sequence[str] | None = None,
    time_steps: int | None = None,
    like: nn.Module | None = None,
) -> nn.Module:
    """A network as `load_model` takes it, in eval mode; its `provenance` says whether it is trained.

    Args:
        pairs, time_steps: of --model-arg and --time-steps.
        like: a model whose input an ANN twin (`ann_*`) must take: its size, channels and classes are taken over.

    Raises:
        SpikeattnError: unknown name or argument, weights that do not fit or cannot be had.
    """
    from spikeattn.models import twin_names

    arguments = arguments_of(name, pairs, time_steps)
    config: Any = getattr(like, "config", None)
    if config is not None and name in twin_names():
        shared = {key: config.get(key) for key in ("img_size", "in_chans", "num_classes")}
        arguments = {key: value for key, value in shared.items() if value is not None} | arguments
    return network(name, arguments, checkpoint, weights, pretrained)


def open_images(paths: Sequence[Path], model: Any) -> Dataset:
    """Photographs in files and folders as one data set, prepared as the model wants them; no labels.

    Raises:
        SpikeattnError: a path where there is nothing, or a folder without images.
    """
    from spikeattn.data.dataset import printable
    from spikeattn.data.images import ImageDataset
    from spikeattn.data.tar_files import Stored

    remarks: list[str] = []
    found = list(dict.fromkeys(file for path in paths for file in _files(path, remarks)))
    root = Path(os.path.commonpath([file.resolve().parent for file in found]))
    files = [(printable(file.resolve().relative_to(root).as_posix()), Stored(str(file)), -1) for file in found]
    dataset = ImageDataset("files", "--images", None, files, None, "none: files without labels", model)
    dataset.remark(*remarks)
    return dataset


def same_crop(model: nn.Module, first: nn.Module) -> Any:
    """What a second network says about its input, with the crop of the first: both must see the same part of an image.

    Returns:
        For `open_dataset` and `open_images`, in the place of the second network.
    """
    config = dict(getattr(model, "pretrained_cfg", None) or {})
    other = dict(getattr(first, "pretrained_cfg", None) or {})
    config |= {key: other[key] for key in ("crop_pct", "crop_mode") if key in other}
    told = {key: getattr(model, key, None) for key in ("in_chans", "img_size", "num_classes")}
    return SimpleNamespace(**told, time_steps=getattr(first, "time_steps", None), pretrained_cfg=config)


def twin_name(name: str) -> str:
    """The network that `--against twin` means."""
    for mine, other in (("sdt_", "ann_"), ("ann_", "sdt_")):
        if name.startswith(mine):
            return name.replace(mine, other, 1)
    raise SpikeattnError(f"--against twin: {name} has none; the twins of sdt_* are ann_*. Give the name of a model")


def _files(path: Path, remarks: list[str]) -> Iterator[Path]:
    """The image files of a path; `remarks` takes what is left out of a folder."""
    from spikeattn.data.disk import expanded
    from spikeattn.data.image_files import in_folder

    path = expanded(path)
    if path.is_dir():
        sifted = in_folder(path, "give a folder of images, or image files", "--images ")
        remarks.extend(f"{path}: {remark}" for remark in sifted.remarks())
        yield from (path / name for name in sifted.samples)
    elif path.is_file():
        yield path
    else:
        raise SpikeattnError(f"--images {path}: there is no such file or folder")


def _has_events(dataset: Dataset, number: int) -> bool:
    samples = (dataset[i] for i in range(number))
    first = next((sample for sample in samples if not isinstance(sample, Skipped)), None)
    return first is not None and is_events(first[0])
