"""Additions without weights: residual sums, sums and averages, against counts by hand of networks in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.energy.conventions import get_convention, list_conventions
from spikeattn.tracing.examine import plan

T, C, SIDE, CLASSES = 3, 4, 6, 2
MAP = C * SIDE * SIDE


class Net(nn.Module):
    """Layers and neurons for the forward passes below; `code` is one of them."""

    def __init__(self, code: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.code = code
        self.first, self.second = (nn.Conv2d(C, C, 3, padding=1, bias=False) for _ in range(2))
        self.side, self.point = (nn.Conv2d(C, C, 1) for _ in range(2))
        self.head = nn.Linear(C, CLASSES)
        self.place = nn.Parameter(torch.rand(C, SIDE, SIDE))
        self.lif, self.lif2, self.lif3 = (neuron.IFNode(v_threshold=0.3, step_mode="m") for _ in range(3))
        self.one, self.two = (neuron.IFNode(v_threshold=0.3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.code(self, x)

    def over(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A layer at every time step."""
        return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def answer(self, x: Tensor) -> Tensor:
        """Logits at every time step from one position, so that no mean adds anything."""
        return self.head(self.lif3(x)[..., 0, 0])


def repeated(x: Tensor) -> Tensor:
    return x.unsqueeze(0).repeat(T, 1, 1, 1, 1)


def residual(net: Net, x: Tensor) -> Tensor:
    h = net.over(net.first, repeated(x))
    return net.answer(h + net.over(net.second, net.lif(h)))


def still_beside_steps(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.answer(net.over(net.second, net.lif(repeated(h))) + h)


def both_still(net: Net, x: Tensor) -> Tensor:
    return net.answer(net.over(net.first, repeated(x)) + net.over(net.side, repeated(x)))


def still_before(net: Net, x: Tensor) -> Tensor:
    return net.answer(repeated(net.first(x) + net.side(x)))


def spikes_and_spikes(net: Net, x: Tensor) -> Tensor:
    s = net.lif(net.over(net.first, repeated(x)))
    return net.head((s + net.lif2(net.over(net.second, s)))[..., 0, 0])


def in_place(net: Net, x: Tensor) -> Tensor:
    h = net.over(net.first, repeated(x))
    y = net.over(net.second, net.lif(h))
    y += h
    return net.answer(y)


def single_step(net: Net, x: Tensor) -> Tensor:
    out = []
    for _ in range(T):
        h = net.first(x)
        out.append(net.head(net.two(h - net.second(net.one(h)))[..., 0, 0]))
    return torch.stack(out)


def fused(net: Net, x: Tensor) -> Tensor:
    s = net.lif(repeated(net.first(x)))[..., 0, 0].flatten(0, 1)
    h = net.head(s)
    return torch.addmm(h, s, net.head.weight.t()).unflatten(0, (T, -1))


def parameters_alone(net: Net, x: Tensor) -> Tensor:
    h = net.over(net.first, repeated(x)) + net.place + 0.5
    return net.answer(h + h)


@pytest.mark.parametrize(
    ("code", "layer", "expected"),
    [
        (residual, "second", T * MAP),
        (still_beside_steps, "second", T * MAP),
        (both_still, "first", MAP),
        (still_before, "first", MAP),
        (spikes_and_spikes, "second", T * MAP),
        (in_place, "second", T * MAP),
        (single_step, "second", T * MAP),
        (fused, "head@2", T * CLASSES),
        (parameters_alone, None, 0),
    ],
)
def test_a_residual_sum_takes_one_addition_per_element_and_step(code, layer, expected):
    profile = sa.profile(Net(code), [torch.rand(3, C, SIDE, SIDE)])
    table = profile.operations()
    assert table.acs.sum() == 3 * expected and not profile.ledger.uncounted
    rows = profile.ledger.additions
    assert [row.op for row in rows] == ["add"] * (expected > 0)
    if layer is not None and code is not fused:
        wanted = {"first", "side"} if "still_b" in code.__name__ or code is both_still else {layer}
        assert rows[0].layer in (wanted if layer == "first" else {layer})


# ---------------------------------------------------------------------- averages
def mean_of_numbers(net: Net, x: Tensor) -> Tensor:
    return net.head(net.over(net.second, net.lif(net.over(net.first, repeated(x)))).mean((3, 4)))


def adaptive(net: Net, x: Tensor) -> Tensor:
    y = net.over(net.second, net.lif(net.over(net.first, repeated(x))))
    return net.answer(nn.functional.adaptive_avg_pool2d(y.flatten(0, 1), 4).unflatten(0, (T, -1)))


def mean_of_spikes(net: Net, x: Tensor) -> Tensor:
    return net.head(net.lif(net.over(net.first, repeated(x))).mean((3, 4)))


def pool_of_spikes(net: Net, x: Tensor) -> Tensor:
    return net.answer(net.over(nn.Sequential(nn.AvgPool2d(2), net.second), net.lif(net.over(net.first, repeated(x)))))


def overlapping_pool_of_spikes(net: Net, x: Tensor) -> Tensor:
    pool = nn.AvgPool2d(3, stride=2, padding=1)
    return net.answer(net.over(nn.Sequential(pool, net.second), net.lif(net.over(net.first, repeated(x)))))


def over_time(net: Net, x: Tensor) -> Tensor:
    return net.answer(repeated(net.first(x))).mean(0)


def sum_over_time(net: Net, x: Tensor) -> Tensor:
    return net.answer(repeated(net.first(x))).sum(0) / T


def added_up(net: Net, x: Tensor) -> Tensor:
    out = 0
    for _ in range(T):
        out = out + net.head(net.one(net.first(x))[..., 0, 0])
    return out / T


# Windows of 3 at -1, 1 and 3: 2, 3 and 3 elements along each axis; of the adaptive pool from 6 to 4: 2 each.
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (mean_of_numbers, T * C * (SIDE * SIDE - 1)),
        (adaptive, T * C * (8 * 8 - 4 * 4)),
        (mean_of_spikes, None),
        (pool_of_spikes, None),
        (overlapping_pool_of_spikes, T * C * (8 * 8 - 3 * 3)),
        (over_time, (T - 1) * CLASSES),
        (sum_over_time, (T - 1) * CLASSES),
        (added_up, (T - 1) * CLASSES),
    ],
)
def test_a_mean_of_numbers_takes_one_less_than_it_has_and_one_of_spikes_one_for_each(code, expected):
    model, x = Net(code), torch.rand(3, C, SIDE, SIDE)
    profile, spikes = sa.profile(model, [x]), []
    handle = model.lif.register_forward_hook(lambda m, args, out: spikes.append(out.detach().sum((0, 2, 3, 4))))
    with torch.no_grad():
        model(x)
    handle.remove()
    per_image = profile.operations(per_image=True).groupby("image")["acs"].sum().tolist()
    assert per_image == ([expected] * 3 if expected is not None else spikes[-1].tolist()) and min(per_image) > 0
    assert not profile.ledger.uncounted


def test_the_energy_of_an_image_is_that_of_its_operations_and_papers_leave_additions_out():
    profile = sa.profile(Net(residual), [torch.rand(5, C, SIDE, SIDE)])
    rows = profile.operations(per_image=True).groupby("image")[["sops", "macs", "acs"]].sum()
    by_hand = (rows.sops * 0.9 + rows.macs * 4.6 + rows.acs * 0.9) * 1e-9
    assert profile.energy().per_image.tolist() == pytest.approx(by_hand.tolist(), rel=1e-12)
    free = profile.energy(convention=get_convention("exact", additions="free"))
    assert (profile.energy().per_image - free.per_image) == pytest.approx(T * MAP * 0.9e-9)
    assert {c for c in list_conventions() if get_convention(c).additions == "counted"} == {"exact"}


# ---------------------------------------------------------------------- to which layer
def beside_a_layer_of_its_own(net: Net, x: Tensor) -> Tensor:
    s = net.lif(repeated(x))
    long = net.over(net.second, net.lif2(net.over(net.first, s)))
    return net.answer(long + net.over(net.side, s))


def three_branches(net: Net, x: Tensor) -> Tensor:
    h = net.over(net.first, repeated(x))
    s = net.lif(h)
    return net.answer((h + net.over(net.second, net.lif2(net.over(net.side, s)))) + net.over(net.point, s))


@pytest.mark.parametrize("code", [beside_a_layer_of_its_own, three_branches])
@pytest.mark.parametrize("turned", [False, True])
def test_the_shortcut_is_not_the_branch(code, turned, monkeypatch):
    if turned:
        plain = Tensor.__add__
        monkeypatch.setattr(Tensor, "__add__", lambda a, b: plain(b, a) if isinstance(b, Tensor) else plain(a, b))
    ledger = plan(Net(code), torch.rand(2, C, SIDE, SIDE)).ledger
    assert [row.layer for row in ledger.additions] == ["second", "point"][: len(ledger.additions)]


def test_an_average_belongs_to_the_layer_that_reads_it():
    assert [a.layer for a in plan(Net(mean_of_numbers), torch.rand(2, C, SIDE, SIDE)).ledger.additions] == ["head"]
    assert [a.layer for a in plan(Net(adaptive), torch.rand(2, C, SIDE, SIDE)).ledger.additions] == ["head"]
    assert [a.layer for a in plan(Net(pool_of_spikes), torch.rand(2, C, SIDE, SIDE)).ledger.additions] == ["second"]
    assert [a.layer for a in plan(Net(over_time), torch.rand(2, C, SIDE, SIDE)).ledger.additions] == ["head"]
