"""Published layer tables: their own arithmetic line by line, and their rates under every convention."""

from __future__ import annotations

import dataclasses
import io
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron

import spikeattn as sa
from spikeattn.energy.layer_layouts import list_layouts, load_layout
from spikeattn.energy.layer_tables import read_layers
from spikeattn.energy.table_arithmetic import CHECKS, check_arithmetic
from spikeattn.energy.table_audit import EXACT_LIKE, audit
from spikeattn.errors import SpikeattnError

# The first three lines of SpikeYOLO's sheet (repository BICLab/SpikeYOLO, power_cal.xlsx).
YOLO = """\
layer,block,part,tensor,rate,in,out,kernel,stride,h_in,w_in,h_out,w_out,group,T,pixel_or_macs,flops,ann_pj,ann_sum_pj,snn_pj,snn_sum_pj
1,DownSampling1,,,4.6,3,64,7,4,640,640,160,160,1,,240844800,240844800,1107886080,1107886080,997097472,997097472
2,ConvBlock,SepConv,model.model.2.Conv.lif1,1.1872,64,128,1,1,160,160,160,160,1,,209715200,450560000,964689920,2072576000,224076496.896,1221173968.896
2,ConvBlock,SepConv,model.model.2.Conv.lif2,1.1496,128,128,7,1,160,160,160,160,128,,160563200,611123200,738590720,2811166720,166125109.248,1387299078.144
"""
MAP = """\
name = "mine"
formula = "T x rate x MACs x 0.9 pJ, the first layer T x MACs x 4.6 pJ"
time_steps = 2
rate_unit = "percent"
dense_unit = 1e3
energy_pj = 1e6
[columns]
layer = "Layer"
rate = "fr (%)"
dense = "kMACs"
energy = "uJ"
"""


@pytest.fixture
def write(tmp_path):
    """A file of this text; its path."""

    def file(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return file


def test_the_line_of_spikeyolo(write):
    found = audit(write("yolo.csv", YOLO))
    (only,) = found.arithmetic.differences
    assert (only.line, only.layer, only.check) == (2, "DownSampling1", "energy")
    assert (only.stated, only.formula) == (997097472, pytest.approx(4.6 * 240844800))
    assert only.relative == pytest.approx(-0.1)
    assert only.note.startswith("4.14 pJ per MAC where 4.6 pJ is stated: 0.9 pJ per AC x 4.6")
    assert found.arithmetic.compared == {"dense": 3, "energy": 3, "ann_energy": 3, "sum": 9}
    assert found.sums.stated_mj.item() == pytest.approx(1387299078.144e-9)
    assert found.sums.formula_mj.item() == pytest.approx((1387299078.144 + 0.1 * 1107886080) * 1e-9)


def test_integer_spikes_are_not_shares(write):
    """Mean values price what counts by value; conventions of non-zero shares are refused, with the reason."""
    prices = audit(write("yolo.csv", YOLO)).prices.set_index("convention")
    macs, acs = 240844800, 1.1872 * 209715200 + 1.1496 * 160563200
    assert prices.energy_mj["input-rate"] == pytest.approx((4.6 * macs + 0.9 * acs) * 1e-9)
    assert prices.energy_mj["spikingformer-code"] == pytest.approx(4.6 * (macs + 209715200 + 160563200) * 1e-9)
    for name in ("sdt-paper", "meta-spikeformer"):
        assert math.isnan(prices.energy_mj[name]) and "mean values of integer spikes" in prices.reason[name]
    assert "how many there are" in prices.reason["syops"]
    assert "exact count" in prices.reason["exact"]


@pytest.mark.parametrize(
    ("cell", "other", "check", "line"),
    [
        ("209715200,450560000", "209715201,450560001", "dense", 3),
        ("1107886080,1107886080", "1107886081,1107886081", "ann_energy", 2),
        ("224076496.896", "224176496.896", "energy", 3),
        ("2811166720", "2811166721", "sum", 4),
    ],
)
def test_every_check_sees_its_line(write, cell, other, check, line):
    assert cell in YOLO
    differences = audit(write("yolo.csv", YOLO.replace(cell, other))).arithmetic.differences
    assert (check, line) in {(each.check, each.line) for each in differences}
    assert {each.check for each in differences} <= set(CHECKS)


def test_a_map_with_units_time_steps_and_a_total(write):
    layout = write("map.toml", MAP)
    text = "Layer,fr (%),kMACs,uJ\nstem,,100,0.92\nconv,20,500,{}\nTotal,,,{}\n"
    found = audit(write("a.csv", text.format(0.18, 1.1)), layout=layout)
    assert found.arithmetic.differences == () and found.layers == 2
    assert found.arithmetic.compared == {"energy": 2, "total": 1}
    assert found.prices.set_index("convention").energy_mj["spikformer"] == pytest.approx(1.1e-3)
    assert found.prices.set_index("convention").energy_mj["input-rate"] == pytest.approx((0.46 + 0.18) * 1e-3)
    once, total = audit(write("b.csv", text.format(0.09, 1.1)), layout=layout).arithmetic.differences
    assert (once.check, once.line, once.note) == ("energy", 3, "0.45 pJ per AC where 0.9 pJ is stated")
    assert (total.check, total.line, total.stated) == ("total", 4, pytest.approx(1.1e6))
    assert total.formula == pytest.approx(1.01e6)


def test_printed_digits_are_no_difference(write):
    """20.0 % stands for 19.95 to 20.05 %, which moves 0.18 by 0.00045, and 0.1806 for 0.18055 to 0.18065."""
    layout = write("map.toml", MAP)
    for energy, differs in (("0.1804", 0), ("0.1805", 0), ("0.1806", 1)):
        table = write("a.csv", f"Layer,fr (%),kMACs,uJ\nstem,,100,0.92\nconv,20.0,500,{energy}\n")
        assert len(audit(table, layout=layout).arithmetic.differences) == differs


LOG = "module,class,dense_ops_all_steps,acs,macs,input_rate_percent,input_rate_percent_long\n" + "\n".join(
    f"{name},{kind},{dense},{acs},{macs},{rate},{fine}"
    for name, kind, dense, acs, macs, rate, fine in (
        ("patch_embed.conv", "Conv2d", 800, 0, 800, 100.0, 100.0),
        ("patch_embed.bn", "BatchNorm2d", 99, 0, 99, 100.0, ""),
        ("block.0.attn.q_conv", "Conv1d", 320, 80, 0, 25, 25.0),
        ("block.0.attn.q_lif", "MultiStepLIFNode", 80, 80, 0, 10, ""),
        ("block.0.attn.k_lif", "MultiStepLIFNode", 80, 80, 0, 5, ""),
        ("block.0.attn.v_lif", "MultiStepLIFNode", 80, 80, 0, 20, ""),
        ("head", "Linear", 40, 0, 40, 100.0, 100.0),
    )
)


def test_attention_of_the_log_layout(write):
    """T H N d^2 (min(r_K, r_V) + r_Q): D = 320 / 80 = 4 channels, so with two heads 80 x 2 per product."""
    table = write("log.csv", LOG)
    prices = audit(table, time_steps=4, heads=2).prices.set_index("convention")
    products = 80 * 2 * (0.05 + 0.10)
    assert prices.energy_mj["spikingformer-code"] == pytest.approx((4.6 * 840 + 0.9 * (80 + products)) * 1e-9)
    assert prices.energy_mj[EXACT_LIKE] == pytest.approx((4.6 * 240 + 0.9 * (80 + products)) * 1e-9)
    assert "pairs" in prices.reason["input-rate"]
    bare = audit(table, time_steps=4)
    assert any("--heads" in note for note in bare.notes)
    assert bare.prices.set_index("convention").additions["input-rate"] == pytest.approx(80)
    unknown = audit(table)
    assert unknown.prices.energy_mj.isna().all() and "--time-steps" in unknown.prices.reason[0]
    assert unknown.arithmetic.compared == {"acs": 3, "macs": 3}
    with pytest.raises(SpikeattnError, match="3 heads do not divide the 4 channels"):
        from spikeattn.energy.table_ledgers import activity_of_rows

        activity_of_rows(read_layers(table), 4, 3)


class Net(torch.nn.Module):
    """Two convolutions and a classifier, whose border neurons meet fewer weights."""

    def __init__(self):
        super().__init__()
        self.img_size, self.in_chans, self.num_classes, self.T = 8, 3, 5, 3
        self.conv1 = layer.Conv2d(3, 4, 3, padding=1, bias=False, step_mode="m")
        self.lif1 = neuron.LIFNode(v_threshold=0.2, step_mode="m")
        self.conv2 = layer.Conv2d(4, 6, 3, padding=1, stride=2, step_mode="m")
        self.lif2 = neuron.LIFNode(v_threshold=0.2, step_mode="m")
        self.head = layer.Linear(6 * 16, 5, step_mode="m")

    def forward(self, x):
        functional.reset_net(self)
        x = self.lif2(self.conv2(self.lif1(self.conv1(x.repeat(self.T, 1, 1, 1, 1)))))
        return self.head(x.flatten(2)).mean(0)


def test_on_its_network_as_the_run_prices_it(write):
    """A table made of a run's own rates gives the energy of the run."""
    torch.manual_seed(0)
    net = Net()
    profile = sa.profile(net, [(torch.rand(6, 3, 8, 8), torch.arange(6) % 5)])
    rates = profile.rates()
    mean = rates[rates["t"].astype(str) == "mean"].set_index("tensor")["nonzero_rate"]
    assert 0 < mean["lif1"] < 1
    conv2 = profile.ledger.synapse("conv2")
    rows = [
        f"conv1,Conv2d,{3 * profile.ledger.synapse('conv1').dense_macs},0,{3 * 4 * 27 * 64},100,",
        f"conv2,Conv2d,{3 * (conv2.dense_macs + 6 * 16)},{mean['lif1'] * 3 * (conv2.dense_macs + 96)},0,"
        f"{100 * mean['lif1']:.12f},",
        f"module.head,Linear,{3 * profile.ledger.synapse('head').dense_macs},"
        f"{mean['lif2'] * 3 * profile.ledger.synapse('head').dense_macs},0,{100 * mean['lif2']:.12f},",
    ]
    table = write("own.csv", LOG.splitlines()[0] + "\n" + "\n".join(rows) + "\n")
    found = audit(table, profile.ledger)
    for name in ("input-rate", "spikformer", "syops", "meta-spikeformer"):
        energy = profile.energy(convention=name).total.value
        assert found.prices.set_index("convention").energy_mj[name] == pytest.approx(energy, rel=1e-9)
    (only,) = found.arithmetic.differences
    assert (only.check, only.layer, only.difference) == ("network", "conv2", 3 * 96)
    assert "one operation for each of 288 biased outputs" in only.note
    assert found.arithmetic.compared["network"] == 3
    with pytest.raises(SpikeattnError, match=r"1 of 3 layers are none of this network: conv3 \(line 3\).*conv1, conv2"):
        audit(write("other.csv", table.read_text().replace("conv2", "conv3")), profile.ledger)


def test_one_tensor_has_one_rate(write):
    torch.manual_seed(0)
    ledger = sa.profile(Net(), [(torch.rand(2, 3, 8, 8), torch.arange(2))]).ledger
    twice = dataclasses.replace(
        ledger, synapses=(*ledger.synapses, dataclasses.replace(ledger.synapse("conv2"), name="side"))
    )
    rows = "conv1,Conv2d,20736,0,20736,100,\nconv2,Conv2d,3000,750,0,25.0,\nside,Conv2d,3000,780,0,26.0,\n"
    table = write("two.csv", LOG.splitlines()[0] + "\n" + rows)
    with pytest.raises(SpikeattnError, match="receive one tensor, lif1, and their rates are 0.25 and 0.26"):
        audit(table, twice)


def test_table_s1_and_its_average(write):
    from spikeattn.energy.rate_tables import packaged_table

    frame = packaged_table("table_s1_sdt_8_512")
    table = write("s1.csv", frame.to_csv(index=False))
    found = audit(table, "sdt_8_512")
    assert found.arithmetic.compared == {"average": 69} and found.arithmetic.differences == ()
    prices = found.prices.set_index("convention").energy_mj
    assert (round(prices["sdt-paper"], 2), round(prices["sdt-printed"], 2)) == (5.35, 4.50)
    assert "--model" in audit(table).prices.reason[0]
    frame.loc[4, "average"] = "0.9"
    (only,) = audit(write("s1.csv", frame.to_csv(index=False))).arithmetic.differences
    assert (only.check, only.line, only.stated) == ("average", 6, 0.9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "its titles are those of no published layout.*they are a, b.*--map"),
        ("", "the table is empty"),
        (YOLO.replace("1.1872", "many"), "line 3: rate is 'many', which is no number"),
        (YOLO.replace(",1.1872,", ",-1,"), "line 3: the rate of model.model.2.Conv.lif1 is -1"),
        (YOLO.replace(",1.1872,", ",,"), "line 3: model.model.2.Conv.lif1 has no rate"),
        (LOG.replace(",25,25.0", ",125,125.0"), "q_conv is 1.25; a share of non-zero elements lies between 0 and 1"),
        (LOG.splitlines()[0] + "\n", "no row of the table is a layer"),
    ],
)
def test_tables_that_cannot_be_read(write, text, said):
    with pytest.raises(SpikeattnError, match=said):
        audit(write("t.csv", text))


def test_maps_that_cannot_be_used(write, tmp_path):
    table = write("t.csv", "Layer,fr (%),kMACs\nstem,,100\n")
    with pytest.raises(SpikeattnError, match="lacks 'uJ', which the map 'mine' names; its titles are Layer, fr"):
        audit(table, layout=write("map.toml", MAP))
    for old, new, said in (
        ('dense = "kMACs"', "", "has no dense operations: give dense, or all of c_in"),
        ('rate_unit = "percent"', 'rate_unit = "permille"', "rate_unit"),
        ("time_steps = 2", 'multiplies = "unnamed"', "its settings need receives = TITLE"),
        ("time_steps = 2", "name_pattern = '('", "is no pattern"),
        ('layer = "Layer"', "", "layer"),
    ):
        with pytest.raises(SpikeattnError, match=said):
            load_layout(write("map.toml", MAP.replace(old, new)))
    with pytest.raises(SpikeattnError, match="cannot be read"):
        load_layout(tmp_path / "none.toml")
    for name in ("t.txt", "none.csv"):
        with pytest.raises(SpikeattnError, match="csv"):
            read_layers(tmp_path / name)


def test_the_layouts_of_the_package():
    assert set(list_layouts()) == {"spikingformer-log", "spikeyolo-layers", "spikeyolo-sheet"}
    assert all(layout.source and layout.title for layout in list_layouts().values())


def test_a_spreadsheet(tmp_path):
    """Prices above the titles, which stand a column too far left, as in SpikeYOLO's own."""
    pytest.importorskip("openpyxl")
    titles = ["layer", "", "", "", *"input output k S Hin Win Hout Wout group T pixel Flops()".split()]
    rows = [
        ["", "", "E_MAC (mJ)", 4.6, *[""] * 17],
        ["", "", "E_AC (mJ)", 0.9, *[""] * 17],
        [*titles, "", "ANN", "ANN_sum", "SNN", "SNN_sum"],
    ]
    for line, cells in enumerate(pd.read_csv(io.StringIO(YOLO), dtype=str, keep_default_na=False).to_numpy().tolist()):
        cells[3] = f"'{cells[3]}': tensor({cells[4]}" if line else ""
        rows.append(cells)
    pd.DataFrame(rows).to_excel(tmp_path / "sheet.xlsx", index=False, header=False)
    found = audit(tmp_path / "sheet.xlsx")
    (only,) = found.arithmetic.differences
    assert (found.layout, only.line, only.check) == ("spikeyolo-sheet", 4, "energy") and "4.14" in only.note
    assert found.arithmetic.compared["rate"] == 2
    (tmp_path / "text.xlsx").write_text(YOLO)
    with pytest.raises(SpikeattnError, match="not an .xlsx file"):
        audit(tmp_path / "text.xlsx")


def test_a_spreadsheet_without_openpyxl(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(SpikeattnError, match=r'pip install "spikeattn\[xlsx\]", or save the sheet as .csv'):
        audit(write("sheet.xlsx", ""))


def test_differences_as_a_table(write):
    frame = check_arithmetic(read_layers(write("yolo.csv", YOLO))).frame()
    assert list(frame.columns)[:4] == ["line", "layer", "check", "stated"] and len(frame) == 1
    assert np.isfinite(frame.relative).all()
