"""Networks that spikeattn does not know: SpikingJelly's own, functional attention, convolutions, published code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import maxformer, ms_resnet, parametric_lif_net, qkformer, sew_resnet
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.models.calibrate import calibrate_batch_norm
from tests.counting.brute_force import assert_exact, exact, pictures
from tests.counting.networks import loop_over_time, repeat_input

IF, LIF = neuron.IFNode, neuron.LIFNode


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
    table, tensors = (
        profile.operations().dropna(subset=["sops", "input_tensor"]),
        {t.name: t for t in profile.ledger.tensors},
    )

    def countable(names: str) -> bool:
        """Trains of spikes; it takes a q k^T that happens to be 0 or 1 for one, and it is a matrix of numbers."""
        received = [tensors[name] for name in names.split(", ")]
        return all(t.kind == "binary" and not t.summed for t in received)

    seen = table["input_tensor"].map(countable)
    # Where it takes a matrix of numbers for spikes it counts the pairs, at most as many as our additions of rows.
    by_luck = table["input_tensor"].map(lambda names: "," in names) & ~seen
    ours, most = int(table.loc[seen, "sops"].sum()), int(table.loc[by_luck, "sops"].sum())
    assert 0 < ours <= counter.get_total() <= ours + most


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


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("how", ["ssa", "linear", "einsum", "merged", "heads_first"])
def test_one_time_step(how: str, mode: str) -> None:
    """T = 1, as some published models have it: what is multiplied are the spikes of the neurons, under their names."""

    class Once(Attention):
        lead = (1, -1) if mode == "m" else (-1,)

        def forward(self, x: Tensor) -> Tensor:
            return self.step(x.unsqueeze(0)).mean(0) if mode == "m" else self.step(x)

    profile = assert_exact(exact(Once(how, mode), seed=3), pictures(3, 6, 5, seed=1) * 2)
    first, second = profile.ledger.products
    assert profile.time_steps == 1 and first.every_step and second.every_step
    assert {*first.operands, *second.operands} > {"q_lif", "k_lif", "v_lif"}


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


# ------------------------------------------------------------------------------------- idioms of published networks
class RepConv(nn.Module):
    """SDT v2: pointwise, norm, a border of what the norm makes of zeros written in place, depthwise, pointwise."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim)
        self.depthwise = nn.Conv2d(dim, dim, 3, groups=dim, bias=False)
        self.conv2 = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.norm(self.conv1(x)), [1] * 4)
        border = (self.norm.bias - self.norm.running_mean / torch.sqrt(self.norm.running_var)).view(1, -1, 1, 1)
        x[:, :, 0:1, :] = border
        x[:, :, :, -1:] = border
        return self.conv2(self.depthwise(x))


class Published(nn.Module):
    """A block on [T, B, 8, 4, 4] with a membrane shortcut; `how` names the attention."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3)
        self.x_lif, self.q_lif, self.k_lif, self.out_lif, self.head_lif = (LIF(step_mode="m") for _ in range(5))
        self.q, self.k, self.w, self.proj = RepConv(8), RepConv(8), nn.Conv2d(8, 16, 2, 2), nn.Conv2d(8, 8, 1)
        self.register_buffer("rate", torch.full((1, 1, 2, 1, 1), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.unsqueeze(0).repeat(4, 1, 1, 1, 1).flatten(0, 1)).view(4, len(x), 8, 4, 4) * 2
        x = x + self.proj(getattr(self, self.how)(x).flatten(0, 1)).view(x.shape)
        return self.head(self.head_lif(x).flatten(3).amax(3)).mean(0)

    def token_qk(self, x: Tensor) -> Tensor:
        """QKFormer: a sum over the channels of a head, a neuron, a mask."""
        shape, x = x.shape, self.x_lif(x).flatten(0, 1)
        q, k = self.q_lif(self.q(x).view(shape) * 4), self.k_lif(self.k(x).view(shape) * 4)
        q, k = (spikes.flatten(3).view(4, -1, 2, 4, 16) for spikes in (q, k))  # [T, B, heads, d, N]
        return torch.mul(self.out_lif(torch.sum(q, dim=3, keepdim=True)), k).flatten(2, 3).view(shape)

    def dual_spike(self, x: Tensor) -> Tensor:
        """SpikingResformer: spikes meet a strided convolution of themselves, scaled by a firing rate."""
        x, shape = self.x_lif(x), x.shape
        y1, y2 = self.w(x.flatten(0, 1)).view(4, -1, 2, 8, 4).split(4, dim=3)
        scale = 1.0 / torch.sqrt(self.rate * 4)
        attention = self.q_lif((y1.transpose(-1, -2) @ x.view(4, -1, 2, 4, 16)) * scale)
        return self.out_lif((y2 @ attention) * scale).reshape(shape)


@pytest.mark.parametrize(("how", "ops"), [("token_qk", ["token_sum", "mask"]), ("dual_spike", ["matmul", "matmul"])])
def test_blocks_of_published_networks(how: str, ops: list[str]) -> None:
    profile = assert_exact(exact(Published(how), seed=2), pictures(3, 3, 4, 4), macs_once=3 * 16 * 8 * 27)
    assert [p.op for p in profile.ledger.products] == ops and not profile.ledger.uncounted
    if how == "token_qk":  # behind the batch norm RepConv's convolutions receive potentials: multiplied at every step
        received = [profile.ledger.tensor(profile.ledger.synapse(f"q.{n}").input) for n in ("conv1", "depthwise")]
        assert [tensor.kind for tensor in received] == ["binary", "real"]


def test_the_additions_of_spikes_in_a_sew_resnet_are_counted() -> None:
    model = sew_resnet.sew_resnet18(cnf="ADD", spiking_neuron=IF, surrogate_function=surrogate.ATan(), num_classes=3)
    functional.set_step_mode(model, "m")
    profile = sa.profile(model, [pictures(2, 3, 16, 16)], forward=repeat_input)
    assert not profile.ledger.uncounted  # the mean of a single position is its value
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    sums = [a for a in profile.ledger.additions if a.op == "add"]
    assert [(a.layer, a.part) for a in sums] == [(f"{block}.conv2", "conv") for block in blocks]
    assert [a.elements for a in sums] == [64 * 16, 64 * 16, 128 * 4, 128 * 4, 256, 256, 512, 512]
