"""Every number of a `Study`, as arrays and as tables."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spikeattn.attention.evaluate import Evaluation
from spikeattn.attention.study import Study
from spikeattn.reporting import output_folder
from spikeattn.reporting.study.captions import columns_of, title_of
from spikeattn.reporting.tables.attention_tables import grid_table, token_arrays, token_table
from spikeattn.spurious import SpuriousEnergy
from spikeattn.storage import csv_text


def write_tables(
    folder: Path, studies: Sequence[Study], evaluations: Sequence[Evaluation] = (), energy: SpuriousEnergy | None = None
) -> list[str]:
    """Write attention.npz, attention.csv, layers.csv and, where there are some, evaluation.csv and energy.csv.

    Args:
        evaluations: one per study, or none.
        energy: of the first study.

    Returns:
        Names of the files.
    """
    arrays: dict[str, Any] = {"images": np.array(studies[0].ids)}
    tokens, grids = [], []
    for number, study in enumerate(studies):
        s, prefix, columns = study.settings, "against_" if number else "", columns_of(study)
        measured = token_arrays(study.attentions, s.method, s.threshold)
        stacked = np.stack(study.grids)
        of_grid = {"layers": np.array(study.layers), "grid": stacked, "grid_columns": np.array(columns)}
        arrays |= {f"{prefix}{key}": values for key, values in (measured | of_grid).items()}
        tokens.append(token_table(measured, study.ids, study.layers, title_of(study)))
        grids.append(grid_table(stacked, study.ids, study.all_layers, columns, title_of(study)))
    if energy is not None:
        arrays |= {"energy_mj": energy.layer_maps, "spurious_mj": energy.spurious_layer_maps}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    output_folder.folder(folder)
    output_folder.write(folder / "attention.npz", buffer.getvalue())
    tables = {"attention.csv": pd.concat(tokens), "layers.csv": pd.concat(grids)}
    if evaluations:
        both = zip(studies, evaluations, strict=True)
        tables["evaluation.csv"] = pd.concat([_evaluation_rows(study, evaluation) for study, evaluation in both])
    if energy is not None:
        tables["energy.csv"] = energy.frame
    for name, table in tables.items():
        output_folder.write(folder / name, csv_text.write(table))
    return ["attention.npz", *tables]


def _evaluation_rows(study: Study, evaluation: Evaluation) -> pd.DataFrame:
    frame = evaluation.frame
    return frame.assign(image=[study.ids[i] for i in frame["image"]], model=title_of(study))
