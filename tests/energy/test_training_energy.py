"""A training step against brute force: every product and addition of its formulas counted one by one."""

from __future__ import annotations

from itertools import product as over
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.energy import Optimizer, TrainingConvention, training_energy
from spikeattn.energy.training_rules import OPTIMIZERS
from spikeattn.errors import SpikeattnError

T, B = 3, 4


class Tiny(nn.Module):
    """An image, two convolutions and a classifier over T steps; the second neuron has no leak."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.lif = nn.Conv2d(1, 2, 3, padding=1), neuron.LIFNode(step_mode="m", v_threshold=0.2)
        self.conv2 = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False, groups=2)
        self.spike, self.head = neuron.IFNode(step_mode="m", v_threshold=0.2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.lif(self.conv(x).expand(T, *([-1] * 4)) * 2)
        b = self.spike(self.conv2(a.flatten(0, 1)).unflatten(0, (T, -1)))
        return self.head(b.flatten(2)).mean(0)


class Attention(nn.Module):
    """q and k of the same spikes, their product, and a residual sum of the currents."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed, self.lif = nn.Linear(6, 8), neuron.LIFNode(step_mode="m", v_threshold=0.3)
        self.q, self.k = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.q_lif, self.k_lif = (neuron.LIFNode(step_mode="m", v_threshold=0.1) for _ in range(2))
        self.out, self.head = nn.Linear(5, 8, bias=False), nn.Linear(8, 2)
        self.last = neuron.LIFNode(step_mode="m", v_threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:  # [B, 5, 6]
        current = self.embed(x * 3).expand(T, -1, -1, -1)
        a = self.lif(current)
        q, k = self.q_lif(self.q(a) * 2), self.k_lif(self.k(a) * 2)
        return self.head(self.last(self.out(q @ k.transpose(-1, -2)) + current).mean(2)).mean(0)


def seen(net: nn.Module, x: Tensor) -> tuple[sa.Profile, dict[str, np.ndarray]]:
    """The run, and the spikes of every neuron, [T, B, ...]."""
    spikes: dict[str, np.ndarray] = {}
    for name, module in net.named_modules():
        if isinstance(module, neuron.BaseNode):
            module.register_forward_hook(lambda m, a, out, name=name: spikes.__setitem__(name, out.detach().numpy()))
    profile = sa.profile(net.eval(), [x])
    functional.reset_net(net)
    with torch.no_grad():
        net(x)
    return profile, spikes


def convolution(x: np.ndarray, size: int, out: int, stride: int, groups: int) -> tuple[int, int]:
    """(products of a non-zero input element and an error inside the map, all products), by the definition of a padded
    3x3 convolution: dW[o, i, u, v] = sum over positions of x[i, y*s + u - 1, z*s + v - 1] * error[o, y, z]."""
    added, dense, (channels, height, width) = 0, 0, x.shape
    per_group = channels // groups
    for o, i, y, z, u, v in over(range(out), range(per_group), range(size), range(size), range(3), range(3)):
        channel, row, column = o // (out // groups) * per_group + i, y * stride + u - 1, z * stride + v - 1
        dense += 1
        if 0 <= row < height and 0 <= column < width:
            added += int(x[channel, row, column] != 0)
    return added, dense


def by_phase(table: sa.energy.TrainingTable) -> dict[str, dict[str, float]]:
    columns = ["macs", "sops", "acs", "mults", "mask_ops", "adds", "divisions", "roots"]
    rows = {row["phase"]: {k: row[k] for k in columns if row[k]} for row in table.to_dict("records")}
    return rows


class Gathering(nn.Module):
    """Spikes that add up rows of the image itself, behind which nothing is trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed, self.lif, self.head = (
            nn.Linear(6, 8),
            neuron.LIFNode(step_mode="m", v_threshold=0.3),
            nn.Linear(6, 2),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, 5, 6]
        a = self.lif(self.embed(x * 3).expand(T, -1, -1, -1))
        return self.head((a.transpose(-1, -2) @ x).mean((0, 2)))


def test_an_operand_without_parameters_behind_it_gets_no_error() -> None:
    profile, spikes = seen(Gathering(), torch.rand(B, 5, 6, generator=torch.Generator().manual_seed(0)))
    assert spikes["lif"].sum() > 0
    lines = profile.training_energy("sgd", 1).lines.query("phase == 'input gradients'").set_index("name")
    product = lines.drop(index="head", errors="ignore")
    assert product["op"].tolist() == ["mac"] and product["per_image"].tolist() == [T * 5 * 8 * 6]


def test_nothing_is_trained_behind_what_the_first_layer_reads() -> None:
    """An image that is scaled, neurons that stand before every weight: their errors go nowhere."""
    net = nn.Sequential(neuron.IFNode(v_threshold=0.5), nn.Linear(6, 4), neuron.IFNode(), nn.Linear(4, 2))
    profile = sa.profile(net, [torch.rand(4, 6)], time_steps=1)
    assert by_phase(profile.training_energy("sgd", 1))["input gradients"] == {"macs": 8}


@pytest.fixture(scope="module")
def tiny() -> tuple[sa.Profile, dict[str, np.ndarray]]:
    return seen(Tiny(), torch.rand(B, 1, 4, 4, generator=torch.Generator().manual_seed(0)))


def test_a_small_network_by_brute_force(tiny: tuple[sa.Profile, dict[str, np.ndarray]]) -> None:
    profile, spikes = tiny
    table = profile.training_energy("sgd", 8)
    found = by_phase(table)
    first = 2 * 16 * 9  # dense, and once: the image is the same at every step
    second = [convolution(spikes["lif"][t, i], 2, 4, 2, 2) for t in range(T) for i in range(B)]
    added, dense = sum(a for a, _ in second) / B, second[0][1]
    head = np.count_nonzero(spikes["spike"]) / B * 3
    assert added > 0 and head > 0
    assert found["forward"]["macs"] == first and found["forward"]["sops"] == added + head
    biases = 2 * 16 + 3 * T  # a still image's errors of the steps are taken together first
    assert found["weight gradients"] == {"macs": first, "acs": added + head + biases}
    assert found["input gradients"] == {"macs": T * dense + T * 16 * 3}  # none behind the image
    assert found["neurons"] == {"mults": T * (32 + 16), "macs": (T - 1) * 32, "acs": (T - 1) * 16}
    assert found["forks"] == {}
    parameters = sum(p.numel() for p in Tiny().parameters())
    assert found["update"] == {"macs": parameters / 8}
    pj = 4.6 * (2 * first + T * dense + T * 48 + (T - 1) * 32 + parameters / 8) + 3.7 * T * 48
    pj += 0.9 * (2 * (added + head) + biases + (T - 1) * 16 + found["forward"].get("acs", 0))
    assert table.total.value == pytest.approx(pj * 1e-9, rel=1e-12)
    assert table.step_mj == pytest.approx(8 * table.total.value)
    assert table["energy_mj"].iloc[:-1].sum() == pytest.approx(table.total.value)
    assert table.lines["energy_mj"].sum() == pytest.approx(table.total.value)


def test_products_of_spikes_and_paths_that_part() -> None:
    x = torch.rand(B, 5, 6, generator=torch.Generator().manual_seed(0))
    profile, spikes = seen(Attention(), x)
    found = by_phase(profile.training_energy("adam", 4))
    q, k, a = (np.count_nonzero(spikes[name]) / B for name in ("q_lif", "k_lif", "lif"))
    assert min(q, k, a) > 0
    # dQ = dY @ K: every spike of k adds to the 5 rows of dQ; dK = dY^T @ Q likewise.
    errors_of_spikes = 5 * q + 5 * k
    dense = T * (2 * 5 * 8 * 8 + 5 * 5 * 8)
    line = profile.training_energy("adam", 4).lines
    head = line[(line["name"] == "head") & (line["phase"] == "input gradients")]["per_image"].sum()
    assert found["input gradients"] == {"macs": dense + head, "acs": errors_of_spikes}
    assert found["forks"]["acs"] == T * 5 * 8 * 2  # a goes to q and k; the current to the neuron and to the sum
    parameters = sum(p.numel() for p in Attention().parameters())
    assert found["update"] == {
        key: value * parameters / 4
        for key, value in {"macs": 3, "mults": 3, "adds": 1, "divisions": 1, "roots": 1}.items()
    }


def test_dense_is_what_hardware_that_skips_nothing_computes(tiny: tuple[sa.Profile, dict[str, np.ndarray]]) -> None:
    profile, _ = tiny
    dense, spikes = (profile.training_energy("sgd", 8, convention=f"bptt-{kind}") for kind in ("dense", "spikes"))
    found = by_phase(dense)
    layers = 2 * 16 * 9 + T * (4 * 4 * 9 + 48)
    assert found["forward"]["macs"] == found["weight gradients"]["macs"] == layers
    assert by_phase(spikes)["input gradients"] == found["input gradients"]
    assert dense.total.value > spikes.total.value and dense.inference.value == spikes.inference.value
    assert dense.lines.query("op == 'sop'").empty


def test_it_stands_beside_inference_with_intervals(tiny: tuple[sa.Profile, dict[str, np.ndarray]]) -> None:
    profile, _ = tiny
    table = profile.training_energy("sgd", 8)
    assert table.inference == profile.energy().total
    forward = table.iloc[0]
    assert (forward["energy_mj"], forward["ci_low"], forward["ci_high"]) == pytest.approx(
        (table.inference.value, table.inference.low, table.inference.high)
    )
    assert table.over_inference.value == pytest.approx(table.total.value / table.inference.value)
    assert table.over_inference.low < table.over_inference.value < table.over_inference.high
    assert len(table.per_image) == B and table.per_image.mean() == pytest.approx(table.total.value)
    assert any("no paper prints" in note for note in table.notes) and "memory traffic" in table.outside
    again = training_energy(profile.ledger, profile.counts, "sgd", 8)
    assert again.equals(table)
    more = profile.training_energy("sgd", 1).total.value - table.total.value
    assert more == pytest.approx(4.6e-9 * sum(p.numel() for p in Tiny().parameters()) * (1 - 1 / 8))


def test_what_has_no_price_is_said(tiny: tuple[sa.Profile, dict[str, np.ndarray]], tmp_path: Path) -> None:
    profile, _ = tiny
    table, parameters = profile.training_energy("adamw", 2), sum(p.numel() for p in Tiny().parameters())
    assert table.unpriced == {"divisions": parameters / 2, "roots": parameters / 2}
    assert any(note.startswith("unpriced: ") and "divisions" in note for note in table.notes)
    own = Optimizer("lion", "sign(b*m + (1-b)*g)", "mine", macs=2, mults=2)
    assert by_phase(profile.training_energy(own, 2))["update"] == {"macs": parameters, "mults": parameters}
    mine = TrainingConvention("mine", "here", weight_gradient="dense")
    assert profile.training_energy("sgd", 2, convention=mine).convention.switches()["forward"] == "operations"
    for arguments, match in (
        (("adm", 2), "adam"),
        ((3, 2), "optimizer is 3; give one of sgd"),
        (("sgd", 0), "batch_size is 0"),
        (("sgd", 1.5), "batch_size is 1.5"),
        (("sgd", True), "batch_size is True"),
        (("sgd", 2, "loihi-sop"), "loihi"),
        (("sgd", 2, "horowitz-45nm-fp32", "exact"), "training convention 'exact'"),
    ):
        with pytest.raises(SpikeattnError, match=match):
            profile.training_energy(*arguments)
    with pytest.raises(SpikeattnError, match="weight_gradient"):
        TrainingConvention("mine", "here", weight_gradient="sparse")


def test_every_optimizer_states_its_formula() -> None:
    for name, optimizer in OPTIMIZERS.items():
        assert optimizer.name == name and "w = " in optimizer.formula and optimizer.source
    assert OPTIMIZERS["adamw"].mults == OPTIMIZERS["adam"].mults + 1


def test_a_chip_that_prices_spikes_alone_says_nothing_of_training(
    tiny: tuple[sa.Profile, dict[str, np.ndarray]],
) -> None:
    from spikeattn.energy import get_costs, list_costs

    chips = [name for name in list_costs() if not get_costs(name).has("mac")]
    assert chips
    with pytest.raises(SpikeattnError, match="no price for mac, and errors are dense"):
        tiny[0].training_energy("sgd", 2, chips[0])
