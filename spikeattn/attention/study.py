"""What `spikeattn attend` computes, from Python: the maps of a network image by image, tested, over layers and steps.

    study = Study(model, dataset, StudySettings(null="pixel"))
    images, skipped = look([study], range(8))
    study.attentions, study.grids, study.grouped_warnings()

`reporting.study` draws it and writes it to files.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeattn.attention import applied_maps
from spikeattn.attention.bootstrap_test import Attention, attend
from spikeattn.attention.capture import Forward, call_model
from spikeattn.attention.evaluate import Evaluation, evaluate_regularization
from spikeattn.attention.map_sources import known_family
from spikeattn.attention.maps import attention_map
from spikeattn.attention.nulls import NULLS
from spikeattn.attention.outlook import outlook
from spikeattn.attention.regularize import METHOD, METHODS, THRESHOLD, WITH_THRESHOLD
from spikeattn.attention.role_target import ROLES
from spikeattn.attention.significance import DEFAULT_ESTIMATOR, ESTIMATORS, AttentionWarning
from spikeattn.data.dataset import Dataset, Skipped
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.provenance import describe, device_of

Floats = NDArray[Any]  # float64, of spikes float32
TIES = ("plain", "random")


@dataclass(frozen=True)
class StudySettings:
    """How maps are made, tested and cut; see `attend` and `regularize`.

    Attributes:
        layer: number of a block, from 0 or from the end, or "all".
        memory: GiB that a batch of replicates may occupy.
    """

    null: str = "normal"
    replicates: int = 200
    statistic: str | None = None
    layer: int | str = -1
    estimator: str = DEFAULT_ESTIMATOR
    ties: str = "plain"
    method: str = METHOD
    threshold: float | None = None
    seed: int = 0
    memory: float = 1.0

    def check_names(self) -> None:
        """Every name, without a model.

        Raises:
            SpikeattnError: an unknown one, with the closest valid ones.
        """
        known = (("null", NULLS), ("estimator", ESTIMATORS), ("method", METHODS), ("ties", TIES))
        for name, valid in known:
            if getattr(self, name) not in valid:
                raise unknown(name, getattr(self, name), valid)

    def check_values(self) -> None:
        """Every number, and whether the settings go together, without a model.

        Raises:
            SpikeattnError: the first that does not.
        """
        if not self.memory > 0:
            raise SpikeattnError(f"memory {self.memory:g}: give the GiB that a batch of replicates may occupy")
        if self.threshold is not None and self.method not in WITH_THRESHOLD:
            raise SpikeattnError(f"threshold: method {self.method} has none; p, q and lfdr have one")
        if self.ties == "random" and self.estimator == "published":
            raise SpikeattnError("ties random needs estimator standardised, plus-one or per-token")


@dataclass(eq=False)
class Study:
    """A network with its images, and their attention, one image after another.

    Attributes:
        forward: calls the model on a batch.
        ids: of the images that were attended.
        attentions: one per image.
        grids: maps [layer, step or head, h, w] per image; of steps their mean last.
        warnings: (image, text).
        outlook: what maps of the kind the network has.
        kind: of map: that of the settings, or the network's default.
        layers: numbers of the layers that are tested.
        all_layers: numbers of the layers in `grids`.

    Raises:
        SpikeattnError: a statistic or layer that the network does not have, no image that can be read.
    """

    model: nn.Module
    dataset: Dataset
    settings: StudySettings = StudySettings()
    forward: Forward = call_model
    ids: list[str] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    grids: list[Floats] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings.check_names()
        self.settings.check_values()
        self.model.eval()
        layer = self.settings.layer
        family = known_family(self.model)
        depth = 0 if family is None else len(family.attentions)
        if family is not None and layer != "all" and not -depth <= int(layer) < depth:
            raise SpikeattnError(f"layer {layer}: the model has blocks 0 to {depth - 1}; -1 is the last, all is all")
        self._check_statistic(() if family is None else family.kinds)
        self.outlook = outlook(self.model, self._first_image(), self.settings.statistic, layer, self.forward)
        self.kind, depth = self.outlook.kind, self.outlook.blocks
        if self.outlook.layer is not None:  # one tensor, named by its path
            self.layers = self.all_layers = [self.outlook.layer]
            return
        self.layers = list(range(depth)) if layer == "all" else [int(layer) % depth]
        self.all_layers = list(range(depth)) if self.outlook.alike else self.layers

    @property
    def name(self) -> str:
        """Of the network."""
        return str(describe(self.model)["name"])

    @property
    def untrained(self) -> bool:
        """Whether the network's weights are known to be random."""
        return describe(self.model)["trained"] is False

    def look(self, index: int, image: Tensor) -> None:
        """Attend to image `index` of the data, and keep its attention.

        Raises:
            SpikeattnError: what `attend` raises, with the name of the image.
        """
        s, name = self.settings, self.dataset.id(index)
        batch = image[None].to(device_of(self.model))
        with self._noting_warnings(name):
            try:
                attention = attend(
                    self.model, batch, s.null, s.replicates, self.kind, estimator=s.estimator, layer=s.layer,
                    seed=s.seed, indices=[index], ties=s.ties, memory=s.memory, forward=self.forward, progress=False,
                )  # fmt: skip
                attention = replace(attention, images=None)  # the data set has them; of thousands they are gigabytes
                if s.method == "q":
                    _ = attention.q  # a q that its estimator refuses is an error now, not after all images
                _ = attention.where  # computed once and kept; its warnings are of this image
                grid = self._grid(batch)
            except SpikeattnError as error:
                raise SpikeattnError(f"{name}: {error}") from error
        self.ids.append(name)
        self.attentions.append(attention)
        self.grids.append(grid)

    def evaluate(self, indices: Sequence[int]) -> Evaluation:
        """Noise planted in images of the data, and what regularisation takes of it; see `evaluate_regularization`."""
        s = self.settings
        if s.null == "events":
            raise SpikeattnError("the evaluation plants normal noise, which is no event count; take the null pixel")
        images = torch.stack([self._image(index) for index in indices]).to(device_of(self.model))
        with self._noting_warnings("with planted noise"):
            return evaluate_regularization(
                self.model, images, s.null, s.replicates, seed=s.seed,
                threshold=THRESHOLD if s.threshold is None else s.threshold, statistic=self.kind, layer=self.layers[-1],
                estimator=s.estimator, ties=s.ties, memory=s.memory, forward=self.forward, progress=False,
            )  # fmt: skip

    def grouped_warnings(self) -> dict[str, list[str]]:
        """Images by the text of their warning."""
        grouped: dict[str, list[str]] = {}
        for name, text in dict.fromkeys(self.warnings):
            grouped.setdefault(text, []).append(name)
        return grouped

    def _check_statistic(self, kinds: Sequence[str]) -> None:
        """A statistic that is no map of the model's, no role and no path, by the name of the model."""
        kind = self.settings.statistic
        if kind is None or kind in (*kinds, *ROLES, *applied_maps.KINDS):
            return
        module = kind.partition(":")[0]
        bare = module.rpartition("_")[0] or kind
        paths = {path for path, _ in self.model.named_modules() if path}
        if paths.isdisjoint((kind, module)) and not any(bare.startswith(f"{path}.") for path in paths):
            valid = (*(kinds or applied_maps.KINDS), *ROLES, *_close_paths(kind, paths))
            raise unknown(f"statistic of {self.name}", kind, valid)

    def _first_image(self) -> Tensor:
        """The first image that can be read, as a batch on the model's device."""
        skipped = []
        for index in range(len(self.dataset)):
            sample = self.dataset[index]
            if not isinstance(sample, Skipped):
                return sample[0][None].to(device_of(self.model))
            skipped.append(sample)
        raise unreadable(skipped)

    def _image(self, index: int) -> Tensor:
        sample = self.dataset[index]
        if isinstance(sample, Skipped):
            raise unreadable([sample])
        return sample[0]

    @contextmanager
    def _noting_warnings(self, name: str) -> Iterator[None]:
        """Warnings about maps go into `warnings`, under the name of the image."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        self.warnings += [(name, str(each.message)) for each in caught if issubclass(each.category, AttentionWarning)]

    def _grid(self, batch: Tensor) -> Floats:
        """Maps [layer, step or head, h, w] of one image; of steps their mean last."""
        whole = "all" if self.outlook.alike and self.outlook.layer is None else self.settings.layer

        def maps(heads: str = "mean", steps: str = "mean") -> Floats:
            found = attention_map(
                self.model, batch, self.kind, layer=whole, heads=heads, steps=steps, forward=self.forward
            )
            values = found.values[0].cpu().numpy()
            return values if whole == "all" else values[None]

        if self.outlook.steps:
            return np.concatenate([maps(steps="each"), maps()[:, None]], axis=1)
        return maps(heads="each") if self.outlook.heads else maps()[:, None]


def look(
    studies: Sequence[Study], indices: Iterable[int], on_skip: Callable[[Skipped], None] = lambda sample: None
) -> tuple[list[int], list[Skipped]]:
    """Attend to every image that all studies can read.

    Args:
        studies: of one data set, each as its network wants it.
        indices: of the images; a progress bar around them shows progress.
        on_skip: called with an image that cannot be read.

    Returns:
        Indices of the images that were attended, and the others.

    Raises:
        SpikeattnError: not a single image can be read; what `Study.look` raises.
    """
    attended: list[int] = []
    skipped: list[Skipped] = []
    for index in indices:
        images = []
        for study in studies:
            sample = study.dataset[index]
            if isinstance(sample, Skipped):
                on_skip(sample)
                skipped.append(sample)
                break
            images.append(sample[0])
        else:
            for study, image in zip(studies, images, strict=True):
                study.look(index, image)
            attended.append(index)
    if not attended:
        raise unreadable(skipped)
    return attended, skipped


def unreadable(skipped: Sequence[Skipped]) -> SpikeattnError:
    """Error where no image is left."""
    reasons = "; ".join(f"{one.id}: {one.reason}" for one in skipped[:3])
    return SpikeattnError(f"no image could be read, {len(skipped)} were skipped. {reasons}")


def _close_paths(kind: str, paths: Collection[str]) -> list[str]:
    """The paths of modules that a name is most like."""
    return difflib.get_close_matches(kind, sorted(paths), n=3, cutoff=0.5)
