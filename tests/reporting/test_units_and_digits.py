"""Every table of a report: one unit per column, value and limits with the same digits, one name per number."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from spikeattn.energy.what_if import sweep
from spikeattn.reporting import to_latex, to_markdown
from spikeattn.reporting.figures.accuracy_energy import accuracy_energy, has_accuracy
from spikeattn.reporting.figures.charts import block_bars, energy_bars
from spikeattn.reporting.figures.drawing import to_svg
from spikeattn.reporting.figures.sweep_figure import sweep_figure
from spikeattn.reporting.page.bars import architecture, beside_ann
from spikeattn.reporting.paper.frames import model_table, part_table
from spikeattn.reporting.paper.latex_tables import models_latex, parts_latex, rates_latex
from spikeattn.reporting.tables.analyses import Analyses, analyse
from spikeattn.reporting.tables.run_tables import block_energy, rate_table
from spikeattn.reporting.tables.sheet import Sheet
from spikeattn.reporting.tables.sheets import sheet_of
from tests.boundary.test_number_format import forms

from .test_paper import columns_of

UNIT = re.compile(r"\d\s*([fpnµmkMGT]?J|[kMGT])\b")
NUMBER = re.compile(r"-?\d[\d.]*(?:e-?\d+)?")
RUNS = ("profile", "single", "foreign")


@pytest.fixture(scope="module", params=RUNS)
def run(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def analyses(run) -> Analyses:
    energy = run.energy()
    return analyse(run, energy.costs, energy.convention)


@pytest.fixture(scope="module")
def tables(run, analyses) -> dict[str, pd.DataFrame]:
    energy = run.energy()
    shown = {"rates": rate_table(run), "energy": energy, "operations": run.operations(), "time": run.over_time()}
    shown |= analyses.tables()
    shown["all rates"] = sweep(run, rate_scales=[0.5, 1.0])
    shown["int8"] = run.energy("horowitz-45nm-int8", "sdt-paper")
    return shown


def pairs(sheet: Sheet) -> list[tuple[str, str]]:
    """Every value with its interval, the column behind it."""
    places = [i for i, column in enumerate(sheet.columns) if "nterval" in column.title]
    return [(row[i - 1].text, row[i].text) for i in places for row in sheet.rows if row[i].text != "–"]


def test_no_cell_has_a_unit_of_its_own(tables) -> None:
    for name, table in tables.items():
        for column, cells in zip(sheet_of(table).columns, zip(*sheet_of(table).rows, strict=True), strict=True):
            if column.kind == "number":
                assert not [cell.text for cell in cells if UNIT.search(cell.text)], (name, column.title)
                signs = {cell.text[-1:] == "%" for cell in cells if re.search(r"\d", cell.text) and cell.text != "0"}
                assert len(signs) <= 1, (name, column.title)


def test_value_and_limits_agree_in_digits_and_exponent(tables) -> None:
    found = [pair for table in tables.values() for pair in pairs(sheet_of(table))]
    assert found
    for value, limits in found:
        assert len(forms(value, limits)) <= 1, (value, limits)


def test_markdown_and_latex_print_the_cells_of_the_sheet(tables) -> None:
    for table in tables.values():
        cells = [cell.text for row in sheet_of(table).rows for cell in row if NUMBER.fullmatch(cell.text)]
        for text in (to_markdown(table), to_latex(table)):
            assert not UNIT.search(text.split("toprule")[-1]) and all(cell in text for cell in cells)


def test_a_cell_times_its_unit_is_the_number(tables) -> None:
    """The unit in the title is the one that the cells are in."""
    prefixes = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
    seen = 0
    for name, table in tables.items():
        sheet = sheet_of(table)
        for i, column in enumerate(sheet.columns):
            unit = re.search(r"\((.?)(J?)\)$", column.title)
            for row in sheet.rows if unit and not column.title.startswith("Difference") else ():
                if NUMBER.fullmatch(row[i].text):
                    size = prefixes[unit.group(1)] / (1e-3 if unit.group(2) else 1.0)
                    assert float(row[i].text) * size == pytest.approx(float(row[i].value), rel=0.06), (
                        name,
                        column.title,
                    )
                    seen += 1
    assert seen


def test_the_tables_of_a_paper_agree_too(run, tables, analyses) -> None:
    texts = [rates_latex(tables["rates"]), models_latex(model_table(run))]
    if analyses.comparison is not None:
        texts.append(parts_latex(part_table(analyses.comparison)))
    for text in texts:
        for _, (titles, *rows) in columns_of(text):
            for row in rows:
                for place, title in enumerate(titles):
                    if title == "Interval" and row[place] not in ("--", "{--}"):
                        value, limits = (re.sub(r"\\num|\\le|\\ge|[{}$]", "", row[i]) for i in (place - 1, place))
                        limits = re.sub(r"\[(\S+), (\S+)\]\\,(e-\d+)", r"[\1\3, \2\3]", limits)  # one power for both
                        assert len(forms(value, limits)) <= 1, row
                        assert value == "0" or ("num" in row[place - 1]) == ("num" in row[place]), row


def test_charts_are_in_the_unit_of_their_table(run, analyses) -> None:
    energy = run.energy()
    (unit,) = {c.title[8:-1] for c in sheet_of(energy).columns if c.title.startswith("Energy (")}
    blocks = block_energy(run)
    for svg in (to_svg(energy_bars(energy)), to_svg(block_bars(blocks))):
        assert f"Energy per image ({unit})" in svg
        assert {found.group(1) for found in UNIT.finditer(svg)} <= {unit}
    assert {UNIT.search(block["energy"]).group(1) for block in architecture(blocks)} == {unit}
    if (comparison := analyses.comparison) is not None:
        (unit,) = {c.title[9:-1] for c in sheet_of(comparison.parts).columns if c.title.startswith("Spiking")}
        texts = [bar["text"] for each in beside_ann(comparison) for row in each["rows"] for bar in row["bars"]]
        assert {UNIT.search(text).group(1) for text in texts} == {unit}


def test_the_two_rates_have_two_names(profile) -> None:
    """0.0834 on the page and 0.1118 on the sweep's axis were both called mean firing rate."""
    frame = sweep(profile, rate_scales=[1.0])
    figure = to_svg(sweep_figure(frame))
    assert "Rate weighted by operations" in figure and "ean firing rate" not in figure
    titles = [column.title for column in sheet_of(frame).columns]
    assert "Weighted rate" in titles and "Rate" not in titles
    times = [column.title for column in sheet_of(profile.over_time()).columns]
    assert "Mean firing rate" in times and "Mean rate" not in times
    mean, weighted = profile.over_time()["mean_rate"].iloc[-1], frame["rate"].iloc[-1]
    assert not np.isclose(mean, weighted)  # they are two numbers
    neurons = [t for t in profile.ledger.tensors if t.maker == "neuron"]
    spikes = sum(profile.counts.column("nnz", t.name).sum() for t in neurons)
    assert mean == pytest.approx(spikes / (profile.n_images * profile.time_steps * sum(t.elements for t in neurons)))


def test_accuracy_stands_beside_every_step_of_a_sweep(profile, foreign) -> None:
    frame, times = sweep(profile, rate_scales=[0.5, 1.0]), profile.over_time().set_index("t")
    own = frame[frame["rate_scale"] == 1]
    assert list(own["accuracy"]) == [times["accuracy"][t] for t in own["t"]]
    assert frame.loc[frame["rate_scale"] != 1, "accuracy"].isna().all()  # it would answer otherwise
    cells = [[cell.text for cell in row] for row in sheet_of(frame).rows]
    place = [column.title for column in sheet_of(frame).columns].index("Accuracy")
    assert {row[place] for row, scale in zip(cells, frame["rate_scale"], strict=True) if scale != 1} == {"unknown"}
    svg = to_svg(accuracy_energy(frame))
    for t, row in times.iterrows():
        assert re.search(rf"t = {t}: [\d.e-]+ [pnµm]J, accuracy {row['accuracy'] * 100:.1f} %", svg)
    unlabelled = sweep(foreign, rate_scales=[1.0])
    assert unlabelled["accuracy"].isna().all() and not has_accuracy(unlabelled)
    (note,) = [note for note in unlabelled.attrs["notes"] if note.code == "accuracy"]
    assert note.text.startswith("accuracy unknown at every t: the images have no labels")
    (note,) = [note for note in frame.attrs["notes"] if note.code == "accuracy"]
    assert f"{times['accuracy'][1] * 100:.1f} % [" in note and "after t = 1, which takes" in note
