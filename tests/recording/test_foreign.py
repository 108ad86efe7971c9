"""Networks that spikeattn does not know, against brute force: attention, convolutions, loops over time, axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import maxformer, ms_resnet, parametric_lif_net, qkformer, sew_resnet
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.models.calibrate import calibrate_batch_norm
from tests.recording.brute_force import amounts, assert_exact, exact, pictures
from tests.recording.networks import loop_over_time, repeat_input

IF, LIF = neuron.IFNode, neuron.LIFNode


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def steps(x: Tensor, T: int = 4) -> Tensor:
    return x.unsqueeze(0).repeat(T, *[1] * x.dim())


# -------------------------------------------------------------------------------- SpikingJelly's own models and layers
@pytest.mark.parametrize("name", ["qkformer-token", "qkformer-channel", "maxformer", "ms_resnet", "plif-m", "plif-s"])
def test_spikingjellys_models_equal_its_counter(name: str) -> None:
    torch.manual_seed(0)
    kind, _, option = name.partition("-")
    call = None
    if kind == "qkformer":
        model = qkformer.QKFormer(4, 3, 10, 32, (1, 2, 4), (1, 1, 1), 4.0, option)
    elif kind == "maxformer":
        model = maxformer.MaxFormer(4, 3, 10, 32, (1, 1, 1))
    elif kind == "ms_resnet":
        model = ms_resnet.ms_resnet18(T=2, num_classes=10)
    else:
        model = parametric_lif_net.CIFAR10Net(8, neuron.ParametricLIFNode)
        functional.set_step_mode(model, option)
        call = repeat_input if option == "m" else loop_over_time
    images = pictures(3, 3, 32, 32)
    calibrate_batch_norm(model.eval(), images if call is not repeat_input else steps(images))
    call = call or (lambda model, images: model(images))
    profile = sa.profile(model, [images], forward=call)
    counter = SynOpCounter()
    functional.reset_net(model)
    with torch.no_grad(), DispatchCounterMode([counter]):
        call(model, images)
    functional.reset_net(model)
    table, kinds = profile.operations().dropna(subset="sops"), {t.name: t.kind for t in profile.ledger.tensors}
    seen = table["input_tensor"].map(lambda names: "," in names or kinds[names] == "binary")  # all that it can count
    assert table.loc[seen, "sops"].sum() == counter.get_total() > 0


@pytest.mark.parametrize("make", [layer.SpikeDrivenSelfAttention, layer.SpikingSelfAttention, layer.TokenQKAttention])
def test_an_attention_layer_alone(make) -> None:
    torch.manual_seed(0)
    model = make(8, 2).eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.running_var.fill_(0.05)
        norm.bias.data.fill_(0.3)
    driven = make is layer.SpikeDrivenSelfAttention
    frames = torch.randn(3, 4, 8, 4, 4) * 3 if driven else (torch.rand(3, 4, 8, 16) < 0.4).float()
    profile = assert_exact(model, frames, lambda model, frames: model(frames.transpose(0, 1)))
    ops = {p.name: p.op for p in profile.ledger.products}
    assert list(ops.values()) == {
        "SpikeDrivenSelfAttention": ["mask", "token_sum", "mask"], "SpikingSelfAttention": ["matmul", "matmul"],
        "TokenQKAttention": ["token_sum", "mask"],
    }[make.__name__]  # fmt: skip


# --------------------------------------------------------------------------------------------- functional attention
class Attention(nn.Module):
    """Tokens [B, 6, 5] -> logits, with the products of attention written in one of the usual ways."""

    def __init__(self, how: str, mode: str = "m", node: type = IF) -> None:
        super().__init__()
        self.how, self.mode = how, mode
        self.q, self.k, self.v = (nn.Linear(5, 8) for _ in range(3))
        self.q_lif, self.k_lif, self.v_lif = (node(step_mode=mode) for _ in range(3))
        self.attn_lif, self.proj = IF(step_mode=mode), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "m":
            return self.step(steps(x)).mean(0)
        return sum(self.step(x) for _ in range(4))

    def step(self, x: Tensor) -> Tensor:  # [T, B, N, 5], or [B, N, 5] at one step
        q, k, v = (lif(fc(x)) for lif, fc in ((self.q_lif, self.q), (self.k_lif, self.k), (self.v_lif, self.v)))
        return self.proj(self.attn_lif(getattr(self, self.how)(q, k, v))).mean(-2)

    @staticmethod
    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 4)).transpose(-3, -2)

    def ssa(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = map(self.heads, (q, k, v))
        return ((q @ k.transpose(-2, -1)) * 0.125 @ v).transpose(-3, -2).flatten(-2)

    def linear(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = map(self.heads, (q, k, v))
        return (q @ (k.transpose(-2, -1) @ v)).transpose(-3, -2).flatten(-2)

    def einsum(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (2, 4)) for x in (q, k, v))
        return torch.einsum("...hnm,...mhd->...nhd", torch.einsum("...nhd,...mhd->...hnm", q, k), v).flatten(-2)

    def merged(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[T*B*heads, N, d]."""
        q, k, v = (self.heads(x).flatten(0, -3) for x in (q, k, v))
        out = torch.bmm(torch.bmm(q, k.transpose(1, 2)), v)
        return out.unflatten(0, (*self.lead, 2)).transpose(-3, -2).flatten(-2)

    def heads_first(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[heads*T*B, N, d]: the images are the fastest part of the merged axis."""
        q, k, v = (self.heads(x).movedim(-3, 0).flatten(0, -3) for x in (q, k, v))
        out = torch.bmm(torch.bmm(q, k.transpose(1, 2)), v)
        return out.unflatten(0, (2, *self.lead)).movedim(0, -2).flatten(-2)

    @property
    def lead(self) -> tuple[int, ...]:
        return (4, -1) if self.mode == "m" else (-1,)


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("how", ["ssa", "linear", "einsum", "merged", "heads_first"])
def test_matrix_products_of_spikes(how: str, mode: str) -> None:
    model = exact(Attention(how, mode), seed=3)
    profile = assert_exact(model, pictures(3, 6, 5, seed=1) * 2, macs_once=3 * 3 * 6 * 5 * 8)
    assert [p.op for p in profile.ledger.products] == ["matmul", "matmul"] and not profile.ledger.uncounted
    if (how, mode) != ("heads_first", "m"):  # time and heads cannot be told apart there: counted once, not per step
        assert all(p.every_step for p in profile.ledger.products)
        assert [p.operands[0] for p in profile.ledger.products][0] in ("q_lif", "k_lif")


@pytest.mark.parametrize("node", [neuron.ILIFNode, neuron.TernaryLIFNode])
def test_integer_and_ternary_spikes_count_by_value_in_products(node: type) -> None:
    model = exact(Attention("ssa", "m", node), seed=1)
    profile = assert_exact(model, pictures(3, 6, 5, seed=1) * 2, macs_once=3 * 3 * 6 * 5 * 8)
    kind = "integer" if node is neuron.ILIFNode else "ternary"
    assert {profile.ledger.tensor(name).kind for name in ("q_lif", "k_lif", "v_lif")} == {kind}


# ------------------------------------------------------------------------------------------------------ convolutions
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2, "padding": 2, "dilation": 2, "groups": 2},
        {"groups": 4, "out_channels": 4},
        {"padding": "same", "dilation": 2},
        {"padding": 1, "padding_mode": "circular"},
        {"kernel_size": 1, "stride": 3},
        {"transposed": True, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
    ],
    ids=["padded", "grouped", "depthwise", "same", "circular", "skipping", "transposed"],
)
def test_every_kind_of_convolution(dims: int, options: dict) -> None:
    options = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "step_mode": "m"} | options
    name = f"Conv{'Transpose' * options.pop('transposed', False)}{dims}d"
    model = nn.Sequential(
        getattr(layer, f"Conv{dims}d")(3, 4, 1, step_mode="m"), IF(step_mode="m"), getattr(layer, name)(**options)
    )
    images = pictures(3, 3, *(5,) * dims)
    assert_exact(exact(model), images, lambda model, x: model(steps(x)).mean(0), macs_once=3 * 12 * 5**dims)


# --------------------------------------------------------------------------------------------- loops over time steps
class Loop(nn.Module):
    """Single-step neurons; the loop and all operations in the model itself. `tail` is what becomes of the spikes."""

    def __init__(self, tail: str) -> None:
        super().__init__()
        self.tail = tail
        self.stem, self.w1 = nn.Conv2d(3, 3, 1), nn.Parameter(torch.zeros(6, 3, 3, 3))
        self.w2 = nn.Parameter(torch.zeros(5, 6 * 16))
        self.lif1, self.lif2, self.head = IF(), IF(), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # once, before the loop
        seen, total, buffer = [], torch.zeros(len(x), 5), torch.zeros(4, len(x), 5)
        for t in range(4):
            spikes = self.lif1(F.conv2d(x, self.w1, stride=2, padding=1))
            spikes = self.lif2(F.linear(spikes.flatten(1), self.w2))
            seen.append(spikes)
            total += spikes
            buffer[t] = spikes
        return {
            "mean": lambda: self.head(torch.stack(seen).mean(0)),
            "stack": lambda: self.head(torch.stack(seen)).mean(0),
            "last": lambda: self.head(seen[-1]),
            "sum": lambda: self.head(total),
            "buffer": lambda: self.head(buffer).sum(0),
            "each": lambda: sum(self.head(spikes) for spikes in seen),
        }[self.tail]()


@pytest.mark.parametrize("tail", ["mean", "stack", "last", "sum", "buffer", "each"])
def test_a_loop_over_time_inside_forward(tail: str) -> None:
    """The stem and a head behind the loop run once per image; what is inside runs at every step."""
    model = exact(Loop(tail), seed=1)
    profile = assert_exact(model, pictures(3, 3, 8, 8), macs_once=3 * 16 * 6 * 27)
    assert profile.time_steps == 4
    every = {s.name: s.every_step for s in profile.ledger.synapses}
    assert every.pop("stem") is False and every.pop("head") is (tail in ("stack", "buffer", "each"))
    assert list(every.values()) == [True, True]
    spikes: list[Tensor] = []
    handle = model.lif1.register_forward_hook(lambda m, a, out: spikes.append(out.flatten(1).sum(1)))
    with torch.no_grad():
        model(pictures(3, 3, 8, 8))
    handle.remove()
    assert np.array_equal(profile.counts.column("nnz", "lif1"), torch.stack(spikes, 1).numpy())


class Recurrent(nn.Module):
    """The spikes of the last step come back: they are not those of the step that receives them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back, self.lif, self.head = nn.Linear(6, 8), nn.Linear(8, 8), IF(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        spikes, out = torch.zeros(len(x), 8), 0
        for _ in range(4):
            spikes = self.lif(self.fc(x) + self.back(spikes))
            out = out + self.head(spikes)
        return out


def test_recurrent_layers_receive_the_spikes_of_the_step_before() -> None:
    profile = assert_exact(exact(Recurrent()), pictures(3, 6), macs_once=3 * 48)
    received, given = (profile.counts.column("nnz", name) for name in ("back:in", "lif"))
    assert np.array_equal(received[:, 1:], given[:, :-1]) and not received[:, 0].any()
    containers = nn.Sequential(
        layer.Linear(6, 8, step_mode="m"), layer.LinearRecurrentContainer(IF(), 8, 8, step_mode="m"),
        layer.Linear(8, 3, step_mode="m"),
    )  # fmt: skip
    assert_exact(exact(containers), pictures(3, 6), lambda model, x: model(steps(x)).mean(0), macs_once=3 * 48)


@pytest.mark.parametrize("mode", ["m", "s"])
def test_modules_called_several_times_per_step(mode: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif, self.head = nn.Linear(6, 6), IF(step_mode=mode), nn.Linear(6, 3)

        def step(self, x: Tensor) -> Tensor:
            for _ in range(3):  # the same weights and the same neuron, three times
                x = self.lif(self.fc(x) * 2)
            return self.head(x)

        def forward(self, x: Tensor) -> Tensor:
            return self.step(steps(x)).mean(0) if mode == "m" else sum(self.step(x) for _ in range(4))

    model = exact(Twice(), seed=5)
    if mode == "m":  # one neuron keeps its potential from call to call, also here
        profile = assert_exact(model, pictures(3, 6), macs_once=3 * 36)
    else:
        profile = assert_exact(model, pictures(3, 6), macs_once=3 * 36, time_steps=4)
        with pytest.raises(sa.SpikeattnError, match="neuron lif sees 12 time steps where 5 are expected"):
            sa.profile(model, [pictures(2, 6)], time_steps=5)
    assert [(s.name, s.input) for s in profile.ledger.synapses] == [
        ("fc", "input"), ("fc@2", "lif"), ("fc@3", "lif@2"), ("head", "lif@3"),
    ]  # fmt: skip


def test_calls_that_are_no_multiple_of_the_time_steps_are_an_error() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.extra, self.lif = nn.Linear(6, 6), nn.Linear(6, 6), IF()

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.lif(self.fc(x))
            for _ in range(3):
                spikes = self.lif(self.fc(x) + self.extra(spikes))
            return spikes

    with pytest.raises(sa.SpikeattnError, match="module extra is called 3 times in one forward pass of 4 time steps"):
        sa.profile(exact(Skips()), [pictures(2, 6)])


# -------------------------------------------------------------------------------------------------------------- axes
class BatchFirst(LIF):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1).contiguous()).transpose(0, 1)


@pytest.mark.parametrize("frames", [False, True])
def test_tensors_with_the_batch_first(frames: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.conv2, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3, stride=2), nn.Linear(8, 3)
            self.lif, self.lif2 = BatchFirst(step_mode="m"), BatchFirst(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            x = x if frames else x.unsqueeze(1).expand(-1, 4, -1, -1, -1)  # [B, T, C, H, W]
            x = self.lif(self.conv(x.flatten(0, 1)).unflatten(0, (len(x), 4)) * 4)
            x = self.lif2(self.conv2(x.flatten(0, 1)).unflatten(0, (len(x), 4)) * 4)
            return self.head(x.amax((3, 4))).mean(1)

    images = pictures(3, 4, 3, 8, 8) if frames else pictures(3, 3, 8, 8)
    model, once = exact(Net()), 0 if frames else 3 * 36 * 4 * 27
    profile = assert_exact(model, images, layout="BT", macs_once=once)
    assert profile.ledger.static_input is not frames and profile.ledger.tensor("input").shape == (3, 8, 8)
    with pytest.raises(sa.SpikeattnError, match="neuron lif.* grows with the batch.*try layout='BT'"):
        sa.profile(model, [images])


@pytest.mark.parametrize("form", ["[B, T, C]", "[B, T, C] looped", "[B, T*C]", "[T, B, C]"])
@pytest.mark.parametrize("events", [False, True])
def test_input_that_varies_over_time(form: str, events: bool) -> None:
    """Real frames are multiplied at every step, events added at every step, whatever the form of the input."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
            self.lif = IF(step_mode="s" if form.endswith("looped") else "m")

        def forward(self, x: Tensor) -> Tensor:
            if form.endswith("looped"):
                return sum(self.head(self.lif(self.fc(x[:, t]))) for t in range(4))
            x = x.unflatten(1, (4, 5)) if form == "[B, T*C]" else x
            return self.head(self.lif(self.fc(x if form == "[T, B, C]" else x.transpose(0, 1)))).mean(0)

    x = pictures(3, 20) if form == "[B, T*C]" else pictures(3, 4, 5)
    x = x.round().abs() if events else x
    profile = assert_exact(exact(Net()), x, (lambda m, x: m(x.transpose(0, 1))) if form == "[T, B, C]" else None)
    assert not profile.ledger.static_input and sum(amounts(profile)["mac"]) == (0 if events else 3 * 4 * 40)


class OverTime(nn.Module):
    """Operations that mix the time steps of an image: they run once per image."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.fc, self.lif = nn.Linear(6, 8), IF(step_mode="m")
        self.conv, self.flat, self.head = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(32, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.lif(self.fc(steps(x)))  # [T, B, 8]
        images = spikes.transpose(0, 1)
        if self.how == "convolution":
            return self.conv(images.unsqueeze(1)).flatten(2).sum(2)
        if self.how == "flattened":
            return self.flat(images.flatten(1))
        if self.how == "attention":
            return self.head(images @ (images.transpose(1, 2) @ images)).mean(1)
        return self.head(spikes.sum(0))


@pytest.mark.parametrize("how", ["convolution", "flattened", "attention", "sum"])
def test_operations_over_the_time_axis(how: str) -> None:
    profile = assert_exact(exact(OverTime(how), seed=2), pictures(3, 6), macs_once=3 * 48)
    assert not any(entry.every_step for entry in (*profile.ledger.synapses, *profile.ledger.products)[1:]
                   if entry.op != "token_sum")  # fmt: skip


def test_sew_resnet_still_lists_the_addition_of_spikes() -> None:
    model = sew_resnet.sew_resnet18(
        cnf="ADD", spiking_neuron=IF, surrogate_function=surrogate.ATan(), num_classes=3
    )
    functional.set_step_mode(model, "m")
    profile = sa.profile(model, [pictures(2, 3, 16, 16)], forward=repeat_input)
    assert {u.op for u in profile.ledger.uncounted} == {"add", "mean"}
