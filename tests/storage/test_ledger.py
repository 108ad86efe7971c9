"""The ledger: round trip through model.json, lookups, hash, and what a damaged file says."""

from __future__ import annotations

import dataclasses
import json

import pytest

from spikeattn.errors import SpikeattnError
from spikeattn.storage import ledger_rows
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Product, Synapse, Uncounted


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(
        time_steps=4,
        static_input=True,
        tensors=(
            CountedTensor("input", (1, 8, 8), 64, maker="input", kind="real", static=True),
            CountedTensor("lif", (2, 8, 8), 128, role="Conv1", part="SPS", hook="conv1_lif"),
            CountedTensor("block.0.attn.kv", (4, 16), 64, maker="mask", sources=("lif",), part="attention", block=0),
        ),
        synapses=(
            Synapse("conv", "conv2d", "input", 64 * 18, None, 128, role="Conv1", part="SPS"),
            Synapse("head", "linear", "lif", 1280, 10, 10, role="FC", part="head"),
        ),
        products=(Product("block.0.attn.sum", "token_sum", ("block.0.attn.kv",), 64, part="attention", block=0),),
        uncounted=(Uncounted("x", "fft", "no rule for this operation"),),
        warnings=("silent: lif",),
        model={"name": "tiny", "parameters": 12},
        provenance={"torch": "2.11"},
    )


def test_round_trip_through_a_file(ledger, tmp_path):
    path = ledger.save(tmp_path / "model.json")
    assert Ledger.load(path) == ledger
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]
    record = json.loads(path.read_text())
    assert record["format"] == 1
    assert record["synapses"][0]["fan_out"] is None
    assert record["tensors"][0]["shape"] == [1, 8, 8]


def test_lookups_name_the_closest(ledger):
    assert ledger.tensor("lif").elements == 128
    assert ledger.synapse("head").fan_out == 10
    assert ledger.product("block.0.attn.sum").op == "token_sum"
    assert ledger.dense_macs() == 64 * 18 + 1280
    assert ledger.tensor("lif").spikes and not ledger.tensor("input").spikes
    with pytest.raises(SpikeattnError, match="unknown synapse 'heads': did you mean 'head'"):
        ledger.synapse("heads")


def test_hash_sees_structure_and_nothing_else(ledger):
    same = dataclasses.replace(ledger, provenance={"torch": "3"}, warnings=(), uncounted=(), model={})
    assert same.hash() == ledger.hash()
    kinds = tuple(dataclasses.replace(tensor, kind="integer", role="other") for tensor in ledger.tensors)
    assert dataclasses.replace(ledger, tensors=kinds).hash() == ledger.hash()
    for change in (
        {"time_steps": 5},
        {"tensors": tuple(dataclasses.replace(tensor, elements=tensor.elements + 1) for tensor in ledger.tensors)},
        {"synapses": ledger.synapses[:1]},
        {"synapses": (ledger.synapses[0], dataclasses.replace(ledger.synapses[1], input="input"))},
        {"products": ()},
    ):
        assert dataclasses.replace(ledger, **change).hash() != ledger.hash(), change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_steps": 0}, "time_steps is 0"),
        ({"tensors": (CountedTensor("lif", (1,), 1), CountedTensor("lif", (1,), 1))}, "'lif' is listed twice"),
        (
            {"tensors": (CountedTensor("lif", (1,), 0),)},
            r"ledger: tensors\[0\].elements is 0; a whole number of at",
        ),
        (
            {"tensors": (CountedTensor("lif", (1,), 1, kind="binray"),)},
            r'tensors\[0\].kind is "binray"; one of "binary"',
        ),
        (
            {"tensors": (CountedTensor("pool", (1,), 1, sources=("lif",)),)},
            r"unknown tensor of tensors\[0\].sources 'lif'",
        ),
        (
            {"synapses": (Synapse("fc", "linear", "lfi", 1),)},
            r"unknown tensor of synapses\[0\].input 'lfi': did you mean",
        ),
        ({"synapses": (Synapse("fc", "linear", "lif", -1),)}, r"synapses\[0\].dense_macs is -1; a whole number of at"),
        ({"products": (Product("p", "masks", ("lif",), 1),)}, r'products\[0\].op is "masks"; one of "token_sum"'),
        ({"products": (Product("p", "mask", ("lif",), -1),)}, r"products\[0\].elements is -1; a whole number of at"),
    ],
)
def test_an_inconsistent_ledger_is_refused(ledger, change, message):
    with pytest.raises(SpikeattnError, match=message):
        dataclasses.replace(ledger, **change)


def test_files_that_are_no_ledger(ledger, tmp_path):
    path = tmp_path / "model.json"
    with pytest.raises(SpikeattnError, match="no such file"):
        Ledger.load(path)
    path.write_text("{")
    with pytest.raises(SpikeattnError, match="not valid JSON"):
        Ledger.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpikeattnError, match="not a text file"):
        Ledger.load(path)
    for record, message in (
        ([], "not a spikeattn ledger"),
        (ledger.to_dict() | {"format": 9}, "ledger format 9"),
        ({"format": 1}, "the record lacks time_steps, static_input, tensors, synapses"),
        (ledger.to_dict() | {"uncounted": [{"name": "x"}]}, r"model.json: uncounted\[0\] lacks op, reason"),
        (
            ledger.to_dict() | {"uncounted": [{"name": "x", "op": "y", "reason": "", "z": 1}]},
            r"unknown field of uncounted\[0\] 'z'",
        ),
        (ledger.to_dict() | {"tensors": 5}, "tensors is 5; a list is expected"),
        (ledger.to_dict() | {"time_steps": "4"}, 'time_steps is "4"; a whole number of at least 1 is expected'),
        (ledger.to_dict() | {"model": "x"}, 'model is "x"; a record is expected'),
    ):
        path.write_text(json.dumps(record))
        with pytest.raises(SpikeattnError, match=message):
            Ledger.load(path)


def test_a_part_by_its_earlier_name_is_read_as_today(ledger) -> None:
    record = ledger.to_dict()
    assert {entry["part"] for entry in record["products"]} == {"attention"}
    for entry in (*record["tensors"], *record["products"]):
        entry["part"] = "SDSA" if entry["part"] == "attention" else entry["part"]
    assert Ledger.from_dict(record) == ledger


def test_row_class_by_its_earlier_name() -> None:
    with pytest.warns(DeprecationWarning, match="CountedTensor"):
        assert ledger_rows.Tensor is CountedTensor
    with pytest.raises(AttributeError):
        ledger_rows.Tensors  # noqa: B018
