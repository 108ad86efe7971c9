"""The attention of the embedded default: a few digits, their panels and tables, in the layout of `spikeattn attend`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.attention.study import Study, StudySettings, look
from spikeattn.cli.output import to_json, write_file
from spikeattn.reporting.study.arrays import write_tables
from spikeattn.reporting.study.gallery_pictures import draw_gallery
from spikeattn.reporting.study.summary import summary_of
from spikeattn.spurious.study_energy import study_energy

if TYPE_CHECKING:
    from torch import nn

    from spikeattn.data import Dataset
    from spikeattn.energy import Convention, CostTable
    from spikeattn.runs.result import Profile

IMAGES, REPLICATES = 6, 100  # few: the demo runs on one CPU thread
NULL = "pixel"  # alone: another null takes 4 s more, as long as all else; the notes say that the grid has one


def attend_demo(
    folder: Path, model: nn.Module, dataset: Dataset, profile: Profile, costs: CostTable, convention: Convention,
    command: str,
) -> None:  # fmt: skip
    """Attend to the first images of a run and write what the report's gallery reads; all blocks, with joules on noise.

    Unlike `spikeattn attend` it draws the gallery alone: the rest would take longer than the run itself.
    """
    study = Study(model, dataset, StudySettings(null=NULL, replicates=REPLICATES, layer="all"))
    indices = [int(index) for index in profile.counts.rows["index"][:IMAGES]]
    look([study], indices)
    energy = study_energy(study, profile, indices, costs, convention)
    files, key = draw_gallery(folder, study, indices, energy)
    summary = summary_of([study], energy=energy, command=command)
    summary["gallery"] = key
    summary["files"] = [*files, *write_tables(folder, [study], energy=energy), "summary.json"]
    write_file(folder / "summary.json", to_json(summary).encode())
