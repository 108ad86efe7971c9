"""What a paper takes from a run: tables, methods and results with their references, figures as PDF at column width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from spikeattn.energy.comparison_result import Comparison
from spikeattn.energy.estimate import EnergyTable
from spikeattn.reporting.figures import drawing
from spikeattn.reporting.figures.drawing import figure_style
from spikeattn.reporting.latex.environments import document
from spikeattn.reporting.paper import methods
from spikeattn.reporting.paper.frames import models_of, part_table
from spikeattn.reporting.paper.latex_tables import models_latex, parts_latex, rates_latex
from spikeattn.reporting.paper.references import bibliography
from spikeattn.reporting.paper.results import results
from spikeattn.reporting.paper.scope_table import lines_latex
from spikeattn.reporting.paper.sentences import keys_of, to_md, to_tex

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

SERIF = "STIXGeneral"  # comes with matplotlib, and has the letters of units and limits: µ, ×, ≤
COLUMN, PAGE = 3.35, 6.9  # inches: a column and the text of a two-column page
_WIDTHS = {
    "firing_rates": PAGE,
    "energy_by_part": COLUMN,
    "energy_by_block": COLUMN,
    "over_time": PAGE,
    "models": PAGE,
    "sweep": PAGE,
    "images": PAGE,
    "accuracy_energy": COLUMN,
}
_CAPTIONS = {
    "firing_rates": "Firing rate of every tensor at every time step.",
    "energy_by_part": "Energy per image of every part, with its interval; arithmetic only.",
    "energy_by_block": "Energy per image of every block; arithmetic only.",
    "over_time": "Accuracy and mean firing rate if the network had stopped after each time step.",
    "models": "Energy per image under every energy model, each with other things inside; none is added to another.",
    "sweep": "Energy beside the ANN, break-even rate, and energy against the rate weighted by operations.",
    "images": "Energy and synaptic operations per image, and by class where images have labels; arithmetic only.",
    "accuracy_energy": "Accuracy against energy per image after each time step, with Wilson intervals.",
}
_MAIN = r"""%% Sets everything that this folder holds for a paper: pdflatex main, bibtex main, pdflatex main twice.
\documentclass[10pt]{article}
\usepackage[T1]{fontenc}\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[margin=2.4cm]{geometry}\usepackage{booktabs,longtable,siunitx,graphicx}
\emergencystretch=3em
\begin{document}
\suppressfloats[t]
\section*{Methods}
\input{methods}
\section*{Results}
\input{results}
\input{table}
%s
\bibliographystyle{plain}
\bibliography{references}
\end{document}
"""


def paper_files(
    profile: Profile,
    rates: pd.DataFrame,
    table: pd.DataFrame,
    energy: EnergyTable,
    summary: dict[str, Any],
    comparison: Comparison | None,
    figures: dict[str, Figure],
    serif: bool = False,
) -> dict[str, str | bytes]:
    """Contents of table.tex, main.tex, methods and results (.tex, .md), references.bib and figures/*.pdf, by file name.

    Args:
        rates: of `profile.rates()`.
        table: of `rate_table`.
        energy, summary: under the report's costs and convention.
        comparison: the run beside its ANN; None where there is none, and then neither its lines nor a table of parts.
        figures: of the report, by name; laid out anew here, so they must be saved in other formats before.
        serif: letters of the figures with serifs.
    """
    tables = [rates_latex(table), models_latex(models_of([(profile, energy, summary)]))]
    if comparison is not None:
        tables += [lines_latex(comparison), parts_latex(part_table(comparison))]
    said = methods.methods(profile, rates, energy, comparison)
    found = results(profile, table, energy, summary, comparison)
    version = (profile.provenance.get("settings") or {}).get("spikeattn")
    pictures = {
        f"figures/{name}.pdf": to_pdf(figure, _WIDTHS.get(name, PAGE), serif) for name, figure in figures.items()
    }
    written: dict[str, str | bytes] = {
        "table.tex": document(tables),
        "main.tex": _MAIN % "\n".join(map(_figure, figures)),
        "methods.tex": to_tex(said),
        "methods.md": to_md(said),
        "results.tex": to_tex(found),
        "results.md": to_md(found),
        "references.bib": bibliography(keys_of([*said, *found]), version),
    }
    return written | pictures


def to_pdf(figure: Figure, width: float = COLUMN, serif: bool = False) -> bytes:
    """The figure as a PDF with its fonts in it (TrueType), laid out anew at a width of so many inches at most.

    Letters keep their size; `serif` sets them in those of the STIX project, which go with Times and with Computer
    Modern. The same numbers give the same bytes.
    """
    with figure_style():
        for text in figure.findobj(Text) if serif else ():
            assert isinstance(text, Text)
            text.set_fontfamily(SERIF)
            text.set_math_fontfamily("stix")
        old, height = figure.get_size_inches()
        width = min(width, old)
        figure.set_size_inches(width, height)
        _fit_legends(figure, width)
        _fit_labels(figure)
        figure.set_layout_engine("constrained")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return drawing.to_pdf(figure)


def _fit_labels(figure: Figure) -> None:
    """Break the label of an axis that is wider than the figure behind its last comma."""
    for axes in figure.axes:
        label = axes.xaxis.label
        if label.get_window_extent().width > figure.bbox.width - axes.bbox.x0:
            label.set_text(",\n".join(label.get_text().rsplit(", ", 1)))


def _fit_legends(figure: Figure, width: float) -> None:
    """Break a legend that is wider than the figure into rows."""
    for legend in list(figure.legends):
        needed = legend.get_window_extent().width / figure.dpi
        if needed > width:
            handles: list[Any] = legend.legend_handles
            labels = [text.get_text() for text in legend.get_texts()]
            columns = max(int(len(labels) * width / needed * 0.9), 1)
            legend.remove()
            figure.legend(
                handles, labels, loc="outside upper left", ncols=columns, fontsize=8, handlelength=1, handleheight=1,
                columnspacing=1.3, handletextpad=0.5,
            )  # fmt: skip


def _figure(name: str) -> str:
    width = _WIDTHS.get(name, PAGE)
    return (
        rf"\begin{{figure}}[tbp]\centering\includegraphics[width={min(width, 6.3)}in]{{figures/{name}.pdf}}"
        rf"\caption{{{_CAPTIONS.get(name, '')}}}\label{{fig:{name}}}\end{{figure}}"
    )
