"""What the page computes beyond the run's tables: the same numbers as the package's own functions, drawn to scale."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

import spikeattn as sa
from spikeattn.boundary.number_format import energy_in, energy_unit
from spikeattn.energy import by_model, get_convention, get_costs
from spikeattn.reporting import block_energy, to_latex, to_markdown
from spikeattn.reporting.figures.drawing import to_svg
from spikeattn.reporting.figures.model_figure import model_figure
from spikeattn.reporting.page.bars import architecture, beside_ann, steps
from spikeattn.reporting.page.cautions import cautions, remarks
from spikeattn.reporting.tables.analyses import analyse
from spikeattn.reporting.tables.sheets import sheet_of


@pytest.fixture(scope="module")
def analyses(profile):
    return analyse(profile, get_costs("horowitz-45nm-fp32"), get_convention("exact"))


def test_numbers_are_those_of_the_public_functions(profile, analyses):
    assert analyses.missing == {}
    pd.testing.assert_frame_equal(analyses.comparison.parts, sa.compare(profile).parts)
    fall = sa.waterfall(profile, "sdt-paper")
    pd.testing.assert_frame_equal(analyses.waterfalls["sdt-paper"], fall)
    assert "exact" not in analyses.waterfalls and len(analyses.waterfalls) >= 5
    pd.testing.assert_frame_equal(analyses.sweep, sa.sweep(profile, rate_scales=(1.0,)))


def test_without_a_price_for_a_mac_nothing_is_compared(profile):
    found = analyse(profile, get_costs("loihi"), get_convention("exact"))
    assert found.comparison is None and found.sweep is None
    assert set(found.missing) >= {"comparison", "sweep"} and "loihi" in found.missing["sweep"]


def test_a_convention_of_ones_own_is_among_the_waterfalls(profile):
    own = get_convention("exact", first_conv="every-step")
    found = analyse(profile, get_costs("horowitz-45nm-fp32"), own)
    end = found.waterfalls[own.name].iloc[-1]["energy_mj"] if own.name != "exact" else None
    assert end is None or end == pytest.approx(profile.energy(convention=own).total.value)


def test_blocks_add_up_and_the_tallest_is_full(profile):
    blocks = block_energy(profile)
    drawn = architecture(blocks)
    assert [block["block"] for block in drawn] == list(dict.fromkeys(blocks["block"]))
    heights = [sum(part["height"] for part in block["parts"]) for block in drawn]
    assert max(heights) == pytest.approx(100)
    energies = blocks.groupby("block", sort=False)["energy_mj"].sum()
    unit = energy_unit([energies.sum()])  # one for all blocks, that of the table of parts
    assert [block["energy"] for block in drawn] == [energy_in(energy, *unit) for energy in energies]
    assert heights == pytest.approx(list(energies / energies.max() * 100))


def test_steps_of_a_waterfall_join_and_end_where_the_convention_does(profile, analyses):
    for name, fall in analyses.waterfalls.items():
        drawn = steps(fall)
        most = fall["energy_mj"].max()
        assert drawn[0]["label"] == "exact" and drawn[-1]["label"] == name
        assert drawn[-1]["length"] == pytest.approx(profile.energy(convention=name).total.value / most * 100)
        edge = drawn[0]["length"]
        for step in drawn[1:-1]:
            ends = (step["left"], step["left"] + step["length"])
            before, after = ends if step["kind"] != "drop" else ends[::-1]
            assert before == pytest.approx(edge, abs=1e-9)
            edge = after
        assert edge == pytest.approx(drawn[-1]["length"], abs=1e-9)


def test_bars_of_both_networks_are_to_one_scale(analyses):
    drawn, parts = beside_ann(analyses.comparison), analyses.comparison.parts
    assert len(drawn) == len(analyses.comparison.prices)
    for pricing in drawn:
        assert pricing["sentences"] and max(b["length"] for row in pricing["rows"] for b in row["bars"]) <= 100 + 1e-9
    snn, ann = drawn[0]["rows"][-1]["bars"]
    total = parts[parts["part"] == "total"].iloc[0]
    assert ann["length"] / snn["length"] == pytest.approx(total["against_mj"] / total["energy_mj"])


def test_a_break_even_above_one_is_a_remark_and_no_warning_and_one_below_is_neither(profile):
    comparison = sa.compare(profile)
    assert [name for name, _ in remarks(comparison)] == ["break-even"] and remarks(None) == []
    assert "break-even" not in [name for name, _ in cautions(profile, profile.energy(), profile.rates())]
    safe = dataclasses.replace(comparison, zeros=comparison.zeros.assign(cannot_lose=True))
    for each, said in ((comparison, False), (safe, True)):
        texts = " ".join(text for _, text in remarks(each))
        assert ("cannot come out against it" in texts) == said, "said only where it holds at every gamma"
    below = comparison.parts.assign(break_even=0.9, cannot_lose=False)
    object.__setattr__(comparison, "parts", below)
    assert remarks(comparison) == []


def test_uncounted_operations_come_first(foreign):
    assert cautions(foreign, foreign.energy(), foreign.rates())[0][0] == "uncounted"


def test_layers_that_always_fire_are_told_and_the_input_is_none_of_them(profile):
    rates = profile.rates()
    spikes = rates[(rates["t"] == "mean") & (rates["kind"] != "real") & (rates["tensor"] != "input")]
    name = spikes["tensor"].iloc[1]
    assert "saturated" not in dict(cautions(profile, profile.energy(), rates))
    for tensor, told in ((name, True), ("input", False)):
        full = rates.assign(nonzero_rate=rates["nonzero_rate"].where(rates["tensor"] != tensor, 1.0))
        found = dict(cautions(profile, profile.energy(), full))
        assert ("saturated" in found) == told
    full = rates.assign(nonzero_rate=rates["nonzero_rate"].where(rates["tensor"] != name, 0.9899))
    assert "saturated" not in dict(cautions(profile, profile.energy(), full)), "99 % are the least"


def test_every_table_has_a_layout_in_latex_and_markdown(analyses):
    for name, table in analyses.tables().items():
        assert to_latex(table, name).count(r"\bottomrule") >= 1
        rows = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
        assert len(rows) == len(table) + 2


def test_the_energy_models_side_by_side(profile, analyses):
    """Table, figure and page hold the numbers of `by_model`; nowhere is there a sum over models."""
    table = by_model(profile)
    pd.testing.assert_frame_equal(pd.DataFrame(analyses.models), pd.DataFrame(table))
    sheet = sheet_of(table)
    assert [row[0].text for row in sheet.rows] == list(table["model"])
    compute = sheet.rows[0]
    assert compute[2].value == pytest.approx(profile.energy().total.value) and compute[5].text == "1.00"
    assert not {"total", "all", "sum"} & {row[0].text for row in sheet.rows}
    svg = to_svg(model_figure(table))
    energies = table[table["unit"] == "mJ"]
    assert all(f">{name}<" in svg for name in energies["model"]) and ">ns-ace<" not in svg
    assert svg.count("<title>") == len(energies)
    assert "compute, ANN beside it: " in svg and "sana-fe-loihi, spiking network: " in svg
