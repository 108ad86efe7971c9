"""`spikeattn compare A1 A2 ... --against B1 B2 ...`: the runs of several training seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikeattn.cli.output import FORMATS, hand_over, sheet_text
from spikeattn.cli.printed_table import Line, Page
from spikeattn.cli.run_summary import title

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.energy.seed_result import SeedComparison
    from spikeattn.runs.result import Profile

TABLES = (".tex", ".md")  # of which a file holds the means over seeds; the others hold every run as well


def hand_over_seeds(found: SeedComparison, runs: list[Profile], out: Path | None, as_json: bool) -> None:
    """The result of several training seeds into a file, as JSON, or as text."""
    frame = found.table if out is not None and out.suffix in TABLES else _all_rows(found)
    hand_over(frame, found.to_dict(), lambda: _text(found, title(runs[0])), out, as_json, FORMATS)


def _all_rows(found: SeedComparison) -> pd.DataFrame:
    """Both tables in one, told apart by the first column."""
    import pandas as pd

    tables = {"seeds": found.table, "runs": found.runs}
    return pd.concat([frame.assign(table=name) for name, frame in tables.items()], ignore_index=True)[
        ["table", *dict.fromkeys([*found.table.columns, *found.runs.columns])]
    ]


def _text(found: SeedComparison, heading: str) -> Page:
    lines: list[Line] = [f"{found.name} beside {found.against}: training seeds, {heading}", ""]
    lines += [f"  {sentence}" for sentence in found.sentences]
    each = f"every run, with its interval over images, under {found.runs['costs'].dropna().iloc[0]}"
    lines += ["", sheet_text(found.table), "", each, "", sheet_text(found.runs), ""]
    return [*lines, *(f"note        {line}" for line in found.notes)]
