"""Damaged and hostile checkpoints: one error that names the file, and nothing in it is ever run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import spikeattn as sa
from spikeattn.cli import main
from spikeattn.errors import SpikeattnError
from spikeattn.models.checkpoints import shipped_weights

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
