"""The files of `spikeattn attend`: pictures of every image, and every number as arrays and tables."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spikeattn.cli.attention_run import Network, warned
from spikeattn.cli.output import write_file
from spikeattn.reporting.figures.attention_grids import beside
from spikeattn.reporting.figures.attention_panels import overview, panel
from spikeattn.reporting.figures.drawing import to_pdf, to_png, to_svg
from spikeattn.reporting.output_folder import stems as stems_of
from spikeattn.reporting.tables.attention_tables import grid_table, token_arrays, token_table
from spikeattn.storage import csv_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERVIEW_ROWS = 5


def draw(staging: Path, networks: Sequence[Network], kept: Sequence[int]) -> list[str]:
    """All pictures; names of the files, relative to the folder."""
    first, files, rows = networks[0], [], []
    warning, warning_against = warned(networks[:1]), warned(networks[1:])
    stems = stems_of(first.ids)
    for place, index in enumerate(kept):
        shown = [network.seen(place, network.dataset[index][0]) for network in networks]
        stem = stems[place]
        files += _save(staging / "panels", stem, panel(shown[0], warning))
        files += _save(staging / "layers", stem, first.grid_figure(place, shown[0], warning))
        if len(shown) == 2:
            files += _save(staging / "beside", stem, beside(*shown, warned(networks)))
            files += _save(staging / "panels_against", stem, panel(shown[1], warning_against))
            files += _save(staging / "layers_against", stem, networks[1].grid_figure(place, shown[1], warning_against))
        rows.append(shown[0])
    if rows:
        files += _save(staging, "overview", overview(rows[:OVERVIEW_ROWS], warning))
    return files


def _save(folder: Path, stem: str, figure: Figure) -> list[str]:
    content = {".svg": to_svg(figure).encode(), ".pdf": to_pdf(figure), ".png": to_png(figure, 300)}
    for suffix, drawn in content.items():
        write_file(folder / f"{stem}{suffix}", drawn)
    above = "" if folder.name.startswith(".") else f"{folder.name}/"
    return [f"{above}{stem}{suffix}" for suffix in content]


def write_tables(staging: Path, networks: Sequence[Network], evaluations: Sequence[Any]) -> list[str]:
    """Every number, as arrays and as tables; names of the files."""
    arrays: dict[str, Any] = {"images": np.array(networks[0].ids)}
    tokens, grids = [], []
    for number, network in enumerate(networks):
        s, prefix = network.settings, "against_" if number else ""
        found = token_arrays(network.attentions, s.method, s.threshold)
        stacked = np.stack(network.grids)
        named = {"layers": np.array(network.layers), "grid": stacked, "grid_columns": np.array(network.columns)}
        arrays |= {f"{prefix}{key}": value for key, value in (found | named).items()}
        tokens.append(token_table(found, network.ids, network.layers, network.title))
        grids.append(grid_table(stacked, network.ids, network.all_layers, network.columns, network.title))
    if (energy := networks[0].energy) is not None:
        arrays |= {"energy_mj": energy.layer_maps, "spurious_mj": energy.spurious_layer_maps}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_file(staging / "attention.npz", buffer.getvalue())
    tables = {"attention.csv": pd.concat(tokens), "layers.csv": pd.concat(grids)}
    if evaluations:
        named = zip(networks, evaluations, strict=True)
        rows = [found.frame.assign(image=[n.ids[i] for i in found.frame["image"]], model=n.title) for n, found in named]
        tables["evaluation.csv"] = pd.concat(rows)
    if energy is not None:
        tables["energy.csv"] = energy.frame
    for name, table in tables.items():
        write_file(staging / name, csv_text.write(table).encode())
    return ["attention.npz", *tables]
