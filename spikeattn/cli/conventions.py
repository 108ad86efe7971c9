"""`spikeattn conventions`: which operations an energy figure counts."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from spikeattn.cli.completing import CONVENTIONS, offering
from spikeattn.cli.options import Json, ListOut, Verbose
from spikeattn.cli.output import LIST_FORMATS, hand_over, records, text
from spikeattn.cli.printed_table import Page

if TYPE_CHECKING:
    from pathlib import Path

    from spikeattn.energy import Convention, TrainingConvention


def conventions(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=offering(CONVENTIONS), help="One convention, with meanings."),
    ] = None,
    out: ListOut = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Conventions: which operations an energy figure counts.

    \b
    Examples:
      spikeattn conventions
      spikeattn conventions sdt-paper
      spikeattn conventions --json
    """
    import pandas as pd

    from spikeattn.energy import get_convention, list_conventions
    from spikeattn.energy.conventions import DEFAULT, EVIDENCE, SWITCHES
    from spikeattn.energy.training_rules import PRESETS as TRAINING

    if name in TRAINING:
        _show_training(TRAINING[name], out, as_json)
        return
    presets = [get_convention(each) for each in ([name] if name else list_conventions())]
    frame = pd.DataFrame([_about(p) | p.switches() for p in presets])

    def as_text() -> Page:
        if not name:
            lines = [_brief(preset, get_convention(DEFAULT)) for preset in presets]
            return "\n".join(
                [
                    *lines,
                    "",
                    f"Default: {DEFAULT}. Sources and what the values mean: spikeattn conventions NAME",
                    f"Of a training step (spikeattn energy RUN --training): {', '.join(TRAINING)}",
                ]
            )
        rows = [
            {"switch": switch, "value": value, "meaning": SWITCHES[switch][value]}
            for switch, value in presets[0].switches().items()
        ]
        about = [presets[0].source, f"evidence    {presets[0].evidence}: {EVIDENCE[presets[0].evidence]}"]
        return [*about, f"checked on  {presets[0].checked_on}", "", text(pd.DataFrame(rows))]

    listed = [_about(p) | {"switches": p.switches(), "default": p.name == DEFAULT} for p in presets]
    record = {"conventions": listed, "switches": SWITCHES, "evidence": EVIDENCE}
    hand_over(frame, record, as_text, out, as_json, LIST_FORMATS, filed=records(frame))


def _show_training(convention: TrainingConvention, out: Path | None, as_json: bool) -> None:
    """A convention of a training step, with the meaning of its switches and what is in none of its figures."""
    import pandas as pd

    from spikeattn.energy.conventions import EVIDENCE
    from spikeattn.energy.training_rules import OUTSIDE, SWITCHES

    rows = [
        {"switch": switch, "value": value, "meaning": SWITCHES[switch][value]}
        for switch, value in convention.switches().items()
    ]
    about = {key: getattr(convention, key) for key in ("name", "source", "evidence")}
    record = {**about, "switches": convention.switches(), "outside": list(OUTSIDE)}
    said = [
        convention.source,
        f"evidence    {convention.evidence}: {EVIDENCE[convention.evidence]}",
        f"not in it   {'; '.join(OUTSIDE)}",
    ]
    frame = pd.DataFrame(rows)
    hand_over(frame, record, lambda: [*said, "", text(frame)], out, as_json, LIST_FORMATS)


def _about(convention: Convention) -> dict[str, str]:
    keys = ("name", "source", "evidence", "checked_on")
    return {key: getattr(convention, key) for key in keys}


def _brief(convention: Convention, default: Convention) -> str:
    """A convention in a few lines: all switches of the default, what differs from it for any other."""
    changed = {k: v for k, v in convention.switches().items() if v != default.switches()[k]} or convention.switches()
    switches = textwrap.fill(
        ", ".join(f"{switch}={value}" for switch, value in changed.items()), 110, initial_indent=" " * 20,
        subsequent_indent=" " * 20, break_on_hyphens=False,
    )  # fmt: skip
    return f"{convention.name:18}  {convention.evidence}\n{switches}"
