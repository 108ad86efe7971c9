"""Runs: bad input is one clear error, interrupted runs resume, and the model is always left as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.storage.counts import Counts
from spikeattn.storage.folder import RunFolder
from tests.counting.networks import batches, foreign, hooks_of, tiny_sdt
from tests.models.sdt_oracle import exact_input


class Tiny(nn.Module):
    """Linear, LIF, linear over T = 3 steps; `mix` and `leak` plant faults that a probe must find."""

    def __init__(self, mix: bool = False, leak: bool = False, layout: str = "TB") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.fc, self.lif, self.head = nn.Linear(6, 8), neuron.LIFNode(step_mode="m"), nn.Linear(8, 4)
        self.mix, self.leak, self.layout, self.calls = mix, leak, layout, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.leak:
            x = x * (1 + self.calls % 3)
        if self.mix:
            x = x - x.mean(0)
        steps = self.lif(self.fc(x.flatten(1) * 5).expand(3, len(x), 8))  # [T, B, 8]
        if self.layout == "BT":
            steps = steps.transpose(0, 1)
        return self.head(steps).mean(0 if self.layout == "TB" else 1)


class HalfBT(nn.Module):
    """Everything in [B, T, ...], the neuron too (its recurrence then runs over the wrong axis for 'TB')."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 8), nn.Linear(8, 4)
        self.lif = BatchFirst(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(self.fc(x.flatten(1) * 5).unsqueeze(1).expand(-1, 3, -1))).mean(1)


class BatchFirst(neuron.LIFNode):
    """A LIF that takes [B, T, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1).contiguous()).transpose(0, 1)


def data(n: int = 7) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "loader", "message"),
    [
        (lambda: nn.Linear(6, 2), lambda: [data()], "has no spiking neurons"),
        (Tiny, lambda: [], "gave no image"),
        (Tiny, lambda: ["text"], "expected (images, labels), images or a dict of them"),
        (Tiny, lambda: [(data(), torch.zeros(3))], "7 images and 3 labels"),
        (Tiny, lambda: [data().index_fill(0, torch.tensor(4), float("nan"))], "image 4 holds NaN"),
        (lambda: Tiny(mix=True), lambda: [data()], "Tiny mixes images: mean in Tiny joins them"),
        (lambda: Tiny(leak=True), lambda: [data()], "keeps state that spikingjelly's reset does not clear"),
        (tiny_sdt, lambda: [torch.zeros(2, 1, 16, 16)], "input has shape"),
        (tiny_sdt, lambda: [torch.zeros(2, 3, 20, 20)], "input has shape"),
    ],
)
def test_bad_input_is_one_clear_error(model, loader, message: str, tmp_path) -> None:
    net = model()
    before = hooks_of(net)
    with pytest.raises(SpikeattnError) as error:
        sa.profile(net, loader(), out=tmp_path / "run")
    assert message in str(error.value)
    assert hooks_of(net) == before
    assert not (tmp_path / "run" / "counts.parquet").exists()


def test_nan_in_a_weight_and_on_the_way_are_errors() -> None:
    model = tiny_sdt()
    model.block[1].mlp.fc1_conv.weight.data[3, 0] = float("nan")
    with pytest.raises(SpikeattnError, match=r"weight block.1.mlp.fc1_conv.weight"):
        sa.profile(model, batches(exact_input(2, 3, 16, 16), 2))
    model = tiny_sdt()
    model.block[0].attn.q_bn.register_forward_hook(lambda m, a, out: out * float("inf"))
    with pytest.raises(SpikeattnError, match=r"NaN or infinite values reached block.0.attn.q_lif"):
        sa.profile(model, batches(exact_input(2, 3, 16, 16), 2))


def test_a_batch_of_another_shape_is_an_error_that_says_so() -> None:
    model, call = foreign("sdt")
    with pytest.raises(SpikeattnError, match="every batch must have the same image size"):
        sa.profile(model, [exact_input(2, 3, 32, 32), exact_input(2, 3, 40, 40)], forward=call)


def test_spikes_changed_by_a_hook_are_an_error() -> None:
    model = tiny_sdt()
    on = []
    model.head_lif.register_forward_hook(lambda m, a, out: out * 0.5 if on else out)
    loader = batches(exact_input(4, 3, 16, 16), 2)

    def later(model, images):
        on.extend([1] if torch.equal(images, loader[1][0]) else [])
        return model(images)

    with pytest.raises(SpikeattnError, match="tensor head_lif should hold only 0 and 1"):
        sa.profile(model, loader, forward=later)


def test_all_silent_and_untrained_are_named_in_the_result() -> None:
    model = sa.create_model("sdt_digits")
    profile = sa.profile(model, [exact_input(2, 1, 16, 16)])
    assert any(w.startswith("all-silent") for w in profile.warnings)
    assert any(w.startswith("untrained") for w in profile.warnings)
    assert "UNTRAINED" in repr(profile)
    assert profile.energy().total.value > 0  # the first convolution's MACs remain
    assert np.isnan(profile.over_time()["accuracy"]).all()


@pytest.mark.parametrize("layout", [None, "BT"])
def test_the_order_of_time_and_images_is_derived(layout: str | None) -> None:
    torch.manual_seed(0)
    model = HalfBT()
    profile = sa.profile(model, [data()], layout=layout)
    functional.reset_net(model)
    seen: list[Tensor] = []
    handle = model.lif.register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        model(data())
    handle.remove()
    assert np.array_equal(profile.counts.column("nnz", "lif"), seen[0].ne(0).sum(-1).numpy())


def test_neurons_predicate_and_model_modes() -> None:
    class Mine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x > 0.5).float()

    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), Mine(), nn.Linear(5, 2)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(SpikeattnError, match="neurons=lambda module"):
        sa.profile(model, [data()])
    profile = sa.profile(model, [data()], neurons=lambda m: isinstance(m, Mine), time_steps=1)
    assert profile.time_steps == 1 and model.training and model[1].training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_run_on_disk_is_the_run_in_memory(tmp_path) -> None:
    model = tiny_sdt()
    loader = batches(exact_input(5, 3, 16, 16), 2)
    saved = sa.profile(model, loader, out=tmp_path / "run")
    kept = sa.profile(model, loader)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["counts.parquet", "model.json"]
    assert saved.rates().equals(kept.rates()) and saved.operations().equals(kept.operations())
    kept.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "counts.parquet").read_bytes() == (tmp_path / "run" / "counts.parquet").read_bytes()
    with pytest.raises(SpikeattnError, match="holds a finished run"):
        sa.profile(model, loader, out=tmp_path / "run")
    with pytest.raises(SpikeattnError, match="holds a run already"):
        kept.save(tmp_path / "run")


class Interrupted(Exception):
    pass


def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path) -> None:
    model = sa.create_model("sdt_digits", depth=1)
    dataset = sa.open_dataset("digits", model)
    loader = sa.make_loader(dataset, batch_size=4, limit=18)
    whole = sa.profile(model, loader, out=tmp_path / "whole")
    calls = []

    def dies(model, images):
        calls.append(1)
        if len(calls) > 5:  # a pass traces the first batch, one reads the structure
            raise Interrupted
        return model(images)

    with pytest.raises(Interrupted):
        sa.profile(model, loader, out=tmp_path / "run", forward=dies)
    left = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert "parts" in left and "counts.parquet" not in left
    with pytest.raises(SpikeattnError, match="holds an interrupted run"):
        sa.profile(model, loader, out=tmp_path / "run")
    with pytest.raises(SpikeattnError, match="interrupted run without counts.parquet"):
        sa.Profile.load(tmp_path / "run")
    other = sa.make_loader(dataset, batch_size=3, limit=18)
    with pytest.raises(SpikeattnError, match="resume: data.batch_size is 3 now and was 4"):
        sa.profile(model, other, out=tmp_path / "run", resume=True)
    resumed = sa.profile(model, loader, out=tmp_path / "run", resume=True)
    assert resumed.n_images == 18
    with pytest.raises(SpikeattnError, match="resume: data.chosen is 2 now and was 18"):  # a finished one as well
        sa.profile(model, sa.make_loader(dataset, batch_size=4, limit=2), out=tmp_path / "run", resume=True)
    for name in ("counts.parquet", "model.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert whole.rates().equals(resumed.rates())


def test_a_damaged_part_is_named(tmp_path) -> None:
    model = sa.create_model("sdt_digits", depth=1)
    loader = sa.make_loader(sa.open_dataset("digits", model), batch_size=4, limit=8)

    def dies(model, images, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) > 3:  # a pass traces the first batch, one reads the structure
            raise Interrupted
        return model(images)

    with pytest.raises(Interrupted):
        sa.profile(model, loader, out=tmp_path, forward=dies)
    (part,) = (tmp_path / "parts").glob("*.arrow")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(SpikeattnError, match=rf"{part.name}: damaged"):
        sa.profile(model, loader, out=tmp_path, resume=True)


def test_two_runs_in_one_folder_and_damaged_results(tmp_path) -> None:
    with (
        RunFolder(tmp_path / "run"),
        pytest.raises(SpikeattnError, match="another process is writing"),
        RunFolder(tmp_path / "run"),
    ):
        pass
    profile = sa.profile(tiny_sdt(), batches(exact_input(2, 3, 16, 16), 2), out=tmp_path / "good")
    other = sa.profile(tiny_sdt(depth=1), batches(exact_input(2, 3, 16, 16), 2), out=tmp_path / "other")
    with pytest.raises(SpikeattnError, match="another model or input size"):
        Counts.load(other.path / "counts.parquet", profile.ledger)
    again = sa.profile(tiny_sdt(), batches(exact_input(4, 3, 16, 16), 4), out=tmp_path / "again", provenance={})
    assert again.ledger.hash() == profile.ledger.hash()
    settings = dict(again.ledger.provenance["settings"]) | {"threads": 99}
    changed = replace(again.ledger, provenance={"settings": settings})
    with pytest.raises(SpikeattnError, match="other weights, data or settings"):
        Counts.load(again.path / "counts.parquet", changed)
    (tmp_path / "good" / "counts.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(SpikeattnError, match="not a readable Parquet file"):
        sa.Profile.load(tmp_path / "good")
    with pytest.raises(SpikeattnError, match="no such folder"):
        sa.Profile.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpikeattnError, match="file: is no folder; give one"):
        sa.profile(tiny_sdt(), batches(exact_input(2, 3, 16, 16), 2), out=tmp_path / "file")


def test_provenance_tells_what_a_rerun_needs(tmp_path) -> None:
    model = sa.create_model("sdt_digits", depth=1)
    loader = sa.make_loader(sa.open_dataset("digits", model), batch_size=4, sample=6, seed=5)
    profile = sa.profile(model, loader, out=tmp_path, provenance={"command": "test"})
    settings = json.loads((tmp_path / "model.json").read_text())["provenance"]["settings"]
    assert settings["neurons"] == "torch (cpu)" and settings["path"] == "plain"
    assert settings["data"]["sample"] == 6 and settings["data"]["seed"] == 5 and settings["data"]["batch_size"] == 4
    assert settings["model"]["trained"] is False and settings["threads"] >= 1
    assert profile.provenance["command"] == "test"
    rows = profile.counts.rows
    assert list(rows["index"]) == sorted(rows["index"]) and rows["id"].str.startswith("digits/").all()


def test_strict_turns_uncounted_operations_into_an_error() -> None:
    model, images = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), neuron.IFNode(), nn.Linear(4, 2)), torch.rand(2, 4)
    profile = sa.profile(model, [images])
    assert [u.op for u in profile.ledger.uncounted] == ["native_layer_norm"]
    assert any(w.startswith("uncounted") for w in profile.warnings)
    with pytest.raises(SpikeattnError, match="strict: .* cannot be counted"):
        sa.profile(model, [images], strict=True)


def test_unreadable_images_are_all_named_and_a_run_without_any_leaves_nothing(tmp_path) -> None:
    from PIL import Image

    model = sa.create_model("sdt_digits", depth=1)
    data = tmp_path / "data"
    data.mkdir()
    for i in range(6):
        (data / f"bad{i}.png").write_bytes(b"\x89PNG broken")
    loader = sa.make_loader(sa.open_dataset(f"folder:{data}", model), batch_size=4)
    with pytest.raises(SpikeattnError, match="no image to profile; 6 could not be read"):
        sa.profile(model, loader, out=tmp_path / "run")
    Image.new("L", (20, 20), 200).save(data / "good.png")
    loader = sa.make_loader(sa.open_dataset(f"folder:{data}", model), batch_size=4)
    profile = sa.profile(model, loader, out=tmp_path / "run")
    assert profile.n_images == 1
    assert [s["id"] for s in profile.provenance["skipped"]] == [f"bad{i}.png" for i in range(6)]
    assert any(w.startswith("skipped: 6 images") and "others, all named" in w for w in profile.warnings)
