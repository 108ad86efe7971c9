"""What spikes are multiples of: neurons with levels, signs or thresholds as amplitudes, spikes times a constant."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.tracing.kinds import distinct, unit_of, whole
from spikeattn.tracing.neurons import is_spiking_neuron
from spikeattn.tracing.spike_units import units_of
from tests.counting.brute_force import amounts, assert_exact, exact, pictures
from tests.counting.networks import Stages as Net

NOISES = 7  # strengths of noise that a neuron is shown
TRIALS = 2  # calls by which its operations are read off, once for those that are alike
STEM = 3 * 64 * 4 * 27  # MACs of three time steps of the first convolution, on a still image charged once


def test_spikes_times_a_constant_are_spikes_still() -> None:
    net = exact(Net(lambda x, net: x * 0.3))
    profile = assert_exact(
        net, pictures(3, 3, 8, 8), macs_once=STEM, unit=lambda w: 0.3 if w.shape[:2] == (6, 4) else 1.0
    )
    tensor = profile.ledger.tensor("conv2:in")
    assert (tensor.kind, tensor.unit) == ("binary", 0.3) and not profile.ledger.uncounted


class Levels(nn.Module):
    """The quantised spikes of SDT v3: whole numbers up to 4, divided by 4, without time or state."""

    def __init__(self, divisor: float = 4) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(torch.clamp(x, 0, 4)) / self.divisor


def test_levels_divided_by_their_number_count_as_whole_spikes() -> None:
    """k/4 is k spikes whose weights are a quarter: the division folds into the weights behind."""

    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.fc2, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
            self.spike, self.spike2 = Levels(), Levels(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.spike2(self.fc2(self.spike(self.fc(x) * 2))))

    model, images = exact(Quantised()), pictures(4, 6)
    options = {"is_neuron": lambda m: isinstance(m, Levels), "unit": lambda w: 0.25 if w.shape == (8, 8) else 1.0}
    profile = assert_exact(model, images, **options)
    assert profile.time_steps == 1
    assert [(t.kind, t.unit) for t in profile.ledger.tensors] == [("real", 1), ("integer", 0.25), ("integer", 1)]
    spikes = model.spike(model.fc(images) * 2)
    assert profile.counts.column("abs", "spike")[:, 0].tolist() == (spikes * 4).sum(1).tolist()
    # The unit is the neuron's, not the data's: a first batch without a single level of 1/4 has the same ledger.
    dark = sa.profile(model, [images * 0, images], neurons=options["is_neuron"])
    assert dark.ledger.hash() == profile.ledger.hash() and amounts(dark)["sop"][4:] == amounts(profile)["sop"]


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([0, 1, 2, 3], 1.0), ([0, 2, 4], 2.0), ([0, 0.5, 0.75], 0.25), ([0, 1 / 3, -2 / 3], 1 / 3), ([0, 0.7], 0.7),
        ([0, 0], 1.0), ([0.1, 0.7243, 0.9871, 0.3012], None), ([1, 1000.5], None),
    ],
)  # fmt: skip
def test_units(values: list[float], unit: float | None) -> None:
    x = torch.tensor(values)
    assert unit_of(x) == (unit if unit is None else pytest.approx(unit))
    if unit is not None:
        assert bool((whole(x, unit) == (x / unit).round()).all())
        off = whole(torch.cat([x, torch.tensor([unit * 1.4])]), unit)
        assert off[-1] == pytest.approx(1.4) and bool((off[:-1] == (x / unit).round()).all())


@pytest.mark.parametrize(
    ("node", "kind", "unit"),
    [
        (lambda: neuron.PSN(T=4), "binary", 1), (lambda: neuron.SlidingPSN(k=2, step_mode="m"), "binary", 1),
        (lambda: neuron.GatedLIFNode(T=4, inplane=4), "binary", 1),
        (lambda: neuron.SimpleLIFNode(2.0, True, step_mode="m"), "binary", 1),
        (lambda: neuron.ILIFNode(step_mode="m"), "integer", 1),
        (lambda: neuron.TernaryLIFNode(step_mode="m"), "ternary", 1),
        (lambda: neuron.STBIFNode(0.7, level=8, sym=True, step_mode="m"), "ternary", 0.7),
        (lambda: neuron.DSRIFNode(T=4, v_threshold=1.5), "binary", None),
        (lambda: neuron.FewSpikeNode(neuron.FewSpikeTable(*[[4.0, 2.0, 1.0, 0.5]] * 3), step_mode="m"), "integer", 0.5),
        (lambda: neuron.FewSpikeNode(neuron.FewSpikeTable(*[[0.917, 0.531, 0.313, 0.179]] * 3)), "real", 1),
    ],
)  # fmt: skip
def test_neurons_that_are_no_basenode_or_not_binary(node: Callable[[], nn.Module], kind: str, unit: float) -> None:
    torch.manual_seed(0)
    net = Net()
    made = node()
    made.step_mode = "m"
    exact(net).lif = made
    assert is_spiking_neuron(made)
    images = pictures(3, 3, 8, 8) * 4
    profile = sa.profile(net, [images])
    tensor = profile.ledger.tensor("lif")
    spikes: list[Tensor] = []
    handle = made.register_forward_hook(lambda m, a, out: spikes.append(out.detach()))
    with torch.no_grad():
        net(images)
    handle.remove()
    assert tensor.kind == kind and tensor.unit == pytest.approx(unit or float(spikes[0].max()))
    assert profile.counts.column("nnz", "lif").T.tolist() == spikes[0].ne(0).flatten(2).sum(2).tolist()
    assert any(w.startswith("real: 1 neuron") for w in profile.warnings) == (kind == "real")
    assert not profile.ledger.uncounted


@pytest.mark.parametrize("values", [3, 40, 100_000])
def test_the_values_that_occur_are_those_of_torch(values: int) -> None:
    """Few values are compared one by one, many are sorted; one that stands once in a large tensor is found."""
    x = torch.randint(values, (3, 50_001), generator=torch.Generator().manual_seed(0)).float() / 8
    for rare in (-7.5, float("inf")):
        x[1, 31_337] = rare
        assert torch.equal(distinct(x), x.unique())
    assert torch.equal(distinct(x[:, :5]), x[:, :5].unique())


class Counted(Levels):
    """Counts its calls, all of them together; what it runs is no plain quantiser, though the same."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Counted.calls += 1
        return super().forward(x) * 1


def test_neurons_that_are_alike_are_shown_noise_together() -> None:
    """Two of them are, for all; one that an attribute or a hook of its own makes another neuron has its own levels."""

    def chain(*divisors: float) -> nn.Sequential:
        return nn.Sequential(*(part for each in divisors for part in (nn.Linear(6, 6), Counted(each))))

    def units(net: nn.Sequential) -> tuple[list[float | None], int]:
        Counted.calls = 0
        neurons = {name: part for name, part in net.named_children() if isinstance(part, Counted)}
        found, _ = units_of(net, neurons, lambda: net(images))
        return list(found.values()), Counted.calls

    images = pictures(2, 6)
    assert units(chain(*[4] * 12)) == ([0.25] * 12, 12 + 2 * NOISES + TRIALS)
    assert units(chain(4, 4, 2)) == ([0.25, 0.25, 0.5], 3 + 3 * NOISES + 2 * TRIALS)
    hooked = chain(4, 4)
    hooked[1].register_forward_hook(lambda module, args, output: output / 2)
    assert units(hooked) == ([0.125, 0.25], 2 + 2 * NOISES + TRIALS)
    wider = nn.Sequential(*chain(4), nn.Linear(6, 8), Counted(4))
    assert units(wider) == ([0.25, 0.25], 2 + 2 * NOISES + TRIALS)


class ByShape(Levels):
    """Gives half levels for whatever has four axes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(torch.clamp(x, 0, 4)) / (self.divisor * (2 if x.dim() == 4 else 1))


class InTraining(Levels):
    """Quantises in eval mode alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else super().forward(x)


class Coarser(Levels):
    """Gives halves where it is told so, or where it is given rows: multiples of quarters all the same."""

    def forward(self, x: Tensor, levels: int = 4) -> Tensor:
        levels = 2 if x.dim() == 2 else levels
        return torch.round(torch.clamp(x, 0, levels)) / levels


@pytest.mark.parametrize("args", [(), (2,)])
def test_what_a_neuron_is_given_beside_the_tensor_and_its_shape_say_the_levels_too(args: tuple[int, ...]) -> None:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.spike, self.head = nn.Linear(6, 8), Coarser(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            x = self.spike(x.view(len(x), 1, -1), *args).flatten(1) if args else self.spike(x)
            return self.head(x)

    profile = sa.profile(Called().eval(), [pictures(4, 6)], neurons=lambda m: isinstance(m, Coarser))
    assert [t.unit for t in profile.ledger.tensors] == [1, 0.5]


@pytest.mark.parametrize("high", [float("inf"), 1e9])
def test_levels_without_end_are_seen_in_noise(high: float) -> None:
    net = nn.Sequential(nn.Linear(6, 8), Endless(high), nn.Linear(8, 3)).eval()
    profile = sa.profile(net, [pictures(4, 6)], neurons=lambda m: isinstance(m, Endless))
    assert profile.ledger.tensor("1").unit == 1


class Endless(nn.Module):
    """Integers up to a number that may be infinite."""

    def __init__(self, high: float) -> None:
        super().__init__()
        self.high = high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, self.high).round()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("neuron", [Levels, InTraining])
def test_a_quantiser_says_its_levels_without_a_pass(neuron: type[Levels], training: bool) -> None:
    net = nn.Sequential(nn.Linear(6, 6), neuron(4), nn.Linear(6, 6), neuron(3)).train(training)

    def refuse() -> None:
        raise AssertionError("no pass is needed")

    assert units_of(net, {"1": net[1], "3": net[3]}, refuse) == ({"1": 0.25, "3": 1 / 3}, {})
    assert net.training == net[1].training == training


def test_a_neuron_that_does_other_things_with_images_is_shown_noise() -> None:
    """Its operations say quarters, and images are given eighths: they are seen when the network is traced."""
    net = exact(nn.Sequential(nn.Conv2d(3, 4, 3), ByShape(4), nn.Flatten(), nn.Linear(144, 3)))
    profile = assert_exact(
        net, pictures(3, 3, 8, 8), is_neuron=lambda m: isinstance(m, ByShape),
        unit=lambda w: 0.125 if w.shape == (3, 144) else 1.0,
    )  # fmt: skip
    assert [t.unit for t in profile.ledger.tensors] == [1, 0.125]
