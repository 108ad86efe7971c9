"""Small networks with the right value by hand: one for each kind of fault that an attack on the first edition found."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import spikeattn as sa
from spikeattn.models.paper_names import PaperName

T = 4


def lif(v: float = 0.2) -> neuron.LIFNode:
    return neuron.LIFNode(v_threshold=v, step_mode="m")


def steps(x: Tensor) -> Tensor:
    return x.unsqueeze(0).repeat(T, *[1] * x.dim())


def names(profile: sa.Profile) -> list[str]:
    listed = [f"(listed) {entry.name}" for entry in profile.ledger.uncounted]
    return [synapse.name for synapse in profile.ledger.synapses] + listed


class First(nn.Module):
    """`part` stands before the first neuron."""

    def __init__(self, part: nn.Module, width: int) -> None:
        super().__init__()
        self.part, self.lif, self.head = part, lif(0.05), layer.Linear(width, 3, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(steps(self.part(x).flatten(1)))).mean(0)


class Chunks(nn.Module):
    """Attention within chunks of two time steps."""

    def __init__(self, chunk: int, heads: int) -> None:
        super().__init__()
        self.chunk, self.heads = chunk, heads
        self.enc, self.k, self.v, self.out, self.head = lif(0.3), lif(0.5), lif(0.6), lif(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enc(steps(x))
        t, b, n, d = x.shape
        c, h = self.chunk, self.heads

        def grouped(z: Tensor) -> Tensor:
            z = z.view(t // c, c, b, n, h, d // h).permute(0, 2, 4, 1, 3, 5)
            return z.reshape(t // c, b, h, c * n, d // h)

        y = grouped(x) @ (grouped(self.k(x)).mT @ grouped(self.v(x)))
        y = y.view(t // c, b, h, c, n, d // h).permute(0, 3, 1, 4, 2, 5).reshape(t, b, n, d)
        return self.head(self.out(y).mean(2)).mean(0)


@pytest.mark.parametrize(("chunk", "heads"), [(2, 2), (2, 1), (4, 2), (1, 4)])
def test_attention_within_chunks_of_time(chunk: int, heads: int) -> None:
    torch.manual_seed(0)
    net, x = Chunks(chunk, heads), torch.rand(4, 5, 8) * 2
    profile = sa.profile(net, [x])
    assert profile.time_steps == T
    wide = 1 if chunk > 1 else T
    assert profile.counts.column("pairs", "bmm_0").shape == (4, wide)
    with torch.no_grad():
        spikes = net.enc(steps(x))
        k, v = net.k(spikes), net.v(spikes)
        functional.reset_net(net)
    found = profile.operations().set_index("synapse").sops
    meet = torch.stack([z.view(T // chunk, chunk, 4, 5, 8).flatten(0, 0) for z in (k, v)])
    k, v = meet[0].permute(0, 2, 1, 3, 4).flatten(2, 3), meet[1].permute(0, 2, 1, 3, 4).flatten(2, 3)
    split = (-1, heads, 8 // heads)
    pairs = sum(
        int((k.unflatten(-1, split[1:])[..., h, :].sum(-1) * v.unflatten(-1, split[1:])[..., h, :].sum(-1)).sum())
        for h in range(heads)
    )
    assert int(found["bmm_0"]) == pairs > 0
    assert int(found["bmm_1"]) == int(spikes.sum()) * 8 // heads  # each spike of q adds a row of k^T v


@pytest.mark.parametrize("first", "TB")
def test_images_time_and_tokens_in_one_axis(first: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enc, self.fc, self.lif, self.head = lif(0.4), nn.Linear(4, 6), lif(0.1), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:  # [B, P, N, C]
            x = self.spikes = self.enc(steps(x))
            swap = (1, 0) if first == "B" else (0, 1)
            y = x.permute(*swap, 2, 3, 4)
            shape = y.shape[:4]
            y = self.fc(y.flatten(0, 2)).reshape(*shape, 6).permute(*swap, 2, 3, 4)
            return self.head(self.lif(y.contiguous()).mean((2, 3))).mean(0)

    torch.manual_seed(0)
    net, x = Net(), torch.rand(5, 3, 2, 4) * 2
    profile = sa.profile(net, [x])
    with torch.no_grad():
        net(x)
    fc = profile.ledger.synapse("fc")
    assert fc.dense_macs == 3 * 2 * 4 * 6
    counted = profile.counts.column("nnz", fc.input)
    assert counted.tolist() == net.spikes.flatten(2).sum(2).T.tolist()
    ann = sa.sweep(profile, costs="horowitz-45nm-fp32", rate_scales=(1.0,)).attrs["ann_macs"]
    assert ann == 3 * 2 * 4 * 6 + 18


def test_boolean_frames_and_a_blank_recording() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif = layer.Conv2d(2, 4, 3, padding=1, step_mode="m"), lif(0.1)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.conv(x.transpose(0, 1).float())).flatten(2).mean(0)

    x = torch.rand(4, T, 2, 8, 8) > 0.7
    x[0] = False
    assert sa.profile(Net(), [x]).n_images == 4


def test_token_ids_stay_token_ids_while_the_network_is_probed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.enc, self.lif = nn.Embedding(50, 8), lif(0.3), lif(0.1)
            self.fc = layer.Linear(8, 8, step_mode="m")

        def forward(self, ids: Tensor) -> Tensor:
            return self.lif(self.fc(self.enc(steps(self.table(ids))))).mean((0, 2))

    ids = torch.randint(0, 50, (4, 7))
    ids[0] = 49
    assert sa.profile(Net(), [ids]).n_images == 4


# The schema is given: torch 2.4 cannot read one from annotations that are strings.
@torch.library.custom_op("spikeattn_tests::fc", mutates_args=(), schema="(Tensor x, Tensor w) -> Tensor")
def custom_fc(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.t()


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 6))

    def forward(self, x: Tensor) -> Tensor:
        return custom_fc(x, self.w)


def test_operators_without_a_rule_are_listed_and_an_error_under_strict() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 8)), {nn.Linear})
    for part in (Custom(), quantised):
        profile = sa.profile(First(part, 8), [torch.rand(3, 6)])
        assert len(names(profile)) == 2 and names(profile)[1].startswith("(listed) part")
        assert any(w.startswith("labels: ") for w in profile.warnings)
        with pytest.raises(sa.SpikeattnError, match="strict: 1 operations on spikes cannot be counted: part"):
            sa.profile(First(part, 8), [torch.rand(3, 6)], strict=True)


def test_scripted_and_lazy_parts() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 8), nn.ReLU()))
    profile = sa.profile(First(scripted, 8), [torch.rand(3, 6)])
    assert int(profile.operations().macs.sum()) == 3 * 48
    with pytest.raises(sa.SpikeattnError, match="has no size yet, since a lazy layer has seen no data"):
        sa.profile(First(nn.LazyLinear(8), 8), [torch.rand(3, 6)])


def test_names_of_tensors_do_not_switch_the_proof_off() -> None:
    class Mixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n, self.c, self.h = lif(), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.expand(T, *x.shape)
            return self.h(self.n(self.c(x - x.mean(1, keepdim=True)))).mean(0)

        def paper_names(self) -> dict[str, PaperName]:
            return {"n": PaperName("SPS", None, "x"), "typo": PaperName("SPS", None, "x")}

    with pytest.raises(sa.SpikeattnError, match="Mixes mixes images: mean in Mixes joins them"):
        sa.profile(Mixes(), [torch.rand(4, 8) * 2])


def test_what_repeats_is_decided_by_the_network_and_not_by_the_first_recordings() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.c2 = (layer.Conv2d(n, 4, 3, padding=1, step_mode="m") for n in (2, 4))
            self.lif, self.fc = lif(0.1), layer.Linear(256, 3, step_mode="m")
            nn.init.constant_(self.c.bias, -1.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.lif(self.c2(F.relu(self.c(x.transpose(0, 1))))).flatten(2)).mean(0)

    net, x = Net(), torch.rand(6, T, 2, 8, 8) * 2
    x[:2] *= 0.01  # dark: nothing passes the ReLU
    for order in ([0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 0, 1]):
        macs = sa.profile(net, [x[order]]).operations().set_index("synapse").macs["c2"]
        assert int(macs) == 9216 * T * 6


def test_one_unit_of_a_spike_adds_one_row_of_a_matrix_whatever_its_numbers() -> None:
    class Level(nn.Module):
        def __init__(self, top: int) -> None:
            super().__init__()
            self.top = top

        def forward(self, x: Tensor) -> Tensor:
            return x.clamp(0, self.top).round()

    class Attention(nn.Module):
        def __init__(self, top: int, scale: float) -> None:
            super().__init__()
            self.scale, self.h = scale, nn.Linear(16, 3)
            self.q, self.k, self.v, self.o = Level(top), Level(1), Level(1), Level(1)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (f(z) for f, z in zip((self.q, self.k, self.v), x.chunk(3, -1), strict=True))
            self.units = int(q.sum())
            return self.h(self.o(q @ ((k.mT @ v) * self.scale) / 64).mean(1))

    x = torch.rand(2, 64, 48, generator=torch.Generator().manual_seed(0)) * 1.4
    x[:, 0, 0] = 1.9
    for top, scale in ((1, 1.0), (2, 1.0), (2, 0.3)):
        net = Attention(top, scale)
        profile = sa.profile(net, [x], neurons=lambda m: isinstance(m, Level), time_steps=1)
        net(x)
        assert int(profile.operations().set_index("synapse").sops["bmm_1"]) == net.units * 16


@pytest.mark.parametrize(("pool", "out"), [(nn.AvgPool2d(2), 4), (nn.AdaptiveAvgPool2d(2), 4), (nn.AvgPool2d(4), 1)])
def test_average_pools_pass_parts_of_spikes_on_or_give_a_number(pool: nn.Module, out: int) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif, self.pool, self.fc = lif(0.3), pool, nn.Linear(2 * out, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.spikes = self.lif(steps(x))
            return self.fc(self.pool(self.spikes.flatten(0, 1)).flatten(1)).view(T, -1, 3).mean(0)

    net, x = Net(), torch.rand(3, 2, 4, 4)
    found = sa.profile(net, [x]).operations().fillna(0).set_index("synapse")
    with torch.no_grad():
        net(x)
    spikes = int(net.spikes.sum())
    assert spikes > 0 and found.counted.all()
    if out > 1:  # a spike is a quarter in one window, and meets three weights
        assert int(found.sops["fc"]) == spikes * 3
    else:
        assert int(found.macs["fc"]) == 3 * T * 2 * 3
    logits = 3 * 3 * (T - 1)  # averaged over the steps
    assert int(found.acs.sum()) == spikes + logits, "one addition per spike in its window"


def test_one_logit_is_right_by_its_sign() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = layer.Linear(6, 8, step_mode="m"), lif()
            self.h = layer.Linear(8, 1, step_mode="m")
            nn.init.constant_(self.h.bias, 50.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.h(self.lif(self.fc(steps(x)))).mean(0)

    x, y = torch.rand(8, 6) * 3, torch.ones(8, dtype=torch.long)
    assert float(sa.profile(Net(), [(x, y)]).over_time().accuracy.iloc[-1]) == 1.0


@pytest.mark.parametrize("heads", [1, 4])
def test_the_twin_of_a_gate_takes_its_tokens_from_the_sum(heads: int) -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.k, self.g, self.h = lif(), lif(), lif(), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.e(x.expand(2, *x.shape))

            def apart(z: Tensor) -> Tensor:
                return z.unflatten(-1, (heads, -1)).transpose(2, 3)

            gate = self.g((apart(x) * apart(self.k(x))).sum(-2, keepdim=True))
            return self.h((apart(x) * gate).transpose(2, 3).flatten(3).mean(2)).mean(0)

        def paper_names(self) -> dict[str, PaperName]:
            return {n: PaperName("attention", 0, n) for n in ("e", "k", "g", "mul_0", "sum_0", "mul_1")}

    assert sa.profile(Gate(), [torch.rand(2, 16, 32)]).summary()["ann_macs"] == 2 * 16 * 16 * 32 + 32 * 3


def test_a_class_that_bears_the_name_of_ours_gets_a_twin_of_its_own() -> None:
    class SpikeDrivenTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.n, self.h = layer.Conv2d(3, 4, 16, 16, step_mode="m"), lif(), nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.h(self.n(self.c(x.expand(2, *x.shape))).mean((3, 4))).mean(0)

    for size, positions in ((224, 196), (32, 4)):
        profile = sa.profile(SpikeDrivenTransformer(), [torch.rand(2, 3, size, size)])
        assert sa.compare(profile).provenance["ann_macs"] == positions * 4 * 768 + 40


@pytest.mark.parametrize("training", [False, True])
def test_record_counts_what_the_forward_of_the_network_itself_sums(training: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif, self.head = nn.Linear(5, 8), neuron.IFNode(v_threshold=0.2), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.spikes = torch.stack([self.lif(self.fc(x)) for _ in range(T)])
            return self.head(self.spikes.sum(0))

    net = Net().train(training)
    with sa.record(net) as rec:
        for size in (4, 4, 2):
            net(torch.rand(size, 5))
            functional.reset_net(net)
    counted = rec.counts()
    last = counted[(counted.tensor == "lif") & (counted.forward == 2)]
    assert int(last.nonzero.sum()) == int(net.spikes.sum()) > 0


PER_STEP = {
    "repeated": (lambda x, net: x.repeat(T, 1, 1), True),
    "scaled": (lambda x, net: x.repeat(T, 1, 1) * 2, True),
    "by a constant of each step": (lambda x, net: x.repeat(T, 1, 1) * torch.arange(1.0, 5).view(T, 1, 1), False),
    "by a parameter of each step": (lambda x, net: x.repeat(T, 1, 1) * net.decay.exp(), False),
    "latency code": (lambda x, net: (x.expand(T, *x.shape) > torch.arange(4.0).view(T, 1, 1) / 5).float(), False),
    "masked at a step": (lambda x, net: x.repeat(T, 1, 1).masked_fill(torch.eye(T)[0].view(T, 1, 1) > 0, 0.0), False),
    "summed up": (lambda x, net: x.repeat(T, 1, 1).cumsum(0), False),
    "written from a step on": (lambda x, net: _add_from_the_second_step(x.repeat(T, 1, 1)), False),
    "a loop": (lambda x, net: torch.stack([torch.relu(x - 0.2) for _ in range(T)]), None),
}  # fmt: skip


def _add_from_the_second_step(x: Tensor) -> Tensor:
    x[1:] += 1
    return x


class Coded(nn.Module):
    """`code` makes the input of each step from a still image."""

    def __init__(self, code) -> None:
        super().__init__()
        self.fc, self.lif, self.head, self.code = nn.Linear(6, 8), neuron.IFNode(step_mode="m"), nn.Linear(8, 3), code
        self.decay = nn.Parameter(torch.rand(T, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(self.fc(self.code(x, self)))).mean(0)


@pytest.mark.parametrize("name", PER_STEP)
def test_a_still_image_is_one_that_the_network_only_repeats(name: str) -> None:
    """Its first layer is charged once; what differs from step to step is multiplied at every step."""
    code, static = PER_STEP[name]
    macs = int(sa.profile(Coded(code), [torch.rand(3, 6)]).operations().set_index("synapse").macs["fc"])
    assert macs in ({3 * 48, 3 * 48 * T} if static is None else {3 * 48 * (1 if static else T)})


@pytest.mark.parametrize(("factor", "macs"), [(lambda t: 0.5, 48), (lambda t: (t + 1) / 4, 48 * T)])
def test_a_loop_that_changes_the_image_from_step_to_step(factor, macs: int) -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif, self.head = nn.Linear(6, 8), neuron.IFNode(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return sum(self.head(self.lif(self.fc(x * factor(t)))) for t in range(T))

    found = sa.profile(Loop(), [torch.rand(3, 6)]).operations().set_index("synapse").macs
    assert int(found["fc"]) == 3 * macs


def test_layers_that_run_at_every_second_step_alone() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.fc2, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
            self.lif, self.lif2 = neuron.IFNode(v_threshold=0.3), neuron.IFNode(v_threshold=0.1)

        def forward(self, x: Tensor) -> Tensor:
            out = 0
            for t in range(T):
                spikes = self.lif(self.fc(x))
                if t % 2:
                    out = out + self.head(self.lif2(self.fc2(spikes)))
            return out

    torch.manual_seed(0)
    profile = sa.profile(Skips(), [torch.rand(3, 6) * 3])
    assert profile.time_steps == T and profile.ledger.synapse("fc2").runs == 2
    assert not profile.counts.column("nnz", "lif2")[:, ::2].any()


def test_a_neuron_shared_twice_per_frame() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head, self.lif, self.lif2 = nn.Linear(6, 8), nn.Linear(8, 3), neuron.IFNode(), neuron.IFNode()

        def forward(self, x: Tensor) -> Tensor:  # [B, T, 6]
            frames = x.unbind(1)
            return sum(self.head(self.lif2(self.lif(self.fc(f)) + 0 * self.lif(self.fc(f * 0.5)))) for f in frames)

    assert sa.profile(Twice(), [torch.rand(3, T, 6) * 3]).time_steps == T


def test_rows_that_an_index_carries_to_another_image_mix_images() -> None:
    class Carries(Coded):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.zeros_like(x).index_add(0, torch.zeros(len(x), dtype=torch.long), x)
            return super().forward(x)

    with pytest.raises(sa.SpikeattnError, match="Carries mixes images: index_add in Carries joins them"):
        sa.profile(Carries(lambda x, net: x.repeat(T, 1, 1)), [torch.rand(3, 6)])


@pytest.mark.parametrize("how", ["div", "addcmul", "outer", "own product"])
def test_layers_written_with_elementwise_operations_are_listed(how: str) -> None:
    class Elementwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.rand(8, 6) + 1)

        def forward(self, x: Tensor) -> Tensor:
            wide = x.unsqueeze(1)
            if how == "own product":
                return (x.unsqueeze(1) * x.flip(1).unsqueeze(1)).expand(-1, 8, -1).sum(-1)
            return {
                "div": lambda: wide / self.w, "addcmul": lambda: torch.addcmul(torch.zeros(1), wide, self.w),
                "outer": lambda: wide * self.w,
            }[how]().sum(-1)  # fmt: skip

    found = names(sa.profile(First(Elementwise(), 8), [torch.rand(3, 6)]))
    assert any(name.startswith("(listed) part") for name in found)
