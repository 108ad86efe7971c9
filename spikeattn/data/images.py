"""Photographs from folders and tar files, through the transform of the model's own checkpoint.

timm's `ImageDataset` is not used: where an image is corrupt it returns the next one, it drops links in a tar, files of
other extensions and their number without a word, and it numbers the classes by the folders that happen to be present.
Here a corrupt image is a `Skipped`, what is left out is counted in a note, ImageNet's labels come from the list of its
1000 classes, and the index runs over the sorted ids.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from spikeattn.compat.timm_names import data_config, image_transform, imagenet_classes
from spikeattn.data.dataset import NO_SIZE, Dataset, ModelInput, Skipped, printable, skip
from spikeattn.data.decoding import decode
from spikeattn.data.disk import expanded, folders_in
from spikeattn.data.image_files import (
    IMAGENET_LAYOUT,
    content_of,
    in_folder,
    in_tar,
    is_split,
    require_folder,
    without_images,
)
from spikeattn.data.sifting import listed
from spikeattn.data.tar_files import Stored
from spikeattn.errors import SpikeattnError


class Encoded(Protocol):
    """Where the bytes of one image file are."""

    def read(self) -> bytes:
        """The bytes; raises OSError or ValueError where there are none."""


class ImageDataset(Dataset):
    """Images that a model can take: float32 [C,H,W] after the transform of the model's checkpoint, C = 1 or 3.

    Built by `open_imagenet` and `open_folder`.
    """

    slow = True

    def __init__(
        self,
        name: str,
        spec: str,
        split: str | None,
        files: Sequence[tuple[str, Encoded, int]],
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
        self.transform = image_transform(self._config)
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
            of either, also a tar of <wnid>.tar files. Folders 0 to 999 in place of <wnid> are the labels themselves.
        model: gives the transform (`pretrained_cfg`, `img_size`, `in_chans`).
        split: sub-folder to take where there are several; "val" unless given.
        spec: what the user typed, for the provenance.

    Raises:
        SpikeattnError: nothing there, another layout, or a folder that is no class of ImageNet-1k.
    """
    root = expanded(path)
    wanted = split or "val"
    if root.is_file():
        stored, sifted = in_tar(root, split)
    else:
        require_folder(root, IMAGENET_LAYOUT)
        root = _split_of_imagenet(root, wanted, split, path)
        sifted = in_folder(root, IMAGENET_LAYOUT)
        stored = {name: Stored(str(root / name)) for name in sifted.samples}
    ids, classes, source = imagenet_classes()
    found = [(PurePosixPath(name), where) for name, where in stored.items()]
    index, note = _imagenet_labels({name.parent.name for name, _ in found}, ids, root)
    files = [(printable(f"{name.parent.name}/{name.name}"), where, index[name.parent.name]) for name, where in found]
    if len({name for name, _, _ in files}) < len(files):
        raise SpikeattnError(f"{root} holds images of the same class and name in several places; {IMAGENET_LAYOUT}")
    taken = wanted if split or root.name.casefold() == wanted.casefold() else None
    dataset = ImageDataset("imagenet", spec or f"imagenet:{path}", taken, files, classes, source, model)
    dataset.remark(*sifted.remarks(), *note)
    return dataset


def _split_of_imagenet(root: Path, wanted: str, split: str | None, path: str | Path) -> Path:
    """The folder of the class folders: that of the split, or `root` itself where there are no splits."""
    folders = folders_in(root)
    if name := next((name for name in (wanted, *folders) if name in folders and name.casefold() == wanted), None):
        return root / name
    if split and root.name != split:
        raise SpikeattnError(f"{root} has no folder {split!r}; it holds {content_of(root)}")
    if others := [name for name in folders if is_split(name)]:
        raise SpikeattnError(f"{root} has no folder 'val': to take {listed(others)} give imagenet:{path}/{others[0]}")
    return root


def _imagenet_labels(folders: set[str], wnids: Sequence[str], root: Path) -> tuple[dict[str, int], list[str]]:
    """The label of each class folder, and what to say of it: WordNet ids, or the numbers of the labels themselves.

    Raises:
        SpikeattnError: a folder that is neither.
    """
    if folders and all(name.isascii() and name.isdecimal() for name in folders):
        return _numbered(folders, len(wnids), root)
    index = {wnid: i for i, wnid in enumerate(wnids)}
    strangers = sorted(folders - set(index))
    if "" in strangers or any(map(is_split, strangers)):
        raise SpikeattnError(
            f"{root} holds images outside class folders, so their labels are unknown (the official validation archive "
            f"is like that): sort them into <wnid> folders, or use folder:PATH for images without labels; "
            f"{IMAGENET_LAYOUT}"
        )
    if strangers:
        raise SpikeattnError(
            f"{root}: {listed(strangers)} {'is' if len(strangers) == 1 else 'are'} not among the {len(wnids)} classes "
            f"of ImageNet-1k; {IMAGENET_LAYOUT}; for other classes use folder:PATH"
        )
    return index, []


def _numbered(folders: set[str], classes: int, root: Path) -> tuple[dict[str, int], list[str]]:
    """Folders that bear the numbers of the labels: the label is the number, not its place among the names as text."""
    index = {name: int(name) for name in folders}
    if beyond := sorted((name for name in folders if index[name] >= classes), key=index.__getitem__):
        raise SpikeattnError(
            f"{root}: {listed(beyond)} {'is' if len(beyond) == 1 else 'are'} beyond the labels 0 to {classes - 1} of "
            "ImageNet-1k (the numbers 1 to 1000 of its development kit stand for the classes in another order): name "
            "the class folders by their <wnid>"
        )
    if len(set(index.values())) < len(index):
        twice = sorted(name for name in folders if list(index.values()).count(index[name]) > 1)
        raise SpikeattnError(f"{root}: {listed(twice)} are the same number; name each class folder once")
    return index, [f"the class folders are numbers, taken as the labels 0 to {classes - 1} in the usual order"]


def open_folder(path: str | Path, model: Any = None, *, split: str | None = None, spec: str = "") -> ImageDataset:
    """Any folder of images: first-level folders are the classes, numbered in sorted order; images beside them have -1.

    An empty folder keeps its number: the numbering is that of the complete data set, of which this may be a part.

    Args:
        path: the folder; images are found at any depth (see `image_files.EXTENSIONS`). What else lies there, and what
            is hidden, is counted in a note.
        model: gives the transform (`pretrained_cfg`, `img_size`, `in_chans`).
        split: a sub-folder to take instead of `path`.
        spec: what the user typed, for the provenance.

    Raises:
        SpikeattnError: no such folder, no images in it, or folders that are splits rather than classes.
    """
    layout = "expected PATH/<class>/*.jpg, or images without classes in PATH"
    root = expanded(path)
    require_folder(root, layout)
    if split:
        if not (root / split).is_dir():
            raise SpikeattnError(f"{root} has no folder {split!r}; it holds {content_of(root)}")
        root = root / split
    sifted = in_folder(root, layout)
    tops = {name: PurePosixPath(name).parts[0] if "/" in name else None for name in sifted.samples}
    full = {top for top in tops.values() if top is not None}
    empty, others = without_images(root, sifted) if full else ([], [])
    classes = sorted({*full, *empty})
    if classes and all(map(is_split, classes)):
        raise SpikeattnError(
            f"{root} holds {listed(classes)}, which look like splits, not classes: give folder:{path}/{classes[0]}"
        )
    index = {top: i for i, top in enumerate(classes)}
    files = [
        (printable(name), Stored(str(root / name)), -1 if top is None else index[top]) for name, top in tops.items()
    ]
    numbering = "sorted names of the folders present" if classes else "none: no class folders"
    names = [printable(name) for name in classes] or None
    dataset = ImageDataset("folder", spec or f"folder:{path}", split, files, names, numbering, model)
    dataset.remark(*_remarks_on_classes(classes, empty, others), *sifted.remarks())
    return dataset


def _remarks_on_classes(classes: list[str], empty: list[str], others: list[str]) -> Iterator[str]:
    """What to say of folders without images, and of an order that another loader does not share."""
    if empty:
        yield f"no image in {listed(empty)}, which counts as a class all the same"
    if others:
        yield f"no image in {listed(others)}, which is no class, for it holds other files"
    if (timms := sorted(classes, key=_timms_key)) != classes:
        place = next(i for i, name in enumerate(timms) if name != classes[i])
        yield (
            f"the classes are numbered by their names sorted as text, as torchvision does: label {place} is "
            f"{printable(classes[place])!r}; a model trained with timm's loader has {printable(timms[place])!r} there"
        )


def _timms_key(name: str) -> list[int | str]:
    """What timm's reader sorts class folders by: numbers by their value, letters without their case."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def _data_config(wants: ModelInput, spec: str) -> dict[str, Any]:
    """timm's data configuration for the model: size, interpolation, crop, and one mean and std per channel."""
    channels = wants.channels or 3
    if channels not in (1, 3):
        raise SpikeattnError(
            f"{spec}: images have 1 or 3 channels but the model takes {channels}; "
            "event data is read with nmnist:, dvs128-gesture: or cifar10-dvs:"
        )
    stated = {"input_size": (channels, *wants.size)} if wants.size else {"in_chans": channels}
    config = data_config(stated, wants.config or {})
    for key in ("mean", "std"):
        values = tuple(float(value) for value in config[key])
        if len(values) != channels:
            values = (sum(values) / len(values),) * channels
        config[key] = values
    return config
