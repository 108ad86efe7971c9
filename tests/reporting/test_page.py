"""The report: every file whole, numbers of the profile's own summary, and a page that nothing can be smuggled into."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import spikeattn as sa
from spikeattn.boundary.number_format import amount, energy_unit, percent
from spikeattn.cli import main
from spikeattn.reporting import Report, rate_table, write_report
from spikeattn.reporting.latex.environments import escape_latex
from spikeattn.reporting.page import report_page

from .conftest import HOSTILE

FIGURES = ("firing_rates", "energy_by_part", "energy_by_block", "over_time", "sweep", "images", "accuracy_energy")
FIGURES += ("models",)
FILES = {"rates.csv", "rate_table.csv", "operations.csv", "energy.csv", "over_time.csv", "table.tex", "summary.json"}
FILES |= {"structure.csv", "images.csv", "comparison.csv", "waterfall.csv", "sweep.csv", "prices.csv", "switches.csv"}
FILES |= {"models.csv"}
FILES |= {"report.html", *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("svg", "png", "pdf"))}
FILES |= {"main.tex", "methods.tex", "methods.md", "results.tex", "results.md", "references.bib"}


class Page(HTMLParser):
    """Tags with attributes, visible text, and whether every element is closed."""

    VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


@pytest.fixture(scope="session")
def report(profile, tmp_path_factory) -> Report:
    return write_report(profile, tmp_path_factory.mktemp("report") / "deep" / "er")


@pytest.fixture(scope="session")
def html(report) -> str:
    return report.page.read_text(encoding="utf-8")


def test_every_image_has_its_energy_on_the_page_and_in_a_csv(report, html, profile):
    found = pd.read_csv(report.files["images.csv"])
    assert len(found) == profile.n_images and {"label", "prediction", "sops", "convention", "weights"} <= set(found)
    assert found["energy_mj"].mean() == pytest.approx(report.summary["energy_mj"])
    assert 'id="images"' in html and 'data-download="images.csv"' in html and 'id="plot-images"' in html
    assert 'id="plot-accuracy_energy"' in html and "Two rates are printed" in html


def test_a_table_of_very_many_images_lies_beside_the_page(profile, report, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "_EMBEDDED", 100)
    made = write_report(profile, tmp_path)
    page = made.page.read_text(encoding="utf-8")
    assert 'data-download="images.csv"' not in page and '<a href="images.csv">' in page
    assert 'data-download="rates.csv"' in page
    assert made.files["images.csv"].read_bytes() == report.files["images.csv"].read_bytes()
    assert len(made.page.read_bytes()) < len(report.page.read_bytes())


def test_every_file_is_there_and_whole(report):
    assert set(report.files) == FILES
    assert all(path.stat().st_size > 0 for path in report.files.values())
    folder = report.page.parent
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == FILES


def test_summary_is_that_of_the_profile(report, profile):
    assert report.summary == profile.summary() | {"lines": [line.to_dict() for line in sa.compare(profile).lines]}
    written = json.loads(report.files["summary.json"].read_text())
    provenance = written.pop("provenance")
    assert written == json.loads(json.dumps(report.summary))
    assert provenance["run"]["settings"]["torch"] and provenance["energy"]["switches"]


def test_both_lines_are_those_of_the_command_compare(report, html, profile, tmp_path, capsys):
    """One text: on the first screen of the page, printed by `spikeattn compare`, in the rows of table.tex."""
    assert main(["compare", str(profile.save(tmp_path / "run"))]) == 0
    printed = capsys.readouterr().out.splitlines()[2:4]
    table = report.files["table.tex"].read_text()
    for scope, line, known in zip(("arithmetic", "memory"), printed, sa.compare(profile).lines, strict=True):
        assert line == str(known) and line.startswith(scope)
        assert f"<li>{line}</li>" in html[: html.index("<main>")]
        (row,) = (text for text in table.splitlines() if text.startswith(f"{scope} & "))
        ratio, interval = line.partition("ratio ")[2].partition(" at gamma")[0].split(" ", 1)
        assert f"& {ratio} & {escape_latex(interval)}" in row
    assert r"\input{results}" in report.files["main.tex"].read_text()
    assert r"\ref{tab:scopes}" in report.files["results.tex"].read_text()


def test_csv_files_hold_the_tables_in_full_precision(report, profile):
    table = rate_table(profile)
    tables = {
        "rates.csv": profile.rates(),
        "rate_table.csv": table[table["part"] != "Input"],
        "operations.csv": profile.operations(),
        "energy.csv": pd.DataFrame(profile.energy()),
        "over_time.csv": profile.over_time(),
    }
    for name, frame in tables.items():
        read = pd.read_csv(report.files[name], float_precision="round_trip")  # what pandas 3 does by itself
        assert set(read["weights"]) == {"UNTRAINED"}
        assert len(read) == len(frame)
        for column in frame.select_dtypes(include=["float64"]):
            np.testing.assert_array_equal(read[column].to_numpy(float), frame[column].to_numpy(float))
    energy = pd.read_csv(report.files["energy.csv"])
    assert set(energy["convention"]) == {"exact"} and set(energy["costs"]) == {"horowitz-45nm-fp32"}


def test_first_screen_says_what_a_researcher_wants(html, profile):
    summary, words = profile.summary(), Page(html).words
    header = words[: words.index("Firing rates (share")]
    for text in (
        "sdt_digits",
        "digits (test)",
        "T = 4",
        percent(summary["accuracy"]),
        amount(summary["sops_per_image"]),
        "Wilson interval",
        "UNTRAINED The weights are random",
        "break-even Under horowitz-45nm-fp32",
        "No rate exceeds 1, but at gamma 0.5 enough spikes make the network lose.",
        "Convention exact, costs horowitz-45nm-fp32",
    ):
        assert text in header, text
    ratio, low, high = re.search(r"ANN / SNN× ([\d.]+)\[([\d.]+), ([\d.]+)\]ANN twin: ", header).groups()
    ends = [summary["ann_energy_mj"] / limit for limit in reversed(summary["energy_interval_mj"])]
    assert [float(low), float(high)] == pytest.approx(ends, rel=5e-3)
    assert float(ratio) == pytest.approx(summary["ann_over_snn"], rel=5e-3)
    mean, low, high = re.search(r"Mean firing rate([\d.e-]+)\[([\d.e-]+), ([\d.e-]+)\]", header).groups()
    assert float(mean) == pytest.approx(summary["mean_rate"], abs=1e-4) and float(low) < float(mean) < float(high)
    numbers = [summary["energy_mj"], *summary["energy_interval_mj"]]
    unit, factor = energy_unit(numbers[:1])
    shown = re.search(rf"Energy per image([\d.]+) {unit}\[([\d.]+), ([\d.]+)\]", header)
    assert [float(x) * factor for x in shown.groups()] == pytest.approx(numbers, rel=5e-3)


def test_page_stands_alone(html):
    page = Page(html)
    assert page.open == []
    assert len(html.encode()) < 3_000_000
    for tag, attrs in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attrs.get(name, "#").startswith("#")
    assert "default-src 'none'" in html and "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert targets and targets <= set(ids)


def test_page_can_be_used_without_eyes_or_mouse(html):
    tags = Page(html).tags
    assert dict(tags)["html"] == {"lang": "en"}
    assert all(attrs.get("aria-label") for tag, attrs in tags if tag == "svg" and attrs.get("role") == "img")
    assert sum(tag == "svg" for tag, _ in tags) == 7
    assert all(attrs.get("scope") == "col" for tag, attrs in tags if tag == "th")
    regions = [attrs for _, attrs in tags if attrs.get("role") == "region"]
    assert regions and all(attrs["tabindex"] == "0" and attrs["aria-label"] for attrs in regions)
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_tables_of_the_page_are_complete(html, profile):
    words = Page(html).words
    for tensor in profile.ledger.tensors:
        assert tensor.name in words
    for synapse in profile.ledger.synapses:
        assert synapse.name in words
    assert f"spikeattn profile --model {HOSTILE}" in words
    for setting in ("threads", "torch", "replicates", "switches.first_conv", "ids_sha256"):
        assert setting in words


def test_downloads_equal_the_files(html, report):
    downloads = json.loads(re.search(r'id="downloads">(.*?)</script>', html, re.DOTALL).group(1))
    names = {attrs[k] for _, attrs in Page(html).tags for k in ("data-download", "data-copy") if k in attrs}
    assert names == set(downloads)
    for name in [n for n in downloads if n.endswith(".csv")]:
        assert downloads[name] == report.files[name].read_text()
    latex = downloads["rates.tex"] + downloads["energy.tex"]
    assert r"\label{tab:rates}" in latex and r"\label{tab:energy}" in latex


def test_names_cannot_break_out(foreign, tmp_path):
    report = write_report(foreign, tmp_path)
    html = report.page.read_text()
    page = Page(html)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "downloads"}, {}]
    assert HOSTILE in page.words and "<script>alert" not in html
    assert "uncounted" in page.words and "no counting rule" in page.words
    assert "no labels" in page.words and "not stated" in page.words and "UNTRAINED" not in page.words


def test_one_image_one_step(single, tmp_path):
    words = Page(write_report(single, tmp_path).page.read_text()).words
    assert "one image has no interval" in words and "T = 1" in words


def test_all_silent(silent, tmp_path):
    words = Page(write_report(silent, tmp_path).page.read_text()).words
    assert "all-silent no neuron fired" in words


def test_other_costs_and_conventions_are_named_and_what_they_leave_out_is_a_warning(profile, tmp_path):
    report = write_report(profile, tmp_path, costs="loihi", convention="sdt-paper")
    assert "Convention sdt-paper; costs loihi" in report.files["table.tex"].read_text()
    lines = report.summary.pop("lines")
    assert report.summary == profile.summary("loihi", "sdt-paper")
    assert [line["text"][:22] for line in lines] == ["arithmetic  not known:", "memory      not known:"]
    assert not {"comparison.csv", "sweep.csv", "figures/sweep.svg"} & set(report.files)
    words = Page(report.page.read_text()).words
    assert "Not compared: the cost table loihi has no price for a multiply-accumulate" in words
    assert "unpriced loihi has no price for" in words and "no price for a MAC" in words
    assert "SOP 23.6 pJ" in words


def test_an_earlier_report_is_replaced_and_other_files_stay(report, profile, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.html").write_text("old")
    again = write_report(profile, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for name, path in report.files.items():  # the same run gives the same bytes
        assert path.read_bytes() == again.files[name].read_bytes(), name


def test_nothing_is_written_when_it_cannot_be_computed(profile, tmp_path):
    with pytest.raises(sa.SpikeattnError, match="did you mean 'exact'"):
        write_report(profile, tmp_path / "out", convention="exakt")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file/below", "taken"])
def test_unwritable_folder_is_one_clear_error(single, tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "figures" / "firing_rates.svg").mkdir(parents=True)
    (tmp_path / "taken" / "rates.csv").mkdir()
    with pytest.raises(sa.SpikeattnError, match="(cannot write the report there .*|is a folder); give another folder"):
        write_report(single, tmp_path / place)
    assert not list(tmp_path.rglob("*.part"))
