"""Photographs from folders and tar files, through timm's readers and the transform of the model's own checkpoint.

timm's `ImageDataset` is not used: where an image is corrupt it returns the next one, and it numbers the classes by the
folders that happen to be present. Here a corrupt image is a `Skipped`, ImageNet's labels come from the list of its
1000 classes, and the index runs over the sorted ids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from torch import Tensor

from spikeattn.data.dataset import NO_SIZE, Dataset, ModelInput, Skipped, skip
from spikeattn.data.decoding import decode
from spikeattn.data.image_files import (
    IMAGENET_LAYOUT,
    SPLITS,
    Stored,
    content_of,
    in_folder,
    in_tar,
    listed,
    require_folder,
    without_images,
)
from spikeattn.errors import SpikeattnError


class ImageDataset(Dataset):
    """Images that a model can take: float32 [C,H,W] after the transform of the model's checkpoint, C = 1 or 3.

    Built by `open_imagenet` and `open_folder`.
    """

    def __init__(
        self,
        name: str,
        spec: str,
        split: str | None,
        files: Sequence[tuple[str, Stored, int]],
        classes: list[str] | None,
        class_index: str,
        model: Any,
    ) -> None:
        self.name, self.spec, self.split, self.classes = name, spec, split, classes
        self._files = sorted(files, key=lambda file: file[0])
        self._class_index = class_index
        wants = ModelInput.of(model)
        self._config = _data_config(wants, spec)
        self._mode = "L" if self._config["input_size"][0] == 1 else "RGB"
        self.transform = create_transform(**self._config)
        if wants.size is None:
            h, w = self._config["input_size"][1:]
            self.remark(f"{NO_SIZE}: timm's default transform to {h}x{w} pixels is used")
        self.remark(*wants.class_notes(classes))

    def __len__(self) -> int:
        return len(self._files)

    def id(self, i: int) -> str:
        return self._files[i][0]

    def picture(self, i: int) -> tuple[Image.Image, int]:
        """Image `i` before the transform, and its label; for training. Raises what `decode` raises."""
        _, stored, label = self._files[i]
        return decode(stored.read(), self._mode), label

    def __getitem__(self, i: int) -> tuple[Tensor, int] | Skipped:
        name, stored, label = self._files[i]
        try:
            image = decode(stored.read(), self._mode)
            self._refuse_enormous(image)
        except Exception as error:  # Pillow's decoders raise many types on arbitrary bytes
            return skip(name, error, i)
        return self.transform(image), label

    def _refuse_enormous(self, image: Image.Image) -> None:
        # The transform scales the short side to the crop: a strip of 1 x 10,000 pixels would grow to gigabytes.
        if self._config["crop_mode"] == "center" and Image.MAX_IMAGE_PIXELS:
            short = max(self._config["input_size"][1:]) / self._config["crop_pct"]
            pixels = math.ceil(short * short * max(image.size) / min(image.size))
            if pixels > 2 * Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.size[0]}x{image.size[1]} pixels would be resized to {pixels} pixels")

    def preparation(self) -> dict[str, Any]:
        config = {key: list(value) if isinstance(value, tuple) else value for key, value in self._config.items()}
        return {
            "transform": " ".join(str(self.transform).split()),
            "mode": self._mode,
            **config,
            "class_index": self._class_index,
            "versions": {package: version(package) for package in ("timm", "torchvision", "pillow")},
        }


def open_imagenet(path: str | Path, model: Any = None, *, split: str | None = None, spec: str = "") -> ImageDataset:
    """ImageNet-1k images with labels from the list of its 1000 classes, whatever folders are present.

    Args:
        path: a folder that holds `val/<wnid>/*.JPEG`, the folder of the <wnid> folders itself, or an uncompressed tar
            (png and jpeg) of either, also a tar of <wnid>.tar files.
        model: gives the transform (`pretrained_cfg`, `img_size`, `in_chans`).
        split: sub-folder to take where there are several; "val" unless given.
        spec: what the user typed, for the provenance.

    Raises:
        SpikeattnError: nothing there, another layout, or a folder that is no class of ImageNet-1k.
    """
    root = Path(path).expanduser()
    wanted = split or "val"
    if root.is_file():
        found = in_tar(root, wanted if split else None)
    else:
        require_folder(root, IMAGENET_LAYOUT)
        if (root / wanted).is_dir():
            root = root / wanted
        elif split and root.name != split:
            raise SpikeattnError(f"{root} has no folder {split!r}; it holds {content_of(root)}")
        elif others := sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name in SPLITS):
            raise SpikeattnError(
                f"{root} has no folder 'val': to take {listed(others)} give imagenet:{path}/{others[0]}"
            )
        found = [
            (PurePosixPath(name).parent.name, PurePosixPath(name).name, stored)
            for name, stored in in_folder(root, IMAGENET_LAYOUT)
        ]
    info = ImageNetInfo("imagenet-1k")
    index = {wnid: i for i, wnid in enumerate(info.label_names())}
    strangers = sorted({folder for folder, _, _ in found} - set(index))
    if "" in strangers or set(strangers) & SPLITS:
        raise SpikeattnError(
            f"{root} holds images outside class folders, so their labels are unknown (the official validation archive "
            f"is like that): sort them into <wnid> folders, or use folder:PATH for images without labels; "
            f"{IMAGENET_LAYOUT}"
        )
    if strangers:
        raise SpikeattnError(
            f"{root}: {listed(strangers)} {'is' if len(strangers) == 1 else 'are'} not among the 1000 classes of "
            f"ImageNet-1k; {IMAGENET_LAYOUT}; for other classes use folder:PATH"
        )
    files = [(f"{folder}/{name}", stored, index[folder]) for folder, name, stored in found]
    if len({name for name, _, _ in files}) < len(files):
        raise SpikeattnError(f"{root} holds images of the same class and name in several places; {IMAGENET_LAYOUT}")
    taken = wanted if split or root.name == wanted else None
    return ImageDataset(
        "imagenet", spec or f"imagenet:{path}", taken, files, info.label_descriptions(), "timm ImageNetInfo", model
    )


def open_folder(path: str | Path, model: Any = None, *, split: str | None = None, spec: str = "") -> ImageDataset:
    """Any folder of images: first-level folders are the classes, numbered in sorted order; images beside them have -1.

    An empty folder keeps its number: the numbering is that of the complete data set, of which this may be a part.

    Args:
        path: the folder; images are found at any depth (see `image_files.EXTENSIONS`), hidden files are left out.
        model: gives the transform (`pretrained_cfg`, `img_size`, `in_chans`).
        split: a sub-folder to take instead of `path`.
        spec: what the user typed, for the provenance.

    Raises:
        SpikeattnError: no such folder, no images in it, or folders that are splits rather than classes.
    """
    layout = "expected PATH/<class>/*.jpg, or images without classes in PATH"
    root = Path(path).expanduser()
    require_folder(root, layout)
    if split:
        if not (root / split).is_dir():
            raise SpikeattnError(f"{root} has no folder {split!r}; it holds {content_of(root)}")
        root = root / split
    found = in_folder(root, layout)
    tops = [PurePosixPath(name).parts[0] if "/" in name else None for name, _ in found]
    classes = {top for top in tops if top is not None}
    empty, others = without_images(root, classes) if classes else ([], [])
    classes = sorted({*classes, *empty})
    if classes and set(classes) <= SPLITS:
        raise SpikeattnError(
            f"{root} holds {listed(classes)}, which look like splits, not classes: give folder:{path}/{classes[0]}"
        )
    index = {top: i for i, top in enumerate(classes)}
    files = [(name, stored, -1 if top is None else index[top]) for (name, stored), top in zip(found, tops, strict=True)]
    numbering = "sorted names of the folders present" if classes else "none: no class folders"
    dataset = ImageDataset("folder", spec or f"folder:{path}", split, files, classes or None, numbering, model)
    if empty:
        dataset.remark(f"no image in {listed(empty)}, which counts as a class all the same")
    if others:
        dataset.remark(f"no image in {listed(others)}, which is no class, for it holds other files")
    return dataset


def _data_config(wants: ModelInput, spec: str) -> dict[str, Any]:
    """timm's data configuration for the model: size, interpolation, crop, and one mean and std per channel."""
    channels = wants.channels or 3
    if channels not in (1, 3):
        raise SpikeattnError(
            f"{spec}: images have 1 or 3 channels but the model takes {channels}; "
            "event data is read with nmnist:, dvs128-gesture: or cifar10-dvs:"
        )
    stated = {"input_size": (channels, *wants.size)} if wants.size else {"in_chans": channels}
    config = resolve_data_config(stated, pretrained_cfg=wants.config)
    for key in ("mean", "std"):
        values = tuple(float(value) for value in config[key])
        if len(values) != channels:
            values = (sum(values) / len(values),) * channels
        config[key] = values
    return config
