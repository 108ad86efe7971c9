"""Sweeps over time steps, rates and costs, against plain loops over the spikes and against `energy` itself."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from spikeattn.energy.costs import Cost, CostTable
from spikeattn.energy.dense_twin import dense_twin
from spikeattn.energy.estimate import energy
from spikeattn.energy.published_rates import PublishedActivity, energy_from_rates
from spikeattn.energy.rate_tables import packaged_table, read_rates
from spikeattn.energy.what_if import sweep
from spikeattn.errors import SpikeattnError
from spikeattn.storage.counts import Counts

FP32 = "horowitz-45nm-fp32"
MJ = 1e-9


@pytest.fixture
def run(only, counts):
    """Binary spikes alone: a first layer, a convolution with a border, and a token sum."""
    return SimpleNamespace(ledger=only("conv", "conv1", "sum"), counts=counts)


@pytest.fixture
def published(sdt_8_512):
    return PublishedActivity(sdt_8_512, read_rates(packaged_table("table_s1_sdt_8_512"), sdt_8_512))


def test_energy_at_t_steps_is_that_of_the_first_t_steps(run, spikes, counts):
    frame = sweep(run, costs=FP32, rate_scales=[1.0]).set_index("t")
    for t in (1, 2, 3):
        early = {name: values[:, :t] for name, values in spikes.items()}
        ledger = dataclasses.replace(run.ledger, time_steps=t)
        expected = energy(ledger, type(counts)(ledger, early, time_steps=t))
        assert frame.snn_mj[t] == pytest.approx(expected.total.value, rel=1e-12)
    assert frame.snn_mj[3] == pytest.approx(energy(run.ledger, counts).total.value, rel=1e-12)
    assert any(note.startswith("truncation") for note in frame.reset_index().attrs["notes"])


def test_every_column_of_one_row(run, spikes):
    """Two steps at half the rates, from the spikes."""
    frame = sweep(run, costs=FP32, rate_scales=[0.5])
    row = frame[frame.t == 2].iloc[0]
    macs = 36 * 18
    conv1 = run.counts.fan("conv1")[:, :2].sum() / 12
    additions = conv1 + spikes["kv"][:, :2].sum() / 12
    assert row.fixed_mj == pytest.approx(4.6 * macs * MJ)
    assert row.snn_mj == pytest.approx((4.6 * macs + 0.5 * 0.9 * additions) * MJ)
    most = 2 * (27 * 2 * 9 + 27)  # dense operations of conv1 and of the token sum, two steps
    assert row.rate == pytest.approx(0.5 * additions / most)
    ann = 4.6 * (macs + 27 * 2 * 9 + 2 * 3**2 * 9)  # softmax attention, 2 N^2 D, with the first axis as channels
    assert row.ann_mj == pytest.approx(ann * MJ)
    assert row.ratio == pytest.approx(row.ann_mj / row.snn_mj)
    assert row.break_even_scale == pytest.approx((ann - 4.6 * macs) / (0.9 * additions))
    assert row.break_even_rate == pytest.approx((ann - 4.6 * macs) / (0.9 * most))
    assert row.cannot_lose == (row.break_even_rate >= 1)


def test_both_cost_the_same_at_the_break_even_scale(run):
    even = sweep(run, costs=FP32).iloc[-1].break_even_scale
    row = sweep(run, costs=FP32, rate_scales=[even]).iloc[-1]
    assert row.ratio == pytest.approx(1.0)
    assert row.rate == pytest.approx(row.break_even_rate)


def test_the_break_even_rate_of_the_literature(published):
    """R = E_MAC / (E_AC T) for a network whose layers all receive spikes: 1.28 at T = 4 in fp32, .94 in fp16."""
    ledger = published.ledger
    first = {s.name for s in ledger.synapses if s.input == "input"}
    bare = tuple(s for s in ledger.synapses if s.name not in first)
    activity = dataclasses.replace(published, ledger=dataclasses.replace(ledger, synapses=bare, products=()))
    frame = sweep(activity, convention="input-rate", rate_scales=[1.0], costs=[FP32, "horowitz-45nm-fp16"])
    last = frame[frame.t == 4].set_index("costs").break_even_rate
    assert last[FP32] == pytest.approx(4.6 / 3.6)
    assert last["horowitz-45nm-fp16"] == pytest.approx(1.5 / 1.6)
    assert frame[frame.costs == FP32].cannot_lose.all()


def test_published_rates(published, sdt_8_512):
    frame = sweep(published, convention="sdt-paper", rate_scales=[1.0, 2.0], costs=[FP32, "horowitz-45nm-int8"])
    assert len(frame) == 2 * 4 * 2
    last = frame[(frame.t == 4) & (frame.rate_scale == 1) & (frame.costs == FP32)].iloc[0]
    table = energy_from_rates("table_s1_sdt_8_512", sdt_8_512)
    assert last.snn_mj == pytest.approx(table.total.value, rel=1e-12)
    assert last.ann_mj == pytest.approx(dense_twin(sdt_8_512).macs * 4.6 * MJ)
    assert frame.attrs["convention"] == "sdt-paper" and frame.attrs["time_steps"] == 4
    with pytest.raises(SpikeattnError, match="does not hold the exact count"):
        sweep(published)


def test_an_ann_of_ones_own_and_a_network_that_always_loses(run):
    frame = sweep(run, costs=FP32, ann_macs=10)
    assert frame.attrs["ann_macs"] == 10
    assert (frame.ratio < 1).all() and not frame.cannot_lose.any()
    assert (frame.break_even_scale == 0).all() and (frame.break_even_rate == 0).all()


def test_silence_and_integer_spikes(run, only, counts, spikes):
    integers = sweep(SimpleNamespace(ledger=only("conv", "head"), counts=counts), costs=FP32)
    assert not integers.cannot_lose.any()
    assert any("integer spikes" in note for note in integers.attrs["notes"])
    for name in ("lif", "kv"):
        spikes[name][:] = 0
    frame = sweep(run, costs=FP32)
    assert (frame.rate == 0).all() and (frame.snn_mj == frame.fixed_mj).all() and frame.break_even_scale.isna().all()


def test_notes_on_neurons_that_look_ahead_and_on_frames(run):
    tensors = tuple(dataclasses.replace(t, neuron="PSN") if t.name == "lif" else t for t in run.ledger.tensors)
    run.ledger = dataclasses.replace(run.ledger, tensors=tensors, static_input=False)
    notes = sweep(run, costs=FP32).attrs["notes"]
    assert any(note.startswith("looks ahead: PSN") for note in notes)
    assert any(note.startswith("frames") for note in notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate_scales": []}, "no rate scale"),
        ({"rate_scales": [-1.0]}, "a rate scale is -1.0"),
        ({"rate_scales": [float("nan")]}, "a rate scale is nan"),
        ({"costs": []}, "costs is empty"),
        ({"costs": "horowitz-45nm"}, "did you mean 'horowitz-45nm-"),
        ({"convention": "sdt-papr"}, "did you mean 'sdt-paper'"),
        ({"costs": CostTable("chip", "", "", {"sop": Cost(1.0, "", "choice")})}, "no price for multiply-accumulates"),
    ],
)
def test_wrong_arguments(run, options, message):
    with pytest.raises(SpikeattnError, match=message):
        sweep(run, **options)


def test_counts_that_do_not_belong(run, only, counts, spikes):
    run.counts.time_steps = 4
    with pytest.raises(SpikeattnError, match="count table has 4 time steps, the ledger 3"):
        sweep(run)
    empty = type(counts)(run.ledger, {name: values[:0] for name, values in spikes.items()})
    with pytest.raises(SpikeattnError, match="zero images"):
        sweep(SimpleNamespace(ledger=run.ledger, counts=empty))
    import pyarrow as pa

    other = Counts(pa.table({"index": [0]}), only("head"))
    with pytest.raises(SpikeattnError, match="belongs to another model or input size"):
        sweep(SimpleNamespace(ledger=run.ledger, counts=other))


def test_figure(run, published, spikes):
    from spikeattn.reporting.figures.drawing import to_svg
    from spikeattn.reporting.figures.sweep_figure import sweep_figure

    frame = sweep(published, convention="input-rate")
    figure = sweep_figure(frame)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Energy, SNN / ANN", "Break-even rate", "Energy, SNN / ANN, T = 4"]
    texts = [text.get_text() for text in figure.axes[2].texts]
    last = frame[(frame.t == 4) & (frame.rate_scale == 1)].set_index("costs").break_even_rate
    below = [f"{last[costs]:.2f}" for costs in ("horowitz-45nm-int8-acc32", "horowitz-45nm-fp16")]
    assert texts == below  # the tables whose break-even rates lie below 1
    assert to_svg(figure) == to_svg(sweep_figure(frame))
    lines = figure.axes[0].lines[0].get_xydata()
    at_one = frame[(frame.costs == frame.costs[0]) & (frame.rate_scale == 1)]
    assert np.allclose(lines, np.c_[at_one.t, at_one.snn_mj / at_one.ann_mj])
    pd.testing.assert_frame_equal(frame, sweep(published, convention="input-rate"))


def test_figure_of_a_crossing_in_time_and_of_silence(run, spikes):
    from spikeattn.reporting.figures.sweep_figure import sweep_figure

    frame = sweep(run, costs=FP32, rate_scales=[1.0, 3.0])
    middle = frame[frame.t == 2].snn_mj.iloc[0] / 4.6 / MJ
    crossed = sweep(run, costs=FP32, rate_scales=[3.0], ann_macs=int(middle))
    rings = [line for line in sweep_figure(crossed).axes[0].lines if line.get_markersize() == 9]
    assert len(rings) == 1 and 1 < rings[0].get_xdata()[0] <= 2.1
    for name in ("lif", "kv"):
        spikes[name][:] = 0
    assert len(sweep_figure(sweep(run, costs=FP32, rate_scales=[0.0])).axes) == 3
