"""Energy at tokens that are no more than noise: the chosen share, the curve of specifications, the parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from spikeattn.boundary.number_format import energy_unit, joules, known, percent, significant
from spikeattn.reporting.figures.drawing import NARROW, figure_style, finish
from spikeattn.reporting.figures.specification_curve import draw_specifications
from spikeattn.reporting.notebook.fragment import drawing, fragment
from spikeattn.reporting.notebook.into_axes import axes_of
from spikeattn.reporting.tables.sheet import Cell, Column, Sheet
from spikeattn.spurious import SpuriousEnergy
from spikeattn.spurious.specification_text import chosen_text, range_text, share_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE = (
    "Share of the blocks' energy at tokens that are not significant, under every specification with its interval; the "
    "numbers are in the table of specifications."
)


def html(found: SpuriousEnergy) -> str:
    """Cards, the curve over specifications, and the parts to unfold."""
    model = found.provenance["attention"]["model"]
    return fragment(
        "spurious.html.j2",
        title=str(model.get("name") or "model"),
        untrained=model.get("trained") is False,
        facts=[
            ("Images", str(len(found.images))),
            ("Blocks", ", ".join(str(layer + 1) for layer in found.layers)),
            ("Significant", chosen_text(found.specifications)),
            ("Intervals over", str(found.provenance["interval"])),
        ],
        cards=_cards(found),
        range=range_text(found.specifications),
        curve=drawing(_curve(found), FIGURE),
        sheet=_parts(found.parts),
        notes=[str(note) for note in found.notes],
    )


def plot(found: SpuriousEnergy, ax: Any) -> Axes:
    """See `SpuriousEnergy.plot`."""
    axes = axes_of(ax, (NARROW, _height(found)))
    draw_specifications(axes, found.specifications)
    return axes


def _height(found: SpuriousEnergy) -> float:
    """Inches: a row per specification, axis and legend."""
    return 1.0 + 0.2 * len(found.specifications)


def _curve(found: SpuriousEnergy) -> Figure:
    with figure_style():
        figure = Figure(figsize=(NARROW, _height(found)), layout="constrained")
        draw_specifications(figure.subplots(), found.specifications)
        return finish(figure)


def _cards(found: SpuriousEnergy) -> list[dict[str, str]]:
    low, high = found.range
    spent = found.spurious_mj
    return [
        _card("Of the blocks' energy", found.total, "at tokens that are not significant: an upper bound, no waste"),
        _card("Of the network's energy", found.of_everything, "the rest has no tokens, or no attention"),
        {
            "label": "Energy per image", "value": joules(spent.value),
            "interval": f"[{joules(spent.low)}, {joules(spent.high)}]" if known(spent.low) else "",
            "note": "at these tokens",
        },
        {
            "label": "Over specifications", "value": f"{percent(low)} to {percent(high)}", "interval": "",
            "note": f"of the blocks' energy, {len(found.specifications)} specifications",
        },
    ]  # fmt: skip


def _card(label: str, share: Any, note: str) -> dict[str, str]:
    limits = share_text(share.value, share.low, share.high).partition(" [")[2]
    return {"label": label, "value": percent(share.value), "interval": f"[{limits}" if limits else "", "note": note}


def _parts(parts: pd.DataFrame) -> Sheet:
    """Energy and its spurious share by block and part."""
    unit, factor = energy_unit(parts["energy_mj"])
    columns = (
        Column("Block", "text"), Column("Part", "text"), Column(f"Energy ({unit})"), Column("Not significant"),
        Column("Interval"),
    )  # fmt: skip
    rows = []
    for row in parts.to_dict("records"):
        block = str(row["layer"]) if isinstance(row["layer"], str) else str(int(row["layer"]) + 1)
        limits = share_text(row["share"], row["ci_low"], row["ci_high"]).partition(" [")[2]
        texts = [block, str(row["part"]), significant(row["energy_mj"] / factor, 3), percent(row["share"])]
        rows.append(tuple(Cell(text) for text in [*texts, f"[{limits}" if limits else "–"]))
    blocks = [row[0].text for row in rows]
    return Sheet(columns, tuple(rows), frozenset(i for i in range(1, len(rows)) if blocks[i] != blocks[i - 1]))
