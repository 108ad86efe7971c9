"""Photographs from folders and tar files, through timm's readers and the transform of the model's own checkpoint.

timm's `ImageDataset` is not used: where an image is corrupt it returns the next one, and it numbers the classes by the
folders that happen to be present. Here a corrupt image is a `Skipped`, ImageNet's labels come from the list of its
1000 classes, and the index runs over the sorted ids.
"""

from __future__ import annotations

import io
import math
import tarfile
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from timm.data.readers.reader_image_folder import ReaderImageFolder
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from torch import Tensor

from spikeattn.data.dataset import Dataset, ModelInput, Skipped, printable, skip, unreadable_kind
from spikeattn.data.disk import read_regular, refuse_loops
from spikeattn.errors import SpikeattnError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
SPLITS = {"train", "val", "valid", "validation", "test"}
_PNG = b"\x89PNG\r\n\x1a\n"
IMAGENET_LAYOUT = (
    "expected PATH/val/<wnid>/*.JPEG, PATH/<wnid>/*.JPEG or one uncompressed .tar of such folders "
    "(<wnid> is a class folder such as n01440764)"
)


@dataclass(frozen=True)
class Stored:
    """Where the bytes of one image lie: a file, or a part of an uncompressed tar (`size` -1: to the end)."""

    path: str
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        # Opened anew for each image: worker processes must not share the position in an open tar.
        return read_regular(self.path, self.offset, self.size)


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
            self.remark(f"the model states no input size: timm's default transform to {h}x{w} pixels is used")
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
        found = _in_tar(root, wanted if split else None)
    else:
        _require_folder(root, IMAGENET_LAYOUT)
        if (root / wanted).is_dir():
            root = root / wanted
        elif split and root.name != split:
            raise SpikeattnError(f"{root} has no folder {split!r}; it holds {_content(root)}")
        elif others := sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name in SPLITS):
            raise SpikeattnError(
                f"{root} has no folder 'val': to take {_some(others)} give imagenet:{path}/{others[0]}"
            )
        found = [
            (PurePosixPath(name).parent.name, PurePosixPath(name).name, stored)
            for name, stored in _in_folder(root, IMAGENET_LAYOUT)
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
            f"{root}: {_some(strangers)} {'is' if len(strangers) == 1 else 'are'} not among the 1000 classes of "
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
        path: the folder; images are found at any depth (see `EXTENSIONS`), hidden files are left out.
        model: gives the transform (`pretrained_cfg`, `img_size`, `in_chans`).
        split: a sub-folder to take instead of `path`.
        spec: what the user typed, for the provenance.

    Raises:
        SpikeattnError: no such folder, no images in it, or folders that are splits rather than classes.
    """
    layout = "expected PATH/<class>/*.jpg, or images without classes in PATH"
    root = Path(path).expanduser()
    _require_folder(root, layout)
    if split:
        if not (root / split).is_dir():
            raise SpikeattnError(f"{root} has no folder {split!r}; it holds {_content(root)}")
        root = root / split
    found = _in_folder(root, layout)
    tops = [PurePosixPath(name).parts[0] if "/" in name else None for name, _ in found]
    classes = {top for top in tops if top is not None}
    empty, others = _without_images(root, classes) if classes else ([], [])
    classes = sorted({*classes, *empty})
    if classes and set(classes) <= SPLITS:
        raise SpikeattnError(
            f"{root} holds {_some(classes)}, which look like splits, not classes: give folder:{path}/{classes[0]}"
        )
    index = {top: i for i, top in enumerate(classes)}
    files = [(name, stored, -1 if top is None else index[top]) for (name, stored), top in zip(found, tops, strict=True)]
    numbering = "sorted names of the folders present" if classes else "none: no class folders"
    dataset = ImageDataset("folder", spec or f"folder:{path}", split, files, classes or None, numbering, model)
    if empty:
        dataset.remark(f"no image in {_some(empty)}, which counts as a class all the same")
    if others:
        dataset.remark(f"no image in {_some(others)}, which is no class, for it holds other files")
    return dataset


def _without_images(root: Path, classes: set[str]) -> tuple[list[str], list[str]]:
    """First-level folders that are empty, and those that hold something else than images; hidden ones are left out."""
    empty, others = [], []
    for entry in sorted(root.iterdir()):
        name = printable(entry.name)
        if entry.is_dir() and name not in classes and not name.startswith("."):
            (others if any(entry.iterdir()) else empty).append(name)
    return empty, others


def decode(data: bytes, mode: str) -> Image.Image:
    """Decode an image file to "RGB" or "L" as timm does (alpha dropped, orientation tag ignored), 16 bits scaled to 8.

    Raises:
        OSError, ValueError and others of Pillow: not an image, truncated, more pixels than Pillow allows, or pixels
        without a defined white level (32-bit integers and floats).
    """
    if kind := unreadable_kind(data[:64]):
        raise ValueError(kind)
    if data.startswith(_PNG):
        _check_png(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, on the terminal of a user who cannot tell which file it was
        try:
            image = Image.open(io.BytesIO(data))
        except UnidentifiedImageError as error:
            raise ValueError("not an image that Pillow can read") from error
        image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow's own conversion clips everything above 255 to white.
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("32-bit pixels have no defined white level: convert the image to 8 or 16 bits")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def _check_png(data: bytes) -> None:
    """The checksums of a PNG file's chunks, which Pillow does not look at for pixels: ValueError names a wrong one."""
    position, kind = len(_PNG), b""
    while kind != b"IEND":
        head = data[position : position + 8]
        if len(head) < 8:
            raise ValueError("image file is truncated")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        content = data[position + 4 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if len(checksum) < 4:
            raise ValueError("image file is truncated")
        if zlib.crc32(content) != int.from_bytes(checksum, "big"):
            raise ValueError(f"damaged: the checksum of its chunk {kind.decode('ascii', 'backslashreplace')} is wrong")
        position += 12 + length


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


def _in_folder(root: Path, layout: str) -> list[tuple[str, Stored]]:
    """(path below root with '/', bytes) of every image, found by timm's folder reader."""
    refuse_loops(root)
    try:
        reader = ReaderImageFolder(str(root), input_key=";".join(EXTENSIONS))
    except RuntimeError as error:
        raise SpikeattnError(f"{root} holds no images ({_content(root)}); {layout}") from error
    found = [
        (printable(Path(name).as_posix()), Stored(sample[0]))
        for name, sample in zip(reader.filenames(), reader.samples, strict=True)
    ]
    visible = [(name, stored) for name, stored in found if not PurePosixPath(name).name.startswith(".")]
    if not visible:
        raise SpikeattnError(f"{root} holds hidden files only; {layout}")
    return visible


def _in_tar(path: Path, split: str | None) -> list[tuple[str, str, Stored]]:
    """(class folder, file name, bytes) of every image in a tar, found by timm's tar reader."""
    if path.suffix.lower() != ".tar":
        raise SpikeattnError(f"{path} is a file but not a .tar; {IMAGENET_LAYOUT}")
    try:
        # No cache of the member list: it would be written beside the user's file.
        reader = ReaderImageInTar(str(path), cache_tarfiles=False, cache_tarinfo=False)
    except tarfile.TarError as error:
        raise SpikeattnError(f"{path} cannot be read as an uncompressed tar ({error}); {IMAGENET_LAYOUT}") from error
    except ValueError as error:  # timm unzips an empty list
        raise SpikeattnError(f"{path} holds no png or jpeg images; {IMAGENET_LAYOUT}") from error
    with path.open("rb") as file:
        file.seek(-512, 2)
        if any(file.read()):  # tarfile takes a truncated archive for a shorter one
            raise SpikeattnError(f"{path} is truncated: it lacks the mark at the end of a tar")
    found = []
    for member, _, outer in reader.samples:
        name = PurePosixPath(member.path)
        offset = member.offset_data
        if outer is not None:  # a tar within the tar: its name is the folder
            name = PurePosixPath(outer.path).with_suffix("") / name
            offset += outer.offset_data
        if not name.name.startswith("."):
            found.append((name, Stored(str(path), offset, member.size)))
    present = {part for name, _ in found for part in name.parts[:-2]} & SPLITS
    wanted = split or ("val" if "val" in present else None)
    if split and split not in present:
        raise SpikeattnError(f"{path} has no folder {split!r}; splits in it: {_some(sorted(present)) or 'none'}")
    return [
        (printable(name.parent.name), printable(name.name), stored)
        for name, stored in found
        if wanted is None or wanted in name.parts[:-2]
    ]


def _require_folder(root: Path, layout: str) -> None:
    if root.is_file():
        raise SpikeattnError(f"{root} is a file; {layout}")
    if not root.is_dir():
        parent = next(folder for folder in (*root.parents, Path()) if folder.is_dir())
        raise SpikeattnError(f"{root} does not exist ({parent} holds {_content(parent)}); {layout}")


def _content(folder: Path) -> str:
    return _some(sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())) or "nothing"


def _some(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
