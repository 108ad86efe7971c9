"""Small odd spiking transformers, each with the truth of its layers: part, block, role by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

D, HEADS, GRID = 16, 4, 4
Truth = dict[str, tuple[str, int | None, str | None]]


def lif(step_mode: str = "m") -> nn.Module:
    return neuron.LIFNode(tau=2.0, detach_reset=True, step_mode=step_mode)


class Stem(nn.Module):
    """[B, 3, 16, 16] -> tokens [T, B, N, D]."""

    def __init__(self, T: int = 2) -> None:
        super().__init__()
        self.T = T
        self.a, self.lif_a = nn.Conv2d(3, D, 3, 2, 1), lif()
        self.b = nn.Conv2d(D, D, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif_a(self.a(x).expand(self.T, *x.shape[:1], D, 8, 8))
        x = self.b(x.flatten(0, 1)).unflatten(0, (self.T, -1))
        return x.flatten(3).transpose(2, 3)


STEM: Truth = {"stem.a": ("SPS", None, None), "stem.b": ("SPS", None, None)}


class MLP(nn.Module):
    def __init__(self, ratio: int = 2) -> None:
        super().__init__()
        self.l1, self.up, self.l2, self.down = lif(), nn.Linear(D, ratio * D), lif(), nn.Linear(ratio * D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.l2(self.up(self.l1(x))))


def mlp(path: str, block: int) -> Truth:
    return {f"{path}.up": ("MLP1", block, None), f"{path}.down": ("MLP2", block, None)}


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(-2, -3)


def merged(x: Tensor) -> Tensor:
    return x.transpose(-2, -3).flatten(-2)


class Attention(nn.Module):
    """Three layers under names that say nothing: alpha is k, beta v, gamma q."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.out = lif(), lif()
        self.alpha, self.beta, self.gamma = (nn.Linear(D, D) for _ in range(3))
        self.n1, self.n2, self.n3 = lif(), lif(), lif()
        self.proj = nn.Linear(D, D)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = self.inp(x)
        return self.n3(self.gamma(s)), self.n1(self.alpha(s)), self.n2(self.beta(s))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return merged(heads(q) @ heads(k).transpose(-1, -2) @ heads(v))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.out(self.mix(*self.qkv(x)) * 0.125))


def att(path: str, block: int) -> Truth:
    return {
        f"{path}.alpha": ("QKV", block, "k"),
        f"{path}.beta": ("QKV", block, "v"),
        f"{path}.gamma": ("QKV", block, "q"),
        f"{path}.proj": ("projection", block, None),
    }


class Net(nn.Module):
    """Blocks of mixer and feed-forward with residual sums, then the mean over tokens and a head."""

    truth: Truth = {}

    def __init__(self, mixer: type[nn.Module] = Attention, depth: int = 2) -> None:
        super().__init__()
        self.stem = Stem()
        self.mixers = nn.ModuleList([mixer() for _ in range(depth)])
        self.mlps = nn.ModuleList([MLP() for _ in range(depth)])
        self.last, self.head = lif(), nn.Linear(D, 5)
        self.truth = STEM | {"head": ("head", None, None)}
        for i, own in enumerate(self.mixers):
            self.truth |= (own.truth_of if hasattr(own, "truth_of") else att)(f"mixers.{i}", i) | mlp(f"mlps.{i}", i)

    def blocks(self, x: Tensor) -> Tensor:
        for mixer, ffn in zip(self.mixers, self.mlps, strict=True):
            x = x + mixer(x)
            x = x + ffn(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(x)).mean(2))).mean(0)


class KvFirst(Attention):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return merged(heads(q) @ (heads(k).transpose(-1, -2) @ heads(v)))


class Einsum(Attention):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = heads(q), heads(k), heads(v)
        weights = torch.einsum("tbhnd,tbhmd->tbhnm", q, k)
        return merged(torch.einsum("tbhnm,tbhmd->tbhnd", weights, v))


class Linear(Attention):
    """Linear attention with a normaliser: q (k^T v) / q sum(k)."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = heads(q), heads(k), heads(v)
        up = q @ (k.transpose(-1, -2) @ v)
        return merged(up / ((q * k.sum(-2, keepdim=True)).sum(-1, keepdim=True) + 1))


class Softmax(Attention):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return merged(((heads(q) @ heads(k).transpose(-1, -2)) * 0.5).softmax(-1) @ heads(v))


class Sdpa(Attention):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (heads(x.flatten(0, 1)) for x in (q, k, v))
        return merged(F.scaled_dot_product_attention(q, k, v)).unflatten(0, (2, -1))


class Windows(Attention):
    """Attention in windows of 2 x 2 tokens."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def cut(x: Tensor) -> Tensor:
            T, B, N, C = x.shape
            x = x.reshape(T, B, 2, 2, 2, 2, C).transpose(3, 4)
            return heads(x.reshape(T, B * 4, 4, C))

        T, B, N, C = q.shape
        x = merged(cut(q) @ cut(k).transpose(-1, -2) @ cut(v))
        return x.reshape(T, B, 2, 2, 2, 2, C).transpose(3, 4).reshape(T, B, N, C)


class Masks(Attention):
    """Spike-driven attention of masks: k * v summed over tokens, then q."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = lif()

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q * self.gate((k * v).sum(2, keepdim=True))


class OnlyQk(nn.Module):
    """QKFormer: q summed over a head's channels is a mask of k."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.n1, self.n2, self.gate = nn.Linear(D, D), nn.Linear(D, D), lif(), lif(), lif()
        self.proj = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        q, k = heads(self.n1(self.one(x))), heads(self.n2(self.two(x)))
        return self.proj(merged(self.gate(q.sum(-1, keepdim=True)) * k))

    def truth_of(self, path: str, block: int) -> Truth:
        roles = {"one": ("QKV", block, "q"), "two": ("QKV", block, "k"), "proj": ("projection", block, None)}
        return {f"{path}.{name}": what for name, what in roles.items()}


class Fused(nn.Module):
    """One layer for q, k and v, cut after the neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.all, self.n, self.out, self.proj = lif(), nn.Linear(D, 3 * D), lif(), lif(), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.n(self.all(self.inp(x))).unflatten(-1, (3, HEADS, -1)).permute(3, 0, 1, 4, 2, 5)
        return self.proj(self.out(merged(q @ k.transpose(-1, -2) @ v)))

    def truth_of(self, path: str, block: int) -> Truth:
        return {f"{path}.all": ("QKV", block, "qkv"), f"{path}.proj": ("projection", block, None)}


class TorchAttention(nn.Module):
    """`nn.MultiheadAttention`, whose fast path would show nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.mha = lif(), nn.MultiheadAttention(D, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        s = self.inp(x).flatten(0, 1)
        return self.mha(s, s, s, need_weights=False)[0].unflatten(0, (2, -1))

    def truth_of(self, path: str, block: int) -> Truth:
        return {f"{path}.mha.mm_0": ("QKV", block, "qkv"), f"{path}.mha.addmm_0": ("projection", block, None)}


class TokenMixer(nn.Module):
    """MLP-Mixer: weights over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.l1, self.t1 = lif(), nn.Linear(GRID * GRID, 8)
        self.l2, self.t2 = lif(), nn.Linear(8, GRID * GRID)

    def forward(self, x: Tensor) -> Tensor:
        return self.t2(self.l2(self.t1(self.l1(x.transpose(2, 3))))).transpose(2, 3)

    def truth_of(self, path: str, block: int) -> Truth:
        return {f"{path}.{name}": ("mixing", block, None) for name in ("t1", "t2")}


class ClassToken(Net):
    def __init__(self) -> None:
        super().__init__()
        self.cls, self.pos = nn.Parameter(torch.ones(1, 1, D)), nn.Parameter(torch.zeros(1, GRID * GRID + 1, D))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.cls.expand(*x.shape[:2], 1, D), x], 2) + self.pos
        return self.head(self.last(self.blocks(x)[:, :, 0])).mean(0)


class Parallel(Net):
    """Attention and feed-forward beside each other, summed at once."""

    def blocks(self, x: Tensor) -> Tensor:
        for mixer, ffn in zip(self.mixers, self.mlps, strict=True):
            x = x + mixer(x) + ffn(x)
        return x


class NoResiduals(Net):
    def blocks(self, x: Tensor) -> Tensor:
        for mixer, ffn in zip(self.mixers, self.mlps, strict=True):
            x = ffn(mixer(x))
        return x


class GatedMLP(MLP):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.l3 = nn.Linear(D, 2 * D), lif()

    def forward(self, x: Tensor) -> Tensor:
        s = self.l1(x)
        return self.down(self.l2(self.up(s)) * self.l3(self.gate(s)))


class Gated(Net):
    """A gated feed-forward (GLU)."""

    def __init__(self) -> None:
        super().__init__()
        self.mlps = nn.ModuleList([GatedMLP() for _ in range(2)])
        self.truth |= {f"mlps.{i}.gate": ("MLP1", i, None) for i in range(2)}


class Experts(nn.Module):
    """A router weighs two feed-forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.router, self.experts = lif(), nn.Linear(D, 2), nn.ModuleList([MLP(), MLP()])

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(self.inp(x)).softmax(-1)
        return weights[..., :1] * self.experts[0](x) + weights[..., 1:] * self.experts[1](x)


class OfExperts(Net):
    def __init__(self) -> None:
        super().__init__()
        self.mlps = nn.ModuleList([Experts(), Experts()])
        self.truth = {key: what for key, what in self.truth.items() if not key.startswith("mlps")}
        for i in range(2):
            self.truth |= {f"mlps.{i}.router": ("gate", i, None)}
            self.truth |= mlp(f"mlps.{i}.experts.0", i) | mlp(f"mlps.{i}.experts.1", i)


class Reduced(Attention):
    """k and v of fewer tokens, by a strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.nr = nn.Conv2d(D, D, 2, 2), lif()

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = self.inp(x)
        T, B, N, C = s.shape
        few = self.reduce(s.transpose(2, 3).reshape(T * B, C, GRID, GRID)).reshape(T, B, C, N // 4).transpose(2, 3)
        few = self.nr(few)
        return self.n3(self.gamma(s)), self.n1(self.alpha(few)), self.n2(self.beta(few))

    def truth_of(self, path: str, block: int) -> Truth:
        return att(path, block) | {f"{path}.reduce": ("conv", block, None)}


class Shared(Net):
    """Both blocks use one feed-forward: it counts as the first one's."""

    def __init__(self) -> None:
        super().__init__()
        self.mlps[1] = self.mlps[0]
        self.truth = {key: what for key, what in self.truth.items() if not key.startswith("mlps.1")}


class Loop(nn.Module):
    """Single-step neurons in a time loop of the network's own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        for module in self.net.modules():
            if isinstance(module, neuron.LIFNode):
                module.step_mode = "s"
        self.truth = {f"net.{name}": what for name, what in self.net.truth.items()}

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for _ in range(3):
            net = self.net
            y = net.stem.b(net.stem.lif_a(net.stem.a(x))).flatten(2).transpose(1, 2)
            for mixer, ffn in zip(net.mixers, net.mlps, strict=True):
                y = y + mixer(y)
                y = y + ffn(y)
            out.append(net.head(net.last(y.mean(1))))
        return torch.stack(out).mean(0)


class TokenIds(Net):
    """Words: an embedding in place of the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Embedding(20, D)
        self.truth = {k: v for k, v in self.truth.items() if not k.startswith("stem")}

    def forward(self, ids: Tensor) -> Tensor:
        x = self.stem(ids).expand(2, *ids.shape, D)
        return self.head(self.last(self.blocks(x).mean(2))).mean(0)


class TwoStages(nn.Module):
    """Two stages with a strided convolution between, attention on maps by 1 x 1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = layer.Conv2d(3, 8, 3, 2, 1, step_mode="m")
        self.l1, self.down = lif(), layer.Conv2d(8, D, 3, 2, 1, step_mode="m")
        self.first, self.second = MapBlock(8), MapBlock(D)
        self.last, self.head = lif(), nn.Linear(D, 5)
        self.truth: Truth = {"stem": ("SPS", None, None), "down": ("downsampling", None, None)}
        self.truth |= self.first.truth_of("first", 0) | self.second.truth_of("second", 1)
        self.truth["head"] = ("head", None, None)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x.expand(2, *x.shape)))
        x = self.second(self.down(self.l1(x)))
        return self.head(self.last(x.flatten(3).mean(3))).mean(0)


class MapBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.n = nn.ModuleList([lif() for _ in range(6)])
        self.c = nn.ModuleList([layer.Conv2d(dim, dim, 1, step_mode="m") for _ in range(4)])
        self.up, self.down = layer.Conv2d(dim, 4 * dim, 1, step_mode="m"), layer.Conv2d(4 * dim, dim, 1, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        s = self.n[0](x)
        q, k, v = (self.n[i + 1](self.c[i](s)).flatten(3).transpose(2, 3) for i in range(3))
        y = (q @ (k.transpose(2, 3) @ v)).transpose(2, 3).reshape(x.shape)
        x = x + self.c[3](y)
        return x + self.down(self.n[5](self.up(self.n[4](x))))

    def truth_of(self, path: str, block: int) -> Truth:
        made: Truth = {f"{path}.c.{i}": ("QKV", block, role) for i, role in enumerate("qkv")}
        made[f"{path}.c.3"] = ("projection", block, None)
        return made | mlp(path, block)


class PostAct(Net):
    """Neurons behind the layers, as in Spikformer, and a convolution as position embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.rpe, self.rpe_lif = nn.Conv2d(D, D, 3, padding=1), lif()
        self.post = nn.ModuleList([lif() for _ in range(4)])
        self.truth |= {"rpe": ("SPS", None, None)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.rpe_lif(self.stem(x))
        T, B, N, C = x.shape
        maps = x.transpose(2, 3).reshape(T * B, C, GRID, GRID)
        x = x + self.post[3](self.rpe(maps).reshape(T, B, C, N)).transpose(2, 3)
        for i, (mixer, ffn) in enumerate(zip(self.mixers, self.mlps, strict=True)):
            x = x + self.post[i](mixer(x))
            x = x + ffn(x)
        return self.head(x.mean(2)).mean(0)


class SqueezeNet(nn.Module):
    """No transformer: convolutions with a squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.la = nn.Conv2d(3, 8, 3, 2, 1), lif("s")
        self.b, self.lb = nn.Conv2d(8, 8, 3, padding=1), lif("s")
        self.s1, self.s2 = nn.Linear(8, 4), nn.Linear(4, 8)
        self.head = nn.Linear(8, 5)
        self.truth: Truth = {"a": ("conv", None, None), "b": ("conv", None, None), "head": ("head", None, None)}
        self.truth |= {"s1": ("gate", None, None), "s2": ("gate", None, None)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.lb(self.b(self.la(self.a(x))))
        scale = torch.sigmoid(self.s2(torch.relu(self.s1(x.mean((2, 3))))))
        return self.head((x * scale[:, :, None, None]).mean((2, 3)))


class Perceptron(nn.Module):
    """No transformer: layers one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.l, self.b = nn.Linear(3 * 16 * 16, 32), lif("s"), nn.Linear(32, 5)
        self.truth: Truth = {"b": ("head", None, None)}

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.l(self.a(x.flatten(1))))


def of(mixer: type[nn.Module]) -> nn.Module:
    return Net(mixer)


NETWORKS = {
    "qk first": lambda: of(Attention), "kv first": lambda: of(KvFirst), "einsum": lambda: of(Einsum),
    "linear attention": lambda: of(Linear), "softmax": lambda: of(Softmax), "sdpa": lambda: of(Sdpa),
    "windows": lambda: of(Windows), "masks": lambda: of(Masks), "only q and k": lambda: of(OnlyQk),
    "fused": lambda: of(Fused), "nn.MultiheadAttention": lambda: of(TorchAttention),
    "mixer": lambda: of(TokenMixer), "class token": ClassToken, "parallel": Parallel, "no residuals": NoResiduals,
    "gated": Gated, "time loop": Loop, "token ids": TokenIds, "two stages": TwoStages, "post-activation": PostAct,
    "experts": OfExperts, "reduced": lambda: of(Reduced), "shared": Shared,
    "squeeze": SqueezeNet, "perceptron": Perceptron,
}  # fmt: skip


def images(name: str) -> Tensor:
    if name == "token ids":
        return torch.arange(GRID * GRID)[None]
    return torch.rand(1, 3, 16, 16)
