"""What the commands say of a run: its title, its tables and five numbers, its warnings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.output import headline, records, sheet_text
from spikeattn.cli.printed_table import Line, Page, Spare

_MANY = 8  # time steps: as many lines as the numbers below them

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.boundary.notes import Note
    from spikeattn.energy.published_rates import PublishedActivity
    from spikeattn.runs.result import Profile


def title(profile: Profile) -> str:
    """What a table belongs to, in one line."""
    untrained = "UNTRAINED " if profile.untrained else ""
    return f"{untrained}{profile.ledger.model.get('name')}, T={profile.time_steps}, {profile.n_images} images"


def title_of_rates(rates: Path, model: str) -> str:
    """What a table of published rates belongs to, in one line."""
    return f"{model} with the rates of {rates}"


def run_or_rates(
    run: Path | None,
    rates: Path | None,
    model: str | None,
    model_args: list[str] | None = None,
    time_steps: int | None = None,
) -> tuple[Profile | PublishedActivity, str, tuple[Note, ...]]:
    """A finished run, or the published rates of a model in its place; its title and its warnings."""
    if run is not None:
        return opened(run)
    from spikeattn.cli.networks import rated_network
    from spikeattn.energy.published_rates import activity_from_rates

    assert rates is not None and model is not None  # the commands have checked it
    return activity_from_rates(rates, rated_network(model, model_args, time_steps)), title_of_rates(rates, model), ()


def opened(run: Path) -> tuple[Profile, str, tuple[Note, ...]]:
    """A finished run, its title and its warnings."""
    from spikeattn.runs.result import Profile

    profile = Profile.load(run)
    return profile, title(profile), profile.warnings


def spare_rates(frame: pd.DataFrame) -> Spare:
    """What a table of rates can do without on a narrow terminal: steps between the first and the last come first."""
    steps = [name for name in map(str, frame.columns) if name[:1] == "T" and name[1:].isdigit()]
    return [name for name in (steps[1:-1], ["Code name"], steps, ["Module"]) if name]


def describe(profile: Profile) -> dict[str, Any]:
    """Everything `spikeattn profile` prints, for programs."""
    from spikeattn.reporting.tables.run_tables import rate_table

    return {
        "summary": _summary(profile),
        "over_time": records(profile.over_time()),
        "rates": records(rate_table(profile)),
        "provenance": profile.provenance,
    }


def _summary(profile: Profile) -> dict[str, Any]:
    """The five numbers of a run, and both lines of the comparison with its ANN."""
    from spikeattn.reporting.tables.analyses import lines_of

    return profile.summary() | {"lines": [line.to_dict() for line in lines_of(profile)]}


def summary_text(profile: Profile, full: bool, begun: str = "") -> Page:
    """The network as a tree, accuracy and rate after each time step, five numbers and both lines beside the ANN.

    With `full` the firing rates of all tensors, too, and every layer of the tree.
    """
    from spikeattn.cli.tree_text import tree_text
    from spikeattn.reporting.tables.run_tables import rate_table
    from spikeattn.stats.accuracy import NO_ACCURACY

    told = (note for note in profile.warnings if note.code != NO_ACCURACY)  # the line of the accuracy says it
    lines: list[Line] = [begun + title(profile), ""]
    if full:
        rates = rate_table(profile)
        lines += [sheet_text(rates, spare_rates(rates)), ""]
    lines += [*tree_text(profile, full), "", sheet_text(_steps(profile, full)), "", headline(_summary(profile))]
    return [*lines, *(f"warning    {line}" for line in told)]


def _steps(profile: Profile, full: bool) -> pd.DataFrame:
    """`over_time`; for a screen 1, 2, 4, 8 ... and the last step of many."""
    frame = profile.over_time()
    if full or len(frame) <= _MANY:
        return frame
    chosen = [t & (t - 1) == 0 or t == profile.time_steps for t in map(int, frame["t"])]
    return frame[chosen]
