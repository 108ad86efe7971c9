"""Damaged and hostile checkpoints: one error that names the file, and nothing in it is ever run."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import time
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import spikeattn as sa
from spikeattn.cli import main
from spikeattn.errors import SpikeattnError
from spikeattn.models.checkpoints import load_checkpoint, shipped_weights
from spikeattn.provenance import differences

SHIPPED = shipped_weights("sdt_digits")
STATE = safetensors.torch.load_file(SHIPPED)
FIRST = "patch_embed.proj_conv.weight"


class Code:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo run > {self.path}",)


def torch_file(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def with_first(change) -> dict[str, Tensor]:
    return {**STATE, FIRST: change(STATE[FIRST].clone())}


def poisoned(value: float) -> dict[str, Tensor]:
    def change(weight: Tensor) -> Tensor:
        weight.view(-1)[3] = value
        return weight

    return with_first(change)


def cut(content: bytes, pieces: int) -> list[bytes]:
    return [content[: len(content) * k // pieces] for k in range(pieces)]


def corpus(sentinel: Path) -> dict[str, bytes]:
    whole, zipped = SHIPPED.read_bytes(), torch_file(STATE)
    old = torch_file(STATE, _use_new_zipfile_serialization=False)
    found = {f"safetensors_cut{k:02}": content for k, content in enumerate(cut(whole, 12))}
    found |= {f"zip_cut{k:02}": content for k, content in enumerate(cut(zipped, 12))}
    found |= {f"old_cut{k:02}": content for k, content in enumerate(cut(old, 12))}
    code = Code(str(sentinel))
    hostile = {"code": code, "code_in_dict": {"state_dict": STATE, "args": code}, "code_list": [code]}
    for protocol in (2, 4):
        found |= {f"{name}{protocol}": pickle.dumps(content, protocol) for name, content in hostile.items()}
    found |= {f"{name}_zip": torch_file(content) for name, content in hostile.items()}
    dtypes = {"int8": torch.int8, "int64": torch.int64, "bool": torch.bool, "complex": torch.complex64}
    found |= {f"dtype_{name}": torch_file(with_first(lambda w, d=dtype: w.to(d))) for name, dtype in dtypes.items()}
    found |= {f"value_{value}": torch_file(poisoned(value)) for value in (float("nan"), float("inf"), float("-inf"))}
    found |= {
        "shape": torch_file(with_first(lambda w: w[:-1])),
        "axes": torch_file(with_first(lambda w: w.unsqueeze(0))),
        "missing": torch_file({key: value for key, value in STATE.items() if key != FIRST}),
        "more": torch_file({**STATE, "extra.weight": torch.zeros(3)}),
        "renamed": torch_file({f"model.{key}": value for key, value in STATE.items()}),
        "list": torch_file([1, 2, 3]),
        "number": torch_file(7),
        "empty_dict": torch_file({}),
        "nothing": b"",
        "text": b"weights",
        "json": json.dumps({"state_dict": {}}).encode(),
        "zeros": bytes(5000),
        "header_lies": (1 << 62).to_bytes(8, "little") + whole[8:],
        "header_short": (5).to_bytes(8, "little") + whole[8:],
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    found["plain_zip"] = buffer.getvalue()
    return found


def test_every_bad_checkpoint_is_one_error_that_names_it(tmp_path: Path) -> None:
    sentinel = tmp_path / "was_run"
    files = corpus(sentinel)
    assert len(files) >= 60
    for name, content in files.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(SpikeattnError) as error:
            sa.create_model("sdt_digits", checkpoint=path)
        assert path.name in str(error.value), f"{name}: {error.value}"
        assert len(str(error.value)) < 1200 and not sentinel.exists(), name


@pytest.mark.parametrize("name", ["code4", "zip_cut07", "dtype_int8", "value_nan", "header_lies"])
def test_the_command_line_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(corpus(tmp_path / "was_run")[name])
    options = ["--data", "digits", "--out", str(tmp_path / "run"), "--threads", "1", "--device", "cpu"]
    assert main(["profile", "--model", "sdt_digits", "--checkpoint", str(path), *options]) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told and told.startswith("error: checkpoint") and "weights.pth" in told
    assert not (tmp_path / "was_run").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_of_the_same_weights_are_converted_and_noted(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({key: x.to(dtype) if x.is_floating_point() else x for key, x in STATE.items()}, tmp_path / "a.pth")
    model = sa.create_model("sdt_digits", checkpoint=tmp_path / "a.pth")
    assert next(model.parameters()).dtype == torch.float32
    assert any("converted to float32" in note for note in model.provenance["notes"])


def expanded(*shape: int) -> Tensor:
    return torch.zeros(1).expand(*shape)


def deflated(content: bytes) -> bytes:
    """The same archive, compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def calling(name: str, *numbers: int) -> bytes:
    """An archive of torch.save whose pickle calls a function of whole numbers."""
    arguments = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", number) for number in numbers) + b"t"
    module, _, function = name.rpartition(".")
    program = b"\x80\x02}X\x01\x00\x00\x00wc" + f"{module}\n{function}\n".encode() + arguments + b"Rs."
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_file({"w": torch.ones(1)}))) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, program if entry.endswith("data.pkl") else old.read(entry))
    return buffer.getvalue()


BOMBS = {
    "one_number_repeated": (lambda: torch_file({"w": expanded(2_000_000_000)}), "unpack to 8,000,000,000 bytes"),
    "of_two_axes": (lambda: torch_file({"w": expanded(45_000, 45_000)}), "unpack to 8,100,000,000 bytes"),
    "in_many_tensors": (lambda: torch_file({f"w{i}": expanded(15_000_000) for i in range(99)}), "unpack to 5,940,000"),
    "of_the_old_format": (
        lambda: torch_file({"w": expanded(2_000_000_000)}, _use_new_zipfile_serialization=False),
        "unpack to 8,000,000,000 bytes",
    ),
    "in_an_archive": (lambda: deflated(torch_file({"w": torch.zeros(1 << 25)})), "its entries unpack to 134,2"),
    "made_by_a_tensor": (lambda: calling("torch.Tensor", 50_000, 50_000), "unpack to 10,000,000,000 bytes"),
    "made_by_bytes": (lambda: calling("__builtin__.bytearray", 1 << 34), "calls __builtin__.bytearray"),
    "made_by_a_storage": (lambda: calling("torch.storage.UntypedStorage", 1 << 34), "no weights for weights='auto'"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_would_take_all_memory_is_refused_at_once(tmp_path: Path, name: str) -> None:
    content, message = BOMBS[name]
    path = tmp_path / "weights.pth"
    path.write_bytes(content())
    start = time.process_time()
    with pytest.raises(SpikeattnError, match=message) as error:
        sa.create_model("sdt_digits", checkpoint=path)
    assert time.process_time() - start < 2 and "\n" not in str(error.value)


def test_tied_and_repeated_weights_of_ordinary_size_are_read(tmp_path: Path) -> None:
    weight = torch.randn(1000, 100)
    torch.save({"a": weight, "b": weight, "c": torch.ones(1).expand(1000, 1000)}, tmp_path / "a.pth")
    read = load_checkpoint(tmp_path / "a.pth")
    assert torch.equal(read.state_dict["b"], weight) and read.state_dict["c"].sum() == 1_000_000
    (tmp_path / "b.pth").write_bytes(deflated((tmp_path / "a.pth").read_bytes()))
    assert torch.equal(load_checkpoint(tmp_path / "b.pth").state_dict["a"], weight)


# torch 2.1 has no jagged layout, and cannot save a nested tensor: no such file is made with it.
nested = pytest.mark.skipif(not hasattr(torch, "jagged"), reason=f"torch {torch.__version__} saves no nested tensors")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.eye(3).to_sparse(), "of layout sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "of layout sparse_csr"),
        (lambda: torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (10**9, 10**9)), "sparse_coo"),
        pytest.param(
            lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "which is nested", marks=nested
        ),
        pytest.param(
            lambda: torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged), "a NestedTensor", marks=nested
        ),
        (lambda: torch.empty(10**15, device="meta"), "on the device 'meta', without values"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
    ],
)
def test_tensors_that_are_no_arrays_of_numbers_are_named(tmp_path: Path, make, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that nested, sparse and quantised tensors are in beta or leaving
        (tmp_path / "a.pth").write_bytes(torch_file({"a": torch.ones(2), "w": make()}))
        with pytest.raises(SpikeattnError) as error:
            load_checkpoint(tmp_path / "a.pth")
    said = rf"1 of 2 tensors .* first 'w', which is .*{kind.split()[-1]}"
    if torch.__version__ < "2.5":  # it allows less: 2.1 no quantised tensor, 2.4 no jagged one
        said += rf"|wants torch\.\S+, which torch {re.escape(torch.__version__)} does not allow in weights"
    assert re.search(said, str(error.value)), error.value


def test_what_of_torch_itself_is_refused_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(calling("torch.hub.load_state_dict_from_url", 1))
    said = rf"wants torch\.hub\.\S+, which torch {re.escape(torch.__version__)} does not allow in weights\. If you"
    with pytest.raises(SpikeattnError, match=said):
        load_checkpoint(tmp_path / "a.pth")


def test_a_card_with_nan_and_infinity_is_json_and_a_resumed_run_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {"metric": float("nan"), "best": float("inf"), "worst": -float("inf"), "epoch": 3, "vast": 10**500}
    torch.save({"state_dict": STATE, **metrics}, tmp_path / "a.pth")
    options = ["--data", "digits", "--limit", "8", "--threads", "1", "--device", "cpu", "--plain"]
    options += ["--checkpoint", str(tmp_path / "a.pth"), "--out", str(tmp_path / "run")]
    assert main(["profile", "--model", "sdt_digits", *options]) == 0

    def no_json(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = (tmp_path / "run" / "model.json").read_text()
    written = json.loads(text, parse_constant=no_json)
    (found,) = {json.dumps(card) for card in cards(written)}
    assert json.loads(found) == {"metric": "NaN", "best": "Infinity", "worst": "-Infinity", "epoch": 3}
    assert main(["profile", "--model", "sdt_digits", *options, "--resume"]) == 0, capsys.readouterr().err
    old, new = {"card": {"metric": float("nan"), "best": float("inf")}}, {"card": {"metric": "NaN", "best": "Infinity"}}
    assert not list(differences(old, new))  # the first edition wrote them as numbers
    assert [found.name for found in differences(old, {"card": {"metric": "NaN", "best": 1.0}})] == ["card.best"]


def cards(record: object) -> list[dict[str, object]]:
    """Every entry `card` of a JSON record."""
    if isinstance(record, list):
        return [card for item in record for card in cards(item)]
    if not isinstance(record, dict):
        return []
    own = [record["card"]] if isinstance(record.get("card"), dict) else []
    return own + [card for item in record.values() for card in cards(item)]
