"""What people look at: tables, figures and one self-contained page, all computed from a finished profile.

In the order of the data's way from a profile to the files of `write_report`:

- frames: `tables` (rates, energy per block), `analyses` (the ANN, waterfalls, the sweep), `settings_sheets`,
  `gallery` (what `spikeattn attend` wrote), `attention_tables`;
- sheets, the frames as people read them, cell by cell: `sheet`, `sheets`, `analysis_sheets`; their numbers: `numbers`;
- text of the sheets: `typeset` (LaTeX, Markdown); the three tables of a paper: `paper_tables` (frames), `paper_latex`,
  `booktabs`;
- figures: `drawing` (style, SVG, PDF), `tips`, `figures`, `heatmap`, `sweep_figure`; of attention: `pictures`,
  `attention_pieces`, `attention_panels`, `attention_grids`;
- sentences: `cautions`, `methods`, `references`;
- what is written: `paper` (for a paper), `bars` and `content` (what the page says), `page` with `templates/` (the page
  and all other files), `files`.
"""

from spikeattn.reporting.latex.typeset import to_latex, to_markdown
from spikeattn.reporting.page.report_page import Report, write_report
from spikeattn.reporting.paper.frames import model_table, part_table
from spikeattn.reporting.paper.latex_tables import models_latex, parts_latex
from spikeattn.reporting.tables.run_tables import block_energy, rate_table

__all__ = [
    "Report",
    "block_energy",
    "model_table",
    "models_latex",
    "part_table",
    "parts_latex",
    "rate_table",
    "to_latex",
    "to_markdown",
    "write_report",
]
