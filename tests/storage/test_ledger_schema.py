"""A model.json that was edited: one clear error with the path of the field, and never another number."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spikeattn.boundary import schema
from spikeattn.errors import SpikeattnError
from spikeattn.storage import parts
from spikeattn.storage.counts import Counts
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor, Product, Synapse, Uncounted

WRONG: list[Any] = [
    None, True, -1, 1.5, 1 << 63, 10**30, math.nan, math.inf, "x", "\ud800", [], [None], [[1]], {}, {"a": 1},
]  # fmt: skip
SETTINGS = {
    "model": {"name": "tiny", "config": {"depth": 2}, "notes": []},
    "data": {"name": "digits", "chosen": 20, "batch_size": 4, "limit": None, "seed": 0},
    "threads": 1,
    "input": [1, 8, 8],
    "path": "plain",
}


@pytest.fixture
def record() -> dict[str, Any]:
    ledger = Ledger(
        4,
        True,
        (
            CountedTensor("input", (1, 8, 8), 64, maker="input", kind="real", static=True, number=True),
            CountedTensor(
                "lif", (2, 8, 8), 128, role="Conv1", part="SPS", block=0, neuron="LIFNode", low=0.0, high=1.0
            ),
        ),
        (Synapse("conv", "conv2d", "input", 64 * 18, None, 128, kernel=(3, 3), stride=(1, 1), out_channels=2),),
        (Product("sum", "token_sum", ("lif",), 64, summed_over=8),),
        (Uncounted("x", "fft", "no rule for this operation"),),
        ("silent: lif",),
        {"name": "tiny", "class": "a.B", "parameters": 12, "trained": True, "config": {"num_classes": 10}},
        {"settings": SETTINGS, "command": "spikeattn profile", "skipped": [{"id": "a", "reason": "b"}]},
    )
    return json.loads(ledger.to_json())


def fields(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of everything below a value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from fields(value[key], (*path, key))


def changed(record: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    record = copy.deepcopy(record)
    at: Any = record
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return record


def shown(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def test_every_field_with_every_wrong_value_is_one_error_or_a_valid_ledger(record) -> None:
    refused = {}
    for path in fields(record):
        for wrong in WRONG:
            try:
                read = Ledger.from_dict(json.loads(json.dumps(changed(record, path, wrong))), "run/model.json")
            except SpikeattnError as error:
                assert str(error).startswith("run/model.json: "), (path, wrong, error)
                refused[shown(path)] = refused.get(shown(path), 0) + 1
                continue
            assert json.dumps(read.to_dict())  # what is read can be written again
            for entry in (*read.tensors, *read.synapses, *read.products, *read.uncounted):
                for field in dataclasses.fields(entry):
                    kinds = str(field.type)
                    value = getattr(entry, field.name)
                    assert not isinstance(value, bool) or "bool" in kinds, (path, wrong)
                    assert not isinstance(value, float) or math.isfinite(value), (path, wrong)
                    assert not isinstance(value, dict | list), (path, wrong)
    free = ("model.config.", "provenance.settings.model.config.", "provenance.settings.model.notes")
    for path in map(shown, fields(record)):
        assert path in refused or path.startswith(free), f"{path} takes any value"
    assert refused["tensors[1].unit"] >= len(WRONG) - 2  # 1.5 is a number, and `True` no longer is


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("tensors", 1, "block"), "x", 'run/model.json: tensors[1].block is "x"; a whole number of at least 0 or null'),
        (("tensors", 1, "elements"), 128.0, "tensors[1].elements is 128.0; a whole number of at least 1 is expected"),
        (("tensors", 1, "elements"), 1 << 63, "tensors[1].elements is a whole number that is too long for 64 bits"),
        (("tensors", 1, "unit"), 0, "tensors[1].unit is 0; a finite number above 0 is expected"),
        (("tensors", 1, "unit"), math.nan, "tensors[1].unit is NaN; a finite number above 0 is expected"),
        (("tensors", 1, "maker"), "nobody", 'tensors[1].maker is "nobody"; one of "input", "neuron"'),
        (("tensors", 1, "part"), "\ud800", r'tensors[1].part is "\ud800"; text in UTF-8 or null is expected'),
        (("tensors", 1, "name"), 5, "tensors[1].name is 5; text in UTF-8 is expected"),
        (("synapses", 0, "weights"), True, "synapses[0].weights is true; a whole number of at least 0 is expected"),
        (("warnings",), [None], "warnings[0] is null; text is expected"),
        (("warnings",), "silent", 'warnings is "silent"; a list is expected'),
        (("model", "parameters"), "12", 'model.parameters is "12"; a whole number of at least 0 or null is expected'),
        (("model", "config"), None, "model.config is null; a record is expected"),
        (("provenance", "command"), ["x"], 'provenance.command is ["x"]; text is expected'),
        (("provenance", "settings", "data", "chosen"), "20", 'provenance.settings.data.chosen is "20"; a whole number'),
        (("provenance", "settings", "input"), [1, "x"], 'provenance.settings.input[1] is "x"; a whole number'),
        (("provenance", "skipped", 0, "id"), 5, "provenance.skipped[0].id is 5; text is expected"),
        (("format",), True, "ledger format True, this version reads format 1"),
        (
            ("synapses", 0, "input"),
            "lfi",
            "run/model.json: unknown tensor of synapses[0].input 'lfi': did",
        ),
    ],
)
def test_the_error_names_the_path(record, path, value, message) -> None:
    with pytest.raises(SpikeattnError) as error:
        Ledger.from_dict(changed(record, path, value), "run/model.json")
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected the model.json of a run"),
        (b" \n", "is empty"),
        (b"[" * 100_000, "nested more than 100 levels deep"),
        (
            b'{"format": 1, "model": {"config": ' + b"[" * 300 + b"]" * 300 + b"}}",
            "model.config is nested",
        ),
        (b'{"format": 1, "time_steps": ' + b"9" * 5000 + b"}", "time_steps is a number of 5000 digits"),
        (b'{"format": 1, "model": {"a b": ' + b"9" * 500 + b"}}", 'model["a b"] is a number of 500 digits'),
        (b'{"format": 1, "model": {"name": "a", "name": "b"}}', 'model has the key "name" twice'),
        (b'\xef\xbb\xbf{"format": 1}', "byte order mark"),
        ('{"format": 1}'.encode("utf-16"), "not a text file in UTF-8"),
        ('{"format": 1}'.encode("utf-16-le"), "not a text file in UTF-8"),
        (b'{"format": 1} x', "not valid JSON (Extra data"),
        (b"[]", "not a spikeattn ledger"),
        (b"null", "not a spikeattn ledger"),
    ],
)
def test_whole_files(tmp_path, content, message) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content)
    with pytest.raises(SpikeattnError) as error:
        Ledger.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_older_and_newer_versions_are_read(record) -> None:
    for entry in record["tensors"]:  # fields that the first edition did not write
        for name in ("number", "joined", "summed", "low", "high"):
            del entry[name]
    del record["uncounted"], record["warnings"], record["provenance"], record["model"]
    read = Ledger.from_dict(record | {"later": {"anything": [None]}})
    assert read.tensors[1].joined is False and read.tensors[1].summed is None
    assert read.provenance == {} and read.warnings == ()


def test_what_a_model_says_of_itself_may_hold_anything(record) -> None:
    config = {"clip": math.inf, "deep": [[{"a": None}]], "seed": 1 << 70}
    read = Ledger.from_dict(json.loads(json.dumps(changed(record, ("model", "config"), config))))
    assert read.model["config"] == config


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batches", [None], r"its metadata: batches\[0\] is null; a whole number of at least 0 is expected"),
        ("skipped", [[0, "a"]], r'skipped\[0\] is \[0, "a"\]; a list of 3 values is expected'),
        ("flags", {"lif": [0, 1, 0]}, r"flags.lif\[0\] is 0; true or false is expected"),
        ("extremes", {"lif": [0, math.nan]}, r"extremes.lif\[1\] is NaN; a finite number is expected"),
        ("settings", {"threads": "4"}, 'settings.threads is "4"; a whole number of at least 1'),
    ],
)
def test_the_metadata_of_a_part(tmp_path, field, value, message) -> None:
    part = dataclasses.replace(parts.Part((3,), {"lif": (False, True, False)}, ((0, "a", "b"),)), **{field: value})
    content = parts._pack(part)
    path = tmp_path / f"00000003-{hashlib.sha256(content).hexdigest()[:16]}.arrow"
    path.write_bytes(content)
    with pytest.raises(SpikeattnError, match=message):
        parts.load(path)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (b"[", "not valid JSON"),
        (b"[]", "its metadata: it is .*; a record of ledger is expected"),
        (b'{"settings": "x"}', "the record lacks ledger"),
        (b'{"ledger": 5}', "ledger is 5; text is expected"),
    ],
)
def test_the_metadata_of_a_count_table(tmp_path, record, meta, message) -> None:
    path = tmp_path / "counts.parquet"
    pq.write_table(pa.table({"index": [0]}).replace_schema_metadata({b"spikeattn": meta}), path)
    with pytest.raises(SpikeattnError, match=message):
        Counts.load(path, Ledger.from_dict(record))


def test_a_type_without_a_reader_is_a_mistake_of_the_programmer() -> None:
    @dataclasses.dataclass
    class Odd:
        field: set[int]

    Odd.__annotations__["field"] = set[int]
    with pytest.raises(TypeError, match="no reader"):
        schema.read(Odd, {"field": []}, "x")
