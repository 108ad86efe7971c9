"""What people look at: tables, figures and one self-contained page, all computed from a finished profile.

Rooms, in the order of the data's way from a profile to the files of `write_report`:

- `tables`: frames of a run (`run_tables`, `analyses`, `attention_tables`), of several (`several_runs`), the same as
  people read them, cell by cell (`sheet`, `sheets`, `analysis_sheets`, `model_sheet`, `settings_sheets`), and how a
  number is written (`number_format`);
- `figures`: one style and its formats (`drawing`, `tips`, `printed_names`); charts of a run (`charts`, `heatmap`,
  `model_figure`, `sweep_figure`), of several runs (`several_figure`), of a training (`indicator_curves`), of attention
  (`attention_drawing`, `attention_panels`, `attention_rows`, `attention_grids`, `attention_overlay`, `input_pictures`,
  `specification_curve`), of published ones (`published_residuals`);
- `latex`: what every table in LaTeX is written with (`environments`), from sheets (`typeset`, Markdown too) or with
  numbers at their decimal points (`booktabs`);
- `study`: a `Study` in words (`captions`, `meaning`), pictures (`views`, `pictures`, `gallery_pictures`), arrays and
  one record (`arrays`, `summary`); what `sa.attend` returned (`in_memory`);
- `paper`: what a paper takes from a run: its tables (`frames`, `latex_tables`), methods and sources (`methods`,
  `references`), all files (`paper_files`);
- `page`: the HTML page: what it says (`facts`, `cards`, `stages`, `bars`, `cautions`), its sections and words
  (`contents`, `glossary`), the gallery of attention (`gallery`), the page with everything beside it (`report_page`,
  `templates/`), `sa.report` (`from_python`); the page of several runs (`several_page`);
- `notebook`: results as cells show them, in the page's style (`fragment`), and their plots (`into_axes`);
- `output_folder`: names of files, and writing them whole.

Names are loaded on first use: a table printed in a terminal needs neither matplotlib nor torch.
"""

from typing import TYPE_CHECKING

from spikeattn.compat.lazy_names import lazy_names

if TYPE_CHECKING:
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

__getattr__ = lazy_names(
    __name__,
    {
        "Report": "page.report_page",
        "block_energy": "tables.run_tables",
        "model_table": "paper.frames",
        "models_latex": "paper.latex_tables",
        "part_table": "paper.frames",
        "parts_latex": "paper.latex_tables",
        "rate_table": "tables.run_tables",
        "to_latex": "latex.typeset",
        "to_markdown": "latex.typeset",
        "write_report": "page.report_page",
    },
)
