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
from spikeattn.reporting.figures.attention_grids import Tokens, beside, layer_grid
from spikeattn.reporting.figures.attention_panels import overview, panel
from spikeattn.reporting.figures.drawing import to_pdf, to_png, to_svg
from spikeattn.reporting.figures.input_pictures import is_events, picture_of
from spikeattn.reporting.study.captions import columns_of, details_of, grid_details_of, score_of, title_of, warning_of
from spikeattn.reporting.tables.attention_tables import rule_of, significant
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
    for place, (index, stem) in enumerate(zip(indices, output_folder.stems(studies[0].ids), strict=False)):
        shown = [
            view_of(study, place, image_of(study, index), energy if number == 0 else None)
            for number, study in enumerate(studies)
        ]
        for suffix, study, seen, warning in zip(("", "_against"), studies, shown, warnings, strict=False):
            files += _save(folder, f"panels{suffix}/{stem}", panel(seen, warning))
            files += _save(folder, f"layers{suffix}/{stem}", grid_figure(study, place, seen, warning))
        if len(shown) == 2:
            files += _save(folder, f"beside/{stem}", beside(shown[0], shown[1], warning_of(studies)))
        rows.append(shown[0])
    if rows:
        files += _save(folder, "overview", overview(rows[:OVERVIEW_ROWS], warnings[0]))
    return files


def view_of(study: Study, place: int, image: Tensor, energy: SpuriousEnergy | None = None) -> Seen:
    """The image at `place` among those attended, for drawing; of several layers the last."""
    s, attention, values = study.settings, study.attentions[place], image.cpu().numpy()
    h, w = attention.maps.shape[-2:]
    return Seen(
        name=study.ids[place],
        model=title_of(study),
        picture=picture_of(values, study.dataset.preparation()),
        score=score_of(study),
        map=attention.maps.reshape(-1, h, w)[-1],
        regularized=attention.regularized(s.method, s.threshold).reshape(-1, h, w)[-1],
        significant=significant(attention.significance[-1], s.method, s.threshold),
        rule=rule_of(s.method, s.threshold),
        details=details_of(study),
        events=is_events(values),
        energy=None if energy is None else energy.maps[place],
        spurious=None if energy is None else energy.spurious_maps[place],
        placement=attention.placement,
    )


def tokens_of(study: Study) -> Iterator[Tokens]:
    """Map [h, w] of every image, of several layers the last, and which of its tokens are significant."""
    s = study.settings
    for attention in study.attentions:
        h, w = attention.maps.shape[-2:]
        called = significant(attention.significance[-1], s.method, s.threshold)
        yield located(attention.maps.reshape(-1, h, w)[-1], called, attention.placement, attention.image_size)


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
