"""`sa.spike_penalty`: the value is the SOPs of the same images, the gradient the additions of each spike."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import spikeattn as sa
from spikeattn.counting.tally import OtherPath, Tally
from spikeattn.errors import SpikeattnError
from tests.counting.networks import foreign, tiny_sdt
from tests.models.sdt_oracle import exact_input


class Additions(TorchFunctionMode):
    """SOPs as an expression of torch: every layer and product again with |spikes| and weights of one."""

    def __init__(self) -> None:
        super().__init__()
        self.sops = 0.0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunction():
            if getattr(func, "__name__", "") in ("conv1d", "conv2d", "conv_transpose2d", "linear"):
                x, w = args[0], torch.ones_like(args[1])
                if whole(x):
                    self.sops += func(size(x), w, None, *args[3:], **drop(kwargs)).double().sum()
            elif func in (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul):
                if whole(args[0]) and whole(args[1]):
                    self.sops += (size(args[0]) @ size(args[1])).double().sum()
        return out


def whole(x: Tensor) -> bool:
    return bool((x == x.round()).all())


def size(x: Tensor) -> Tensor:
    return x.abs() if bool((x < 0).any()) else x  # a silent element of spikes of one sign has slope 1


def drop(kwargs) -> dict:
    return {key: value for key, value in (kwargs or {}).items() if key not in ("bias", "weight", "input")}


class Rounded(torch.autograd.Function):
    """Integer spikes with a straight-through gradient."""

    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward((x > low - 0.5) & (x < high + 0.5))
        return x.round().clamp(low, high)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None, None


class Levels(neuron.BaseNode):
    """Integer spikes of both signs or of one."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__(step_mode="m")
        self.range = low, high

    def single_step_functional_forward(self, inputs, states, **kwargs):
        return (Rounded.apply(inputs[0], *self.range),), states


def lif(mode: str = "m") -> nn.Module:
    return neuron.LIFNode(step_mode=mode, surrogate_function=surrogate.ATan(), v_threshold=0.4)


class Net(nn.Module):
    """Stem, neuron, `middle`, neuron, head over T steps; `own` replaces the first neuron."""

    def __init__(self, middle: nn.Module | None = None, T: int = 3, own: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.T, self.stem, self.lif, self.lif2 = T, nn.Conv2d(1, 4, 3, padding=1), own or lif(), lif()
        self.middle = middle or nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.head = nn.LazyLinear(5)
        self.head(self.features(torch.zeros(1, 1, 8, 8)).flatten(2))
        functional.reset_net(self)

    def features(self, x: Tensor) -> Tensor:
        a = self.lif(self.stem(x).expand(self.T, *([-1] * 4)) * 3)
        return self.lif2(self.middle(a.flatten(0, 1)).unflatten(0, (self.T, -1)) * 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(2)).mean(0)


class Attention(nn.Module):
    """q k^T v of spikes: (q k^T) v or q (k^T v), then a layer; one step after another or all at once."""

    def __init__(self, T: int = 2) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.T = T
        self.embed, self.q, self.k = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.lif, self.q_lif, self.k_lif = lif(), lif(), lif()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:  # [B, N, 6]
        a = self.lif(self.embed(x).expand(self.T, -1, -1, -1) * 4)
        q, k = self.q_lif(self.q(a) * 3), self.k_lif(self.k(a) * 3)
        return self.head((q @ k.transpose(-1, -2)) * 0.3).mean((0, 2))


class Looped(nn.Module):
    """Single-step neurons in a loop over time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.fc, self.lif, self.fc2, self.lif2, self.head = (
            nn.Linear(6, 9), lif("s"), nn.Linear(9, 7), lif("s"), nn.Linear(7, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return sum(self.head(self.lif2(self.fc2(self.lif(self.fc(x) * 3)) * 3)) for _ in range(4)) / 4


class Inside(nn.Module):
    """Weights without a module, and a residual sum that changes spikes in place after they were read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.fc, self.lif, self.lif2, self.weight = nn.Linear(6, 8), lif(), lif(), nn.Parameter(torch.randn(8, 8))
        self.conv, self.last = nn.Parameter(torch.randn(3, 8, 3)), nn.Parameter(torch.randn(3, 3))
        self.sum = nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        a = self.lif(self.fc(x).expand(2, -1, -1, -1) * 4)  # [T, B, N, 8]
        b = self.lif2(F.linear(a, self.weight) * 2)
        c = b * 1.0
        c += a
        kept = F.max_pool1d(b.flatten(0, 1).transpose(1, 2), 2).unflatten(0, (2, -1))
        out = F.conv1d(kept.flatten(0, 1), self.conv, padding=1).unflatten(0, (2, -1))
        out = (
            out + F.linear(F.max_pool1d(a.flatten(0, 1).transpose(1, 2), 2), self.last).unflatten(0, (2, -1))[:, :, :3]
        )
        return out.mean((0, 3)) + F.linear(c, self.sum).mean((0, 2))


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


CASES = {
    "stride and padding": (lambda: Net(), (3, 1, 8, 8)),
    "groups": (lambda: Net(nn.Conv2d(4, 6, 3, padding=2, groups=2)), (3, 1, 8, 8)),
    "dilation": (lambda: Net(nn.Conv2d(4, 6, 3, padding=1, dilation=2)), (2, 1, 8, 8)),
    "transposed": (lambda: Net(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)), (2, 1, 8, 8)),
    "one step": (lambda: Net(T=1), (3, 1, 8, 8)),
    "six steps": (lambda: Net(T=6), (2, 1, 8, 8)),
    "integers": (lambda: Net(own=Levels(0, 4)), (3, 1, 8, 8)),
    "signs": (lambda: Net(own=Levels(-1, 1)), (3, 1, 8, 8)),
    "pairs": (lambda: Attention(), (3, 5, 6)),
    "pairs, one step": (lambda: Attention(1), (3, 5, 6)),
    "a loop over time": (lambda: Looped(), (4, 6)),
    "functions": (lambda: Inside(), (3, 6, 6)),
}


def centred(net: nn.Module, shape: tuple[int, ...]) -> Tensor:
    return images(*shape) * 4 - 2 if isinstance(getattr(net, "lif", None), Levels) else images(*shape)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_written_out_expression(name: str, training: bool) -> None:
    make, shape = CASES[name]
    net = make().train(training)
    x = centred(net, shape)
    parameters = list(net.parameters())
    with Additions() as expected:
        net(x)
    assert expected.sops > 0
    wanted = torch.autograd.grad(expected.sops, parameters, allow_unused=True)
    functional.reset_net(net)
    with sa.record(net, time_steps=getattr(net, "T", None)) as rec:
        net(x)
        penalty = sa.spike_penalty(rec, reduction="none")
        found = torch.autograd.grad(penalty.sum(), parameters, allow_unused=True)
        with torch.no_grad():
            plain = sa.spike_penalty(rec, reduction="none")
    kind = rec.profile().ledger.tensors[1].kind
    assert kind == {"integers": "integer", "signs": "ternary"}.get(name, "binary")
    sops = rec.profile().operations(per_image=True).groupby("image")["sops"].sum().tolist()
    assert penalty.tolist() == plain.tolist() == sops and sum(sops) == expected.sops
    assert sum(g is not None and bool(g.abs().sum() > 0) for g in found) >= 2
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_the_gradient_of_a_spike_is_its_fan_out_at_every_position() -> None:
    """Also of a silent one; a 3x3 convolution of stride 2 on 5x5, padded, with 4 channels of which a group has 2."""
    net = nn.Sequential(nn.Conv2d(1, 4, 1), neuron.IFNode(), nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2))
    seen: list[Tensor] = []
    with sa.record(net, time_steps=1) as rec:
        net[1].register_forward_hook(lambda module, args, out: seen.append(out))
        net(images(2, 1, 5, 5) * 3)
        (slope,) = torch.autograd.grad(sa.spike_penalty(rec, reduction="sum"), seen[-1])
    taps = torch.tensor([1, 2, 1, 2, 1])  # kernel rows that meet a row: windows of stride 2 overlap in odd ones
    assert torch.equal(slope, (2 * torch.outer(taps, taps)).float().expand(2, 4, 5, 5))
    assert 0 < seen[-1].sum() < seen[-1].numel()


def test_a_spike_of_a_product_has_the_spikes_that_it_meets_as_gradient() -> None:
    net = Attention()
    seen: dict[str, Tensor] = {}
    with sa.record(net) as rec:
        for name in ("q_lif", "k_lif"):
            getattr(net, name).register_forward_hook(lambda m, a, out, name=name: seen.__setitem__(name, out))
        net(images(3, 5, 6))
        by_layer = sa.spike_penalty(rec, by="layer", reduction="sum")
        (product,) = (name for name in by_layer if "bmm" in name)
        slopes = torch.autograd.grad(by_layer[product], [seen["q_lif"], seen["k_lif"]])
    q, k = seen["q_lif"].detach(), seen["k_lif"].detach()
    assert torch.equal(slopes[0], k.sum(-2, keepdim=True).expand_as(q)) and slopes[0].sum() > 0
    assert torch.equal(slopes[1], q.sum(-2, keepdim=True).expand_as(k)) and slopes[1].sum() > 0


@pytest.mark.parametrize("name", ["sdt", "spikformer", "sew-ADD-m", "tiny"])
def test_whole_networks_in_training_mode(name: str) -> None:
    model, call = (tiny_sdt(), lambda m, x: m(x)) if name == "tiny" else foreign(name)
    model.train()
    x = exact_input(3, 3, 16, 16) if name == "tiny" else exact_input(3, 3, 32, 32)
    if name.startswith("sew"):
        model, x = foreign(name)[0].train(), x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        call = lambda m, x: m(x)  # noqa: E731
    with sa.record(model) as rec:
        call(model, x)
        penalty = sa.spike_penalty(rec, reduction="none")
        share = sa.spike_penalty(rec, relative=True)
        by_layer = sa.spike_penalty(rec, by="layer")
    operations = rec.profile().operations()
    assert penalty.tolist() == rec.profile().operations(per_image=True).groupby("image")["sops"].sum().tolist()
    assert penalty.dtype == torch.float64 and penalty.sum() > 0 and 0 < share < 1
    counted = operations.set_index("synapse")["sops"] / len(penalty)
    assert by_layer and all(float(sops) == pytest.approx(counted[name], abs=1e-9) for name, sops in by_layer.items())
    penalty.mean().backward()
    assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters()) > 20


def test_the_usual_loop_lowers_the_sops_and_holds_one_graph() -> None:
    """Batch norms, dropout and an optimiser; the graph of a step is gone when the next pass begins."""
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(1, 8, 3, padding=1), layer.BatchNorm2d(8), lif(), layer.Dropout(0.3),
        layer.Conv2d(8, 8, 3, padding=1), layer.BatchNorm2d(8), lif(), layer.Flatten(), layer.Linear(8 * 64, 10),
    ).train()  # fmt: skip
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x, y = images(16, 1, 8, 8), torch.arange(16) % 10
    values, graphs, held = [], [], []
    net[1].register_forward_hook(lambda *_: held.append(sum(graph() is not None for graph in graphs)))
    with sa.record(net) as rec:
        for _ in range(12):
            loss = F.cross_entropy(net(x.expand(4, *([-1] * 4))).mean(0), y)
            penalty = sa.spike_penalty(rec, relative=True)
            graphs.append(weakref.ref(rec._last))
            optimizer.zero_grad()
            (loss + 5 * penalty).backward()
            optimizer.step()
            functional.reset_net(net)
            values.append(float(penalty))
            del loss, penalty
            gc.collect()
        assert len(held) > 12 and not any(held)
        rec.reset()
        assert graphs[-1]() is None
    assert values[-1] < 0.8 * values[0] and rec._last is None


def test_options() -> None:
    net, x = Net(), images(3, 1, 8, 8)
    with sa.record(net) as rec:
        net(x)
        each = sa.spike_penalty(rec, reduction="none")
        assert sa.spike_penalty(rec) == each.mean() and sa.spike_penalty(rec, reduction="sum") == each.sum()
        operations = rec.profile().operations()
        spiking = operations[operations["sops"] > 0]
        dense = int(spiking["dense_macs"].sum()) * 3
        assert float(sa.spike_penalty(rec, relative=True)) == pytest.approx(float(each.mean()) / dense, rel=1e-12)
        shares = sa.spike_penalty(rec, by="layer", relative=True)
        assert list(shares) == spiking["synapse"].tolist()
        of_one, middle = sa.spike_penalty(rec, by="layer"), spiking.set_index("synapse").loc["middle", "dense_macs"]
        assert float(shares["middle"]) == pytest.approx(float(of_one["middle"]) / (3 * middle))
        wrongs = (({"reduction": "max"}, "reduction"), ({"by": "block"}, "layer"), ({"relative": "x"}, "True or False"))
        for wrong, match in wrongs:
            with pytest.raises(SpikeattnError, match=match):
                sa.spike_penalty(rec, **wrong)


def test_a_metric_of_the_same_network_takes_the_penalty_too() -> None:
    net, x = Net(), images(3, 1, 8, 8)
    rate = sa.FiringRate(net)
    with rate:
        net(x)
        penalty = sa.spike_penalty(rate)
        penalty.backward()
    functional.reset_net(net)
    with sa.record(net) as rec:
        net(x)
        assert sa.spike_penalty(rec) == penalty
    assert net.stem.weight.grad.abs().sum() > 0
    with pytest.raises(SpikeattnError, match="closed"):
        sa.spike_penalty(rate)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradient_or_says_why_not(reentrant: bool) -> None:
    class Checkpointed(Net):
        def forward(self, x: Tensor) -> Tensor:
            a = self.lif(self.stem(x).expand(self.T, *([-1] * 4)) * 3)

            def rest(a: Tensor) -> Tensor:
                b = self.middle(a.flatten(0, 1)).unflatten(0, (self.T, -1)) * 2
                return self.head(self.lif2(b).flatten(2)).mean(0)

            if not checkpointed:
                return rest(a)
            return checkpoint(rest, a, use_reentrant=reentrant)

    net, x, gradients = Checkpointed(own=Levels(0, 4)), images(3, 1, 8, 8) * 8 - 4, []
    net.lif2 = Levels(0, 4)
    for checkpointed in (False, True):
        functional.reset_net(net)
        with sa.record(net) as rec:
            out = net(x)
            if checkpointed and reentrant:
                with pytest.raises(SpikeattnError, match=r"lif2 were made .*use_reentrant=False"):
                    sa.spike_penalty(rec)
                return
            functional.reset_net(net)  # the second run of the layer begins from the same state
            net.zero_grad()
            (out.square().sum() + sa.spike_penalty(rec)).backward()
            gradients.append([p.grad.clone() for p in net.parameters()])
        assert rec.profile().ledger.tensor("lif2").kind == "integer"
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other) and one.abs().sum() > 0


def test_mixed_precision() -> None:
    net, x = Net(), images(3, 1, 8, 8)
    slopes = []
    for enabled in (False, True):
        functional.reset_net(net)
        net.zero_grad()
        with sa.record(net) as rec, torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            net(x)
            penalty = sa.spike_penalty(rec, reduction="none")
            penalty.mean().backward()
        assert penalty.tolist() == rec.profile().operations(per_image=True).groupby("image")["sops"].sum().tolist()
        slopes.append(net.stem.weight.grad.flatten())
    assert F.cosine_similarity(*slopes, dim=0) > 0.9  # spikes themselves differ in bfloat16


def test_a_compiled_network_is_counted_and_trained() -> None:
    net, x = Net(), images(3, 1, 8, 8)
    compiled = torch.compile(copy.deepcopy(net), backend="eager")
    gradients = []
    for each in (net, compiled):
        functional.reset_net(each)
        with sa.record(each) as rec:
            each(x)
            sa.spike_penalty(rec).backward()
        gradients.append([p.grad for p in each.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.equal(one, other))


class Hard(neuron.BaseNode):
    """A spike function without a surrogate."""

    def single_step_functional_forward(self, inputs, states, **kwargs):
        return ((inputs[0] > 0.5).to(inputs[0]),), states


def test_what_gradients_cannot_go_through_is_one_clear_error() -> None:
    x = images(3, 1, 8, 8)
    with pytest.raises(SpikeattnError, match="record is a Net"):
        sa.spike_penalty(Net())
    with sa.record(Net()) as rec:
        with pytest.raises(SpikeattnError, match="Net has run no forward pass"):
            sa.spike_penalty(rec)
        with torch.no_grad():
            rec.model(x)
            assert sa.spike_penalty(rec) > 0
        with pytest.raises(SpikeattnError, match="ran without gradients"):
            sa.spike_penalty(rec)
        functional.reset_net(rec.model)
        rec.reset()
        with pytest.raises(SpikeattnError, match="since its reset"):
            sa.spike_penalty(rec)
    with pytest.raises(SpikeattnError, match="recording is closed.*inside the block"):
        sa.spike_penalty(rec)
    with sa.record(Net(own=Hard(step_mode="m"))) as rec:
        rec.model(x)
        with pytest.raises(SpikeattnError, match="spikes of lif: .* surrogate"):
            sa.spike_penalty(rec)
    with sa.record(Net().requires_grad_(False)) as rec:
        rec.model(x)
        with pytest.raises(SpikeattnError, match="no spike that Net adds for depends on a parameter"):
            sa.spike_penalty(rec)
    silent = nn.Sequential(nn.Linear(6, 4), neuron.IFNode())
    with sa.record(silent, time_steps=1) as rec:
        silent(images(3, 6))
        with pytest.raises(SpikeattnError, match="no layer of Sequential receives spikes"):
            sa.spike_penalty(rec)


def test_frozen_layers_stay_and_silence_still_has_a_gradient() -> None:
    net, x = Net(), images(3, 1, 8, 8)
    net.stem.requires_grad_(False)
    with sa.record(net) as rec:
        net(x)
        sa.spike_penalty(rec).backward()
        assert net.stem.weight.grad is None and net.middle.weight.grad.abs().sum() > 0
    functional.reset_net(net)
    net.stem.requires_grad_(True)
    with sa.record(net) as rec:
        net(x * 0)
        penalty = sa.spike_penalty(rec)
        penalty.backward()
        assert net.stem.bias.grad.abs().sum() > 0


def test_a_spike_whose_size_is_trained_is_no_spike_of_that_size() -> None:
    net, x = Net(own=Levels(0, 2)), images(3, 1, 8, 8) * 4 - 2
    scale = 1.0
    net.lif.register_forward_hook(lambda module, args, out: out * scale)
    with sa.record(net) as rec:
        net(x)
        assert sa.spike_penalty(rec) > 0
        functional.reset_net(net)
        scale = 0.9
        net(x)
        with pytest.raises(SpikeattnError, match="lif holds values that are no whole multiples of 1, .* new recording"):
            sa.spike_penalty(rec)


def test_a_single_image_that_takes_another_path(monkeypatch) -> None:
    check = Tally._check_path

    def other_path(tally: Tally) -> None:
        if tally.batch == 1:
            raise OtherPath("other operations")
        check(tally)

    monkeypatch.setattr(Tally, "_check_path", other_path)
    net, x = Looped().eval(), images(4, 6)
    with sa.record(net) as rec:
        net(x[:3])
        sa.spike_penalty(rec).backward()
        functional.reset_net(net)
        net(x[3:])
        with pytest.raises(SpikeattnError, match="had one image.*drop_last"):
            sa.spike_penalty(rec)
        with torch.no_grad():
            last = sa.spike_penalty(rec, reduction="none")
    assert last.tolist() == rec.profile().operations(per_image=True).groupby("image")["sops"].sum().tolist()[3:]
