"""Where the images of a data set lie: found in folders and tar files by timm's readers."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from timm.data.readers.reader_image_folder import ReaderImageFolder
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from spikeattn.data.dataset import printable
from spikeattn.data.disk import read_regular, refuse_loops
from spikeattn.errors import SpikeattnError

FORMATS = {  # Pillow's names; of others it knows, one starts another program: Ghostscript, for PostScript
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP", ".gif": "GIF", ".tif": "TIFF",
    ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM",
}  # fmt: skip
EXTENSIONS = tuple(FORMATS)
SPLITS = {"train", "val", "valid", "validation", "test"}
IMAGENET_LAYOUT = (
    "expected PATH/val/<wnid>/*.JPEG, PATH/<wnid>/*.JPEG or one uncompressed .tar of such folders "
    "(<wnid> is a class folder such as n01440764)"
)
_LISTED = 5


@dataclass(frozen=True)
class Stored:
    """Where the bytes of one image lie: a file, or a part of an uncompressed tar (`size` -1: to the end)."""

    path: str
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        # Opened anew for each image: worker processes must not share the position in an open tar.
        return read_regular(self.path, self.offset, self.size)


def in_folder(root: Path, layout: str) -> list[tuple[str, Stored]]:
    """(path below root with '/', bytes) of every image, found by timm's folder reader."""
    refuse_loops(root)
    try:
        reader = ReaderImageFolder(str(root), input_key=";".join(EXTENSIONS))
    except RuntimeError as error:
        raise SpikeattnError(f"{root} holds no images ({content_of(root)}); {layout}") from error
    found = [
        (printable(Path(name).as_posix()), Stored(sample[0]))
        for name, sample in zip(reader.filenames(), reader.samples, strict=True)
    ]
    visible = [(name, stored) for name, stored in found if not PurePosixPath(name).name.startswith(".")]
    if not visible:
        raise SpikeattnError(f"{root} holds hidden files only; {layout}")
    return visible


def in_tar(path: Path, split: str | None) -> list[tuple[str, str, Stored]]:
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
        raise SpikeattnError(f"{path} has no folder {split!r}; splits in it: {listed(sorted(present)) or 'none'}")
    return [
        (printable(name.parent.name), printable(name.name), stored)
        for name, stored in found
        if wanted is None or wanted in name.parts[:-2]
    ]


def require_folder(root: Path, layout: str) -> None:
    if root.is_file():
        raise SpikeattnError(f"{root} is a file; {layout}")
    if not root.is_dir():
        parent = next(folder for folder in (*root.parents, Path()) if folder.is_dir())
        raise SpikeattnError(f"{root} does not exist ({parent} holds {content_of(parent)}); {layout}")


def without_images(root: Path, classes: set[str]) -> tuple[list[str], list[str]]:
    """First-level folders that are empty, and those that hold something else than images; hidden ones are left out."""
    empty, others = [], []
    for entry in sorted(root.iterdir()):
        name = printable(entry.name)
        if entry.is_dir() and name not in classes and not name.startswith("."):
            (others if any(entry.iterdir()) else empty).append(name)
    return empty, others


def content_of(folder: Path) -> str:
    """What a folder holds, for an error that says so."""
    return listed(sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())) or "nothing"


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + more
