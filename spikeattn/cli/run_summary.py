"""What the commands say of a run: its title, its tables and five numbers, its warnings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeattn.cli.output import headline, records, sheet_text

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile


def title(profile: Profile) -> str:
    """What a table belongs to, in one line."""
    untrained = "UNTRAINED " if profile.untrained else ""
    return f"{untrained}{profile.ledger.model.get('name')}, T={profile.time_steps}, {profile.n_images} images"


def opened(run: Path) -> tuple[Profile, str, tuple[str, ...]]:
    """A finished run, its title and its warnings."""
    from spikeattn.runs.result import Profile

    profile = Profile.load(run)
    return profile, title(profile), profile.warnings


def describe(profile: Profile) -> dict[str, Any]:
    """Everything `spikeattn profile` prints, for programs."""
    from spikeattn.reporting.tables.run_tables import rate_table

    return {
        "summary": profile.summary(),
        "over_time": records(profile.over_time()),
        "rates": records(rate_table(profile)),
        "provenance": profile.provenance,
    }


def summary_text(profile: Profile) -> str:
    """Firing rates, accuracy and rate after each time step, and the five numbers, as text."""
    from spikeattn.reporting.tables.run_tables import rate_table

    tables = [sheet_text(rate_table(profile)), sheet_text(profile.over_time()), headline(profile.summary())]
    warnings = "".join(f"\nwarning    {line}" for line in profile.warnings)
    return "\n\n".join([title(profile), *tables]) + warnings
