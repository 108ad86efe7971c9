"""The pictures of a page's gallery: panels without a key of their own, and the one key that holds for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikeattn.attention.study import Study
from spikeattn.reporting import output_folder
from spikeattn.reporting.figures.attention_panels import panel, tiles_of
from spikeattn.reporting.figures.drawing import to_png
from spikeattn.reporting.study.captions import warning_of
from spikeattn.reporting.study.pictures import image_of, view_of, views_of
from spikeattn.reporting.study.views import Views
from spikeattn.spurious import SpuriousEnergy

MOST = 12  # pictures on a page: more would hide what comes after them
DPI = 220  # of a picture: twice the pixels that a page shows it with
FOLDER = "gallery"


def draw_gallery(
    folder: Path, study: Study, indices: Sequence[int], energy: SpuriousEnergy | None = None
) -> tuple[list[str], dict[str, Any] | None]:
    """Draw the first images that were attended, as PNG.

    Args:
        indices: of the images that are drawn anywhere, in the data; all of them share one scale.

    Returns:
        Names of the files, relative to the folder, and the key of `key_of` with "tiles": by file, the title and the
        place of each of its pictures (`attention_panels.tiles_of`). None without images.
    """
    if not indices:
        return [], None
    views, files, tiles = views_of(study, len(indices), energy), [], {}
    output_folder.folder(folder / FOLDER)
    for place, (index, stem) in enumerate(zip(indices[:MOST], output_folder.stems(study.ids), strict=False)):
        seen = view_of(study, place, image_of(study, index), views, energy)
        files.append(f"{FOLDER}/{stem}.png")
        figure = panel(seen, warning_of([study]), key=False)
        output_folder.write(folder / files[-1], to_png(figure, DPI))
        tiles[files[-1]] = tiles_of(figure)
    return files, key_of(views) | {"tiles": tiles}


def key_of(views: Views) -> dict[str, Any]:
    """What a colour means in all pictures: score, low and high of the maps, most_mj and blocks of the energies.

    most_mj is None, and blocks "", where no energy was measured.
    """
    scale = views.scale
    assert scale.vmin is not None and scale.vmax is not None  # scales are made with both
    ends = {"low": float(scale.vmin), "high": float(scale.vmax)}
    return {"score": views.score} | ends | {"most_mj": views.most_energy, "blocks": views.blocks}
