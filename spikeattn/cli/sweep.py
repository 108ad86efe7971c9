"""`spikeattn sweep`: energy against time steps, firing rates and cost tables; or a network run at every point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeattn.cli.completing import COSTS, offering
from spikeattn.cli.options import (
    Device,
    Full,
    Json,
    Rates,
    RunOrRates,
    Threads,
    Verbose,
    WrongCommandLine,
    check_run_or_rates,
)
from spikeattn.cli.output import FORMATS, LIST_FORMATS, hand_over, note, records, text, write_file
from spikeattn.cli.printed_table import Line, Page, PrintedTable
from spikeattn.cli.run_summary import run_or_rates

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.boundary.notes import Note

RATE_SCALES = "0.25,0.5,1,2,4"


def sweep(
    run: RunOrRates = None,
    rates: Rates = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model that --rates belongs to, or FILE.py:NAME.")
    ] = None,
    costs: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            autocompletion=offering(COSTS),
            help="Cost tables (see `spikeattn costs`) or .toml files, by commas.",
        ),
    ] = "horowitz-45nm-fp32,horowitz-45nm-fp16,horowitz-45nm-int8-acc32",
    rate_scale: Annotated[
        str, typer.Option(metavar="S,...", help="Factors of the firing rates, by commas; 1 is as they are.")
    ] = RATE_SCALES,
    convention: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="See `spikeattn conventions`; exact for RUN, input-rate for --rates."),
    ] = None,
    time_steps: Annotated[
        str | None,
        typer.Option(metavar="T...", help="Run the network at every one of these T, on the images of RUN."),
    ] = None,
    time_steps_arg: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --time-steps: the argument of your own factory that is T."),
    ] = None,
    threshold_scale: Annotated[
        str | None,
        typer.Option(metavar="S...", help="Run it with v_threshold of all its neurons x every one of these."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Run it with the weights of each of these files; repeatable."),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the run of every point there; the same command goes on after a stop."),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figure there too; .svg, .pdf or .png.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the list there instead of printing it; .csv, .parquet or .json; of points that were run also "
            ".tex and .md.",
        ),
    ] = None,
    as_json: Json = False,
    full: Full = False,
    verbose: Verbose = 0,
) -> None:
    """What if: energy against time steps, firing rates and cost table, beside the ANN.

    The energy at t steps uses the counts of steps 1..t of the run: exact where no step looks ahead. Beside every t
    stands the accuracy of the answers that the run gave after t steps. No image is run.

    With --time-steps, --threshold-scale or --checkpoint the network of RUN is run again at every point, on its images:
    accuracy and energy with their intervals, SOPs and mean firing rate of each, and accuracy over energy as --figure.

    \b
    Examples:
      spikeattn sweep runs/8_512
      spikeattn sweep runs/8_512 --rate-scale 0.5,1,2 --figure sweep.svg --out sweep.csv
      spikeattn sweep runs/digits --time-steps 1 2 4 6 --runs runs/steps --figure steps.pdf
      spikeattn sweep runs/digits --threshold-scale 0.8 1 1.2 --out thresholds.csv
      spikeattn sweep --rates table_s1_sdt_8_512 --model sdt_8_512 --convention input-rate
    """
    check_run_or_rates(run, rates)
    if (rates is None) != (model is None):
        raise WrongCommandLine("--rates and --model go together, such as --model sdt_8_512; a run knows its model")
    if figure is not None and figure.suffix not in (".svg", ".pdf", ".png"):
        raise WrongCommandLine(f"--figure {figure}: a figure is written as .svg, .pdf or .png")
    given = (time_steps, threshold_scale, tuple(checkpoint or ()), time_steps_arg, runs, device, threads)
    if _is_run(given, run, rate_scale):
        frame, heading, warnings = _of_runs(run, given, costs.split(","), convention or "exact")
        if figure is not None:
            _draw(frame, figure, warnings)
        record = {"title": heading, **frame.attrs, "rows": records(frame), "warnings": list(warnings)}
        hand_over(frame, record, lambda: _counted_text(frame, heading, warnings), out, as_json, FORMATS)
        return
    scales = _numbers("--rate-scale", rate_scale)

    from spikeattn.energy.what_if import sweep as compute

    source, heading, warnings = run_or_rates(run, rates, model)
    frame = compute(source, costs.split(","), scales, convention or ("exact" if rates is None else "input-rate"))
    if figure is not None:
        _draw(frame, figure, warnings)
    record = {"title": heading, **frame.attrs, "rows": records(frame), "warnings": list(warnings)}
    hand_over(frame, record, lambda: _as_text(frame, heading, warnings, full), out, as_json, LIST_FORMATS)


def _is_run(given: tuple[Any, ...], run: Path | None, rate_scale: str) -> bool:
    """Whether every point is to be run; options that do not go together are an error."""
    from spikeattn.cli.sweep_runs import Axis

    axis = Axis(*given)
    axis.check()
    if axis.given and run is None:
        raise WrongCommandLine(f"{axis.given[0]}: a published table has no network to run; give the folder of a run")
    if axis.given and rate_scale != RATE_SCALES:
        raise WrongCommandLine(
            f"{axis.given[0]} and --rate-scale {rate_scale}: at every point rates are counted; leave it out"
        )
    return bool(axis.given)


def _of_runs(
    run: Path | None, given: tuple[Any, ...], costs: list[str], convention: str
) -> tuple[pd.DataFrame, str, tuple[Note, ...]]:
    """The table of a sweep whose points are run, its title, and the warnings of the run that it began with."""
    from spikeattn.cli.run_summary import opened
    from spikeattn.cli.sweep_runs import Axis, run_sweep

    assert run is not None  # `_is_run` has seen to it
    profile, _, warnings = opened(run)
    frame = run_sweep(profile, Axis(*given), costs, convention)
    name = f"{'UNTRAINED ' if profile.untrained else ''}{profile.ledger.model.get('name')}"
    return frame, f"{name}, {frame.attrs['n_images']} images, over {frame['over'].iloc[0]}", warnings


def _counted_text(frame: pd.DataFrame, heading: str, warnings: tuple[Note, ...]) -> Page:
    from spikeattn.cli.output import sheet_text

    spare = (["Mean firing rate"], ["SOPs"], ["Wilson interval"])
    lines: list[Line] = [
        f"{heading}: every row a run of its own; convention {frame.attrs['convention']}, arithmetic only",
        "",
    ]
    lines += [sheet_text(frame, spare), "", *(f"note      {line}" for line in frame.attrs["notes"])]
    return [*lines, *(f"warning   {line}" for line in warnings)]


def _numbers(option: str, listed: str) -> list[float]:
    try:
        return [float(word) for word in listed.split(",")]
    except ValueError as error:
        raise WrongCommandLine(f"{option} {listed}: numbers separated by commas are needed, such as 0.5,1,2") from error


def _draw(frame: pd.DataFrame, path: Path, warnings: tuple[Note, ...]) -> None:
    from spikeattn.reporting.figures.drawing import figure_style, to_png, to_svg
    from spikeattn.reporting.figures.measured_sweep_figure import measured_sweep_figure
    from spikeattn.reporting.figures.sweep_figure import sweep_figure

    untrained = any(warning.code == "untrained" for warning in warnings)
    draw = measured_sweep_figure if "over" in frame else sweep_figure
    drawn = draw(frame, "UNTRAINED: these numbers describe nothing" if untrained else "")
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


def _as_text(frame: pd.DataFrame, heading: str, warnings: tuple[Note, ...], full: bool) -> Page:
    """Every row; or, for a screen, all steps at the run's own rates and all rates at its last step, at the first price.

    The other cost tables have a row each, of the run as it was.
    """
    from spikeattn.boundary.terms import WEIGHTED, WEIGHTED_RATE, WEIGHTED_RATE_IS

    lines: list[Line] = [
        f"energy per image, {heading}, had it stopped after t steps and fired x times as much",
        f"convention {frame.attrs['convention']}; ANN of {frame.attrs['ann_macs']:,} MACs, no zeros "
        "skipped; arithmetic only",
        "",
    ]
    if full:
        lines += [_rows(frame), ""]
    else:
        shown = _screen(frame)
        lines += [line for title, besides, rows in shown if len(rows) for line in (title, "", _rows(rows, besides), "")]
    lines.append("accuracy: after t steps of this run, Wilson interval; unknown at other rates than the run's own")
    if full:
        lines += [f"{WEIGHTED.lower()}: {WEIGHTED_RATE}, {WEIGHTED_RATE_IS}", ""]
        lines += [f"note      {line}" for line in frame.attrs["notes"]]
    lines += [f"warning   {line}" for line in warnings]
    return lines if full else [*lines, f"--full has all {len(frame)} rows, and what they rest on; --out FILE too"]


def _screen(frame: pd.DataFrame) -> Iterator[tuple[str, tuple[str, ...], pd.DataFrame]]:
    """The rows of a screen below their titles, and the columns that say what the title does.

    The scale nearest to 1 stands for the run's own rates.
    """
    first, last = frame["costs"].iloc[0], frame["t"].max()
    own = min(frame["rate_scale"], key=lambda scale: (abs(scale - 1), scale))
    at_own, at_last, priced = frame["rate_scale"] == own, frame["t"] == last, frame["costs"] == first
    times = "the run's own rates" if own == 1 else f"{own:g} times the run's rates"
    yield f"stopped after t steps, at {times}, {first}", ("costs", "x rate"), frame[priced & at_own]
    yield f"at other rates, after {last} steps, {first}", ("costs", "t", "accuracy"), frame[priced & at_last & ~at_own]
    yield (
        f"under the other cost tables, after {last} steps, at {times}",
        ("t", "x rate", "accuracy"),
        frame[~priced & at_own & at_last],
    )


def _rows(frame: pd.DataFrame, besides: Sequence[str] = ()) -> PrintedTable:
    from spikeattn.boundary.number_format import energy_unit, rate, significant
    from spikeattn.boundary.terms import WEIGHTED
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
    return text(shown.drop(columns=list(besides)), formats, spare=([weighted], ["cannot lose"], [even], ["ANN ("]))
