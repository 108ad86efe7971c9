"""`sa.record`: what `sa.profile` counts, around a loop of the user's own, in training and eval mode."""

from __future__ import annotations

import copy
import io

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.runs import kept_passes, recording
from tests.counting.networks import hooks_of, tiny_sdt
from tests.models.sdt_oracle import exact_input
from tests.structure import odd_networks as odd


def test_record_counts_an_ordinary_loop_and_leaves_no_trace() -> None:
    model = tiny_sdt().train()
    before = hooks_of(model)
    images = exact_input(5, 3, 16, 16)
    with sa.record(model) as rec:
        for batch in images.split(3):
            model(batch).sum().backward()
            functional.reset_net(model)
    assert hooks_of(model) == before and model.training
    table = rec.counts()
    assert set(table.columns) == {"forward", "image", "tensor", "t", "nonzero", "abs_sum", "elements"}
    assert table.groupby("forward")["image"].max().tolist() == [2, 1]
    lif = table[table["tensor"] == "patch_embed.proj_lif"]
    assert lif["nonzero"].sum() > 0 and (lif["nonzero"] <= lif["elements"]).all()


def test_a_forgotten_reset_is_an_error_and_an_exception_releases_the_hooks() -> None:
    model = tiny_sdt()
    before = hooks_of(model)
    images = exact_input(2, 3, 16, 16)
    with pytest.raises(SpikeattnError, match="reset_net"), sa.record(model):
        model(images)
        model(images)
    assert hooks_of(model) == before
    functional.reset_net(model)
    with pytest.raises(ZeroDivisionError), sa.record(model):
        model(images)
        raise ZeroDivisionError
    assert hooks_of(model) == before
    functional.reset_net(model)
    with pytest.raises(SpikeattnError, match="nothing recorded yet"), sa.record(model) as rec:
        rec.counts()


class Own(nn.Module):
    """Spikes of a class that SpikingJelly does not know, in one step."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).float()


class BatchFirst(nn.Module):
    """Works on [B, T, ...], T = 4, with B = 4 images: the two axes cannot be told apart by their size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.fc, self.lif, self.head = nn.Linear(6, 8), Late(step_mode="m"), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(self.fc(x * 5).unsqueeze(1).expand(-1, 4, -1))).mean(1)


class Late(neuron.LIFNode):
    """A LIF that takes [B, T, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1).contiguous()).transpose(0, 1)


def spikes_of(table: pd.DataFrame, tensor: str) -> list[list[int]]:
    """[T][B] of one forward pass."""
    chosen = table[table["tensor"] == tensor]
    return chosen.pivot(index="t", columns="image", values="nonzero").to_numpy().tolist()


def test_neurons_of_ones_own_in_one_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), Own(), nn.Linear(5, 2))
    x = torch.rand(7, 6)
    with pytest.raises(SpikeattnError, match="neurons=lambda module"):
        sa.record(model)
    with sa.record(model, neurons=lambda module: isinstance(module, Own), time_steps=1) as rec:
        model(x)
    expected = (model[0](x) > 0.5).sum(1)
    assert expected.sum() > 0 and spikes_of(rec.counts(), "1") == [expected.tolist()]


def test_the_order_of_time_and_batch_is_the_one_that_is_named() -> None:
    model, x = BatchFirst().eval(), torch.rand(4, 6)
    seen: list[Tensor] = []
    handle = model.lif.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    with sa.record(model, layout="BT") as rec:
        model(x)
    handle.remove()
    assert seen[-1].sum() > 0 and spikes_of(rec.counts(), "lif") == seen[-1].sum(-1).T.tolist()
    with pytest.raises(SpikeattnError, match="valid are 'TB' .* and 'BT'"), sa.record(model, layout="BTX"):
        functional.reset_net(model)
        model(x)


class Small(nn.Module):
    """Frames [B, C] four times; a mask of spikes in its own forward; dropout and a head that only training has."""

    def __init__(self, dropout: float = 0.0, aux: bool = False, functional_dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.fc, self.lif, self.mid = nn.Linear(6, 8), neuron.IFNode(step_mode="m"), nn.Linear(8, 8)
        self.lif2, self.head, self.drop = neuron.IFNode(step_mode="m"), nn.Linear(8, 3), nn.Dropout(dropout)
        self.aux = nn.Linear(8, 3) if aux else None
        self.functional_dropout = functional_dropout

    def forward(self, x: Tensor) -> Tensor:
        a = self.lif(self.fc(x * 4).expand(4, -1, -1))
        current = F.dropout(self.mid(self.drop(a)) * 3, self.functional_dropout, self.training)
        out = self.head(a * self.lif2(current)).mean(0)
        return out if self.aux is None or not self.training else out + self.aux(a).mean(0)


def test_two_networks_are_recorded_at_a_time_and_one_is_once() -> None:
    """Their neurons have one surrogate function between them, SpikingJelly's default."""
    student, teacher, x = Small().eval(), Small().eval(), torch.rand(4, 6)
    assert student.lif.surrogate_function is teacher.lif.surrogate_function
    with sa.record(student) as one, sa.record(teacher) as other:
        student(x)
        teacher(x[:3])
        with pytest.raises(SpikeattnError, match="is being recorded already"), sa.record(nn.Sequential(student)):
            pass
    assert (one.profile().n_images, other.profile().n_images) == (4, 3)


def test_the_result_is_that_of_profile() -> None:
    model, batches = Small().eval(), list(torch.rand(10, 6).split(4))
    with sa.record(model) as rec, torch.no_grad():
        for batch in batches:
            functional.reset_net(model)
            model(batch)
    functional.reset_net(model)
    profile = sa.profile(model, batches)
    assert rec.profile().ledger.hash() == profile.ledger.hash()
    assert rec.profile().ledger.labels() == profile.ledger.labels()
    assert rec.profile().structure.table().equals(profile.structure.table())
    pd.testing.assert_frame_equal(rec.profile().operations(per_image=True), profile.operations(per_image=True))
    pd.testing.assert_frame_equal(rec.rates(), profile.rates())
    assert rec.energy().total == profile.energy().total and rec.energy().total.value > 0
    assert rec.profile().warnings == profile.warnings == ()
    assert "10 images, 3 passes" in repr(rec)


def test_structure_and_names_are_those_of_profile() -> None:
    model, images = odd.Net(), odd.images("")
    with sa.record(model, names={"mixers.0.alpha": {"part": "gate", "role": "mine"}}) as rec, torch.no_grad():
        model(images)
    functional.reset_net(model)
    assert rec.profile().ledger.synapse("mixers.0.alpha").role == "mine"
    ours, profiles = (p.structure.table().set_index("synapse") for p in (rec.profile(), sa.profile(model, [images])))
    assert set(profiles["part"]) > {"QKV", "MLP1"}
    rest = profiles.index != "mixers.0.alpha"
    assert ours[rest].equals(profiles[rest])


def test_counts_beyond_the_limit_of_memory_lie_on_disk_and_are_the_same(monkeypatch) -> None:
    model, batches = Small().eval(), list(torch.rand(12, 6).split(2))

    def run() -> sa.recordings.Recording:
        with sa.record(model) as rec:
            for batch in batches:
                functional.reset_net(model)
                model(batch)
        return rec

    functional.reset_net(model)
    plain = run()
    functional.reset_net(model)
    monkeypatch.setattr(kept_passes, "SPILL", 1)
    spilled = run()
    assert plain._passes._folder is None and spilled._passes._waiting == [] and len(list_of(spilled)) == 6
    pd.testing.assert_frame_equal(plain.counts(), spilled.counts())
    result = spilled.profile()
    assert result.energy().total == plain.energy().total
    spilled.reset()
    del spilled
    assert result.n_images == 12 and result.rates().equals(plain.rates())  # the folder lives as long as its table


def list_of(rec: recording.Recording) -> list[str]:
    from pathlib import Path

    return sorted(path.name for path in Path(rec._passes._folder.name).glob("*.arrow"))


def test_reset_begins_again_and_the_network_is_not_traced_again(monkeypatch) -> None:
    model, traced = Small().eval(), []
    plan = recording.probed_plan
    monkeypatch.setattr(recording, "probed_plan", lambda *a, **k: traced.append(1) or plan(*a, **k))
    x = torch.rand(6, 6)
    with sa.record(model) as rec:
        model(x[:4])
        first = rec.counts()
        rec.reset()
        with pytest.raises(SpikeattnError, match="nothing recorded yet"):
            rec.rates()
        functional.reset_net(model)
        model(x[4:])
    assert first["image"].max() == 3 and rec.counts()["image"].max() == 1 and rec.profile().n_images == 2
    assert len(traced) == 1


def test_batches_may_be_empty_or_short() -> None:
    model = Small().eval()
    with sa.record(model) as rec:
        for size in (4, 0, 1, 3):
            functional.reset_net(model)
            model(torch.rand(size, 6))
    assert rec.counts().groupby("forward")["image"].max().tolist() == [3, 0, 2]
    assert rec.profile().n_images == 8


class Einsum(nn.Module):
    """PyTorch runs einsum by other operations where there is one image alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.fc, self.bn, self.lif = nn.Linear(6, 8), nn.BatchNorm1d(8), neuron.IFNode(step_mode="m")
        self.weight = nn.Parameter(torch.randn(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        a = self.lif(self.bn(self.fc(x)).expand(4, -1, -1))
        return torch.einsum("tbc,cd->tbd", a, self.weight).mean(0) + torch.einsum(
            "btc,cd->bd", a.transpose(0, 1), self.weight
        )


@pytest.mark.parametrize("training", [False, True])
def test_a_single_image_is_counted_beside_itself_and_the_model_is_as_it_was(training: bool) -> None:
    model = Einsum().train(training)
    x = torch.rand(5, 6)
    seen: list[float] = []
    model.lif.register_forward_hook(lambda module, args, out: seen.append(float(out.detach().sum())))
    with sa.record(model) as rec:
        for batch in (x[:3], x[3:4], x[4:]):
            functional.reset_net(model)
            seen.clear()
            if training and len(batch) == 1:
                model.bn.eval()  # one value per channel has no variance
            before = {name: value.clone() for name, value in model.state_dict().items()}
            model(batch)
            if len(batch) == 1:
                assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
                assert model.lif.v.shape == (1, 8)
    table = rec.counts()
    assert table[(table["tensor"] == "lif") & (table["forward"] == 2)]["nonzero"].sum() == seen[0] > 0


def test_training_counts_stand_before_dropout_and_say_so() -> None:
    for model in (Small(dropout=0.5), Small(functional_dropout=0.5)):
        with sa.record(model.train()) as rec:
            model(torch.rand(4, 6))
        assert any(text.startswith("dropout: ") for text in rec.profile().warnings)
        table = rec.counts()
        spikes = int(table[table["tensor"] == "lif"]["nonzero"].sum())
        rows = rec.profile().operations(per_image=True)
        assert spikes > 0 and rows[rows["synapse"] == "mid"]["sops"].sum() == 8 * spikes
    with sa.record(model.eval()) as rec:
        functional.reset_net(model)
        model(torch.rand(4, 6))
    assert not any(text.startswith("dropout: ") for text in rec.profile().warnings)


def test_dropout_that_later_passes_alone_call_is_seen_where_the_mode_has_changed() -> None:
    class Guarded(Small):
        def forward(self, x: Tensor) -> Tensor:
            a = self.lif(self.fc(x * 4).expand(4, -1, -1))
            dropped = F.dropout(a, 0.5) if self.mid.training else a
            return self.head(self.lif2(self.mid(dropped) * 3)).mean(0)

    model, x = Guarded().eval(), torch.rand(4, 6)
    model.head.train()
    rows = []
    with sa.record(model) as rec:
        for mode in (False, False, True):
            model.mid.train(mode)
            functional.reset_net(model)
            model(x)
            assert (rec._functional is None) == (len(rows) == 1)
            rows.append(rec.profile().operations().set_index("synapse").loc["mid", "sops"])
    assert rows == [rows[0], 2 * rows[0], 3 * rows[0]] and rows[0] > 0
    assert any(text.startswith("dropout: ") for text in rec.profile().warnings)


def test_a_layer_of_training_alone_is_listed_and_random_numbers_are_as_without() -> None:
    model, x = Small(dropout=0.5, aux=True).train(), torch.rand(4, 6)
    torch.manual_seed(0)
    plain = model(x)
    functional.reset_net(model)
    torch.manual_seed(0)
    with sa.record(model) as rec:
        assert torch.equal(model(x), plain)
    assert [(u.name, u.op) for u in rec.profile().ledger.uncounted] == [("aux", "layer")]
    with pytest.raises(SpikeattnError, match="strict"), sa.record(strange := Shuffled(), strict=True):
        strange(x)


class Shuffled(Small):
    """Multiplies spikes by what comes from outside torch, which no rule counts."""

    def forward(self, x: Tensor) -> Tensor:
        a = self.lif(self.fc(x * 4).expand(4, -1, -1))
        return self.head(torch.special.bessel_j0(a)).mean(0)


def test_a_layer_left_out_or_run_twice_in_a_later_batch_is_an_error() -> None:
    class Moody(Small):
        def forward(self, x: Tensor) -> Tensor:
            a = self.lif(self.fc(x * 4).expand(4, -1, -1))
            out = self.head(a).mean(0)
            return out + self.head(a).mean(0) if x.mean() > 5 else out

    for model in (Moody().eval(), Moody().train()):
        with sa.record(model), pytest.raises(SpikeattnError, match="module head was called 2 times"):
            model(torch.rand(4, 6))
            functional.reset_net(model)
            model(torch.rand(4, 6) + 10)
        functional.reset_net(model)
        with pytest.raises(SpikeattnError, match="module head was called 2 times"):
            sa.profile(model, [torch.rand(4, 6), torch.rand(4, 6) + 10])


def test_an_error_in_the_model_ends_its_pass_alone() -> None:
    class Fails(Small):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            if x.max() > 50:
                raise RuntimeError("bad batch")
            return out

    model = Fails().eval()
    with sa.record(model) as rec:
        model(torch.rand(4, 6))
        functional.reset_net(model)
        with pytest.raises(RuntimeError, match="bad batch"):
            model(torch.full((4, 6), 99.0))
        assert rec._open is None and not torch._C._len_torch_dispatch_stack()
        functional.reset_net(model)
        try:
            raise ValueError  # a call within the handling of an error is a call like any other
        except ValueError:
            model(torch.rand(2, 6))
    assert rec.profile().n_images == 6


class Frames(nn.Module):
    """A loop over the time steps of frames, along axis 0 or 1."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fc, self.lif, self.head, self.axis = nn.Linear(6, 8), neuron.LIFNode(), nn.Linear(8, 4), axis

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return sum(self.head(self.lif(self.fc(step * gain))) for step in x.unbind(self.axis))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [1, 4])
def test_whether_time_or_images_come_first_is_derived(axis: int, size: int) -> None:
    """Also where both are as long, and where other arguments stand beside the tensor."""
    model, x = Frames(axis), torch.rand(4, size, 6) if axis == 0 else torch.rand(size, 4, 6)
    seen: list[Tensor] = []
    model.lif.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    with sa.record(model) as rec:
        model(x=x, gain=5.0)
    spikes = torch.stack(seen[-4:]).sum(-1)
    assert spikes.sum() > 0 and spikes_of(rec.counts(), "lif") == spikes.tolist()


def test_what_cannot_be_followed_is_one_clear_error() -> None:
    model = Small()
    with pytest.raises(SpikeattnError, match="called with 2 tensors"), sa.record(model):
        model(torch.rand(4, 6), torch.rand(1))
    for strange in (torch.rand(()), torch.rand(6), torch.rand(4, 6).to_sparse(), torch.rand(4, 6).to_sparse_csr()):
        with pytest.raises(SpikeattnError, match="with a plain one whose rows are images"), sa.record(model):
            model(strange)
    with pytest.raises(SpikeattnError, match="the model is list"):
        sa.record([model])
    model(torch.rand(4, 6))
    with pytest.raises(SpikeattnError, match="as recording begins.*reset_net"), sa.record(model):
        model(torch.rand(4, 6))


class Convolved(nn.Module):
    """Spikes through dropout, of torch or of SpikingJelly, into a padded convolution, a linear layer and a product."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.kind, self.stem, self.lif = kind, nn.Conv2d(1, 2, 3, padding=1), neuron.IFNode(step_mode="m")
        self.drop = layer.Dropout(0.3, step_mode="m") if kind == "spikingjelly" else nn.Dropout(0.3)
        self.conv, self.head = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.lif(self.stem(x * 4).expand(2, -1, -1, -1, -1))
        if self.kind == "product":
            flat = F.dropout(a.flatten(3), 0.5, self.training)
            return (flat @ a.flatten(3).transpose(-1, -2)).flatten(2).mean((0, 2))
        return self.head(self.conv(self.drop(a).flatten(0, 1)).flatten(1)).unflatten(0, (2, -1)).mean(0)


@pytest.mark.parametrize("kind", ["torch", "spikingjelly", "product"])
def test_layers_behind_dropout_are_counted_as_if_it_did_not_drop(kind: str) -> None:
    model, x = Convolved(kind), torch.rand(3, 1, 4, 4)
    rows = []
    for mode in (False, True):
        model.train(mode)
        functional.reset_net(model)
        with sa.record(model) as rec:
            model(x)
        rows.append(rec.profile().operations(per_image=True).set_index(["image", "synapse"])[["sops", "macs"]])
    pd.testing.assert_frame_equal(*rows)
    assert rows[0]["sops"].sum() > 0


def test_dropout_that_cannot_be_undone_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(6, 8), neuron.IFNode(), nn.Dropout(0.5), nn.Dropout(0.0))
    torch.manual_seed(0)
    pooled = nn.Sequential(
        nn.Conv1d(1, 2, 3), neuron.IFNode(0.01), nn.Dropout(0.5), nn.MaxPool1d(2), nn.Conv1d(2, 2, 2)
    )
    with pytest.raises(SpikeattnError, match="dropout in training mode has changed the spikes of 3"):
        with sa.record(pooled.train(), time_steps=1):
            pooled(torch.rand(3, 1, 8) * 4)
    with sa.record(model.train(), time_steps=1) as rec:
        model(torch.rand(3, 6))
    assert rec.profile().n_images == 3


def test_maps_of_another_shape_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), neuron.IFNode(), nn.Conv2d(2, 2, 3, padding=1))
    for run in ("profile", "record"):
        functional.reset_net(model)
        with pytest.raises(SpikeattnError, match=r"layer 2 receives maps of \(8, 2\) and received maps of \(2, 8\)"):
            if run == "profile":
                sa.profile(model, [torch.rand(2, 1, 2, 8) * 4, torch.rand(2, 1, 8, 2) * 4], time_steps=1)
            else:
                with sa.record(model, time_steps=1):
                    model(torch.rand(2, 1, 2, 8) * 4)
                    functional.reset_net(model)
                    model(torch.rand(2, 1, 8, 2) * 4)


def test_a_recording_does_not_count_the_passes_of_profile_and_is_the_only_one() -> None:
    model, x = Small().eval(), torch.rand(4, 6)
    with sa.record(model) as rec:
        model(x)
        functional.reset_net(model)
        sa.profile(model, [x])
        for other in (model, nn.Sequential(model)):
            with pytest.raises(SpikeattnError, match="is being recorded already"), sa.record(other):
                pass
        model(x)
    assert rec.profile().n_images == 8
    functional.reset_net(model)
    with sa.record(model) as again:
        model(x)
    assert again.profile().n_images == 4


def test_one_time_step_and_several_images_are_several_images() -> None:
    model = Convolved("torch").eval()
    frames = nn.Sequential(layer.Conv2d(1, 2, 3, step_mode="m"), neuron.IFNode(step_mode="m"))
    with sa.record(frames) as rec:
        frames(torch.rand(1, 4, 1, 6, 6) * 4)
    assert (rec.profile().n_images, rec.profile().time_steps) == (4, 1)

    class Batched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:  # [B, 1, C, H, W]
            return self.inner(x.squeeze(1))

    with sa.record(Batched()) as rec:
        rec.model(torch.rand(4, 1, 1, 4, 4))
    assert rec.profile().n_images == 4


def test_the_first_batch_leaves_what_the_model_keeps() -> None:
    class Counts(Small):
        def __init__(self) -> None:
            super().__init__()
            self.passes, self.seen = 0, [0]
            self.register_buffer("mean", torch.zeros(6))

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            self.seen.append(self.passes)
            self.mean += x.mean(0)
            return super().forward(x)

    models = [Counts().eval(), Counts().eval()]
    x = torch.rand(4, 6)
    with sa.record(models[0]):
        models[0](x)
    models[1](x)
    assert models[0].passes == 1 and models[0].seen == [0, 1] and torch.equal(models[0].mean, models[1].mean)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_model_is_counted_once_and_trains_as_before(reentrant: bool) -> None:
    model, x = Convolved("torch").eval(), torch.rand(2, 1, 4, 4, requires_grad=True)
    with sa.record(model) as rec:
        checkpoint(model, x, use_reentrant=reentrant).sum().backward()
    assert x.grad is not None and rec.profile().n_images == 2


def test_the_first_batch_may_come_in_inference_mode() -> None:
    model = Convolved("torch").eval()
    with sa.record(model) as rec, torch.inference_mode():
        model(torch.rand(2, 1, 4, 4))
    functional.reset_net(model)
    with torch.inference_mode():
        profile = sa.profile(model, [torch.rand(2, 1, 4, 4)])
    assert rec.profile().ledger.hash() == profile.ledger.hash()


def test_a_recording_is_opened_again_and_never_twice_at_once() -> None:
    model, x = Small().eval(), torch.rand(4, 6)
    rec = sa.record(model)
    for _ in range(2):
        with rec:
            model(x)
            with pytest.raises(SpikeattnError, match="is open already"), rec:
                pass
        functional.reset_net(model)
    assert rec.profile().n_images == 8 and rec.counts()["forward"].nunique() == 2


def test_copies_made_while_recording_are_plain_models() -> None:
    model, x = Small().eval(), torch.rand(4, 6)
    with sa.record(model) as rec:
        model(x)
        functional.reset_net(model)
        twin = copy.deepcopy(model)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        plain = twin(x)
        functional.reset_net(model)
        assert torch.equal(model(x), plain)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    functional.reset_net(loaded)
    assert torch.equal(loaded(x), plain) and rec.profile().n_images == 8


def test_an_error_belongs_to_the_pass_that_made_it() -> None:
    model, x = Small().eval(), torch.rand(4, 6)
    with sa.record(model) as rec:
        model(x)
        functional.reset_net(model)
        with pytest.raises(SpikeattnError, match="NaN or infinite"):
            model(torch.full((3, 6), float("nan")))
        functional.reset_net(model)
        model(x)
    assert rec.profile().n_images == 8 and len(rec.counts()["forward"].unique()) == 2


def test_an_interruption_leaves_nothing_behind_and_a_model_may_call_itself() -> None:
    class Moody(Small):
        stop = False

        def forward(self, x: Tensor) -> Tensor:
            if self.stop:
                raise KeyboardInterrupt
            return super().forward(x) if x.dim() == 2 else torch.stack([self(each) for each in x])

    model = Moody().eval()
    with sa.record(model) as rec:
        model(torch.rand(4, 6))
        functional.reset_net(model)
        model.stop = True
        with pytest.raises(KeyboardInterrupt):
            model(torch.rand(4, 6))
        model.stop = False
        functional.reset_net(model)
        model(torch.rand(2, 6))
    assert rec.profile().n_images == 6
