"""Checkpoints: the published forms load, everything else is one clear error, nothing in a file is ever run."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.models import checkpoints as checkpoints_module
from spikeattn.models import create_model, load_checkpoint, load_into

SMALL = {"embed_dim": 16, "depth": 1, "num_heads": 2}


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return create_model("sdt_digits", **SMALL).state_dict()


class RunsCode:
    """A pickle of this object touches a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor / 2 if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def saved(path: Path, content: object, **options: object) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.fixture
def published(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    """A file as timm's training script writes it."""
    args = argparse.Namespace(model="sdt", lr=1e-3, mean=[0.5], time_steps=4)
    content = {
        "epoch": 299,
        "arch": "sdt",
        "state_dict": {f"module.{key}": tensor for key, tensor in state.items()},
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]},
        "version": 2,
        "args": args,
        "state_dict_ema": halved(state),
        "metric": 74.57,
    }
    return saved(tmp_path / "published.pth.tar", content)


def test_published_file_gives_its_weights_its_facts_and_its_hash(published: Path, state: dict[str, Tensor]) -> None:
    read = load_checkpoint(published)
    assert read.which == "state_dict" and same(read.state_dict, state)
    assert read.sha256 == hashlib.sha256(published.read_bytes()).hexdigest()
    assert read.metadata["epoch"] == 299 and read.metadata["metric"] == 74.57
    assert read.metadata["args"] == {"lr": 1e-3, "model": "sdt", "time_steps": 4}
    assert read.notes == ("took 'state_dict'; the file also holds 'state_dict_ema'",)


def test_ema_is_taken_when_asked_for_or_alone(tmp_path: Path, published: Path, state: dict[str, Tensor]) -> None:
    read = load_checkpoint(published, weights="ema")
    assert read.which == "state_dict_ema" and same(read.state_dict, halved(state))
    alone = saved(tmp_path / "ema.pth", {"state_dict_ema": state})
    assert load_checkpoint(alone).which == "state_dict_ema"
    with pytest.raises(SpikeattnError, match="no weights for weights='model' .*weights are under 'state_dict_ema'"):
        load_checkpoint(alone, weights="model")


def test_plain_wrapped_old_and_safetensors_files_load(tmp_path: Path, state: dict[str, Tensor]) -> None:
    wrapped = {f"_orig_mod.module.{key}": tensor for key, tensor in state.items()}
    files = [
        saved(tmp_path / "plain.pth", state),
        saved(tmp_path / "model.pt", {"model": wrapped}),
        saved(tmp_path / "old_format.pth", state, _use_new_zipfile_serialization=False),
    ]
    for file in files:
        assert same(load_checkpoint(file).state_dict, state), file.name
    save_file(state, tmp_path / "card.safetensors", metadata={"license": "MIT", "accuracy": "0.98"})
    read = load_checkpoint(tmp_path / "card.safetensors")
    assert same(read.state_dict, state) and read.metadata == {"license": "MIT", "accuracy": "0.98"}


def test_other_precisions_become_float32_and_the_provenance_says_so(tmp_path: Path, state: dict[str, Tensor]) -> None:
    low = {key: tensor.bfloat16() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    path = saved(tmp_path / "bf16.pth", low)
    model = create_model("sdt_digits", checkpoint=path, **SMALL)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert torch.equal(model.head.weight, low["head.weight"].float())
    assert model.provenance["notes"] == ["weights stored as bfloat16 were converted to float32"]


def test_create_model_tells_where_the_weights_came_from(published: Path) -> None:
    model = create_model("sdt_digits", checkpoint=published, **SMALL)
    assert not model.training
    provenance = model.provenance
    assert provenance["name"] == "sdt_digits" and provenance["config"]["embed_dim"] == 16
    assert provenance["trained"] and provenance["checkpoint"] == "published.pth.tar"
    assert provenance["weights"] == "state_dict" and len(provenance["sha256"]) == 64
    untrained = create_model("sdt_digits", **SMALL).provenance
    assert not untrained["trained"] and untrained["checkpoint"] is None and untrained["neurons"] == "auto"


def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path: Path, state: dict[str, Tensor]) -> None:
    marker = tmp_path / "ran"
    for options in (
        {},
        {"_use_new_zipfile_serialization": False},
        {"pickle_protocol": 5},
        {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
    ):
        path = saved(tmp_path / "evil.pth", {"state_dict": state, "x": RunsCode(marker)}, **options)
        with pytest.raises(SpikeattnError, match=r"refused, because its pickle wants (posix|nt)\.system, which could"):
            load_checkpoint(path)
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps([{"a": 1}, "a", RunsCode(marker)], protocol=protocol))
        with pytest.raises(SpikeattnError, match=r"wants (posix|nt)\.system, which could"):
            load_checkpoint(path)
    newer = saved(tmp_path / "newer.pth", state, pickle_protocol=4)
    with pytest.raises(SpikeattnError, match="written with a newer pickle protocol than torch reads safely"):
        load_checkpoint(newer)
    assert not marker.exists()
    whole = saved(tmp_path / "whole.pth", create_model("sdt_digits", **SMALL))
    with pytest.raises(SpikeattnError, match="refused, because its pickle wants spikeattn.models"):
        load_checkpoint(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 118000000\n",
            "LFS pointer .*118,000,000 bytes",
        ),
        (b"<!DOCTYPE html><html>", "not a checkpoint; it looks like a web page"),
        (b"epoch,accuracy\n", "not a checkpoint; valid are files written by torch.save and safetensors"),
    ],
)
def test_files_that_are_no_checkpoints_say_what_they_are(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(SpikeattnError, match=message):
        load_checkpoint(path)


def test_a_header_length_that_begins_like_a_pickle(tmp_path: Path, state: dict[str, Tensor]) -> None:
    for padding in range(0, 256, 8):  # the header is padded to 8 bytes, so one of these lengths ends in 0x80
        save_file(state, tmp_path / "weights.bin", metadata={"card": "x" * padding})
        if (tmp_path / "weights.bin").read_bytes()[:1] == b"\x80":
            break
    else:
        pytest.fail("no header length with 0x80 as its first byte")
    assert same(load_checkpoint(tmp_path / "weights.bin").state_dict, state)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_errors_wherever_they_end(
    tmp_path: Path, state: dict[str, Tensor], form: str, share: float
) -> None:
    path = tmp_path / f"weights.{form}"
    if form == "safetensors":
        save_file(state, path)
    else:
        saved(path, state, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SpikeattnError, match="truncated|no complete safetensors|not a checkpoint"):
        load_checkpoint(path)


def test_a_flipped_bit_is_found(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = saved(tmp_path / "flipped.pth", state)
    content = bytearray(path.read_bytes())
    at = content.find(state["head.weight"].numpy().tobytes())
    content[at + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(SpikeattnError, match="damaged: .* fails its checksum"):
        load_checkpoint(path)


def test_missing_files_folders_and_other_contents(tmp_path: Path, state: dict[str, Tensor]) -> None:
    np.savez(tmp_path / "array.npz", a=np.zeros(2))
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:  # as torch.jit.save writes it
        archive.writestr("program/data.pkl", b"")
        archive.writestr("program/constants.pkl", b"")
    cases = [
        (tmp_path / "absent.pth", "there is no such file"),
        (tmp_path, "this is a folder"),
        (tmp_path / "array.npz", "not a checkpoint"),
        (tmp_path / "program.pt", "a TorchScript program, not weights"),
        (saved(tmp_path / "list.pth", [1, 2]), "it holds a list, not a dictionary"),
        (saved(tmp_path / "other.pth", {"epoch": 3}), "no weights .*it holds 'epoch'"),
    ]
    for path, message in cases:
        with pytest.raises(SpikeattnError, match=message):
            load_checkpoint(path)
    with pytest.raises(SpikeattnError, match="weights='best': valid are"):
        load_checkpoint(saved(tmp_path / "plain.pth", state), weights="best")
    with pytest.raises(SpikeattnError, match="one set of weights and no EMA"):
        load_checkpoint(tmp_path / "plain.pth", weights="ema")


def test_weights_that_are_not_finite_are_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["head.bias"][:3] = torch.tensor([float("nan"), float("inf"), float("nan")])
    with pytest.raises(SpikeattnError, match=r"not finite in 1 of \d+ tensors, first in 'head.bias' \(2 NaN and 1 inf"):
        load_checkpoint(saved(tmp_path / "nan.pth", state))


def test_another_architecture_is_answered_with_the_entry_point_that_fits(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in create_model("sdt_2_256_gesture").state_dict().items()}
    path = saved(tmp_path / "gesture.pth", {key: torch.tensor(0.0).expand(shape) for key, shape in shapes.items()})
    with pytest.raises(SpikeattnError) as error:
        create_model("sdt_2_512", checkpoint=path)
    message = str(error.value)
    assert "mis-shaped, first patch_embed.proj_conv.weight is 32x2x3x3 in the file and 64x3x3x3 in the model" in message
    assert "in_chans=2 (model: 3), embed_dim=256 (model: 512), num_classes=11 (model: 10)" in message
    assert "sdt_2_256_cifar10dvs or sdt_2_256_gesture" in message


def test_missing_and_unexpected_names_are_counted_and_the_model_stays(tmp_path: Path, state: dict[str, Tensor]) -> None:
    plif = create_model("sdt_digits", **SMALL, spike_mode="plif")
    before = {key: tensor.clone() for key, tensor in plif.state_dict().items()}
    read = load_checkpoint(saved(tmp_path / "lif.pth", state))
    with pytest.raises(
        SpikeattnError, match=r"14 missing, first patch_embed.proj_lif.w; .*spike_mode=lif \(model: plif"
    ):
        load_into(plif, read)
    assert same(before, plif.state_dict())
    foreign = load_checkpoint(saved(tmp_path / "linear.pth", nn.Linear(2, 2).state_dict()))
    with pytest.raises(SpikeattnError, match="2 unexpected, first weight; its names are not those of a published"):
        load_into(plif, foreign)


def test_another_number_of_classes_is_one_argument(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = saved(tmp_path / "ten.pth", state)
    with pytest.raises(SpikeattnError, match="trained on 10 classes and the model has 7; .*num_classes=10"):
        create_model("sdt_digits", checkpoint=path, num_classes=7, **SMALL)


def test_shipped_weights_are_found_or_their_absence_said(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints_module, "SHIPPED", tmp_path)
    with pytest.raises(SpikeattnError, match="no trained weights of 'sdt_digits' come with the package"):
        create_model("sdt_digits", pretrained=True, **SMALL)
    save_file(state, tmp_path / "sdt_digits.safetensors", metadata={"accuracy": "0.98"})
    model = create_model("sdt_digits", pretrained=True, **SMALL)
    assert same(model.state_dict(), state) and model.provenance["card"] == {"accuracy": "0.98"}
    with pytest.raises(SpikeattnError, match="not both"):
        create_model("sdt_digits", pretrained=True, checkpoint=tmp_path / "sdt_digits.safetensors")
