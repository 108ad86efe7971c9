"""snnTorch, norse, sinabs and BrainCog as their tutorials write them: nothing to pass, exact against brute force.

The tests of a framework run where it is installed (`make test-versions` installs them).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.tracing import neurons as nodes
from tests.counting import brute_force
from tests.counting.brute_force import amounts, pictures

T = 4


class Loop(nn.Module):
    """Two layers, the second fed by spikes, in a loop over time as in snnTorch's tutorials."""

    def __init__(self, make: Callable[[int], nn.Module], back: int | None = 1) -> None:
        """`back`: from which of its results on a neuron receives them again; None where it keeps them itself."""
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(6, 8), make(8), nn.Linear(8, 5), make(5)
        self.back = back

    def forward(self, x: Tensor) -> Tensor:
        first: tuple[Tensor, ...] = ()
        second: tuple[Tensor, ...] = ()
        spikes = []
        for _ in range(T):
            if self.back is None:
                spikes.append(self.lif2(self.fc2(self.lif1(self.fc1(x)))))
                continue
            first = self.lif1(self.fc1(x), *first[self.back :])
            second = self.lif2(self.fc2(first[0]), *second[self.back :])
            spikes.append(second[0])
        return torch.stack(spikes)


class Frames(nn.Module):
    """[B, T, ...] through `net`; `norse`: [T, B, ...], and its result is a pair."""

    def __init__(self, net: nn.Module, time_first: bool = False) -> None:
        super().__init__()
        self.net, self.time_first = net, time_first

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.transpose(0, 1))[0] if self.time_first else self.net(x)


def rounded(model: nn.Module) -> nn.Module:
    """Weights k/16, whose sums are exact in any order; thresholds and time constants stay what they are."""
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        for name, p in layer.named_parameters(recurse=False):
            if p.dim() > 1:
                p.data = torch.randint(-16, 17, p.shape, generator=generator) / 16
            elif name.startswith("bias"):
                p.data = torch.randint(-4, 5, p.shape, generator=generator) / 16
    return model.eval()


def sums_of(model: nn.Module, images: Tensor, time_steps: int, repeated: int = 0) -> sa.Profile:
    """Profile with nothing but the loader, twice; exact, and the network afterwards as before.

    Args:
        repeated: MACs of a layer on a still image beyond the first step, which are charged once.
    """
    model = rounded(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile = sa.profile(model, [images[:2], images[2:]])
    found = amounts(profile)
    assert profile.time_steps == time_steps and not profile.ledger.uncounted
    assert {name: value.shape for name, value in model.state_dict().items()} == {k: v.shape for k, v in before.items()}
    assert all(bool((model.state_dict()[name] == value).all()) for name, value in before.items())
    # Batches of one image, the network emptied in between; synapses inside neurons are not passed over.
    expected = brute_force.by_brute_force(model, images, None, lambda module: False, lambda weight: 1.0)
    assert found["sop"] == [sops for sops, _ in expected] and sum(found["sop"]) > 0
    assert found["mac"] == [macs - repeated for _, macs in expected]
    twice = amounts(sa.profile(model, [images, images]))
    assert twice["sop"] == found["sop"] * 2 and twice["mac"] == found["mac"] * 2
    return profile


@pytest.fixture(autouse=True)
def emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brute force resets as the table of neurons says; `test_foreign_neurons` tests that."""
    monkeypatch.setattr(brute_force, "reset_net", nodes.reset)


# ----------------------------------------------------------------------------------------------------------- snnTorch
STILL = 6 * 8 * (T - 1)  # MACs of the first layer on a still image, after the first step


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Leaky", {"beta": 0.5}),
        ("Leaky", {"beta": 0.5, "reset_mechanism": "zero"}),
        ("Synaptic", {"alpha": 0.5, "beta": 0.5}),
        ("Alpha", {"alpha": 0.9, "beta": 0.8, "threshold": 0.25}),
        ("Lapicque", {"beta": 0.5}),
    ],
)
def test_snntorch_step_by_step(name: str, options: dict, hidden: bool) -> None:
    snntorch = pytest.importorskip("snntorch")
    make = getattr(snntorch, name)
    model = Loop(lambda width: make(**options, init_hidden=hidden), None if hidden else 1)
    sums_of(model, pictures(3, 6), T, STILL)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("name", ["RLeaky", "RSynaptic"])
def test_snntorch_recurrent(name: str, hidden: bool) -> None:
    snntorch = pytest.importorskip("snntorch")
    options = {"beta": 0.5, "init_hidden": hidden} | ({"alpha": 0.5} if name == "RSynaptic" else {})
    model = Loop(lambda width: getattr(snntorch, name)(**options, linear_features=width), None if hidden else 0)
    profile = sums_of(model, pictures(3, 6), T, STILL)
    assert {s.name for s in profile.ledger.synapses} == {"fc1", "fc2", "lif1.recurrent", "lif2.recurrent"}


def test_snntorch_recurrent_convolution() -> None:
    snntorch = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.read = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3)
            self.lif = snntorch.RLeaky(beta=0.5, conv2d_channels=3, kernel_size=3, init_hidden=True)
            self.out = snntorch.Leaky(beta=0.5, init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.out(self.read(self.lif(self.conv(x)))) for _ in range(T)])

    sums_of(Net(), pictures(3, 2, 6, 6), T, 2 * 3 * 9 * 16 * (T - 1))


class Tutorial(nn.Module):
    """A Sequential whose neurons keep their state, as in snnTorch's tutorials; the last one hands it out as well."""

    def __init__(self, resets: bool) -> None:
        super().__init__()
        snntorch = pytest.importorskip("snntorch")

        def leaky(**options: bool) -> nn.Module:
            return snntorch.Leaky(beta=0.5, init_hidden=True, **options)

        first = (nn.Conv2d(1, 4, 3), leaky(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), leaky(), nn.Flatten())
        self.net, self.resets = nn.Sequential(*first, nn.Linear(16, 5), leaky(output=True)), resets

    def forward(self, x: Tensor) -> Tensor:
        if self.resets:
            pytest.importorskip("snntorch.utils").reset(self.net)
        frames = x.transpose(0, 1) if x.dim() == 5 else [x] * T
        return torch.stack([self.net(frame)[0] for frame in frames])


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("frames", [False, True])
def test_snntorch_sequential_with_hidden_states(resets: bool, frames: bool) -> None:
    images = pictures(3, 5, 1, 8, 8) if frames else pictures(3, 1, 8, 8)
    sums_of(Tutorial(resets), images * 2, 5 if frames else T, 0 if frames else 4 * 9 * 36 * (T - 1))


def test_snntorch_lstm_by_hand() -> None:
    snntorch = pytest.importorskip("snntorch")
    model = rounded(Loop(lambda width: snntorch.SLSTM(width, width, threshold=0.0625), 1))
    profile = sa.profile(model, [pictures(3, 6)])
    # The first layer and the gates on a still image once; gates on numbers and on the membrane potential at every step.
    by_hand = 6 * 8 + 8 * 32 + T * (8 * 32 + 5 * 20 + 5 * 20)
    assert amounts(profile)["mac"] == [by_hand] * 3 and not profile.ledger.uncounted


@pytest.mark.parametrize("options", [{}, {"max_pool": 2}, {"reset_mechanism": "zero"}])
def test_snntorch_convolutional_lstm_by_hand(options: dict) -> None:
    """One convolution over its input, spikes, and its membrane potential, numbers: exact by channel."""
    snntorch = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif = nn.Conv2d(2, 2, 3, padding=1), snntorch.Leaky(beta=0.5, init_hidden=True)
            self.lstm = snntorch.SConv2dLSTM(2, 3, 3, threshold=0.0625, init_hidden=True, **options)
            self.read, self.out = nn.Conv2d(3, 2, 3), snntorch.Leaky(beta=0.5, init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.out(self.read(self.lstm(self.lif(self.conv(x))))) for _ in range(T)])

    model, images = rounded(Net()), pictures(3, 2, 6, 6)
    additions = torch.zeros(3)
    received: list[tuple[Tensor, int]] = []
    model.lstm.conv.register_forward_pre_hook(lambda module, args: received.append((args[0][:, :2], 12)))
    model.read.register_forward_pre_hook(lambda module, args: received.append((args[0], 2)))
    with torch.no_grad():
        model(images)
    for spikes, out in received:
        padding = 1 if out == 12 else 0
        additions += nn.functional.conv2d(spikes, torch.ones(out, spikes.shape[1], 3, 3), padding=padding).sum(
            (1, 2, 3)
        )
    runs = T * (2 if options.get("reset_mechanism") == "zero" else 1)
    assert len(received) == runs + T
    found = sa.profile(model, [images])
    assert not found.ledger.uncounted and found.time_steps == T
    assert amounts(found)["sop"] == additions.int().tolist()
    assert amounts(found)["mac"] == [2 * 2 * 9 * 36 + runs * 3 * 12 * 9 * 36] * 3


def test_snntorch_parallel_by_hand() -> None:
    snntorch = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = snntorch.LeakyParallel(6, 8, beta=0.5)
            self.two = snntorch.LeakyParallel(8, 5, beta=0.5, weight_hh_enable=True, threshold=0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x.transpose(0, 1)))

    model, images = rounded(Net()), pictures(3, 7, 6) * 2
    with torch.no_grad():
        spikes = model.one(images.transpose(0, 1))
    found = sa.profile(model, [images[:2], images[2:]])
    assert not found.ledger.uncounted and found.time_steps == 7 and spikes.any()
    assert amounts(found)["sop"] == (5 * spikes.sum((0, 2))).int().tolist()
    # The recurrent weights are a whole matrix, on membrane potentials, at every step.
    assert amounts(found)["mac"] == [7 * (6 * 8 + 8 * 8 + 5 * 5)] * 3


@pytest.mark.parametrize("order", ["spikes first", "potential first"])
def test_spikes_and_potentials_side_by_side(order: str) -> None:
    """A layer behind both adds weights for the spikes and multiplies the potentials, each by its columns."""
    snntorch = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(6, 8), snntorch.Leaky(beta=0.5)
            self.fc2, self.lif2 = nn.Linear(16, 5), snntorch.Leaky(beta=0.5)

        def forward(self, x: Tensor) -> Tensor:
            mem1, mem2, out = self.lif1.init_leaky(), self.lif2.init_leaky(), []
            for _ in range(T):
                spikes, mem1 = self.lif1(self.fc1(x), mem1)
                pair = [spikes, mem1] if order == "spikes first" else [mem1, spikes]
                fired, mem2 = self.lif2(self.fc2(torch.cat(pair, 1)), mem2)
                out.append(spikes)
            return torch.stack(out)

    model, images = rounded(Net()), pictures(3, 6)
    with torch.no_grad():
        spikes = model(images)
    found = amounts(sa.profile(model, [images[:2], images[2:]]))
    assert spikes.any() and found["sop"] == (5 * spikes.sum((0, 2))).int().tolist()
    assert found["mac"] == [6 * 8 + T * 8 * 5] * 3


# -------------------------------------------------------------------------------------------------------------- norse
NORSE_WEIGHTS = {f"net.{layer}.{kind}_weights" for layer in (0, 1) for kind in ("input", "recurrent")}


class Steps(nn.Module):
    """A still image at each of 16 steps, the state handed on by hand."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for _ in range(16):
            y, state = self.net(x, state)
            out.append(y)
        return torch.stack(out)


def test_norse_sequential_state() -> None:
    norse = pytest.importorskip("norse.torch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            cells = (nn.Linear(6, 8), norse.LIFCell(), nn.Linear(8, 5), norse.LIFCell(), nn.Linear(5, 3))
            self.net = norse.SequentialState(*cells, norse.LICell())

        def forward(self, x: Tensor) -> Tensor:
            state, out = None, []
            for _ in range(16):
                y, state = self.net(x, state)
                out.append(y)
            return torch.stack(out).mean(0)

    sums_of(Net(), pictures(3, 6) * 4, 16, 6 * 8 * 15)


def test_norse_lift() -> None:
    norse = pytest.importorskip("norse.torch")
    lifted = (norse.Lift(nn.Linear(6, 8)), norse.LIF(), norse.Lift(nn.Linear(8, 5)), norse.LIF())
    sums_of(Frames(norse.SequentialState(*lifted), time_first=True), pictures(3, 16, 6) * 4, 16)


def test_norse_recurrent_cells() -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(norse.LIFRecurrentCell(6, 8), norse.LIFRecurrentCell(8, 5))
    profile = sums_of(Steps(net), pictures(3, 6) * 4, 16, 6 * 8 * 15)
    assert {s.name for s in profile.ledger.synapses} == NORSE_WEIGHTS


def test_norse_recurrent_over_time() -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(norse.LIFRecurrent(6, 8), norse.LIFRecurrent(8, 5))
    profile = sums_of(Frames(net, time_first=True), pictures(3, 16, 6) * 4, 16)
    assert {s.name for s in profile.ledger.synapses} == NORSE_WEIGHTS


@pytest.mark.parametrize("name", ["LSNN", "LIFEx", "IAF"])
def test_norse_over_time(name: str) -> None:
    norse = pytest.importorskip("norse.torch")
    make = getattr(norse, name)
    lifted = (norse.Lift(nn.Linear(6, 8)), make(), norse.Lift(nn.Linear(8, 5)), make())
    sums_of(Frames(norse.SequentialState(*lifted), time_first=True), pictures(3, 16, 6) * 4, 16)


@pytest.mark.parametrize("name", ["LSNNCell", "LIFExCell", "IAFCell", "LIFRefracCell", "LIFBoxCell"])
def test_norse_cells(name: str) -> None:
    norse = pytest.importorskip("norse.torch")
    make = getattr(norse, name)
    cells = norse.SequentialState(nn.Linear(6, 8), make(), nn.Linear(8, 5), make())
    sums_of(Steps(cells), pictures(3, 6) * 4, 16, 6 * 8 * 15)


class Repeated(nn.Module):
    """A still image at each of 16 steps: laid side by side, and then taken step by step."""

    def __init__(self, net: nn.Module, how: str) -> None:
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x: Tensor) -> Tensor:
        steps = x.expand(16, *x.shape) if self.how == "expand" else x.unsqueeze(0).repeat(16, 1, 1)
        if self.how == "written":
            steps[3] *= 0.5
        return self.net(steps)[0]


@pytest.mark.parametrize("how", ["expand", "repeat", "written"])
def test_norse_lift_on_a_still_image(how: str) -> None:
    """Lift runs its layer at every step; on a still image it is charged once, as in a loop or for all steps at once."""
    norse = pytest.importorskip("norse.torch")
    lifted = (norse.Lift(nn.Linear(6, 8)), norse.LIF(), norse.Lift(nn.Linear(8, 5)), norse.LIF())
    model = Repeated(norse.SequentialState(*lifted), how)
    sums_of(model, pictures(3, 6) * 4, 16, 0 if how == "written" else 6 * 8 * 15)


# What fires before the current of its step has reached it has spikes at its first step that wait for no input.
@pytest.mark.parametrize("name", ["LSNNRecurrent", "LIFExRecurrent", "LIFAdExRecurrent"])
def test_norse_recurrent_over_time_of_other_kinds(name: str) -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(getattr(norse, name)(6, 8), getattr(norse, name)(8, 5))
    profile = sums_of(Frames(net, time_first=True), pictures(3, 16, 6) * 4, 16)
    assert {s.name for s in profile.ledger.synapses} == NORSE_WEIGHTS


@pytest.mark.parametrize("name", ["LSNNRecurrentCell", "LIFExRecurrentCell", "LIFRefracRecurrentCell"])
def test_norse_recurrent_cells_of_other_kinds(name: str) -> None:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(getattr(norse, name)(6, 8), getattr(norse, name)(8, 5))
    profile = sums_of(Steps(net), pictures(3, 6) * 4, 16, 6 * 8 * 15)
    assert {s.name for s in profile.ledger.synapses} == NORSE_WEIGHTS


# ------------------------------------------------------------------------------------------------------------- sinabs
@pytest.mark.parametrize("name", ["LIF", "IAF", "ALIF"])
def test_sinabs_batch_first(name: str) -> None:
    layers = pytest.importorskip("sinabs.layers")
    options = {"LIF": {"tau_mem": 4.0}, "ALIF": {"tau_mem": 4.0, "tau_adapt": 4.0}, "IAF": {}}[name]
    make = getattr(layers, name)
    net = nn.Sequential(nn.Linear(6, 8), make(**options), nn.Linear(8, 5), make(**options), nn.Linear(5, 3))
    sums_of(Frames(net.append(layers.ExpLeak(tau_mem=4.0))), pictures(3, 7, 6) * 4, 7)


def test_sinabs_squeeze() -> None:
    layers = pytest.importorskip("sinabs.layers")
    conv = (nn.Conv2d(2, 3, 3), layers.IAFSqueeze(num_timesteps=5), nn.Conv2d(3, 4, 3))
    net = nn.Sequential(layers.FlattenTime(), *conv, layers.IAFSqueeze(num_timesteps=5), nn.Unflatten(0, (-1, 5)))
    sums_of(Frames(net), pictures(3, 5, 2, 8, 8), 5)


class Flattened(nn.Module):
    """[B, T, ...] as [B*T, ...], which is what sinabs's Squeeze layers take; the batch size is told at each call."""

    def __init__(self, net: nn.Module, told: bool) -> None:
        super().__init__()
        self.net, self.told = net, told

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net if self.told else ():
            if hasattr(layer, "batch_size"):
                layer.batch_size = len(x)
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("events", [False, True])
def test_sinabs_squeeze_with_sums_in_windows(told: bool, events: bool) -> None:
    layers = pytest.importorskip("sinabs.layers")
    options = {"batch_size": 2} if told else {"num_timesteps": 5}
    first = (nn.Conv2d(2, 4, 3), layers.IAFSqueeze(**options), layers.SumPool2d(2), nn.Conv2d(4, 4, 2))
    net = nn.Sequential(*first, layers.IAFSqueeze(**options), nn.Flatten(), nn.Linear(16, 5))
    images = pictures(3, 5, 2, 8, 8)
    images = images.clamp(0).round() if events else images
    sums_of(Flattened(net.append(layers.IAFSqueeze(**options)), told), images, 5)


def test_sinabs_many_spikes_in_a_step() -> None:
    """Its neurons emit as many spikes as the membrane holds thresholds: whole numbers, counted by value."""
    layers = pytest.importorskip("sinabs.layers")
    net = nn.Sequential(nn.Linear(6, 8), layers.IAF(), nn.Linear(8, 5), layers.IAF(), nn.Linear(5, 3))
    profile = sums_of(net, pictures(3, 7, 6) * 400, 7)
    assert profile.ledger.tensors[1].kind == "integer"


@pytest.mark.parametrize("deep", [False, True])
def test_sinabs_recurrent(deep: bool) -> None:
    layers = pytest.importorskip("sinabs.layers")

    def recurrent(width: int) -> nn.Module:
        connect = nn.Linear(width, width)
        return layers.IAFRecurrent(rec_connect=nn.Sequential(nn.Flatten(), connect) if deep else connect)

    net = nn.Sequential(nn.Linear(6, 8), recurrent(8), nn.Linear(8, 5), recurrent(5))
    profile = sums_of(Frames(net), pictures(3, 7, 6), 7)
    inner = "rec_connect.1" if deep else "rec_connect"
    assert {s.name for s in profile.ledger.synapses} == {"net.0", "net.2", f"net.1.{inner}", f"net.3.{inner}"}


# ------------------------------------------------------------------------------------------------------------ BrainCog
def braincog(kind: str, layer_by_layer: bool) -> nn.Module:
    """A network as in its model zoo: an encoder, modules of a convolution, a norm and a node, a mean over time."""
    node = getattr(pytest.importorskip("braincog.base.node.node"), kind)
    zoo = pytest.importorskip("braincog.model_zoo.base_module")
    options = {"step": T, "layer_by_layer": layer_by_layer}

    class Net(zoo.BaseModule):
        def __init__(self) -> None:
            super().__init__(encode_type="direct", **options)
            blocks = [zoo.BaseConvModule(2, 4, node=node, **options), nn.MaxPool2d(2)]
            self.feature = nn.Sequential(*blocks, zoo.BaseConvModule(4, 6, node=node, **options))
            self.fc = nn.Sequential(nn.Flatten(), nn.Linear(96, 8), node(**options), nn.Linear(8, 5))

        def forward(self, inputs: Tensor) -> Tensor:
            inputs = self.encoder(inputs)
            self.reset()
            if self.layer_by_layer:
                return self.fc(self.feature(inputs)).unflatten(0, (T, -1)).mean(0)
            return sum(self.fc(self.feature(inputs[step])) for step in range(self.step)) / self.step

    return Net()


@pytest.mark.parametrize("layer_by_layer", [False, True])
@pytest.mark.parametrize("kind", ["LIFNode", "PLIFNode", "IFNode"])
def test_braincog_on_images(kind: str, layer_by_layer: bool) -> None:
    sums_of(braincog(kind, layer_by_layer), pictures(3, 2, 8, 8), T, 2 * 4 * 9 * 64 * (T - 1))


@pytest.mark.parametrize("layer_by_layer", [False, True])
def test_braincog_on_events(layer_by_layer: bool) -> None:
    sums_of(braincog("LIFNode", layer_by_layer), pictures(3, T, 2, 8, 8).clamp(0).round(), T)


def test_braincog_node_by_node() -> None:
    node = pytest.importorskip("braincog.base.node.node")
    sums_of(Loop(lambda width: node.LIFNode(), None), pictures(3, 6) * 2, T, STILL)


# ------------------------------------------------------------------------------------------------- as it was before
class Broken(Exception):
    pass


def broken(model: nn.Module, images: Tensor) -> Tensor:
    model(images)
    raise Broken


def left_by(framework: str) -> tuple[nn.Module, Tensor]:
    """A network in which a pass has left membrane potentials, as training does, and images for it."""
    if framework == "snntorch":
        snntorch = pytest.importorskip("snntorch")
        model, images = Loop(lambda width: snntorch.RLeaky(0.5, linear_features=width, init_hidden=True), None), (3, 6)
    elif framework == "sinabs":
        layers = pytest.importorskip("sinabs.layers")
        model, images = Frames(nn.Sequential(nn.Linear(6, 8), layers.LIF(tau_mem=4.0), nn.Linear(8, 5))), (3, 7, 6)
    elif framework == "braincog":
        node = pytest.importorskip("braincog.base.node.node")
        model, images = Loop(lambda width: node.LIFNode(), None), (3, 6)
    else:
        neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
        model, images = Loop(lambda width: neuron.LIFNode(), None), (3, 6)
    model = rounded(model)
    with torch.no_grad():
        model(pictures(4, *images[1:], seed=1))
    return model, pictures(*images)


def kept_by(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor that a module keeps beside its parameters."""
    held = {}
    for path, module in model.named_modules():
        for place in (vars(module), module._buffers, vars(module).get("_memories", {})):
            held |= {f"{path}.{name}": value for name, value in place.items() if isinstance(value, Tensor)}
    return held


@pytest.mark.parametrize("framework", ["snntorch", "sinabs", "braincog", "spikingjelly"])
def test_what_neurons_hold_is_put_back(framework: str) -> None:
    model, images = left_by(framework)
    before = {name: (value, value.clone()) for name, value in kept_by(model).items()}
    assert any(len(value) == 4 and value.any() for value, _ in before.values() if value.dim())
    sa.profile(model, [images[:2], images[2:]])
    for _ in range(2):
        after = kept_by(model)
        assert after.keys() == before.keys()
        assert all(after[name] is value and torch.equal(value, numbers) for name, (value, numbers) in before.items())
        with pytest.raises((Broken, sa.SpikeattnError)):
            sa.profile(model, [images], forward=broken)
