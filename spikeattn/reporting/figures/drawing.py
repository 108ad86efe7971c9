"""How figures are drawn: one style, one palette, and vector files that come out the same for the same numbers.

Text and lines of a figure are drawn in a few fixed inks, so that the page can exchange them for its own colours, light
or dark. The colours of parts are those of Paul Tol's "bright" scheme, told apart by readers with any colour vision.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from spikeattn.boundary.visible_text import visible
from spikeattn.reporting.figures.tips import titled

INK, MUTED, RULE, ALERT = "#15202b", "#5b6672", "#d5dae0", "#b42318"
HEAT = LinearSegmentedColormap.from_list("heat", ["#eff4f9", "#4f8fc0", "#10294f"], N=65)
SILENT = "#e9ddd0"
PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    ALERT: "var(--alert)",
    SILENT: "var(--silent)",
    "#ffffff": "var(--surface)",
}
_COLOURS = {  # the first seven, and "other", are those of the first edition
    "SPS": "#4477aa", "QKV": "#66ccee", "attention": "#ccbb44", "projection": "#228833", "MLP1": "#aa3377",
    "MLP2": "#ee6677", "head": "#9a9a9a", "downsampling": "#332288", "conv": "#44aa99", "mixing": "#dd8833",
    "gate": "#999933", "other": "#7b6fa8",
}  # fmt: skip
PALETTE = tuple(_COLOURS.values())[:7]
WIDTH, NARROW = 7.2, 5.4  # inches: the text width of a one-column page, and a figure that stands beside another
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "spikeattn",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """The settings of matplotlib under which a figure is made and saved; afterwards they are as before."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def set_layout(figure: Figure, **settings: Any) -> None:
    """Settings of the constrained layout that a figure was made with, such as `w_pad` in inches."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(**settings)


def plain_colour_bar(figure: Figure, image: ScalarMappable, **options: Any) -> Colorbar:
    """A colour bar without an outline, whose colours are vectors; `options` as of `Figure.colorbar`."""
    bar = figure.colorbar(image, **options)
    outline: Any = bar.outline
    outline.set_visible(False)
    assert bar.solids is not None  # there are some where colours are filled in
    bar.solids.set(rasterized=False, edgecolor="face")
    return bar


def finish(figure: Figure, note: str = "") -> Figure:
    """Put a line of warning under the figure and lay it out, once and for all."""
    if note:
        figure.supxlabel(note, fontsize=8, color=ALERT, x=0.01, ha="left")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # lay out once: every further pass would move things a little
    return figure


def short(text: object, longest: int = 38) -> str:
    """A name short enough for an axis; a long path keeps its beginning and its end, where blocks and layers differ."""
    text = "".join(char if char.isprintable() else " " for char in str(text))
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 + 1 :]}"


def colour_of(part: str, place: int = 0) -> str:
    """The colour of a part, the same in every figure and on the page."""
    return _COLOURS.get(part, PALETTE[place % len(PALETTE)])


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document, without control characters, which XML has not; equal numbers give equal bytes."""
    buffer = io.StringIO()
    with figure_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "spikeattn"})
    return titled("\n".join(line.rstrip() for line in visible(buffer.getvalue()).splitlines()) + "\n")


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": "spikeattn"})
    return buffer.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """The figure as a PDF with its fonts in it; the same numbers give the same bytes."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": "spikeattn", "Producer": None})
    return buffer.getvalue()


def inline(svg: str, name: str, description: str) -> str:
    """An SVG document as an element of the page: in the page's colours, ids of its own, and described for readers.

    Args:
        name: prefix of its ids, unique on the page.
        description: what the figure shows; plain text, escaped here.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    for ink, colour in (PAGE_COLOURS | _heat_colours()).items():
        body = body.replace(ink, colour)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
    width, height = box.groups() if box else ("518", "300")
    opening = f'<svg viewBox="0 0 {width} {height}" style="max-width:{float(width) * 1.6:.0f}px"'
    opening += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
    opening += f' role="img" aria-label="{escape(description)}">'
    return opening + body[body.index(">") + 1 :].strip()


def _heat_colours() -> dict[str, str]:
    """Every colour of the heat scale as a mixture of the page's own three: low, middle and high."""
    half = HEAT.N // 2
    found = {}
    for i in range(HEAT.N):
        low, high, share = ("low", "mid", i / half) if i <= half else ("mid", "high", (i - half) / half)
        mixed = f"color-mix(in srgb, var(--heat-{high}) {share * 100:.1f}%, var(--heat-{low}))"
        found[to_hex(HEAT(i))] = mixed
    return found
