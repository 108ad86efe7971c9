"""Other people's networks by kernels: the same counts to the byte, and the network is as before."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import qkformer, sew_resnet, spikformer
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.fast import foreign, fused_neuron, native
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.tracing.examine import call_model, plan

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")


class Net(nn.Module):
    """Neurons of several kinds, padded convolutions behind them, pools, batch norms, and a neuron called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            layer.Conv2d(3, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.LIFNode(tau=2.0),
            layer.MaxPool2d(3, 2, 1), layer.Conv2d(8, 8, 3, padding=1), layer.BatchNorm2d(8),
            neuron.ParametricLIFNode(v_reset=None),
        )  # fmt: skip
        self.again, self.twice = layer.Conv2d(8, 8, 3, stride=2, padding=1), neuron.IFNode(0.5)
        self.levels = neuron.ILIFNode()
        self.head = layer.Linear(8, 5)
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.unsqueeze(0).repeat(3, 1, 1, 1, 1))
        y = self.twice(self.again(x))
        y = self.twice(self.again(torch.cat([y, y], dim=-1)))
        return self.head(self.levels(y * 3).flatten(3).mean(3)).mean(0)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    made = Net().eval()
    calibrate_batch_norm(made, torch.randn(4, 3, 16, 16))
    return made


def images(n: int = 5, size: int = 16) -> Tensor:
    return torch.randn((n, 3, size, size), generator=torch.Generator().manual_seed(2))


def state(model: nn.Module) -> list[Any]:
    return [(set(vars(m)), type(m), list(m._forward_hooks), getattr(m, "_memories", None)) for m in model.modules()]


def test_counts_are_the_same_to_the_byte(net: nn.Module, tmp_path: Path) -> None:
    before = state(net)
    batches = images().split(2)
    plain = sa.profile(net, batches, out=tmp_path / "plain", plain=True)
    fused = sa.profile(net, batches, out=tmp_path / "fused", plain=False)
    files = [(tmp_path / name / "counts.parquet").read_bytes() for name in ("plain", "fused")]
    assert files[0] == files[1]
    assert plain.operations().equals(fused.operations()) and (plain.rates().filter(like="rate").max() > 0).all()
    said = fused.provenance["fused"]
    assert said == {"neurons": 4, "layers": 4, "checked_images": 2, "identical": True}
    assert "fused" not in plain.provenance
    assert plain.provenance["settings"] == fused.provenance["settings"]
    assert state(net) == before


@pytest.mark.parametrize("name", ["spikformer", "qkformer", "sew_resnet"])
def test_spikingjellys_networks(name: str) -> None:
    torch.manual_seed(0)
    call = call_model
    if name == "spikformer":
        model = spikformer.Spikformer(4, 3, 32, 32, 4, 10, 64, 4, 4.0, 1)
    elif name == "qkformer":
        model = qkformer.QKFormer(4, 3, 10, 32, (1, 2, 4), (1, 1, 1), 4.0, "token")
    else:
        model = sew_resnet.sew_resnet18(cnf="ADD", spiking_neuron=neuron.IFNode, num_classes=10)
        functional.set_step_mode(model, "m")

        def call(model: nn.Module, x: Tensor) -> Tensor:
            return model(x.unsqueeze(0).repeat(4, 1, 1, 1, 1))

    batch = images(3, 32)
    calibrate_batch_norm(model.eval(), batch, call)
    plain = sa.profile(model, [batch], forward=call, plain=True)
    fused = sa.profile(model, [batch], forward=call, plain=False)
    neurons = [m for m in model.modules() if isinstance(m, neuron.BaseNode)]
    assert fused.provenance["fused"]["neurons"] == len(neurons)
    assert plain.operations().equals(fused.operations()) and plain.rates().equals(fused.rates())


def test_neurons_leave_their_counts_and_nobody_counts_again(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    from spikeattn.counting.tally import Tally

    taken, take = [], Tally._take
    monkeypatch.setattr(Tally, "_take", lambda self, tap, *args: taken.append(tap.name) or take(self, tap, *args))
    sa.profile(net, [images()], plain=False)
    assert {"stem.2", "stem.6"} <= set(taken) and "levels" not in taken


def test_hooks_of_the_user_are_called_and_what_they_change_is_counted(net: nn.Module) -> None:
    calls: list[str] = []
    net.stem.register_forward_hook(lambda *_: calls.append("stem"))
    net.twice.register_forward_hook(lambda module, args, output: torch.ones_like(output))
    plain = sa.profile(net, [images()], plain=True)
    known, calls[:] = len(calls), []
    fused = sa.profile(net, [images()], plain=False)
    assert len(calls) == known + 1  # the pass in which the kernels are tried; the other one is the probe's
    assert fused.provenance["fused"]["neurons"] == 3
    assert plain.rates().equals(fused.rates())


def test_a_hook_that_is_added_later_is_heard_too(net: nn.Module) -> None:
    made = plan(net, images(2))
    fusion = foreign.fuse(net, made, images(2), call_model)
    assert isinstance(fusion, foreign.Fusion)
    with torch.no_grad(), fusion:
        spikes = net.stem(images(2).unsqueeze(0).repeat(3, 1, 1, 1, 1))
        assert fusion.left("stem.6", spikes)["nnz"].shape == (3, 2)
        assert fusion.left("stem.6", spikes.clone()) == {} == fusion.left("levels", spikes)
    functional.reset_net(net)


def test_state_goes_on_and_is_reset(net: nn.Module) -> None:
    fusion = foreign.fuse(net, plan(net, images(2)), images(2), call_model)
    assert isinstance(fusion, foreign.Fusion)
    other = copy.deepcopy(net)
    with torch.no_grad(), fusion:
        for _ in range(2):
            assert torch.equal(net(images(2)), other(images(2)))
        assert torch.equal(net.stem[6].v, other.stem[6].v)
        functional.reset_net(net)
        functional.reset_net(other)
        assert net.stem[6].v == 0.0 and torch.equal(net(images(3)), other(images(3)))
    functional.reset_net(net)


def test_the_network_is_as_before_after_an_error(net: nn.Module) -> None:
    before = state(net)
    with pytest.raises(SpikeattnError, match="NaN"):
        sa.profile(net, [images(), images() * float("inf")], plain=False)
    assert state(net) == before


def test_potentials_that_are_no_numbers_are_an_error_as_ever(net: nn.Module) -> None:
    with torch.no_grad():
        net.stem[1].weight *= 1e30
    batches = [images(), images() * 1e12]  # the first batch norm overflows
    messages = []
    for plain in (True, False):
        with pytest.raises(SpikeattnError, match="NaN or infinite values reached stem.2") as raised:
            sa.profile(net, batches, plain=plain)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


class Loop(nn.Module):
    """The time steps one after another."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net.head(self.net.stem(x).flatten(2).mean(2)) for _ in range(2)]).mean(0)


def test_networks_that_loop_over_time_are_left_alone(net: Net) -> None:
    functional.set_step_mode(net, "s")
    loop = Loop(net).eval()
    assert foreign.Fusion(loop, plan(loop, images(2))).neurons == []
    plain, fused = (sa.profile(loop, [images()], plain=plain) for plain in (True, False))  # the pools have kernels
    assert plain.rates().equals(fused.rates()) and fused.provenance["fused"]["layers"] == 3
    assert fused.provenance["fused"]["neurons"] == 0


def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are right when they are tried alone, and wrong in a network."""
    run = fused_neuron.run

    def other(dynamics: Any, x: Tensor, v: Any, *more: Any) -> Any:
        made = run(dynamics, x, v, *more)
        if x.dim() == 5:
            made.spikes[0, 1, 0, 0, 0] = 1 - made.spikes[0, 1, 0, 0, 0]
        return made

    monkeypatch.setattr(fused_neuron, "run", other)


def test_one_wrong_spike_and_the_network_runs_as_it_is(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = sa.profile(net, [images()], plain=True)
    wrong(monkeypatch)
    with pytest.raises(SpikeattnError, match="plain=False: .*not the same bit by bit, first at stem.2"):
        sa.profile(net, [images()], plain=False)
    monkeypatch.setattr(foreign, "WORTH", 0)
    with caplog.at_level(logging.WARNING):
        profile = sa.profile(net, [images()])
    assert "Net runs as it is, slower than by kernels" in caplog.text
    assert "not the same bit by bit" in profile.provenance["fused"]["why"]
    assert profile.rates().equals(expected.rates())


def test_chosen_where_it_pays(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fused" not in sa.profile(net, [images()]).provenance
    monkeypatch.setattr(foreign, "WORTH", 3 * 8 * (16 * 16 + 8 * 8))
    assert sa.profile(net, [images()]).provenance["fused"]["identical"]
    assert "fused" not in sa.profile(net, [images()], plain=True).provenance


def test_without_a_compiler(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiler", lambda: None)
    native.build.cache_clear()
    try:
        with pytest.raises(SpikeattnError, match="no C compiler found.*leave plain out"):
            sa.profile(net, [images()], plain=False)
    finally:
        native.build.cache_clear()


def test_a_network_that_rests_on_strides(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("view size is not compatible")

    made = plan(net, images(2))
    monkeypatch.setattr(fused_neuron, "takes", fail)
    said = foreign.fuse(net, made, images(2), call_model)
    assert isinstance(said, str) and "it fails (RuntimeError: view size" in said
