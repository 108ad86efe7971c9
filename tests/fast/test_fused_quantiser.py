"""Neurons of integers without state: which have a kernel, and that it gives their bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.fast import native
from spikeattn.fast.fused_neuron import is_identical
from spikeattn.fast.fused_quantiser import Kernel, kernel_of

pytestmark = pytest.mark.skipif(native.build().kernels is None, reason="no C compiler")


class Neuron(nn.Module):
    """A neuron of somebody's that runs a function."""

    def __init__(self, run: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(x)


class Straight(torch.autograd.Function):
    """Rounding that passes gradients on, as published code has it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        return torch.round(torch.clamp(x, min=low, max=high))


@pytest.mark.parametrize(
    "run",
    [
        lambda x: Straight.apply(x, 0, 4) / 4,
        lambda x: x.clamp(0, 8).round(),
        lambda x: x.clamp(-2, 3).round() * 0.3,
        lambda x: x.clamp(0, 7).round() / 7,
    ],
)
@pytest.mark.parametrize("shape", [(1, 1), (4, 3, 5, 7), (2, 3, 70, 40)])
def test_the_kernel_gives_the_neurons_own_bits(run: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    neuron = Neuron(run)
    kernel = kernel_of(neuron)
    assert kernel is not None
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 5
    x.flatten()[0] = float("nan")
    with torch.no_grad():
        for given in (x, -x, x.transpose(0, -1)):
            made = kernel(given)
            assert made is not None and is_identical(made, neuron(given)) and made.stride() == neuron(given).stride()
        assert len(x) == 1 or kernel(x.expand(2, *shape)) is None and kernel(x.double()) is None


@pytest.mark.parametrize(
    "run",
    [
        lambda x: x.clamp(0, 4).floor() / 4,
        lambda x: x.clamp(min=0).round() / 4,
        lambda x: x.round().clamp(0, 4) / 4,
        lambda x: (x + 0.1).clamp(0, 4).round() / 4,
        lambda x: x.clamp(0, 4).round() / x.abs().max(),
        lambda x: x.clamp(0, 4).round() / 4 + x.clamp(0, 4).round() / 4,
        lambda x: x.clamp(0, 4 + x.mean().item()).round() / 4,
        lambda x: (x.clamp(0, 4).round() / 4, x),
        lambda x: x.clone().clamp_(0, 4).round() / 4,
        lambda x: x.clamp(0, 4).round().unsqueeze(0) / 4,
    ],
)
def test_whatever_else_a_neuron_does_it_has_no_kernel(run: Callable[[Tensor], Any]) -> None:
    assert kernel_of(Neuron(run)) is None


def test_a_neuron_with_state_weights_or_hooks_has_no_kernel() -> None:
    class Stateful(Neuron):
        def forward(self, x: Tensor) -> Any:
            self.v = x.sum().item()
            return super().forward(x)

    def plain(x: Tensor) -> Tensor:
        return x.clamp(0, 4).round() / 4

    hooked, weighted = Neuron(plain), Neuron(plain)
    hooked.register_forward_hook(lambda *_: None)
    weighted.threshold = nn.Parameter(torch.ones(()))
    assert kernel_of(Neuron(plain)) is not None
    stateful = Stateful(plain)
    assert [kernel_of(each) for each in (stateful, hooked, weighted)] == [None] * 3
    assert not hasattr(stateful, "v")  # it has not been called itself


def test_looking_at_a_neuron_draws_no_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert kernel_of(Neuron(lambda x: (x + torch.rand_like(x)).clamp(0, 4).round())) is None
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("levels", [4, 3, 5000])
def test_a_network_of_them_is_counted_to_the_same_numbers(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the recorder in the first batch, by the kernels that make them from the second one on."""

    def neuron() -> Neuron:
        return Neuron(lambda x: Straight.apply(x, 0, levels) / levels)

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        neuron(),
        nn.Conv2d(8, 8, 3, padding=1),
        neuron(),
        nn.Flatten(),
        nn.Linear(512, 4),
    )
    batches = (torch.rand(7, 3, 8, 8) * levels).split(2)
    counted, by_kernel = [], Kernel.counted
    monkeypatch.setattr(Kernel, "counted", lambda *args: counted.append(by_kernel(*args)) or counted[-1])

    options = {"neurons": lambda module: isinstance(module, Neuron)}
    plain = sa.profile(net.eval(), batches, plain=True, **options)
    assert not counted
    fused = sa.profile(net, batches, plain=False, **options)
    assert len(counted) == 2 * 2  # both neurons, in the second batch and the third; the last one is of another size
    assert "fused" not in plain.provenance and fused.provenance["fused"]["neurons"] == 2
    assert list(plain.counts.keys) == list(fused.counts.keys) and plain.ledger.hash() == fused.ledger.hash()
    for key in plain.counts.keys:
        assert (plain.counts.column(*key) == fused.counts.column(*key)).all()


def test_a_hook_of_all_modules_that_writes_into_the_output_is_counted() -> None:
    torch.manual_seed(0)
    spike = Neuron(lambda x: x.clamp(0, 4).round() / 4)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), spike, nn.Flatten(), nn.Linear(512, 4)).eval()
    batches = (torch.rand(6, 3, 8, 8) * 4).split(2)
    options: Any = {"neurons": lambda module: isinstance(module, Neuron)}

    def halve(module: nn.Module, args: Any, output: Any) -> None:
        if module is spike:
            output.mul_(output > 0.5)

    handle = nn.modules.module.register_module_forward_hook(halve)
    try:
        plain, fused = (sa.profile(net, batches, plain=each, **options) for each in (True, False))
    finally:
        handle.remove()
    assert plain.rates().equals(fused.rates())
    assert not plain.rates().equals(sa.profile(net, batches, plain=True, **options).rates())
