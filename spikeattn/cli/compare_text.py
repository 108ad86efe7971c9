"""What `spikeattn compare` prints: a screen that answers who is cheaper and where, or all that was found out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from spikeattn.cli.output import text
from spikeattn.cli.printed_table import Line, Page, PrintedTable

if TYPE_CHECKING:
    import pandas as pd

    from spikeattn.energy import Comparison

# Notes on how every comparison counts; all others are about this one, and the screen has them too.
_USUAL = ("additions", "quantised", "gamma", "arithmetic", "memory", "first-layer", "paired")


def compare_text(comparison: Comparison, heading: str, full: bool) -> Page:
    """Both lines, the parts under the first cost table and the totals under all; with `full` everything."""
    lines: list[Line] = [f"{comparison.name} beside {comparison.against}: energy per image, {heading}", ""]
    lines += [*map(str, comparison.lines), ""]
    if full:
        lines += [*(f"  {sentence}" for sentence in comparison.sentences), ""]
        lines += [line for place in range(len(comparison.prices)) for line in _priced(comparison, place)]
        lines += _attention(comparison)
    else:
        lines += _priced(comparison, 0)
        lines += _totals(comparison) if len(comparison.prices) > 1 else []
    level = f"{comparison.total.confidence:.0%}"
    drawn = "classes, each with its images" if comparison.provenance.get("cluster") else "images"
    lines += [f"interval: {level} over {drawn}, of the ratio"]
    if full:
        return [*lines, _rate_meant(), "", *(f"note        {line}" for line in comparison.notes)]
    told = [line for line in comparison.notes if line.code not in _USUAL]
    hidden = len(comparison.sentences) + len(comparison.notes) - len(told)
    return [
        *lines,
        *(f"note        {line}" for line in told),
        f"--full has the rest: {hidden} sentences and notes, the parts under every cost table, attention alone",
    ]


def _rate_meant() -> str:
    from spikeattn.boundary.terms import WEIGHTED, WEIGHTED_RATE, WEIGHTED_RATE_IS

    return f"{WEIGHTED.lower()}: {WEIGHTED_RATE}, {WEIGHTED_RATE_IS}"


def _priced(comparison: Comparison, place: int) -> Iterator[Line]:
    """Every part under one cost table."""
    price = comparison.prices.to_dict("records")[place]
    chosen = (comparison.parts["costs"] == price["costs"]) & (comparison.parts["against"] == price["against"])
    at = ""
    if comparison.gammas:
        zeros = comparison.gammas[place]
        share = f"{zeros.low:.3g} (measured)" if zeros.measured else f"{price['gamma']:.3g}"
        at = f", ratios at gamma {share}"
    yield from (f"{price['costs']}, beside {price['against']}{at}", "", _rows(comparison.parts[chosen]), "")


def _totals(comparison: Comparison) -> Iterator[Line]:
    """The whole network under every cost table."""
    totals = comparison.parts[comparison.parts["part"] == "total"]
    yield from ("the whole network under every cost table", "", _rows(totals.drop(columns="part"), costs=True), "")


def _attention(comparison: Comparison) -> Iterator[Line]:
    """Attention alone, where both networks have some, and what it includes."""
    alone = comparison.attention[comparison.attention["ratio"].notna()]
    if not len(alone):
        return
    yield from ("attention alone, all blocks", "", _rows(alone, costs=True), "")
    if "includes" in alone:
        said = dict(zip(alone["part"], alone["includes"], strict=True))
        yield from (*(f"{part} of this run includes {what}" for part, what in said.items()), "")


def _rows(frame: pd.DataFrame, costs: bool = False) -> PrintedTable:
    from spikeattn.boundary.number_format import (
        MISSING,
        NO_INTERVAL,
        energy_unit,
        known,
        rate,
        significant,
        with_bound,
        with_limits,
    )
    from spikeattn.boundary.terms import WEIGHTED
    from spikeattn.energy.verdicts import rate_in_words, records

    unit, factor = energy_unit([*frame["energy_mj"], *frame["against_mj"]])

    def ratio(row: Mapping[Any, Any]) -> tuple[str, str]:
        if row["interval"] == "lower bound":
            return with_bound(row["ratio"], row["ratio_low"], "≥")
        value, interval = with_limits(row["ratio"], row["ratio_low"], row["ratio_high"])
        return value, NO_INTERVAL if row["interval"] == "none" else interval

    columns = {"own": f"this run ({unit})", "other": f"other ({unit})"}
    rows = []
    for row in records(frame):
        value, interval = ratio(row)
        rows.append(
            ({"costs": row["costs"], "beside": row["against"]} if costs else {})
            | {
                **({"part": row["part"]} if "part" in row else {}),
                columns["own"]: significant(row["energy_mj"] / factor),
                columns["other"]: significant(row["against_mj"] / factor),
                "ratio": value,
                "interval": interval,
                WEIGHTED.lower(): rate(row["rate"]),
                "break-even": significant(row["break_even"], 3) if known(row["break_even"]) else rate_in_words(row),
                "verdict": row["verdict"],
            }
        )
    import pandas as pd

    shown = pd.DataFrame(rows)
    if set(shown["break-even"]) <= {MISSING}:  # beside another spiking network
        shown = shown.drop(columns="break-even")
    right = [*columns.values(), "ratio", "interval", WEIGHTED.lower(), "break-even"]
    spare = ([WEIGHTED.lower()], ["break-even"], ["other"], ["this run"])
    return text(shown, {column: str for column in right if column in shown}, spare)
