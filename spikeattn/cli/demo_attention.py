"""The attention of the embedded default: a few digits, their panels and tables, in the layout of `spikeattn attend`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.cli.attention_energy import energy_on_noise
from spikeattn.cli.attention_files import write_tables
from spikeattn.cli.attention_run import Network, Settings, warned
from spikeattn.cli.attention_summary import summarise
from spikeattn.cli.output import to_json, write_file
from spikeattn.reporting.figures.attention_panels import panel
from spikeattn.reporting.figures.drawing import to_png
from spikeattn.reporting.output_folder import stems

if TYPE_CHECKING:
    from torch import nn

    from spikeattn.data import Dataset
    from spikeattn.energy import Convention, CostTable
    from spikeattn.runs.result import Profile

IMAGES, REPLICATES, NULL, DPI = 6, 100, "pixel", 220


def attend_demo(
    folder: Path, model: nn.Module, dataset: Dataset, profile: Profile, costs: CostTable, convention: Convention,
    command: str,
) -> None:  # fmt: skip
    """Attend to the first images of a run and write what the report's gallery reads; all blocks, with joules on noise.

    Unlike `spikeattn attend` it draws panels alone, and as PNG alone: the rest would take longer than the run itself.
    """
    settings = Settings(NULL, REPLICATES, None, "all", "plus-one", "plain", "p", None, 0, 1.0)
    network = Network(model.eval(), dataset, settings)
    kept = [int(index) for index in profile.counts.rows["index"][:IMAGES]]
    for index in kept:
        network.look(index, dataset[index][0])
    network.energy = energy_on_noise(network, profile, kept, costs, convention)
    files = [f"panels/{stem}.png" for stem in stems(network.ids)]
    for place, (index, file) in enumerate(zip(kept, files, strict=True)):
        drawn = panel(network.seen(place, dataset[index][0]), warned([network]))
        write_file(folder / file, to_png(drawn, DPI))
    summary = summarise([network], [], [], command)
    summary["files"] = [*files, *write_tables(folder, [network], []), "summary.json"]
    write_file(folder / "summary.json", to_json(summary).encode())
