"""`spikeattn rates`: firing rates of a finished run; no forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spikeattn.boundary.visible_text import visible
from spikeattn.cli.option_types import choice
from spikeattn.cli.options import (
    ClusterByClass,
    Json,
    OutFile,
    Run,
    Verbose,
    WrongCommandLine,
)
from spikeattn.cli.output import FORMATS, note, records, render, sheet_text, text, write_file
from spikeattn.cli.printed_table import Line
from spikeattn.cli.run_summary import spare_rates
from spikeattn.cli.terminal import say, say_file
from spikeattn.compat.python_names import StrEnum

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.runs.firing_rates import RateTable


_SPARE_TIDY = (["interval"], ["role"], ["mean_rate"])


class Format(StrEnum):
    """What `spikeattn rates` writes."""

    text = "text"
    csv = "csv"
    parquet = "parquet"
    latex = "latex"
    markdown = "markdown"
    json = "json"


def rates(
    run: Run,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", help="Default: the suffix of --out, or text without --out.", **choice("--format", Format)
        ),
    ] = None,
    tidy: Annotated[
        bool, typer.Option("--tidy", help="One row per tensor and time step, with intervals, instead of Table S1.")
    ] = False,
    cluster_by_class: ClusterByClass = False,
    out: OutFile = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Firing rates of a run, in the layout of Table S1.

    The name in the Spike-driven Transformer paper and the one in the code stand side by side; T=1..T and the average.

    \b
    Examples:
      spikeattn rates runs/8_512
      spikeattn rates runs/8_512 --format latex > table.tex
      spikeattn rates runs/8_512 --tidy --out rates.parquet
    """
    if as_json:
        form = Format.json
    if form is None:
        if out is not None and out.suffix not in (*FORMATS, ".txt"):
            raise WrongCommandLine(f"--out {out}: give --format, or one of the suffixes {', '.join(FORMATS)}, .txt")
        form = Format(FORMATS.get(out.suffix, "text")) if out is not None else Format.text
    if tidy and form in (Format.latex, Format.markdown):
        raise WrongCommandLine("--tidy is written as text, csv, parquet or json")
    if form is Format.parquet and out is None:
        raise WrongCommandLine("--format parquet is no text: give --out FILE")

    from spikeattn.cli.run_summary import opened
    from spikeattn.reporting.tables.run_tables import rate_table

    profile, heading, notices = opened(run)
    cluster: Literal["label"] | None = "label" if cluster_by_class else None
    frame = _tidy(profile.rates(cluster=cluster)) if tidy else rate_table(profile, cluster)
    if form is Format.text:
        table = text(frame, spare=_SPARE_TIDY) if tidy else sheet_text(frame, spare_rates(frame))
        drawn = ["", "interval  over classes, each with its images"] if cluster_by_class else []
        page: list[Line] = [heading, "", table, *drawn, *(f"warning  {line}" for line in notices)]
        if out is None:
            say(page)
            return
        content = visible("\n".join(map(str, page)) + "\n").encode("utf-8", "backslashreplace")
    else:
        record = {"model": profile.ledger.model.get("name"), "untrained": profile.untrained, "rates": records(frame)}
        record |= {"cluster": "label"} if cluster_by_class else {}
        content = render(frame, form.value, record)
    if out is None:
        say_file(content.decode())
    else:
        write_file(out, content)
        note(f"wrote {out}")


def _tidy(frame: RateTable) -> pd.DataFrame:
    """`Profile.rates` with the time step as text, as Parquet and JSON want one type per column."""
    return frame.assign(t=[str(t) for t in frame["t"]])
