"""Where the images of a data set lie: which files of a folder or a tar are images, and what the others are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from spikeattn.data.disk import files_below, folders_in
from spikeattn.data.sifting import Sifted, listed, sift
from spikeattn.data.tar_files import Missing, Stored, members_of
from spikeattn.errors import SpikeattnError

# Those of torchvision's ImageFolder, and the other names of the same formats and of those that browsers show. Fixed,
# not asked of Pillow: a data set must be the same where Pillow lacks a decoder, and say there what cannot be read.
FORMATS = {  # Pillow's names; of others it knows, one starts another program: Ghostscript, for PostScript
    ".png": "PNG", ".apng": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".jif": "JPEG",
    ".webp": "WEBP", ".avif": "AVIF", ".gif": "GIF", ".bmp": "BMP", ".dib": "DIB", ".tif": "TIFF", ".tiff": "TIFF",
    ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".jp2": "JPEG2000", ".j2k": "JPEG2000",
}  # fmt: skip
EXTENSIONS = tuple(FORMATS)
ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
IMAGENET_LAYOUT = (
    "expected PATH/val/<wnid>/*.JPEG, PATH/<wnid>/*.JPEG or one uncompressed .tar of such folders "
    "(<wnid> is a class folder such as n01440764)"
)


def in_folder(root: Path, layout: str, option: str = "") -> Sifted:
    """Every file below a folder, by its path from there with '/'; its samples are the images.

    Args:
        layout: what is expected there, for the error.
        option: what stands before the folder in the error.

    Raises:
        SpikeattnError: there is no image.
    """
    files, lost = files_below(root)
    sifted = sift(files, EXTENSIONS, lost)
    _require_images(sifted, f"{option}{root}", content_of(root), layout)
    return sifted


def in_tar(path: Path, split: str | None) -> tuple[dict[str, Stored | Missing], Sifted]:
    """Where every image of a tar lies, by its path in the archive, and what all its files are.

    Raises:
        SpikeattnError: no uncompressed tar, no image, or no such split.
    """
    if path.suffix.lower() != ".tar":
        raise SpikeattnError(f"{path} is a file but not a .tar{unpack(path)}; {IMAGENET_LAYOUT}")
    members = members_of(path, IMAGENET_LAYOUT)
    lost = {name for name, stored in members.items() if isinstance(stored, Missing)}
    sifted = sift([name for name in members if name not in lost], EXTENSIONS, lost)
    _require_images(sifted, str(path), f"{len(members)} files", IMAGENET_LAYOUT)
    above = {name: {part.casefold() for part in PurePosixPath(name).parts[:-2]} for name in sifted.samples}
    present = set().union(*above.values()) & SPLITS
    wanted = (split or "val").casefold()
    if split and wanted not in present:
        raise SpikeattnError(f"{path} has no folder {split!r}; splits in it: {listed(sorted(present)) or 'none'}")
    return {name: members[name] for name in above if wanted not in present or wanted in above[name]}, sifted


def is_split(name: str) -> bool:
    """Whether a folder of this name holds a split rather than a class."""
    return name.casefold() in SPLITS


def unpack(path: Path) -> str:
    """What to do with an archive that is not read."""
    return ": unpack it first" if path.suffix.lower() in ARCHIVES else ""


def _require_images(sifted: Sifted, where: str, content: str, layout: str) -> None:
    if sifted.samples:
        return
    if sifted.hidden:
        raise SpikeattnError(f"{where} holds hidden files only ({listed(sifted.hidden)}); {layout}")
    others = f", files of {sifted.endings()}; {sifted.read()}" if sifted.others else ""
    raise SpikeattnError(f"{where} holds no images ({content}{others}); {layout}")


def require_folder(root: Path, layout: str) -> None:
    if root.is_file():
        raise SpikeattnError(f"{root} is a file{unpack(root)}; {layout}")
    if not root.is_dir():
        parent = next(folder for folder in (*root.parents, Path()) if folder.is_dir())
        raise SpikeattnError(f"{root} does not exist ({parent} holds {content_of(parent)}); {layout}")


def without_images(root: Path, sifted: Sifted) -> tuple[list[str], list[str]]:
    """First-level folders that are empty, and those that hold something else than images; hidden ones are left out."""
    full = {PurePosixPath(name).parts[0] for name in sifted.samples if "/" in name}
    other = {PurePosixPath(name).parts[0] for name in (*sifted.others, *sifted.lost) if "/" in name}
    rest = [name for name in folders_in(root) if name not in full]
    return [name for name in rest if name not in other], [name for name in rest if name in other]


def content_of(folder: Path) -> str:
    """What a folder holds, for an error that says so."""
    return listed(sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())) or "nothing"
