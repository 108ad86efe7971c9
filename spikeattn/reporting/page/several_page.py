"""The report of several runs: one page that sets them side by side, its tables as csv and LaTeX, and one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from spikeattn.boundary.notes import Note
from spikeattn.boundary.number_format import energy_in, energy_unit, percent, rate
from spikeattn.energy.conventions import DEFAULT as DEFAULT_CONVENTION
from spikeattn.energy.conventions import Convention, get_convention
from spikeattn.energy.costs import DEFAULT as DEFAULT_COSTS
from spikeattn.energy.costs import CostTable, get_costs
from spikeattn.reporting import output_folder
from spikeattn.reporting.figures.drawing import inline, to_pdf, to_png, to_svg
from spikeattn.reporting.figures.several_figure import several_figure
from spikeattn.reporting.latex.typeset import to_latex
from spikeattn.reporting.page.facts import finite
from spikeattn.reporting.page.glossary import listed
from spikeattn.reporting.page.report_page import PAGE, Report, json_text, render
from spikeattn.reporting.tables.run_tables import INTERVAL_METHODS, data_name, pricing
from spikeattn.reporting.tables.several_runs import OTHER_IMAGES, SideBySide, side_by_side
from spikeattn.reporting.tables.sheets import sheet_of
from spikeattn.storage import csv_text

if TYPE_CHECKING:
    from spikeattn.runs.result import Profile

FIGURE = "runs"
_DRAWN = "Energy per image and accuracy of every run with their intervals; the numbers are in the table of runs."
_NOT_A_WARNING = ("untrained",)  # has its own banner


def write_several(
    profiles: Sequence[Profile],
    out: str | Path,
    costs: str | Path | CostTable = DEFAULT_COSTS,
    convention: str | Convention = DEFAULT_CONVENTION,
    command: str | None = None,
) -> Report:
    """Write the page of several runs, such as models or epochs, beside the first of them.

    Everything is computed before the first file is written, and each file appears whole or not at all.

    Args:
        profiles: of one data set, two or more; where they are of the same images, differences have paired intervals.
        out, costs, convention, command: as of `write_report`.

    Raises:
        SpikeattnError: what `side_by_side` refuses, unknown costs or convention, a folder that cannot be written to.
    """
    found = side_by_side(profiles, get_costs(costs), get_convention(convention))
    tables = {"runs": found.runs, "differences": found.differences, "parts": found.parts}
    said = _captions(found, profiles)
    untrained = [name for name, profile in zip(found.names, profiles, strict=True) if profile.untrained]
    note = f"UNTRAINED: the weights of {' and '.join(untrained)} are random" if untrained else ""
    figure = several_figure(found.runs, note)
    svg = to_svg(figure)
    summary = {
        "runs": found.runs.to_dict("records"),
        "differences": found.differences.to_dict("records"),
        "lines": _sentences(found),
        "notes": list(found.notes),
        "costs": found.energies[0].costs.name,
        "convention": found.energies[0].convention.name,
    }
    energy = found.energies[0]
    written: dict[str, str | bytes] = {
        f"{name}.csv": csv_text.write(frame.assign(costs=energy.costs.name, convention=energy.convention.name))
        for name, frame in tables.items()
    }
    latex = {f"{name}.tex": to_latex(frame, said[name], f"tab:{name}") for name, frame in tables.items()}
    written["table.tex"] = "\n".join(latex.values())
    written["summary.json"] = json_text(summary | {"provenance": [_provenance(profile) for profile in profiles]})
    written |= {f"figures/{FIGURE}.{kind}": content for kind, content in _formats(figure, svg).items()}
    page: dict[str, Any] = {
        "title": f"{len(profiles)} runs side by side",
        "untrained": " and ".join(untrained),
        "facts": _facts(profiles),
        "warnings": _warnings(found, profiles),
        "lines": summary["lines"],
        "sheets": {name: sheet_of(frame) for name, frame in tables.items()},
        "captions": said,
        "figures": {FIGURE: Markup(inline(svg, FIGURE, _DRAWN))},
        "downloads": {f"{name}.csv": written[f"{name}.csv"] for name in tables} | latex,
        "costs": energy.costs,
        "convention": energy.convention,
        "commands": [*dict.fromkeys(filter(None, [*(p.provenance.get("command") for p in profiles), command]))],
        "folders": [(name, str(p.path or "in memory")) for name, p in zip(found.names, profiles, strict=True)],
        "glossary": listed(),
        "footnote": "",
        "sections": [("runs", "Runs"), ("differences", "Against the first"), ("parts", "Energy by part"),
                     ("provenance", "Provenance"), ("glossary", "Words")],
    }  # fmt: skip
    written[PAGE] = render(page, "several.html.j2")
    folder = output_folder.folder(out)
    output_folder.folder(folder / "figures")
    return Report({name: output_folder.write(folder / name, text) for name, text in written.items()}, finite(summary))


def several_lines(summary: Mapping[str, Any]) -> list[str]:
    """What stands at the terminal: a line per run, and per run but the first how far it is from that."""
    unit, factor = energy_unit([row["energy_mj"] for row in summary["runs"]])
    width = max(len(row["run"]) for row in summary["runs"])
    lines = []
    for row in summary["runs"]:
        mean = "–" if row["mean_rate"] is None else rate(row["mean_rate"])
        said = (
            f"accuracy {percent(row['accuracy'])}, mean rate {mean}, energy {energy_in(row['energy_mj'], unit, factor)}"
        )
        untrained = "  UNTRAINED" if row["weights"] == "UNTRAINED" else ""
        lines.append(f"{row['run']:<{width}}  {said}{untrained}")
    return [*lines, *summary["lines"], *(f"warning: {text}" for text in summary["notes"])]


def _formats(figure: Any, svg: str) -> dict[str, str | bytes]:
    return {"svg": svg, "png": to_png(figure), "pdf": to_pdf(figure)}


def _captions(found: SideBySide, profiles: Sequence[Profile]) -> dict[str, str]:
    data = data_name(profiles[0])
    of = f" on {data}" if data else ""
    paired = bool(found.differences["paired"].all())
    methods = [m for m in dict.fromkeys(found.differences["energy_mj_interval"]) if m in INTERVAL_METHODS]
    how = f" ({', '.join(INTERVAL_METHODS[method] for method in methods)})" if methods else ""
    level = f"{found.energies[0].total.confidence * 100:g} %"
    pairs = f"{level} intervals over the images that both runs have, image by image{how}."
    others = " Runs of other images have none." if not paired else ""
    return {
        "runs": f"Every run by itself{of}. {pricing(found.energies[0])} {level} intervals over its images.",
        "differences": f"Every run minus {found.names[0]}{of}. {pairs}{others}",
        "parts": f"Energy per image and part of every run{of}. {pricing(found.energies[0])}",
    }


def _facts(profiles: Sequence[Profile]) -> list[tuple[str, str]]:
    def each(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    return [
        ("Data", each([data_name(profile) or "not stated" for profile in profiles])),
        ("Images", each([f"{profile.n_images:,}" for profile in profiles])),
        ("Time steps", each([f"T = {profile.time_steps}" for profile in profiles])),
    ]


def _warnings(found: SideBySide, profiles: Sequence[Profile]) -> list[tuple[str, str, str]]:
    """What concerns the comparison first, then what each run says of itself, with the section it is about."""
    rows = [(note.code, note.text, "differences") for note in found.notes]
    told: dict[Note, list[str]] = {}
    for name, profile in zip(found.names, profiles, strict=True):
        for note in profile.warnings:
            if note.code not in _NOT_A_WARNING:
                told.setdefault(note, []).append(name)
    return rows + [(note.code or "warning", f"{', '.join(names)}: {note.text}", "runs") for note, names in told.items()]


def _sentences(found: SideBySide) -> list[str]:
    """Of every run but the first: what it spends of the first one's energy, and how sure that is."""
    sheet = sheet_of(found.differences)
    place = next(i for i, column in enumerate(sheet.columns) if column.title == "Energy ratio")
    said = []
    for row in sheet.rows:
        value, limits = row[place].text, row[place + 1].text
        how = f" ({limits})" if limits == OTHER_IMAGES else f" {limits}"
        said.append(f"{row[0].text} spends {value}{how} times the energy of {found.names[0]}")
    return said


def _provenance(profile: Profile) -> dict[str, Any]:
    return {"path": str(profile.path) if profile.path else None, "model": dict(profile.ledger.model),
            "run": profile.provenance}  # fmt: skip
