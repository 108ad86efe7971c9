"""The attention of the embedded default: a few digits, their panels and tables, in the layout of `spikeattn attend`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.attention.study import Study, StudySettings, look
from spikeattn.cli.output import to_json, write_file
from spikeattn.reporting.figures.attention_panels import panel
from spikeattn.reporting.figures.drawing import to_png
from spikeattn.reporting.output_folder import stems
from spikeattn.reporting.study.arrays import write_tables
from spikeattn.reporting.study.captions import warning_of
from spikeattn.reporting.study.pictures import image_of, view_of
from spikeattn.reporting.study.summary import summary_of
from spikeattn.spurious.study_energy import study_energy

if TYPE_CHECKING:
    from torch import nn

    from spikeattn.data import Dataset
    from spikeattn.energy import Convention, CostTable
    from spikeattn.runs.result import Profile

IMAGES, REPLICATES = 6, 100  # few: the demo runs on one CPU thread
NULL = "pixel"  # alone: another null takes 4 s more, as long as all else; the notes say that the grid has one
DPI = 220  # of a panel


def attend_demo(
    folder: Path, model: nn.Module, dataset: Dataset, profile: Profile, costs: CostTable, convention: Convention,
    command: str,
) -> None:  # fmt: skip
    """Attend to the first images of a run and write what the report's gallery reads; all blocks, with joules on noise.

    Unlike `spikeattn attend` it draws panels alone, and as PNG alone: the rest would take longer than the run itself.
    """
    study = Study(model, dataset, StudySettings(null=NULL, replicates=REPLICATES, layer="all"))
    indices = [int(index) for index in profile.counts.rows["index"][:IMAGES]]
    look([study], indices)
    energy = study_energy(study, profile, indices, costs, convention)
    files = [f"panels/{stem}.png" for stem in stems(study.ids)]
    for place, (index, file) in enumerate(zip(indices, files, strict=True)):
        drawn = panel(view_of(study, place, image_of(study, index), energy), warning_of([study]))
        write_file(folder / file, to_png(drawn, DPI))
    summary = summary_of([study], energy=energy, command=command)
    summary["files"] = [*files, *write_tables(folder, [study], energy=energy), "summary.json"]
    write_file(folder / "summary.json", to_json(summary).encode())
