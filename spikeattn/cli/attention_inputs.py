"""What `spikeattn attend` looks through and at: networks by name with their weights, photographs, data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from spikeattn.cli.networks import arguments_of, network
from spikeattn.errors import SpikeattnError

if TYPE_CHECKING:
    from torch import nn

    from spikeattn.data import Dataset


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
    if like is not None and name in twin_names() and hasattr(like, "config"):
        shared = {key: like.config.get(key) for key in ("img_size", "in_chans", "num_classes")}
        arguments = {key: value for key, value in shared.items() if value is not None} | arguments
    return network(name, arguments, checkpoint, weights, pretrained)


def title_of(model: nn.Module) -> str:
    """The name of a network for figures and tables; random weights are named."""
    known = model.provenance
    return known["name"] if known["trained"] else f"UNTRAINED {known['name']}"


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
