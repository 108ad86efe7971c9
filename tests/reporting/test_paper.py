"""Tables, methods paragraph and figures of a paper: numbers of the frames, escaped names, and a LaTeX engine's word."""

import math
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from spikeattn.boundary.number_format import count_unit, energy_unit, rate, rate_with_limits, significant
from spikeattn.energy import get_costs
from spikeattn.energy.comparison import compare
from spikeattn.energy.scope_line import ratio_text
from spikeattn.errors import SpikeattnError
from spikeattn.reporting import rate_table, write_report
from spikeattn.reporting.latex.booktabs import Field, code, table
from spikeattn.reporting.latex.environments import BREAK, document, escape_latex
from spikeattn.reporting.paper import decimals, methods
from spikeattn.reporting.paper.frames import model_table, part_table
from spikeattn.reporting.paper.latex_tables import models_latex, parts_latex, rates_latex
from spikeattn.reporting.paper.paper_files import COLUMN, to_pdf
from spikeattn.reporting.paper.references import REFERENCES, bibliography, keys_in
from spikeattn.reporting.paper.results import results
from spikeattn.reporting.paper.sentences import keys_of, to_md, to_tex

from .conftest import HOSTILE, LATEX, firing_sdt

PAPER = ("table.tex", "main.tex", "methods.tex", "methods.md", "results.tex", "results.md", "references.bib")
ROOT = Path(__file__).parents[2]
PATH = "/data/50%_of{the}_#1 & ~user^2\\x$"


def columns_of(latex: str) -> list[tuple[int, list[list[str]]]]:
    """Declared number of columns and the cells of every row, for every tabular of a text."""
    found = []
    for body in re.findall(r"\\begin\{(?:tabular|longtable)\}\{@\{\}(.*?)\\end\{(?:tabular|longtable)\}", latex, re.S):
        alignment, rest = body.split("@{}}", 1)
        declared = len(re.findall("[lrSp]", re.sub(r"\[[^]]*\]|>\{[^}]*\}|(?<=p)\{[^}]*\}", "", alignment)))
        rows = [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in rest.splitlines() if line.endswith(r"\\")]
        found.append((declared, [[cell.strip() for cell in row] for row in rows if r"\caption" not in row[0]]))
    return found


@pytest.fixture(scope="module")
def pieces(profile):
    return profile.rates(), profile.energy()


@pytest.fixture
def hostile_run(foreign):
    """The foreign network, on data with a hostile path, with skipped images."""
    settings = dict(foreign.provenance.get("settings") or {}) | {"data": {"name": PATH, "split": None}}
    skipped = [{"id": f"{PATH}/{i}.png", "reason": "not <an> image & broken"} for i in range(5)]
    record = dict(foreign.ledger.provenance) | {"settings": settings, "skipped": skipped}
    return type(foreign)(replace(foreign.ledger, provenance=record), foreign.counts)


def test_every_row_has_the_declared_columns(profile, foreign, rates):
    made = [rates_latex(rate_table(source)) for source in (profile, foreign, rates(50, 16), rates(3, 1))]
    made += [models_latex(model_table(profile, foreign)), parts_latex(part_table(compare(profile)))]
    for latex in made:
        tables = columns_of(latex)
        assert tables
        for declared, rows in tables:
            assert declared > 1 and {len(row) for row in rows} == {declared}


def test_rates_are_those_of_the_frame_part_module_tensor_steps_average(profile):
    frame = rate_table(profile)
    ((_, (titles, *rows)),) = columns_of(rates_latex(frame))
    assert titles[:4] == ["Part", "Module", "Tensor", "In the code"]
    assert titles[4:] == [*(f"{{$T_{{{t}}}$}}" for t in range(1, 5)), "{Average}", "Interval"]
    assert len(rows) == len(frame)
    for row, (_, wanted) in zip(rows, frame.iterrows(), strict=True):
        assert row[3] == rf"\texttt{{{escape_latex(wanted['code'])}}}"
        for cell, column in zip(row[4:9], ["T1", "T2", "T3", "T4", "average"], strict=True):
            text = rate(wanted[column])
            if column == "average":  # with the digits of its limits
                bound = wanted["interval"] == "upper bound"
                text = rate_with_limits(wanted[column], wanted["low"], wanted["high"], bound)[0]
            assert cell in (text, rf"{{\num{{{text}}}}}")


def test_many_steps_are_cut_into_panels_and_none_is_lost(rates):
    tables = columns_of(rates_latex(rate_table(rates(5, 16))))
    titles = [title for _, (first, *_) in tables for title in first if title.startswith("{$T")]
    assert len(tables) > 1 and titles == [f"{{$T_{{{t}}}$}}" for t in range(1, 17)]


def test_models_have_a_row_per_run_with_energy_and_accuracy_of_the_profile(profile, single):
    frame = model_table(profile, single)
    unit, factor = energy_unit(frame["energy_mj"])
    ((_, (titles, *rows)),) = columns_of(models_latex(frame))
    assert titles[:2] == ["Method", "Architecture"] and titles[-5:-3] == ["{$T$}", f"{{Energy ({escape_latex(unit)})}}"]
    assert [row[-5] for row in rows] == ["4", "1"]
    prefix, size = count_unit(frame["parameters"])  # the unit of the page: 163.7 k here and there
    assert titles[-6] == f"{{Param ({prefix})}}"
    for row, run in zip(rows, (profile, single), strict=True):
        assert float(row[-4]) == pytest.approx(run.energy().total.value / factor, rel=6e-3)
        assert float(row[-2]) == pytest.approx(100 * run.summary()["accuracy"], abs=5e-3)
        assert float(row[-6]) == pytest.approx(run.ledger.model["parameters"] / size, rel=1e-3)
        assert row[1] == "2-32" and row[0] == r"Spike-driven Transformer$^\dagger$"


def test_no_model_is_an_error():
    with pytest.raises(SpikeattnError, match="model_table needs a profile"):
        model_table()


def test_what_is_not_counted_or_priced_is_marked(profile, foreign):
    frame = model_table(profile, foreign)
    assert list(frame["incomplete"]) == [False, True] and list(frame["untrained"]) == [True, False]
    latex = models_latex(frame)
    assert r"Foreign$^\ddagger$" in latex and "a lower bound" in latex and "random weights" in latex
    assert list(model_table(profile, costs="loihi")["incomplete"]) == [True]


def test_parts_are_those_of_the_comparison_and_add_up(profile):
    comparison = compare(profile, costs=[get_costs("horowitz-45nm-int8"), get_costs("horowitz-45nm-fp32")])
    frame = part_table(comparison)
    total = list(frame["part"]).index("total")
    wanted = comparison.parts[comparison.parts["costs"] == "horowitz-45nm-int8"].drop_duplicates("part")
    assert list(frame["part"][: total + 1]) == list(wanted["part"])
    for column in ("ann_mj", "snn_mj"):
        assert frame[column][:total].sum() == pytest.approx(frame[column][total])
    assert frame["ratio"][total] == pytest.approx(comparison.total.value)
    _, factor = energy_unit(frame["ann_mj"])
    ((_, (titles, *rows)),) = columns_of(parts_latex(frame))
    assert titles[4] == "{ANN / SNN}" and [row[0] for row in rows][total:] == ["Total", "QKV and attention"]
    for row, energy in zip(rows, frame["ann_mj"], strict=True):
        number = row[1].replace(r"{\textless{}", "").strip("{}")
        assert float(number) == pytest.approx(energy / factor, abs=0.6 * 10.0 ** -len(number.partition(".")[2]))


def test_the_columns_of_tables_3_and_4_have_one_number_of_places(profile, single, foreign):
    tables = [models_latex(model_table(profile, single, foreign)), parts_latex(part_table(compare(profile)))]
    for latex in tables:
        ((_, (titles, *rows)),) = columns_of(latex)
        for place, title in enumerate(titles):
            if title.startswith(("{Energy", "{Param", "{Acc", "{ANN", "{SNN", "{Break", "Interval")):
                found = {len(part) for row in rows for part in re.findall(r"\d\.(\d+)", row[place])}
                assert len(found) == 1, (title, [row[place] for row in rows])
        for row in rows:
            for place, title in enumerate(titles):
                if title == "Interval" and "." in row[place] and row[place - 1] != "0":
                    assert len(re.findall(r"\.(\d+)", row[place])[0]) == len(row[place - 1].partition(".")[2])


def test_places_of_a_column():
    alone = (4.2826, 4.2426, 4.3213, "studentised")
    assert decimals.places_of(alone) == 3 and decimals.fixed_with_limits(alone, 3) == ("4.283", "[4.243, 4.321]")
    large = (274.63, 272.18, 277.01, "studentised")
    assert decimals.common_places([alone, large]) == 2  # the smaller keeps three digits, and no more
    assert decimals.fixed_with_limits(large, 2) == ("274.63", "[272.18, 277.01]")
    small = (4.4e-4, 4.2e-4, 4.6e-4, "studentised")
    assert decimals.fixed_with_limits(small, 3) == ("<0.001", "–") and decimals.fixed(0.0, 3) == "0"
    assert decimals.fixed_with_limits((0.5, math.nan, 0.7, "upper bound"), 2) == ("0.50", "≤ 0.70")
    assert decimals.fixed_with_limits((math.nan, 0.0, 1.0, "none"), 2) == ("–", "–")
    assert decimals.fixed_with_limits((2.5, 2.0, math.inf, "studentised"), 1) == ("2.5", "[2.0, no upper limit]")


def test_results_are_the_numbers_of_the_run_with_their_intervals(profile):
    comparison, summary = compare(profile), profile.summary()
    said = results(profile, rate_table(profile), profile.energy(), summary, comparison)
    tex, md = to_tex(said), to_md(said).replace("\\", "")
    total = str(profile.energy().total).replace(" per image", "")
    assert total in md and escape_latex(total) in tex
    low, high = summary["accuracy_interval"]
    assert f"answers {summary['accuracy'] * 100:.2f} % [{low * 100:.2f}, {high * 100:.2f}] of 24 images" in md
    assert significant(summary["mean_rate"], 3) in md and "UNTRAINED" in md
    for line in comparison.lines:
        assert line.missing or " ".join(ratio_text(line.ratio)) in md
    labels = set(re.findall(r"\\ref\{(.*?)\}", tex))
    assert labels == {"tab:models", "tab:rates", "fig:energy_by_part", "tab:scopes", "tab:parts"}
    assert "ref" not in md


def test_results_without_labels_and_without_an_ann(foreign):
    said = to_md(results(foreign, rate_table(foreign), foreign.energy(), foreign.summary(), None))
    assert "No accuracy is given" in said and "a ratio of" not in said


def test_letters_of_figures_with_serifs(profile):
    from spikeattn.reporting.figures.charts import energy_bars

    plain, serif = (to_pdf(energy_bars(profile.energy()), COLUMN, serif) for serif in (False, True))
    assert b"DejaVuSans" in plain and b"STIXGeneral" not in plain
    assert b"STIXGeneral" in serif and b"DejaVuSans" not in serif and b"/Type3" not in serif


def test_columns_align_at_the_point():
    field = Field("x", ("12.5", "0.1234", "2e-5", "–", "∞"), "number")
    assert field.alignment == "S[table-format=2.4]"
    assert [field.cell(i) for i in range(5)] == ["12.5", "0.1234", r"{\num{2e-5}}", "{--}", r"{$\infty$}"]
    assert code("a.b_c") == r"\texttt{a.b\_c}" and r"\allowbreak" in code("a" * 40 + ".b")
    with_rule = table([[Field("Part", ("a", "a", "b"))]], [1], "100 % & more", "tab:x", notes="below")
    assert r"\caption{100 \% \& more}\label{tab:x}" in with_rule and with_rule.count(r"\midrule") == 2


def test_methods_say_what_the_provenance_says(profile, pieces):
    text = to_md(methods.methods(profile, *pieces, compare(profile)))
    assert "Rates were averaged over 24 images of digits (test) [@alpaydin1998]" in text
    assert "for T = 4 time steps, input 1 × 16 × 16" in text and "UNTRAINED" in text and "random weights" in text
    assert "studentised bootstrap (fewer than 1000 images)" in text and "2,000 resamples" in text
    assert "`horowitz-45nm-fp32` [@horowitz2014] (MAC 4.6 pJ, AC 0.9 pJ)" in text
    assert "No joule was measured" in text and "No image was skipped." in text and "is counted." in text
    assert f"SpikingJelly {version('spikingjelly')} [@fang2023]" in text and f"timm {version('timm')} " in text
    assert "[@wightman2019]" in text and "[@yao2023]" in text and "twin" in text


def test_methods_without_spikingjelly_do_not_cite_it(profile):
    settings = profile.provenance["settings"] | {"spikingjelly": None}
    text = to_md([methods._tools(SimpleNamespace(provenance={"settings": settings}))])
    assert "with its own neurons, timm" in text and "SpikingJelly" not in text


def test_methods_name_the_convention_and_its_source(profile):
    energy = profile.energy("loihi", "spikformer")
    text = to_md(methods.methods(profile, profile.rates(), energy))
    assert "convention `spikformer` [@zhou2023spikformer" in text and "[@tang2023]" in text and "unpriced" in text


def test_methods_of_one_image_and_of_a_silent_network(single, silent):
    text = to_md(methods.methods(single, single.rates(), single.energy()))
    assert "averaged over 1 image of" in text and "No interval is given: one image has none." in text
    quiet = to_md(methods.methods(silent, silent.rates(), silent.energy()))
    assert "no neuron fired" in quiet


def test_methods_escape_names_and_say_what_is_missing(hostile_run):
    said = methods.methods(hostile_run, hostile_run.rates(), hostile_run.energy())
    tex, md = to_tex(said), to_md(said)
    whole = tex.replace(BREAK, "")
    assert rf"\texttt{{{escape_latex(HOSTILE)}}}" in whole and escape_latex(PATH) in whole
    assert f"`{HOSTILE}`" in md and PATH not in md.replace("`" + PATH, "")
    for text in (tex, md):
        assert "5 images were skipped and are in no number" in text and "and 2 more" in text
        assert "counted, so the energies are too small by an unknown amount" in text
        assert "not stated to be trained" in text
    assert set(re.findall(r"(?<!\\)[_%#&$]", re.sub(r"\$\\[a-z]+\$", "", tex))) <= set()


def test_the_bibliography_holds_every_key_that_is_cited_and_no_other(profile, pieces):
    keys = keys_of(methods.methods(profile, *pieces))
    entries = re.findall(r"@\w+\{([^,]+),", bibliography(keys))
    assert entries == keys and set(keys) == {
        "spikeattn",
        "yao2023",
        "alpaydin1998",
        "fang2023",
        "wightman2019",
        "horowitz2014",
    }
    assert keys_in("code of arXiv 2304.11954; Horowitz 2014") == ["zhou2023spikingformer", "horowitz2014"]
    page = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
    for field in ("author", "title", "year"):  # as on the page; the version is the one that counted
        assert re.search(rf"^  {field} .*$", page, re.MULTILINE)[0] in bibliography(["spikeattn"], "7.0.0")
    assert "note   = {Version 7.0.0}" in bibliography(["spikeattn"], "7.0.0")
    for key, entry in REFERENCES.items():
        assert entry.startswith("@") and entry.count("{") == entry.count("}") and f"{{{key}," in entry
        assert {"author", "title", "year"} <= set(re.findall(r"^  (\w+)\s+=", entry, re.M))


def test_figures_are_pdf_with_truetype_fonts_at_column_width(profile):
    from spikeattn.reporting.figures.charts import block_bars, energy_bars
    from spikeattn.reporting.tables.run_tables import block_energy

    made = to_pdf(energy_bars(profile.energy()), COLUMN)
    assert made == to_pdf(energy_bars(profile.energy()), COLUMN)
    width = float(re.search(rb"/MediaBox \[ *0 0 ([\d.]+)", made).group(1))
    assert width == pytest.approx(COLUMN * 72, abs=0.1)
    assert b"/FontFile2" in made and b"/Type3" not in made
    narrow = block_bars(block_energy(profile))
    to_pdf(narrow, COLUMN)
    box = narrow.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= narrow.bbox.x1
    assert len(narrow.legends[0].get_texts()) == len(set(block_energy(profile).query("energy_mj > 0")["part"]))


def test_the_report_writes_them(profile, tmp_path):
    report = write_report(profile, tmp_path)
    assert {*PAPER, "figures/energy_by_part.pdf", "figures/firing_rates.pdf"} <= set(report.files)
    latex = report.files["table.tex"].read_text()
    assert latex.endswith("\\spikeattnend\n")
    for label in ("rates", "models", "parts"):
        assert rf"\label{{tab:{label}}}" in latex and f"tab:{label}" in report.files["results.tex"].read_text()
    without = write_report(profile, tmp_path / "chip", costs="loihi")
    assert r"\label{tab:parts}" not in without.files["table.tex"].read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason=f"pdflatex is not installed; {LATEX}")
def test_latex_compiles(profile, hostile_run, rates, tmp_path):
    if shutil.which("kpsewhich") and not _run(["kpsewhich", "siunitx.sty"], tmp_path).stdout.strip():
        pytest.skip(f"siunitx is not installed; {LATEX}")
    for name, run in (("trained", profile), ("hostile", hostile_run), ("long", firing_sdt(16, 3))):
        folder = tmp_path / name
        write_report(run, folder)
        _compile(folder, "table")
        log = _compile(folder, "main")
        assert shutil.which("bibtex") is None or _run(["bibtex", "main"], folder).returncode == 0
        log = _compile(folder, "main") and _compile(folder, "main")
        assert "undefined" not in log and "Overfull" not in log
    frames = [rate_table(rates(50, 16)), rate_table(rates(4, 2))]
    (tmp_path / "table.tex").write_text(document([rates_latex(frame) for frame in frames]))
    assert "Overfull" not in _compile(tmp_path, "table")


def _compile(folder, name: str) -> str:
    done = _run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"], folder)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def _run(command: list[str], folder) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
