"""`spikeattn sweep`: energy against time steps, firing rates and cost tables; no forward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.options import Json, ListOut, Rates, RunOrRates, Verbose, WrongCommandLine, check_run_or_rates
from spikeattn.cli.output import LIST_FORMATS, hand_over, note, records, text, write_file
from spikeattn.cli.run_summary import run_or_rates

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.boundary.notes import Note


def sweep(
    run: RunOrRates = None,
    rates: Rates = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model that --rates belongs to, or FILE.py:NAME.")
    ] = None,
    costs: Annotated[
        str, typer.Option(metavar="NAME,...", help="Cost tables (see `spikeattn costs`) or .toml files, by commas.")
    ] = "horowitz-45nm-fp32,horowitz-45nm-fp16,horowitz-45nm-int8-acc32",
    rate_scale: Annotated[
        str, typer.Option(metavar="S,...", help="Factors of the firing rates, by commas; 1 is as they are.")
    ] = "0.25,0.5,1,2,4",
    convention: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="See `spikeattn conventions`; exact for RUN, input-rate for --rates."),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figure there too; .svg, .pdf or .png.")
    ] = None,
    out: ListOut = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What if: energy against time steps, firing rates and cost table, beside the ANN.

    The energy at t steps uses the counts of steps 1..t of the run: exact where no step looks ahead. Beside every t
    stands the accuracy of the answers that the run gave after t steps. No image is run.

    \b
    Examples:
      spikeattn sweep runs/8_512
      spikeattn sweep runs/8_512 --rate-scale 0.5,1,2 --figure sweep.svg --out sweep.csv
      spikeattn sweep --rates table_s1_sdt_8_512 --model sdt_8_512 --convention input-rate
    """
    check_run_or_rates(run, rates)
    if (rates is None) != (model is None):
        raise WrongCommandLine("--rates and --model go together, such as --model sdt_8_512; a run knows its model")
    if figure is not None and figure.suffix not in (".svg", ".pdf", ".png"):
        raise WrongCommandLine(f"--figure {figure}: a figure is written as .svg, .pdf or .png")
    scales = _numbers("--rate-scale", rate_scale)

    from spikeattn.energy.what_if import sweep as compute

    source, heading, warnings = run_or_rates(run, rates, model)
    frame = compute(source, costs.split(","), scales, convention or ("exact" if rates is None else "input-rate"))
    if figure is not None:
        _draw(frame, figure, warnings)
    record = {"title": heading, **frame.attrs, "rows": records(frame), "warnings": list(warnings)}
    hand_over(frame, record, lambda: _as_text(frame, heading, warnings), out, as_json, LIST_FORMATS)


def _numbers(option: str, listed: str) -> list[float]:
    try:
        return [float(word) for word in listed.split(",")]
    except ValueError as error:
        raise WrongCommandLine(f"{option} {listed}: numbers separated by commas are needed, such as 0.5,1,2") from error


def _draw(frame: pd.DataFrame, path: Path, warnings: tuple[Note, ...]) -> None:
    from spikeattn.reporting.figures.drawing import figure_style, to_png, to_svg
    from spikeattn.reporting.figures.sweep_figure import sweep_figure

    untrained = any(warning.code == "untrained" for warning in warnings)
    drawn = sweep_figure(frame, "UNTRAINED: these numbers describe nothing" if untrained else "")
    if path.suffix == ".pdf":
        import io

        buffer = io.BytesIO()
        with figure_style():
            drawn.savefig(buffer, format="pdf", facecolor="white", metadata={"CreationDate": None})
        content = buffer.getvalue()
    else:
        content = to_png(drawn) if path.suffix == ".png" else to_svg(drawn).encode()
    write_file(path, content)
    note(f"wrote {path}")


def _as_text(frame: pd.DataFrame, heading: str, warnings: tuple[Note, ...]) -> str:
    from spikeattn.boundary.number_format import energy_unit, rate, significant
    from spikeattn.boundary.terms import WEIGHTED, WEIGHTED_RATE, WEIGHTED_RATE_IS
    from spikeattn.reporting.tables.analysis_sheets import accuracy_of

    unit, factor = energy_unit([*frame["snn_mj"], *frame["ann_mj"]])

    def energy(mj: float) -> str:
        return significant(mj / factor, 3)

    columns = ["costs", "t", "rate_scale", "rate", "snn_mj", "ann_mj", "ratio", "break_even_rate", "cannot_lose"]
    shown = frame[columns].assign(cannot_lose=["yes" if each else "no" for each in frame["cannot_lose"]])
    shown.insert(2, "accuracy", [" ".join(accuracy_of(row)).strip() for row in frame.to_dict("records")])
    weighted, snn, ann = WEIGHTED.lower(), f"SNN ({unit})", f"ANN ({unit})"
    even = "break-even rate"
    shown.columns = ["costs", "t", "accuracy", "x rate", weighted, snn, ann, "ANN : SNN", even, "cannot lose"]
    formats: dict[str, Callable[[Any], str]] = {
        "t": str,
        "accuracy": str,
        "x rate": "{:g}".format,
        weighted: rate,
        snn: energy,
        ann: energy,
        "ANN : SNN": "{:.3g}".format,
        even: "{:.3g}".format,
    }
    lines = [
        f"energy per image, {heading}, had it stopped after t steps and fired x times as much",
        f"convention {frame.attrs['convention']}; ANN of {frame.attrs['ann_macs']:,} MACs, no zeros "
        "skipped; arithmetic only",
        f"\n{text(shown, formats)}\n",
        "accuracy: after t steps of this run, Wilson interval; unknown at other rates than the run's own",
        f"{weighted}: {WEIGHTED_RATE}, {WEIGHTED_RATE_IS}\n",
    ]
    lines += [f"note      {line}" for line in frame.attrs["notes"]] + [f"warning   {line}" for line in warnings]
    return "\n".join(lines)
