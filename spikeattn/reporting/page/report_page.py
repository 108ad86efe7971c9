"""The report of a run: every table as csv, LaTeX, figures, and one self-contained HTML page.

All of it is computed from the run's two files; `facts` collects what the page says, `templates/` how it looks.
"""

from __future__ import annotations

import html
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from spikeattn.boundary.visible_text import visible
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable
from spikeattn.energy.dense_twin import DenseTwin
from spikeattn.reporting import output_folder
from spikeattn.reporting.figures.accuracy_energy import accuracy_energy, has_accuracy
from spikeattn.reporting.figures.charts import block_bars, energy_bars, time_lines
from spikeattn.reporting.figures.drawing import inline, to_png, to_svg
from spikeattn.reporting.figures.heatmap import rate_heatmap
from spikeattn.reporting.figures.image_histograms import image_histograms
from spikeattn.reporting.figures.model_figure import model_figure
from spikeattn.reporting.figures.sweep_figure import sweep_figure
from spikeattn.reporting.latex.typeset import names_html, paper_html, to_latex
from spikeattn.reporting.page import bars, facts, stages
from spikeattn.reporting.page.contents import sections
from spikeattn.reporting.page.gallery import Gallery, read_gallery
from spikeattn.reporting.page.glossary import glossed
from spikeattn.reporting.paper.paper_files import paper_files
from spikeattn.reporting.tables.analyses import analyse
from spikeattn.reporting.tables.image_tables import classes_said, image_table
from spikeattn.reporting.tables.run_tables import block_energy, caption, pricing, rate_table
from spikeattn.reporting.tables.settings_sheets import price_table, switch_table
from spikeattn.storage import csv_text

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

PAGE = "report.html"
IMAGES = "images.csv"
_EMBEDDED = 16 << 20  # characters of IMAGES, of some 130,000 images; with more the page takes seconds to open
SCREEN = 80  # columns of a terminal that nobody has made wider


@dataclass(frozen=True)
class Report:
    """What `write_report` wrote.

    Attributes:
        files: by what they are called in the folder: "report.html", "rates.csv", "figures/firing_rates.svg", ...
        summary: `profile.summary()` under the report's costs and convention, and "lines", both networks of the
            comparison in arithmetic and with memory.
    """

    files: dict[str, Path]
    summary: dict[str, Any]

    def __repr__(self) -> str:
        untrained, lines = " (UNTRAINED)" * bool(self.summary["untrained"]), self.summary["lines"]
        told = [line for each in lines for line in textwrap.wrap(str(each["text"]), SCREEN, subsequent_indent=" " * 12)]
        return "\n".join(
            [
                f"<Report of {self.summary['model']}{untrained}: the page and {len(self.files) - 1} other files>",
                str(self.page),
                *told,
            ]
        )

    def _repr_html_(self) -> str:
        """The page in a notebook, in a frame of its own so that its styles touch nothing else."""
        page = html.escape(self.page.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:80vh;border:0" title="spiking profile"></iframe>'

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.files[PAGE]


def write_report(
    profile: Profile,
    out: str | Path,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    attention: str | Path | Gallery | None = None,
    command: str | None = None,
    twin: DenseTwin | None = None,
    serif: bool = False,
) -> Report:
    """Write tables, figures and the page of a finished run into a folder; the page comes last.

    Everything is computed before the first file is written, and each file appears whole or not at all. Files of an
    earlier report are replaced; nothing else in the folder is touched.

    Args:
        profile: the run.
        out: folder, made where it is missing; the run's own folder is fine.
        costs: name of a cost table, a `.toml` file, or a `CostTable`.
        convention: name of a convention, or a `Convention`.
        attention: folder that `spikeattn attend --out` wrote, of the same model, or a gallery made of what `sa.attend`
            returned.
        command: that writes this report again; on the page.
        twin: of `measured_twin`, for the comparison with an ANN; by default that of `compare`.
        serif: letters with serifs in `figures/*.pdf`, as in the text of most papers.

    Raises:
        SpikeattnError: unknown costs or convention, an attention of another model, or a folder that cannot be written
            to.
    """
    gallery: Gallery | None = None
    if isinstance(attention, Gallery):
        gallery = attention
    elif attention is not None:
        gallery = read_gallery(attention, profile.ledger.model.get("name"))
    rates, energy = profile.rates(), profile.energy(costs, convention)
    blocks, steps = block_energy(profile, costs, convention), profile.over_time()
    operations, summary = profile.operations(), profile.summary(costs, convention)
    table = rate_table(rates)
    table.attrs["caption"] = caption(profile, "Firing rates (share of non-zero elements)", rates)
    said = {"energy": caption(profile, "Energy per image", energy), "rates": table.attrs["caption"]}
    said["images"] = f"{caption(profile, 'Energy and SOPs of every image')} {pricing(energy)}"

    tables = {
        "rates.csv": rates,
        "rate_table.csv": table[table["part"] != "Input"],
        "operations.csv": operations,
        "energy.csv": pd.DataFrame(energy).assign(costs=energy.costs.name, convention=energy.convention.name),
        "over_time.csv": steps,
        IMAGES: (images := image_table(profile, energy)).assign(
            costs=energy.costs.name, convention=energy.convention.name
        ),
    }
    analyses = analyse(profile, energy.costs, energy.convention, twin)
    summary["lines"] = [line.to_dict() for line in analyses.lines(str(summary["model"] or "model"))]
    shown = {"rates": table, "energy": energy, "operations": operations, "time": steps, **analyses.tables()}
    settings = {"prices": price_table(energy.costs), "switches": switch_table(energy.convention)}
    shown |= settings
    structure = profile.structure
    if structure.entries["synapses"]:
        shown["structure"] = tables["structure.csv"] = structure.table()
    tables |= {f"{name}.csv": frame for name, frame in (analyses.tables() | settings).items()}
    if gallery is not None:
        shown["attention"] = gallery.images
        tables["attention_images.csv"] = gallery.images
    said |= {name: caption(profile, facts.TABLES[name]) for name in shown if name in facts.TABLES}
    written: dict[str, str | bytes] = {name: _csv(frame, profile) for name, frame in tables.items()}
    latex = {name: to_latex(frame, said[name], f"tab:{name}") for name, frame in shown.items()}
    written["summary.json"] = json_text(summary | {"provenance": _provenance(profile, energy)})

    note = "UNTRAINED model: the weights are random" if profile.untrained else ""
    drawn = {
        "firing_rates": rate_heatmap(table, note),
        "energy_by_part": energy_bars(energy, note),
        "energy_by_block": block_bars(blocks, note),
        "over_time": time_lines(steps, note),
        "images": image_histograms(images, note),
    }
    if analyses.models is not None and (analyses.models["unit"] == "mJ").any():
        drawn["models"] = model_figure(analyses.models, note)
    if analyses.sweep is not None:
        drawn["sweep"] = sweep_figure(analyses.sweep, note)
        if has_accuracy(analyses.sweep):
            drawn["accuracy_energy"] = accuracy_energy(analyses.sweep, note)
    vectors = {name: to_svg(figure) for name, figure in drawn.items()}
    written |= {f"figures/{name}.svg": svg for name, svg in vectors.items()}
    written |= {f"figures/{name}.png": to_png(figure) for name, figure in drawn.items()}
    written |= paper_files(profile, rates, table, energy, summary, analyses.comparison, drawn, serif)

    page = facts.page(profile, summary, shown, analyses, rates, gallery, command)
    page |= {"blocks": bars.architecture(blocks), "stages": stages.stages(structure), "classes": classes_said(images)}
    downloads = {name: written[name] for name in tables if name != IMAGES or len(written[name]) <= _EMBEDDED}
    downloads |= {f"{name}.tex": text for name, text in latex.items()}
    page |= {"figures": _inline(vectors), "downloads": downloads, "captions": said}
    written[PAGE] = render(page | {"sections": sections(page)})

    folder = output_folder.folder(out)
    output_folder.folder(folder / "figures")
    return Report({name: output_folder.write(folder / name, text) for name, text in written.items()}, summary)


def render(page: dict[str, Any], template: str = "report.html.j2") -> str:
    """The HTML page; everything in it but the package's own templates and figures is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("spikeattn.reporting.page", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,  # Markup is the package's own
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["paper"] = lambda role: Markup(paper_html(str(escape(visible(role)))))
    environment.filters["glossed"] = glossed
    environment.filters["named"] = lambda text: Markup(names_html(str(escape(visible(text)))))
    environment.filters["listed"] = lambda names: Markup(str(escape(visible(names))).replace(", ", ", <wbr>"))
    environment.filters["breakable"] = lambda name: Markup(str(escape(visible(name))).replace(".", ".<wbr>"))
    return environment.get_template(template).render(page)


def _inline(vectors: dict[str, str]) -> dict[str, Markup]:
    """Those of the figures that the page shows; the blocks it draws itself."""
    texts = facts.FIGURES
    return {name: Markup(inline(svg, name, texts[name])) for name, svg in vectors.items() if name in texts}


def _csv(frame: pd.DataFrame, profile: Profile) -> str:
    """Full precision; the last column says whether the weights are trained, so that no csv travels without it."""
    return csv_text.write(frame.assign(weights=facts.weights(profile)))


def _provenance(profile: Profile, energy: Any) -> dict[str, Any]:
    return {"model": dict(profile.ledger.model), "run": profile.provenance, "energy": energy.provenance}


def json_text(record: dict[str, Any]) -> str:
    """A record as JSON, with null for what is no finite number."""
    return json.dumps(facts.finite(record), indent=2, ensure_ascii=False, default=str, allow_nan=False) + "\n"
