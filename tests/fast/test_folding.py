"""Batch norms folded into convolutions: only where nothing else reads between, exact where sums are, counted else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.errors import SpikeattnError
from spikeattn.fast import folding, native
from spikeattn.models.calibrate import calibrate_batch_norm
from spikeattn.tracing.examine import call_model, plan

pytestmark = pytest.mark.skipif(not native.compiler(), reason="no C compiler")


class Net(nn.Module):
    """`between` is given what each convolution gives, on its way to the batch norm."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.c1, self.b1, self.n1 = layer.Conv2d(3, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.LIFNode()
        self.c2, self.b2, self.n2 = layer.Conv2d(8, 70, 3, padding=1), layer.BatchNorm2d(70), neuron.IFNode()
        self.c3, self.b3, self.n3 = layer.Conv1d(70, 8, 1), layer.BatchNorm1d(8), neuron.IFNode()
        self.c4, self.b4, self.n4 = layer.Conv2d(70, 8, 3, 2), layer.BatchNorm2d(8), neuron.IFNode()
        self.head = layer.Linear(8, 3)
        self.between = between
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = self.n1(self.b1(self.between(self.c1(x.unsqueeze(0).repeat(2, 1, 1, 1, 1)))))
        x = self.n2(self.b2(self.c2(x)))
        y = self.n4(self.b4(self.c4(x))).flatten(3).mean(3)
        x = x + x
        return self.head(self.n3(self.b3(self.c3(x.flatten(3)))).mean(3) + y).mean(0)


def images(n: int = 4) -> Tensor:
    return torch.randn((n, 3, 12, 12), generator=torch.Generator().manual_seed(0))


def calibrated(net: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    calibrate_batch_norm(net.eval(), images())
    return net


def made_exact(net: nn.Module) -> nn.Module:
    """Weights, statistics and factors that are small multiples of powers of two: every sum is exact in any order."""
    drawn = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            for w in module.parameters():
                w.data = torch.randint(-8, 9, w.shape, generator=drawn) / 16
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eps = 1e-12  # nothing beside a variance of 4
            module.running_var.fill_(4.0)
            module.running_mean.copy_(torch.randint(-4, 5, module.running_mean.shape, generator=drawn) / 8)
            module.weight.data.fill_(2.0)
    return net.eval()


PAIRS = [("c1", "b1", False), ("c2", "b2", True), ("c3", "b3", False), ("c4", "b4", True)]


def found(net: nn.Module) -> list[tuple[str, str, bool]]:
    made = plan(net.eval(), images(2))
    pairs = folding.pairs_of(net, made, images(2), call_model)
    return sorted((pair.convolution, pair.norm, pair.spikes) for pair in pairs)


def test_pairs_are_proven_by_a_pass() -> None:
    assert found(calibrated(Net())) == PAIRS


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x * 1,
        lambda x: x + x.flip(-1),
        lambda x: x.relu_(),
        lambda x: x[..., :8],
        lambda x: torch.cat([x, x], 3),
    ],
)
def test_no_pair_where_something_else_reads(between: Callable[[Tensor], Tensor]) -> None:
    assert found(calibrated(Net(between))) == PAIRS[1:]


def test_views_between_are_no_readers() -> None:
    assert found(calibrated(Net(lambda x: x.flatten(0, 1).unflatten(0, (2, -1))))) == PAIRS


def test_no_pair_where_someone_looks() -> None:
    net = calibrated(Net())
    net.c1.register_forward_hook(lambda *_: None)
    net.b2.register_forward_pre_hook(lambda *_: None)
    assert found(net) == PAIRS[2:]

    class Handed(Net):
        def forward(self, x: Tensor) -> Any:
            y = self.c1(x.unsqueeze(0).repeat(2, 1, 1, 1, 1))
            return self.head(self.n1(self.b1(y)).flatten(3).mean(3)).mean(0), y

    assert found(Handed()) == []

    class Later(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = self.c1(x.unsqueeze(0).repeat(2, 1, 1, 1, 1))
            x = self.n1(self.b1(y)).flatten(3).mean(3)
            return self.head(x + y.flatten(3).mean(3)).mean(0)

    assert found(Later()) == []


@torch.no_grad()
def test_spikes_are_added_as_often_as_their_number_says() -> None:
    net = made_exact(Net())
    for path, axes in (("2", 4), ("3", 3)):
        convolution, norm = net.get_submodule(f"c{path}"), net.get_submodule(f"b{path}")
        first, second = folding.layers_of(convolution, norm, True)
        x = torch.randint(0, 5, (2, 3, convolution.in_channels, 12, 12)).float()
        x = x.flatten(3) if axes == 3 else x
        for part in (x, x.clamp(max=1), x * 0, x / 2):
            y = first(part)
            assert torch.equal(y, norm(convolution(part))) and second(y) is y
        assert first(part.double()) is None and second(y) is None


def test_sums_that_are_exact_give_the_same_spikes() -> None:
    net = made_exact(Net())
    plain = sa.profile(net, [images().round()], plain=True)
    folded = sa.profile(net, [images().round()], fold=True)
    said = folded.provenance["fused"]
    assert said["folded"] == 4 and said["identical"] and said["flipped"] == {}
    assert folded.provenance["settings"]["path"] == "folded" and folded.ledger.warnings == plain.ledger.warnings
    assert (
        plain.rates().equals(folded.rates())
        and (plain.rates()["nonzero_rate"].groupby(plain.rates()["tensor"]).max() > 0).all()
    )


def test_spikes_that_flip_are_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    net = calibrated(Net())
    own = folding._folded_weights

    def coarse(*modules: Any) -> tuple[Tensor, Tensor]:
        weight, bias = own(*modules)
        return weight.bfloat16().float(), bias  # so that many spikes flip

    monkeypatch.setattr(folding, "_folded_weights", coarse)
    with caplog.at_level(logging.WARNING):
        profile = sa.profile(net, [images()], fold=True)
    flipped = profile.provenance["fused"]["flipped"]
    assert flipped and all(0 < n < total for n, total in flipped.values())
    n = sum(each[0] for each in flipped.values())
    [warning] = [text for text in profile.ledger.warnings if text.startswith("folded: ")]
    assert f"{n:,} of" in warning and "first 2 images" in warning and warning in caplog.text


def test_folding_is_never_done_unasked() -> None:
    net = calibrated(Net())
    assert "folded" not in sa.profile(net, [images()], plain=False).provenance["fused"]
    with pytest.raises(SpikeattnError, match="plain=True and fold=True"):
        sa.profile(net, [images()], plain=True, fold=True)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    net = calibrated(Net())
    monkeypatch.setattr(native, "compiler", lambda: None)
    native.build.cache_clear()
    try:
        with pytest.raises(SpikeattnError, match="fold=True: .*no C compiler found.*leave fold out"):
            sa.profile(net, [images()], fold=True)
    finally:
        native.build.cache_clear()
