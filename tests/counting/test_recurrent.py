"""Synapses inside neurons and recurrent containers: additions and MACs equal a count by hand, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer, neuron, rnn
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.compat.spikingjelly_version import is_current
from spikeattn.tracing.neurons import reset
from tests.counting.brute_force import amounts, exact, pictures

WIDTH = 8
POPULATION = {"act_dim": 2, "dec_pop_dim": 4}


class Net(nn.Module):
    """Currents, or with `spikes` the spikes of IF neurons, into `node`; its spikes into the head.

    In mode "m" one call covers the time steps, in mode "s" it covers one of them.
    """

    def __init__(self, node: nn.Module, mode: str, T: int, spikes: bool = False) -> None:
        super().__init__()
        self.fc, self.node, self.head = nn.Linear(6, WIDTH), node, nn.Linear(WIDTH, 3)
        self.lif = neuron.IFNode(step_mode=mode) if spikes else nn.Identity()
        self.mode, self.T = mode, T

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x) * 4
        if self.mode == "m":
            y = self.node(self.lif(x.repeat(self.T, 1, 1)))
            return self.head(y[0] if isinstance(y, tuple) else y).mean(0)
        return sum(self.head(self.node(self.lif(x))) for _ in range(self.T))


class Loop(nn.Module):
    """A cell of an RNN, step by step with its own states; the first one may be the currents that arrive."""

    def __init__(self, cell: nn.Module, T: int, first: Callable[[Tensor], Any] = lambda x: None) -> None:
        super().__init__()
        self.fc, self.lif, self.node, self.head = nn.Linear(6, WIDTH), neuron.IFNode(), cell, nn.Linear(WIDTH, 3)
        self.T, self.first = T, first

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x) * 4
        state, out = self.first(x), 0
        for _ in range(self.T):
            state = self.node(self.lif(x), state)
            out = out + self.head(state[0] if isinstance(state, tuple) else state)
        return out


def by_hand(
    net: nn.Module, images: Tensor, spiking: Callable[[str, int], slice], skip: int = 0
) -> tuple[list[int], list[int]]:
    """(SOPs, MACs) of every image, run alone, over all layers, also those inside neurons.

    Args:
        spiking: which inputs of a layer are spikes, by its path and its number of inputs; the others are numbers.
        skip: leave out so many calls of each layer.
    """
    counts: list[tuple[int, int]] = []
    for image in images.split(1):
        reset(net)
        found = [0, 0]
        calls: Counter[str] = Counter()

        def count(path: str, module: nn.Module, x: Tensor, found: list[int], calls: Counter[str]) -> None:
            calls[path] += 1
            if calls[path] <= skip:
                return
            mask = torch.zeros(x.shape[1 if x.dim() == 3 and isinstance(module, nn.Conv1d) else -1])
            mask[spiking(path, len(mask))] = 1
            mask = mask.view(-1, 1) if isinstance(module, nn.Conv1d) else mask
            for place, values in enumerate((x.abs() * mask, torch.ones_like(x) * (1 - mask))):
                ones = torch.ones_like(module.weight)
                conv = isinstance(module, nn.Conv1d)
                out = F.conv1d(values, ones, groups=module.groups) if conv else F.linear(values, ones)
                found[place] += round(out.sum().item())

        handles = [
            module.register_forward_pre_hook(lambda m, args, at=(path, found, calls): count(at[0], m, args[0], *at[1:]))
            for path, module in net.named_modules()
            if isinstance(module, (nn.Linear, nn.Conv1d))
        ]
        with torch.no_grad():
            net(image)
        for handle in handles:
            handle.remove()
        counts.append((found[0], found[1]))
    reset(net)
    return [sops for sops, _ in counts], [macs for _, macs in counts]


def all_but_the_first(path: str, inputs: int) -> slice:
    """Every layer but the first receives nothing but spikes."""
    return slice(0) if path == "fc" else slice(None)


def profiled(net: nn.Module, images: Tensor, batch: int) -> sa.Profile:
    return sa.profile(exact(net), list(images.split(batch)))


def check(
    net: nn.Module, batch: int, spiking: Callable[[str, int], slice] = all_but_the_first, more: tuple[int, int] = (0, 0)
) -> sa.Profile:
    """Counts equal those by hand, and nothing is listed; `more` SOPs and MACs per image lie outside layers."""
    images = pictures(3, 6)
    profile = profiled(net, images, batch)
    sops, macs = by_hand(net, images, spiking)
    counted = amounts(profile)
    assert counted["sop"] == [value + more[0] for value in sops] and sum(sops) > 0
    assert counted["mac"] == [value + more[1] for value in macs]
    assert not profile.ledger.uncounted
    return profile


# Time steps 1 to 4 with batches of 1 to 3 images: each of them, not each pair.
every_size = pytest.mark.parametrize(("T", "batch"), [(1, 2), (2, 1), (2, 3), (3, 2), (4, 1), (4, 3)])


@every_size
@pytest.mark.parametrize("name", ["ILCIFNode", "ILCLIFNode", "ILCCUBALIFNode", "NoisyILCCUBALIFNode"])
def test_spikes_that_go_back_through_a_convolution(name: str, T: int, batch: int) -> None:
    arguments = POPULATION | ({"is_training": False, "T": T} if name.startswith("Noisy") else {})
    profile = check(Net(getattr(neuron, name)(**arguments), "m", T), batch)
    assert profile.time_steps == T
    assert ("node.conn" in {s.name for s in profile.ledger.synapses}) == (T > 1)  # the last step's spikes go nowhere


def test_spikes_with_noise_are_numbers() -> None:
    node = neuron.NoisyILCCUBALIFNode(**POPULATION, T=3)
    torch.manual_seed(0)
    node.eps_v_seq, node.eps_s_seq = torch.rand(1, 3, WIDTH), torch.rand(1, 3, WIDTH)
    node.cn_v = node.cn_s = torch.rand(1, 3, WIDTH)
    profile = profiled(Net(node, "m", 3), pictures(3, 6), 2)
    inner = next(s for s in profile.ledger.synapses if s.name == "node.conn")
    assert profile.ledger.tensor(inner.input).number and amounts(profile)["sop"] == [0, 0, 0]
    assert amounts(profile)["mac"] == [6 * WIDTH + 2 * 4 * WIDTH + 3 * 3 * WIDTH] * 3


def connections(T: int, k: int) -> int:
    """Weights of a matrix over the steps, from each to itself and the k - 1 behind it."""
    return sum(0 <= late - early < k for late in range(T) for early in range(T))


PSNS = [
    ("PSN", "m", {}, None),
    ("MaskedPSN", "m", {"k": 2, "lambda_init": 1.0}, 2),
    ("MaskedPSN", "m", {"k": 2}, None),  # its mask is still open
    ("MaskedPSN", "s", {"k": 2, "lambda_init": 1.0}, 2),
    ("MaskedPSN", "s", {"k": 3, "lambda_init": 1.0}, 3),
    ("SlidingPSN", "m", {"k": 3}, 3),
    ("SlidingPSN", "s", {"k": 3}, 3),
]


def parallel(name: str, mode: str, T: int, arguments: dict) -> nn.Module:
    node = getattr(neuron, name)(**arguments, **({} if name == "SlidingPSN" else {"T": T}))
    if name != "PSN":
        node.step_mode = mode
    return node


@every_size
@pytest.mark.parametrize(("name", "mode", "arguments", "k"), PSNS)
def test_weights_over_time_multiply_currents(
    name: str, mode: str, arguments: dict, k: int | None, T: int, batch: int
) -> None:
    net = Net(parallel(name, mode, T, arguments), mode, T)
    macs = WIDTH * (T * T if k is None else connections(T, k))
    assert check(net, batch, more=(0, macs)).time_steps == T


@every_size
def test_spikes_meet_weights_over_time(T: int, batch: int) -> None:
    """PSN behind spikes: each of them is added at every step. In a band the number of steps depends on the step."""
    net, images = Net(parallel("PSN", "m", T, {}), "m", T, spikes=True), pictures(3, 6)
    spikes: list[int] = []
    exact(net)
    for image in images.split(1):
        reset(net)
        spikes.append(T * round(net.lif((net.fc(image) * 4).repeat(T, 1, 1)).sum().item()))
    sops, macs = by_hand(net, images, all_but_the_first)
    profile = profiled(net, images, batch)
    assert amounts(profile)["sop"] == [a + b for a, b in zip(sops, spikes, strict=True)] and sum(spikes) > 0
    assert amounts(profile)["mac"] == macs
    banded = profiled(Net(parallel("SlidingPSN", "m", T, {"k": 2}), "m", T, spikes=True), images, batch)
    assert [u.name for u in banded.ledger.uncounted] == ["node.weight"] * (T > 1)


@every_size
@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("spikes", [False, True])
def test_linear_recurrent_container(mode: str, spikes: bool, T: int, batch: int) -> None:
    """Its layer receives the input and its own spikes side by side: numbers cost MACs, spikes additions.

    Where there is one step alone, its state is a constant beside the input: numbers as well.
    """
    node = layer.LinearRecurrentContainer(neuron.IFNode(), WIDTH, WIDTH, step_mode=mode)

    def spiking(path: str, inputs: int) -> slice:
        numbers = 0 if spikes else WIDTH if T > 1 else 2 * WIDTH
        return slice(numbers, None) if path == "node.rc" else all_but_the_first(path, inputs)

    check(Net(node, mode, T, spikes), batch, spiking)


@every_size
@pytest.mark.parametrize("mode", ["m", "s"])
def test_elementwise_recurrent_container(mode: str, T: int, batch: int) -> None:
    """Sums of spikes are whole numbers that the layer adds by value; the sum itself is an addition per element."""
    inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), neuron.IFNode())
    node = layer.ElementWiseRecurrentContainer(inner, torch.add, step_mode=mode)
    net, images = Net(node, mode, T, spikes=True), pictures(3, 6)
    profile = profiled(net, images, batch)
    sops, macs = by_hand(net, images, all_but_the_first)
    assert amounts(profile)["sop"] == sops and amounts(profile)["mac"] == macs and sum(sops) > 0
    assert not profile.ledger.uncounted
    assert [(a.op, a.elements) for a in profile.ledger.additions if a.elements == WIDTH] == [("add", WIDTH)] * (T > 1)


@pytest.mark.skipif(not is_current(), reason="layers behind the first begin with a state of no image before version 2")
@every_size
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["SpikingVanillaRNN", "SpikingLSTM", "SpikingGRU"])
def test_recurrent_networks(name: str, bidirectional: bool, T: int, batch: int) -> None:
    """Cells are neurons whose weights meet what they receive and their own spikes."""
    made = getattr(rnn, name)(WIDTH, WIDTH // (1 + bidirectional), 2, bidirectional=bidirectional)
    profile = check(Net(made, "m", T, spikes=True), batch)
    cells = {t.name for t in profile.ledger.tensors if t.maker == "neuron"} - {"lif"}
    assert {name.partition("@")[0] for name in cells} == {
        f"node.{part}.{i}" for part in ["cells", "cells_reverse"][: 1 + bidirectional] for i in range(2)
    }


@every_size
@pytest.mark.parametrize("name", ["SpikingVanillaRNN", "SpikingLSTM", "SpikingGRU"])
def test_recurrent_networks_on_numbers(name: str, T: int, batch: int) -> None:
    def spiking(path: str, inputs: int) -> slice:
        return slice(0) if path.endswith("cells.0.linear_ih") else all_but_the_first(path, inputs)

    # The numbers are those of a repeated image, on which the input weights are charged once.
    repeated = {"SpikingVanillaRNN": 1, "SpikingLSTM": 4, "SpikingGRU": 3}[name] * WIDTH * WIDTH * (T - 1)
    check(Net(getattr(rnn, name)(WIDTH, WIDTH, 1), "m", T), batch, spiking, more=(0, -repeated))


@every_size
@pytest.mark.parametrize("name", ["SpikingVanillaRNNCell", "SpikingLSTMCell", "SpikingGRUCell"])
def test_cells_in_a_loop(name: str, T: int, batch: int) -> None:
    profile = check(Loop(getattr(rnn, name)(WIDTH, WIDTH), T), batch)
    assert profile.time_steps == T


def test_a_first_state_of_numbers_is_multiplied_and_what_follows_is_added() -> None:
    net, images = Loop(rnn.SpikingVanillaRNNCell(WIDTH, WIDTH), 3, first=lambda x: x), pictures(3, 6)
    profile = profiled(net, images, 2)
    sops, macs = by_hand(net, images, lambda path, n: slice(0) if path in ("fc", "node.linear_hh") else slice(None))
    added = by_hand(net, images, lambda path, n: slice(None) if path == "node.linear_hh" else slice(0), skip=1)[0]
    assert amounts(profile)["sop"] == [a + b for a, b in zip(sops, added, strict=True)] and sum(added) > 0
    assert amounts(profile)["mac"] == [value - 2 * WIDTH * WIDTH for value in macs]
    assert not profile.ledger.uncounted


def test_a_first_state_of_unknown_origin_is_listed() -> None:
    net = Loop(
        rnn.SpikingVanillaRNNCell(WIDTH, WIDTH),
        3,
        first=lambda x: torch.from_numpy(np.ones((len(x), WIDTH), np.float32)),
    )
    profile = profiled(net, pictures(3, 6), 2)
    assert [(u.name, u.op) for u in profile.ledger.uncounted] == [("node.linear_hh", "addmm")]
    assert "nothing says where" in profile.ledger.uncounted[0].reason


def test_a_subclass_with_a_forward_pass_of_its_own_is_looked_into_and_listed() -> None:
    class Mine(neuron.ILCIFNode):
        def forward(self, x_seq: Tensor) -> Tensor:
            return super().forward(x_seq)

    profile = profiled(Net(Mine(**POPULATION), "m", 3), pictures(3, 6), 2)
    assert [(u.name, u.op) for u in profile.ledger.uncounted] == [("node", "convolution")]


class Skip(nn.Module):
    """Currents and the spikes that they make, side by side, into a convolution or a linear layer, twice if asked."""

    def __init__(self, mode: str, T: int, conv: bool, also: bool = False) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, WIDTH), neuron.IFNode(step_mode=mode)
        self.joint = nn.Conv1d(4, 5, 2) if conv else nn.Linear(2 * WIDTH, 9)
        self.head = nn.Linear(15 if conv else 9, 3)
        self.last = neuron.IFNode(step_mode=mode)
        self.mode, self.T, self.conv, self.also = mode, T, conv, also

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x) * 4
        if self.mode == "m":
            return self.step(x.repeat(self.T, 1, 1)).mean(0)
        return sum(self.step(x) for _ in range(self.T))

    def step(self, x: Tensor) -> Tensor:
        spikes = self.lif(x)
        if not self.conv:
            both = torch.cat([spikes, x], -1)
            return self.head(self.last(self.joint(both) + (both[..., :9] if self.also else 0)))
        both = torch.cat([y.flatten(0, -2).unflatten(-1, (2, 4)) for y in (spikes, x)], 1)  # [T*B, 4, 4]
        return self.head(self.last(self.joint(both).flatten(1).view(*x.shape[:-1], 15)))


@every_size
@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("conv", [False, True])
def test_spikes_and_numbers_side_by_side(conv: bool, mode: str, T: int, batch: int) -> None:
    def spiking(path: str, inputs: int) -> slice:
        return slice(inputs // 2) if path == "joint" else all_but_the_first(path, inputs)

    profile = check(Skip(mode, T, conv), batch, spiking)
    weights = [s.weights for s in profile.ledger.synapses if s.name.startswith("joint")]
    assert weights == [20, 20] if conv else [72, 72]


def test_spikes_beside_numbers_that_something_else_takes_are_listed() -> None:
    profile = profiled(Skip("m", 3, False, also=True), pictures(3, 6), 2)
    assert "cat" in {u.op for u in profile.ledger.uncounted}
