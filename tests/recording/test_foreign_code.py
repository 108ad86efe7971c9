"""What researchers' code does besides: constants, in-place writes, precisions, wrappers, state that leaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.recording.counting import unit_of, whole
from spikeattn.recording.neurons import is_spiking_neuron
from tests.recording.brute_force import amounts, assert_exact, exact, pictures

IF = neuron.IFNode
STEM = 3 * 64 * 4 * 27  # MACs of three time steps of the first convolution, on a still image charged once


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """Convolution, neuron, `between`, convolution, neuron, head over T = 4 steps; `between` is what a test is about."""

    def __init__(self, between: Callable[[Tensor, Net], Tensor] = lambda x, net: x, node: nn.Module | None = None):
        super().__init__()
        self.conv, self.conv2 = layer.Conv2d(3, 4, 3, padding=1), layer.Conv2d(4, 6, 3, stride=2, padding=1)
        self.norm, self.drop, self.head = layer.BatchNorm2d(4), layer.Dropout(0.5), layer.Linear(96, 5)
        self.lif, self.lif2, self.gate = node or IF(), IF(), IF()
        functional.set_step_mode(self, "m")
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0)

    def body(self, x: Tensor) -> Tensor:  # [T, B, 3, 8, 8]
        x = self.between(self.drop(self.lif(self.norm(self.conv(x)))), self)
        return self.head(self.lif2(self.conv2(x)).flatten(2))


def in_place_mask(x: Tensor, net: Net) -> Tensor:
    y = x.clone()
    return y.mul_(net.gate(x * 0.6))


def written_step_by_step(x: Tensor, net: Net) -> Tensor:
    out = torch.empty_like(x)
    for t in range(len(x)):
        out[t] = x[t].flip(-1)
    return out


def sliced_writes(x: Tensor, net: Net) -> Tensor:
    """Spikes with a border of potentials written into them are no spikes any more."""
    x = F.pad(x, [1] * 4)[..., 1:-1, 1:-1].clone()
    x[..., 0:1] = 0.5
    return x


BETWEEN = {
    "copies": (lambda x, net: torch.cat([x, x.flip(-1)], 2)[:, :, 2:6].roll(1, -1), set()),
    "upsample": (lambda x, net: F.max_pool2d(F.interpolate(x.flatten(0, 1), scale_factor=2), 2).view(x.shape), set()),
    "in-place mask": (in_place_mask, set()),
    "written": (written_step_by_step, set()),
    "stacked": (lambda x, net: torch.stack([x[t] for t in range(4)]), set()),
    "or": (lambda x, net: torch.maximum(x, net.gate(x * 0.6)), set()),
    "average pool": (lambda x, net: F.avg_pool2d(x.flatten(0, 1), 3, 1, 1).view(x.shape), {"avg_pool2d"}),
    "real border": (sliced_writes, set()),
    "potential": (lambda x, net: x + net.conv.bias.view(-1, 1, 1), {"add"}),
    "learned scale": (lambda x, net: x * net.conv.bias.view(-1, 1, 1), {"mul"}),
    "attention": (lambda x, net: F.scaled_dot_product_attention(x.flatten(3), x.flatten(3), x.flatten(3)).view(x.shape),
                  {"_scaled_dot_product_flash_attention_for_cpu"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BETWEEN)
def test_what_happens_to_spikes_on_their_way(name: str) -> None:
    """Operations without a rule are listed; what comes behind them is counted by what it receives."""
    between, listed = BETWEEN[name]
    profile = assert_exact(exact(Net(between)), pictures(3, 3, 8, 8), macs_once=STEM)
    assert {u.op for u in profile.ledger.uncounted} == listed


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
    assert {u.op for u in profile.ledger.uncounted} == ({"addmm"} if "PSN" in type(made).__name__ else set())


def test_nodes_that_emit_potentials_are_no_spiking_neurons() -> None:
    assert not is_spiking_neuron(neuron.NonSpikingLIFNode()) and not is_spiking_neuron(nn.ReLU())
    assert not is_spiking_neuron(neuron.NoisyNonSpikingIFNode(4, is_training=False, T=2))


# --------------------------------------------------------------------------------------- precisions, modes, wrappers
def autocast(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(x)


def inference(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(x)


@pytest.mark.parametrize(
    ("prepare", "call"),
    [
        (lambda net: net.train(), None), (lambda net: net.half(), lambda m, x: m(x.half())),
        (lambda net: net.double(), lambda m, x: m(x.double())), (lambda net: net, autocast),
        (lambda net: net, inference), (lambda net: net.to(memory_format=torch.channels_last), None),
        (lambda net: net.requires_grad_(False), lambda m, x: m(x.contiguous(memory_format=torch.channels_last))),
        (lambda net: nn.utils.parametrizations.weight_norm(net.conv2) and net, None),
        (lambda net: net, lambda m, x: m(x=x)),
    ],
    ids=["training", "half", "double", "autocast", "inference", "channels_last", "frozen", "weight_norm", "keyword"],
)  # fmt: skip
def test_precisions_and_modes(prepare: Callable, call: Callable | None) -> None:
    net = prepare(exact(Net()))
    training = net.training
    profile = assert_exact(net, pictures(3, 3, 8, 8), call, macs_once=STEM)
    assert not profile.ledger.uncounted and profile.ledger.tensor("lif").kind == "binary"
    assert not training or profile.n_images == 3


@pytest.mark.parametrize("wrap", ["DataParallel", "compile", "compiled layer", "model.compile"])
def test_wrapped_models_are_the_models_inside(wrap: str) -> None:
    net, images = exact(Net()), pictures(3, 3, 8, 8)
    expected = sa.profile(net, [images])
    model: nn.Module = net
    if wrap == "DataParallel":
        model = nn.DataParallel(net)
    elif wrap == "compile":
        model = torch.compile(net, backend="eager")
    elif wrap == "compiled layer":
        net.conv2 = torch.compile(net.conv2, backend="eager")
    else:
        net.compile(backend="eager")
    if wrap != "DataParallel":
        model(images)
        functional.reset_net(net)
    profile = sa.profile(model, [images])
    assert amounts(profile) == amounts(expected)
    assert profile.ledger.model["class"].endswith("Net")
    with sa.record(model) as recording:
        model(images)
    assert set(recording.counts()["tensor"]) == {t.name for t in profile.ledger.tensors}


class Outputs(Net):
    form = staticmethod(lambda y: y)

    def forward(self, x: Tensor):
        return self.form(super().forward(x))


@pytest.mark.parametrize("form", [lambda y: (y, y * 2), lambda y: {"logits": y, "more": [y]}, lambda y: None])
def test_any_output(form: Callable) -> None:
    net, images = exact(Outputs()), pictures(3, 3, 8, 8)
    net.form = form
    rows = sa.profile(net, [images]).counts.rows
    if form(1) is None:
        assert not any(column.startswith("pred") for column in rows)
    else:
        with torch.no_grad():
            logits = Net.forward(net, images)
        assert rows["pred_4"].tolist() == logits.argmax(1).tolist() and "pred_1" in rows


def test_training_records_the_right_products_beside_dropout() -> None:
    """Dropout multiplies too, in training alone; the mask that is counted is still the mask of the spikes."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.drop, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)
            self.lif, self.gate = IF(step_mode="m"), IF(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            x = x.unsqueeze(0).repeat(4, 1, 1)
            masked = self.lif(self.drop(self.a(x)) * 2) * self.gate(self.b(x) * 2)
            return self.head(masked.flip(-1)).mean(0)

    net = exact(Masked()).train()
    seen: list[Tensor] = []
    handles = [m.register_forward_hook(lambda m, a, out: seen.append(out.detach())) for m in (net.lif, net.gate)]
    with sa.record(net) as recording:
        net(pictures(5, 6)).sum().backward()
    for handle in handles:
        handle.remove()
    spikes, gate = seen[-2:]
    counted = recording.counts().groupby("tensor")["nonzero"].sum()
    assert counted["lif"] == spikes.sum() and counted["gate"] == gate.sum()
    assert counted["head:in"] == (spikes * gate).sum() > 0


# --------------------------------------------------------------------------------------------------- state that leaks
class OwnLIF(nn.Module):
    """Keeps its potential from image to image; `resettable` gives it a reset that SpikingJelly would call."""

    def __init__(self, resettable: bool = False) -> None:
        super().__init__()
        self.potential: Tensor | float = 0.0
        if resettable:
            self.reset = lambda: setattr(self, "potential", 0.0)

    def forward(self, x: Tensor) -> Tensor:
        spikes = []
        for step in x:
            self.potential = self.potential * 0.5 + step.mean(0) * 0 + step
            spikes.append((self.potential > 1).float())
            self.potential = self.potential - spikes[-1]
        return torch.stack(spikes)


class FirstStage(Net):
    """`stage` stands for the first neuron; it may call it wrongly, or hide it."""

    def __init__(self, stage: Callable[[Tensor, Net], Tensor], **extra: object) -> None:
        super().__init__()
        self.stage = stage
        for name, value in extra.items():
            setattr(self, name, value)

    def body(self, x: Tensor) -> Tensor:
        return self.head(self.lif2(self.conv2(self.stage(self.conv(x), self))).flatten(2))


def moving_average(x: Tensor, net: Net) -> Tensor:
    net.average = 0.9 * net.average + 0.1 * x.mean()
    return net.lif(x - net.average)


def hidden_in_a_function() -> Callable[[Tensor, Net], Tensor]:
    own = IF(step_mode="m")
    return lambda x, net: own(x)


@pytest.mark.parametrize(
    ("net", "message"),
    [  # what QKFormer's published attention does: the neuron takes [T*B, ...] for T steps
        (lambda: FirstStage(lambda x, net: net.lif(x.flatten(0, 1)).view(x.shape)),
         r"neuron lif grows with the batch.*hands its state from one image to the next"),
        (lambda: FirstStage(lambda x, net: net.lif(x.flatten(0, 1).view(x.shape[1], 4, 4, 8, 8).transpose(0, 1))),
         r"replacing one image of a batch changes the counts of another one, first at lif"),
        (lambda: FirstStage(lambda x, net: net.own(x), own=OwnLIF()), r"first at .*own.potential"),
        (lambda: FirstStage(moving_average, average=torch.zeros(())), r"first at lif .*kept in FirstStage.average"),
        (lambda: FirstStage(lambda x, net: net.own[0](x), own=[IF(step_mode="m")]), r"FirstStage.own keeps spiking"),
        (lambda: FirstStage(hidden_in_a_function()), r"first at conv2:in .*keeps state"),
        (lambda: FirstStage(lambda x, net: net.lif(x - x.mean(1, keepdim=True))), r"mixes the images of a batch"),
        (lambda: FirstStage(lambda x, net: net.lif(x + torch.randn_like(x))), r"draws random numbers in eval mode"),
        (lambda: IF(step_mode="m"), "the model is itself one spiking neuron, a IFNode"),
    ],
    ids=["T*B as T", "scrambled", "own state", "average", "list", "closure", "batch mean", "noise", "bare"],
)  # fmt: skip
def test_state_that_leaks_is_an_error_that_names_the_module(net: Callable[[], nn.Module], message: str) -> None:
    model, images = exact(net()), pictures(4, 3, 8, 8)
    with pytest.raises(sa.SpikeattnError, match=message):
        sa.profile(model, [images])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_own_neurons_with_a_reset_and_seeded_noise_are_fine() -> None:
    images = pictures(4, 3, 8, 8)
    own = FirstStage(lambda x, net: net.own(x), own=OwnLIF(resettable=True))
    is_neuron = (IF, OwnLIF)
    profile = assert_exact(exact(own), images, macs_once=STEM, is_neuron=lambda m: isinstance(m, is_neuron))
    assert profile.ledger.tensor("own").maker == "neuron"
    noisy = FirstStage(lambda x, net: net.lif(x + torch.randn(x.shape[2:])))

    def seeded(model: nn.Module, x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return model(x)

    assert_exact(exact(noisy), images, seeded, macs_once=STEM)


def test_a_path_that_depends_on_the_input_is_an_error() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif, self.head = nn.Linear(6, 8), IF(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out = 0
            for t in range(4):
                out = out + self.head(self.lif(self.fc(x)))
                if t == 2 and float(x.abs().max()) > 5:
                    break
            return out

    images = pictures(2, 6)
    with pytest.raises(sa.SpikeattnError, match="appeared 3 times in this forward pass and 4 times in the first"):
        sa.profile(exact(Early()), [images, images * 9])


def test_neurons_that_are_never_called_are_named() -> None:
    profile = sa.profile(exact(Net()), [pictures(2, 3, 8, 8)])
    assert "idle: 1 neurons are never called in the forward pass, the first is gate" in profile.warnings
