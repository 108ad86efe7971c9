"""The pictures of a `Study`: panels, grids over layers, two networks side by side, an overview."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from spikeattn.attention.study import Study
from spikeattn.data.dataset import Skipped
from spikeattn.reporting import output_folder
from spikeattn.reporting.figures.attention_drawing import Seen, located
from spikeattn.reporting.figures.attention_grids import Tokens, layer_grid
from spikeattn.reporting.figures.attention_panels import panel
from spikeattn.reporting.figures.attention_rows import beside, overview
from spikeattn.reporting.figures.drawing import to_pdf, to_png, to_svg
from spikeattn.reporting.figures.input_pictures import picture_of
from spikeattn.reporting.study.captions import (
    columns_of,
    details_of,
    grid_details_of,
    score_of,
    shared_of,
    title_of,
    warning_of,
)
from spikeattn.reporting.study.views import Views, blocks_of, energy_of, last_map, most_energy, scale_of_all
from spikeattn.reporting.tables.attention_tables import significant
from spikeattn.spurious import SpuriousEnergy

OVERVIEW_ROWS = 5  # images of the overview, for one page
DPI = 300  # of a PNG, as journals ask for


def draw(folder: Path, studies: Sequence[Study], indices: Sequence[int], energy: SpuriousEnergy | None) -> list[str]:
    """Draw images of one study, or of two side by side, as SVG, PDF and PNG.

    Args:
        indices: of the images in the data, the first of those that were attended.
        energy: of the first study, on its panels.

    Returns:
        Names of the files, relative to the folder.
    """
    files: list[str] = []
    rows: list[Seen] = []
    warnings = [warning_of([study]) for study in studies]
    energies = [energy, *([None] * (len(studies) - 1))]
    views = (
        [views_of(study, len(indices), spent) for study, spent in zip(studies, energies, strict=True)]
        if indices
        else []
    )
    for place, (index, stem) in enumerate(zip(indices, output_folder.stems(studies[0].ids), strict=False)):
        shown = [
            view_of(study, place, image_of(study, index), own, spent)
            for study, own, spent in zip(studies, views, energies, strict=True)
        ]
        for suffix, study, seen, warning in zip(("", "_against"), studies, shown, warnings, strict=False):
            files += _save(folder, f"panels{suffix}/{stem}", panel(seen, warning))
            files += _save(folder, f"layers{suffix}/{stem}", grid_figure(study, place, seen, warning))
        if len(shown) == 2:
            questions, reason = shared_of(studies)
            files += _save(folder, f"beside/{stem}", beside(shown[0], shown[1], questions, reason, warning_of(studies)))
        rows.append(shown[0])
    if rows:
        files += _save(folder, "overview", overview(rows[:OVERVIEW_ROWS], warnings[0]))
    return files


def views_of(study: Study, number: int, energy: SpuriousEnergy | None = None) -> Views:
    """How the first `number` images of a study are drawn."""
    s = study.settings
    scale, most = scale_of_all(study.attentions[:number]), most_energy(energy, number)
    blocks = blocks_of(energy, study.outlook.blocks)
    return Views(title_of(study), score_of(study), details_of(study), scale, most, blocks, s.method, s.threshold)


def view_of(study: Study, place: int, image: Tensor, views: Views, energy: SpuriousEnergy | None = None) -> Seen:
    """The image at `place` among those attended, for drawing."""
    values = image.cpu().numpy()
    picture = picture_of(values, study.dataset.preparation())
    return views.of(study.ids[place], study.attentions[place], values, picture, energy_of(energy, place))


def tokens_of(study: Study, question: str) -> Iterator[Tokens]:
    """Map [h, w] of every image, of several layers the last, and which of its tokens are significant to a question."""
    s = study.settings
    for attention in study.attentions:
        called = significant(attention.answer(question).significance[-1], s.method, s.threshold)
        yield located(last_map(attention), called, attention.placement, attention.image_size)


def grid_figure(study: Study, place: int, seen: Seen, warning: str) -> Figure:
    """The maps over layers and time steps, or heads."""
    s, grid = study.settings, study.grids[place]
    outlined = {}
    if study.outlook.steps or not study.outlook.heads:
        rows_of, last = {layer: row for row, layer in enumerate(study.all_layers)}, grid.shape[1] - 1
        assessed = zip(study.layers, study.attentions[place].significance, strict=True)
        outlined = {(rows_of[layer], last): significant(one, s.method, s.threshold) for layer, one in assessed}
    rows = [f"block {layer + 1}" for layer in study.all_layers]
    return layer_grid(replace(seen, details=grid_details_of(study)), grid, rows, columns_of(study), outlined, warning)


def image_of(study: Study, index: int) -> Tensor:
    """Image `index` of the data of a study, which has been read before."""
    sample = study.dataset[index]
    assert not isinstance(sample, Skipped)
    return sample[0]


def _save(folder: Path, name: str, figure: Figure) -> list[str]:
    output_folder.folder((folder / name).parent)
    content: dict[str, str | bytes] = {".svg": to_svg(figure), ".pdf": to_pdf(figure), ".png": to_png(figure, DPI)}
    for suffix, drawn in content.items():
        output_folder.write(folder / f"{name}{suffix}", drawn)
    return [f"{name}{suffix}" for suffix in content]
