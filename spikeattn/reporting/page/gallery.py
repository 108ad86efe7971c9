"""What `spikeattn attend` found, read from its folder: pictures, a row per image, the energy spent on noise."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from PIL import Image

from spikeattn.attention.bootstrap_test import QUESTIONS
from spikeattn.boundary import file_text, schema
from spikeattn.boundary.marks import Keys
from spikeattn.boundary.number_format import MISSING, joules, known, percent
from spikeattn.data.dataset import reason_of
from spikeattn.data.decoding import UNDECODABLE, decode
from spikeattn.data.disk import read_regular
from spikeattn.errors import SpikeattnError
from spikeattn.reporting.output_folder import stems
from spikeattn.reporting.page.key import Key, key_of_page
from spikeattn.reporting.study.gallery_pictures import FOLDER, MOST
from spikeattn.spurious.specification_text import chosen_text, lines_of, range_text

SUMMARY, ARRAYS, TABLE = "summary.json", "attention.npz", "attention.csv"
_NAMES = 1 << 26  # bytes of an array of names: a million images with names of 16 letters
UNBROKEN = "\u00a0"
Record = dict[str, Any]
_MEAN = Annotated[Record, Keys(value=float | None, low=float | None, high=float | None)]
_SPECIFICATION = Annotated[
    Record,
    Keys(null=str, question=str, rule=str, share=float | None, low=float | None, high=float | None, chosen=bool),
]  # fmt: skip
_ENERGY = Annotated[
    Record,
    Keys(
        specifications=tuple[_SPECIFICATION, ...], interval=str,
        share_of_blocks=_MEAN, share_of_network=_MEAN, spurious_mj=_MEAN, outside_share=float | None,
        images=tuple[Annotated[Record, Keys(image=str, blocks_mj=float, spurious_mj=float | None)], ...],
    ),
]  # fmt: skip
_NETWORK = Annotated[
    Record,
    Keys(
        title=str, details=str, rule=str, model=Annotated[Record, Keys(name=str | None)],
        questions=Annotated[Record, Keys(**dict.fromkeys(QUESTIONS, str))] | None, promise=str | None,
    ),
]  # fmt: skip
_IMAGE = Annotated[Record, Keys(model=str, image=str, significant=float | None, significant_where=float | None)]
_TILE = Annotated[Record, Keys(title=str, box=tuple[float, ...])]
_KEY = Annotated[
    Record,
    Keys(
        score=str, low=float, high=float, most_mj=float | None, blocks=str,
        tiles=Annotated[Record, Keys()] | None,
    ),
]  # fmt: skip
_SUMMARY = Annotated[
    Record,
    Keys(
        command=str | None, untrained=bool, networks=tuple[_NETWORK, ...], files=tuple[str, ...], energy=_ENERGY | None,
        images=tuple[_IMAGE, ...], gallery=_KEY | None,
    ),
]  # fmt: skip
WIDE, COLOURS = 760, 128  # pixels that a picture is wide on a page, and colours of each
PANELS = "panels"  # of folders that older versions wrote: pictures with a key of their own


@dataclass(frozen=True)
class Tile:
    """A picture with its title; "" where the title is in the picture itself."""

    title: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """A panel on the page: the image's name, what it shows in words, and its pictures as PNGs in data URIs.

    Of folders that older versions wrote the panel is one picture, with its titles in it.
    """

    name: str
    text: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, eq=False)
class Gallery:
    """A folder of `spikeattn attend`, as far as the page shows it.

    Attributes:
        folder: as it was given; None of what `sa.attend` returned.
        summary: its summary.json.
        pictures: of the first images that were drawn.
        images: a row per network, image and layer, with the energies where they were measured.
        tokens: attention.csv as it is, a row per token.
    """

    folder: Path | None
    summary: dict[str, Any]
    pictures: tuple[Picture, ...]
    images: pd.DataFrame
    tokens: bytes

    @property
    def untrained(self) -> bool:
        """Whether the maps are of random weights."""
        return bool(self.summary.get("untrained"))

    @property
    def networks(self) -> list[str]:
        """Every network with how its maps were made and tested, and by which rule where no sentence says it."""
        rules = [f"; significant: {each['rule']}" * (not self.promise) for each in self.summary["networks"]]
        pairs = zip(self.summary["networks"], rules, strict=True)
        return [_unbroken(f"{each['title']}: {each['details']}{rule}") for each, rule in pairs]

    @property
    def meanings(self) -> list[tuple[str, str]]:
        """What significant means: a question with its sentence; none for folders of older versions."""
        asked = self.summary["networks"][0].get("questions") or {}
        return [(question, _unbroken(sentence)) for question, sentence in asked.items()]

    @property
    def promise(self) -> str:
        """What the rule says of the tokens that are significant; "" for folders of older versions."""
        return _unbroken(str(self.summary["networks"][0].get("promise") or ""))

    @property
    def key(self) -> Key | None:
        """What the colours of all pictures mean; None where each picture says it itself."""
        scales = self.summary.get("gallery")
        return key_of_page(scales) if scales else None

    @property
    def spurious(self) -> dict[str, Any] | None:
        """Energy spent on noise: shares with their intervals, and joules, as text; None where it was not measured.

        With the range over specifications and a line for each null and rule; folders of an earlier version have none.
        """
        found = self.summary.get("energy")
        if not found:
            return None
        texts = {key: _share(found[key]) for key in ("share_of_blocks", "share_of_network")}
        outside = percent(found.get("outside_share"))
        texts |= {"energy": joules(_number(found["spurious_mj"]["value"])), "outside": outside}
        texts["interval"] = found.get("interval", "images alone")
        return texts | _specifications(found.get("specifications"))


def read_gallery(folder: str | Path, model: str | None) -> Gallery:
    """Read a folder that `spikeattn attend --out` wrote.

    Args:
        model: name of the network that the report is of; one of the folder's networks must have it.

    Raises:
        SpikeattnError: no such folder, not one of attend's, damaged files, or other networks.
    """
    folder = Path(folder)
    try:
        content, where = (folder / SUMMARY).read_bytes(), f"--attention {folder / SUMMARY}"
        summary = file_text.parse_json(content, where, "what `spikeattn attend` writes")
        schema.check(_SUMMARY, summary, where)
        ids = _ids(folder / ARRAYS)
        tokens = (folder / TABLE).read_bytes()
        images = rows_of(summary)
        names = [each["model"]["name"] for each in summary["networks"]]
        files = set(summary["files"])
        _specifications((summary.get("energy") or {}).get("specifications"))
    except OSError as error:
        raise SpikeattnError(
            f"--attention {folder}: {Path(error.filename or folder).name} cannot be read ({error.strerror}); give the "
            "folder that `spikeattn attend --out` wrote"
        ) from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SpikeattnError(
            f"--attention {folder}: {SUMMARY} or {ARRAYS} is damaged, or of another program ({error!r}); give the "
            "folder that `spikeattn attend --out` wrote"
        ) from error
    if model not in names:
        raise SpikeattnError(
            f"--attention {folder} is of {' and '.join(map(str, names))}, and the run of {model}; give the attention "
            "of the same model"
        )
    inside = FOLDER if any(name.startswith(f"{FOLDER}/") for name in files) else PANELS
    tiles = (summary.get("gallery") or {}).get("tiles") or {}
    drawn = [
        (name, f"{inside}/{stem}.png")
        for name, stem in zip(ids, stems(ids), strict=True)
        if f"{inside}/{stem}.png" in files and (folder / f"{inside}/{stem}.png").is_file()
    ]
    where = f"--attention {folder / SUMMARY}"
    boxes = {file: schema.check(tuple[_TILE, ...], tiles[file], where) for _, file in drawn[:MOST] if file in tiles}
    pictures = tuple(shown(name, folder / file, images, boxes.get(file, ())) for name, file in drawn[:MOST])
    return Gallery(folder, summary, pictures, images, tokens)


def _ids(file: Path) -> list[str]:
    """Names of the images; ValueError where their array would unpack to more than names can take."""
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("images.npy").file_size
    if size > _NAMES:
        raise ValueError(f"its names of images unpack to {size:,} bytes")
    with np.load(file) as arrays:
        return [str(name) for name in arrays["images"]]


def rows_of(summary: dict[str, Any]) -> pd.DataFrame:
    """A row per network, image and layer, with the energies where they were measured."""
    images = pd.DataFrame(summary["images"])
    energies = (summary.get("energy") or {}).get("images")
    if not energies:
        return images
    first = summary["networks"][0]["title"]
    spent = pd.DataFrame(energies).assign(model=first)
    return images.merge(spent, on=["image", "model"], how="left", validate="many_to_one")


def shown(name: str, file: Path | io.BytesIO, images: pd.DataFrame, tiles: Sequence[Record] = ()) -> Picture:
    """A panel, a PNG on disk or in memory, as the page shows it: small, and with a text.

    Args:
        tiles: of `attention_panels.tiles_of`; without them the panel is shown as it is.
    """
    row = images[images["image"] == name].iloc[0]
    row = images[(images["image"] == name) & (images["model"] == row["model"])].iloc[-1]  # the last layer is drawn
    two = known(row.get("significant_where"))
    where = f" for how much, {percent(row['significant_where'])} for where" if two else ""
    text = f"{name}: image, attention over it, and significant tokens ({percent(row['significant'])}{where})"
    if known(row.get("spurious_mj")) and row["blocks_mj"] > 0:
        text += f"; {percent(row['spurious_mj'] / row['blocks_mj'], 0)} of {joules(row['blocks_mj'])} spent on noise"
    try:
        content = file.getvalue() if isinstance(file, io.BytesIO) else read_regular(str(file))
        picture = decode(content, "RGB")
    except UNDECODABLE as error:
        raise SpikeattnError(
            f"--attention: {file} cannot be read ({reason_of(error)}); run `spikeattn attend` again"
        ) from error
    if picture.width > WIDE:
        picture = picture.resize((WIDE, round(picture.height * WIDE / picture.width)), Image.Resampling.LANCZOS)
    cut = [(str(tile["title"]), _pixels(tile["box"], picture)) for tile in tiles]
    if not cut or any(box is None for _, box in cut):
        return Picture(name, text, (_tile("", picture),))
    return Picture(name, text, tuple(_tile(title, picture.crop(box)) for title, box in cut))


def _pixels(box: Sequence[float], picture: Image.Image) -> tuple[int, int, int, int] | None:
    """The pixels of a tile; None where its box is not inside the picture."""
    if len(box) != 4 or min(box) < 0 or box[0] + box[2] > 1.001 or box[1] + box[3] > 1.001:  # boxes are rounded
        return None
    left, top, width, height = (share * (picture.width, picture.height)[i % 2] for i, share in enumerate(box))
    found = (round(left), round(top), round(left + width), round(top + height))
    return found if found[2] > found[0] and found[3] > found[1] else None


def _tile(title: str, picture: Image.Image) -> Tile:
    buffer = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return Tile(title, f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", *picture.size)


def _unbroken(text: str) -> str:
    """Text in which "B = 100" and "q ≤ 0.1" stay in one line."""
    for sign in "=≤":
        text = text.replace(f" {sign} ", f"{UNBROKEN}{sign}{UNBROKEN}")
    return text


def _share(of: dict[str, Any]) -> str:
    if of.get("low") is None or not known(of["low"]):
        return percent(of["value"]).replace(" ", UNBROKEN)
    limits = f"{percent(of['low']).removesuffix(' %')}, {percent(of['high'])}"
    return f"{percent(of['value'])} [{limits}]".replace(" ", UNBROKEN)


def _specifications(rows: list[Record] | None) -> dict[str, Any]:
    """The range and the grid as text, the chosen line in words; nothing where a folder holds no grid."""
    if not rows:
        return {"range": None, "chosen": None, "columns": [], "lines": []}
    grid = pd.DataFrame(rows)
    lines = lines_of(grid)
    columns = list(lines[0])
    cells = [[str(line.get(name, MISSING)) for name in columns] for line in lines]
    if grid["chosen"].sum() != 1:
        raise ValueError("of its specifications not one alone is the chosen one")
    return {"range": range_text(grid), "chosen": chosen_text(grid), "columns": columns, "lines": cells}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
