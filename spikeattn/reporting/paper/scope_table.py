"""The two lines of a comparison as a table of a paper: arithmetic alone, and with neurons, addressing and memory."""

from __future__ import annotations

from collections.abc import Sequence

from spikeattn.boundary.number_format import MISSING, energy_unit, significant
from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.scope_line import ScopeLine, ratio_text
from spikeattn.reporting.latex.booktabs import Field, table
from spikeattn.reporting.latex.environments import breakable, escape_latex

LONGEST_TITLE = 20  # letters of a network's name that stand on one line above its column


def lines_latex(comparison: Comparison) -> str:
    """One row per line of a comparison: both energies in one unit, the ratio and its interval, to the digits that
    `spikeattn compare` prints."""
    lines = comparison.lines
    unit, factor = energy_unit([energy for line in lines for energy in (line.own.value, line.other.value)])
    ratios = [(MISSING, MISSING) if line.missing else ratio_text(line.ratio) for line in lines]
    fields = [
        Field("Scope", tuple(line.scope for line in lines)),
        Field("Costs", tuple(escape_latex(line.costs or MISSING) for line in lines)),
        Field(_title(comparison.against, unit), _energies([line.other.value for line in lines], factor), "number"),
        Field(_title(comparison.name, unit), _energies([line.own.value for line in lines], factor), "number"),
        Field("Ratio", tuple(value for value, _ in ratios), "number"),
        Field("Interval", tuple(limits for _, limits in ratios), "interval"),
    ]
    caption = f"Energy per image of {comparison.against} and {comparison.name}, and the ratio of the two."
    return table([fields], (), caption, "tab:scopes", _notes(lines))


def _title(name: str, unit: str) -> str:
    text = f"{breakable(name, LONGEST_TITLE)} ({escape_latex(unit)})"
    if len(name) <= LONGEST_TITLE:
        return text
    return rf"\parbox[b]{{{LONGEST_TITLE / 2:g}em}}{{\centering {text}}}"


def _energies(values: Sequence[float], factor: float) -> tuple[str, ...]:
    return tuple(significant(value / factor) for value in values)


def _notes(lines: Sequence[ScopeLine]) -> str:
    """What each row includes and at which share of zeros its ratio stands, or why it holds no numbers."""
    said = []
    for line in lines:
        text = line.said if line.missing else line.includes
        without = f"; without {', '.join(line.without)}" if line.without else ""
        zeros = f"; ratio {line.zeros}" if line.zeros else ""
        said.append(escape_latex(f"{line.scope}: {text}{without}{zeros}."))
    return r"\quad ".join(said)
