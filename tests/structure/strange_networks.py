"""Small versions of strange published families, with the truth of their layers.

From their papers: spike-driven attention of differences, of XOR and of additions alone, tokens chosen by their scores,
experts, words, wavelets, recurrences without attention, pyramids for detection and segmentation, points and graphs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.structure.odd_networks import (
    GRID,
    MLP,
    STEM,
    Attention,
    D,
    Net,
    OnlyQk,
    Stem,
    Truth,
    heads,
    lif,
    merged,
    mlp,
)


class Difference(nn.Module):
    """Differential attention: the scores of two pairs of q and k are subtracted."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.out = lif(), lif()
        self.a, self.b, self.c = nn.Linear(D, 2 * D), nn.Linear(D, 2 * D), nn.Linear(D, D)
        self.n1, self.n2, self.n3, self.proj = lif(), lif(), lif(), nn.Linear(D, D)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        s = self.inp(x)
        (q1, q2), (k1, k2) = self.n1(self.a(s)).chunk(2, -1), self.n2(self.b(s)).chunk(2, -1)
        first, second = (heads(q) @ heads(k).transpose(-1, -2) for q, k in ((q1, k1), (q2, k2)))
        y = (first - self.weight * second) @ heads(self.n3(self.c(s)))
        return self.proj(self.out(merged(y)))

    def truth_of(self, path: str, block: int) -> Truth:
        made: Truth = {f"{path}.{n}": ("QKV", block, r) for n, r in zip("abc", "qkv", strict=True)}
        return made | {f"{path}.proj": ("projection", block, None)}


class Xor(Attention):
    """Similarity of spikes by XOR, summed over channels, in place of a matrix product."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = heads(q).bool(), heads(k).bool(), heads(v)
        alike = (~torch.logical_xor(q.unsqueeze(-2), k.unsqueeze(-3))).to(v.dtype).sum(-1)
        return merged(alike @ v)


class Additions(Attention):
    """Additions alone: q of spikes, k and v of real numbers above zero."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = self.inp(x)
        return self.n3(self.gamma(s)), self.alpha(s).relu(), self.beta(s)


class Similarity(Attention):
    """Distances between q and k in place of their product."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return merged((-torch.cdist(heads(q), heads(k), p=1.0)).softmax(-1) @ heads(v))

    def truth_of(self, path: str, block: int) -> Truth:
        return {}  # what multiplies v is a distance: see the test of what may be said of it


class TopK(Attention):
    """Scores below the largest few are masked."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = heads(q) @ heads(k).transpose(-1, -2)
        least = scores.topk(4, -1).values[..., -1:]
        return merged(scores.masked_fill(scores < least, float("-inf")).softmax(-1) @ heads(v))


class SelfGated(Attention):
    """An output gate behind attention, of one more layer."""

    def __init__(self) -> None:
        super().__init__()
        self.delta, self.n4 = nn.Linear(D, D), lif()

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(*self.qkv(x)) * 0.125
        return self.proj(self.out(y) * self.n4(self.delta(self.inp(x))))


class HeadExperts(nn.Module):
    """SEMM: a router weighs heads, each an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.router, self.n0 = lif(), nn.Linear(D, 2), lif()
        self.q, self.k, self.v = (nn.Linear(D, D) for _ in range(3))
        self.n1, self.n2, self.n3, self.out, self.proj = lif(), lif(), lif(), lif(), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        s = self.inp(x)
        weights = self.n0(self.router(s)).unsqueeze(-1)
        q, k, v = self.n1(self.q(s)), self.n2(self.k(s)), self.n3(self.v(s))
        parts = torch.stack([a @ b.transpose(-1, -2) @ c for a, b, c in zip(*(y.chunk(2, -1) for y in (q, k, v)),
                                                                            strict=True)], -2)  # fmt: skip
        return self.proj(self.out((weights * parts).flatten(-2)))

    def truth_of(self, path: str, block: int) -> Truth:
        made: Truth = {f"{path}.{r}": ("QKV", block, r) for r in "qkv"}
        return made | {f"{path}.proj": ("projection", block, None), f"{path}.router": ("gate", block, None)}


class Haar(nn.Module):
    """Spiking wavelet transformer: Haar matrices over rows and columns, weights between, the inverse behind."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.mid, self.back = lif(), lif(), lif()
        self.register_buffer("matrix", torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0],
                                                     [1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]))  # fmt: skip
        self.weights = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inp(x).transpose(-1, -2).unflatten(-1, (GRID, GRID))
        y = self.mid(self.matrix @ y @ self.matrix.t())
        y = self.weights(y.flatten(-2).transpose(-1, -2)).transpose(-1, -2).unflatten(-1, (GRID, GRID))
        y = self.matrix.t() @ self.back(y) @ self.matrix
        return y.flatten(-2).transpose(-1, -2)

    def truth_of(self, path: str, block: int) -> Truth:
        return {}  # the matrices are named by operation: see the test


class Fourier(nn.Module):
    """FNet: a Fourier transform mixes tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.inp = lif()

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(self.inp(x)).real

    def truth_of(self, path: str, block: int) -> Truth:
        return {}


class GatedMix(nn.Module):
    """gMLP: half of the channels is weighed over tokens and gates the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.l1, self.up, self.l2 = lif(), nn.Linear(D, 2 * D), lif()
        self.over, self.l3, self.down = nn.Linear(GRID * GRID, GRID * GRID), lif(), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.l2(self.up(self.l1(x))).chunk(2, -1)
        return self.down(self.l3(u * self.over(v.transpose(-1, -2)).transpose(-1, -2)))

    def truth_of(self, path: str, block: int) -> Truth:
        return {f"{path}.over": ("mixing", block, None)}


class Recurrent(nn.Module):
    """RWKV, Mamba: a state over tokens in place of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.l1, self.r, self.k, self.v = lif(), nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.o, self.l2, self.decay = nn.Linear(D, D), lif(), nn.Parameter(torch.ones(D))

    def forward(self, x: Tensor) -> Tensor:
        s = self.l1(x)
        r, k, v = self.r(s).sigmoid(), self.k(s).exp(), self.v(s)
        up, under, rows = torch.zeros_like(x[:, :, 0]), torch.zeros_like(x[:, :, 0]), []
        for t in range(x.shape[2]):
            up = up * self.decay + k[:, :, t] * v[:, :, t]
            under = under * self.decay + k[:, :, t]
            rows.append(up / (under + 1))
        return self.o(self.l2(r * torch.stack(rows, 2)))

    def truth_of(self, path: str, block: int) -> Truth:
        return {}


class Pruned(Net):
    """Tokens with the largest scores alone go on, between the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.l0 = nn.Linear(D, 1), lif()

    def blocks(self, x: Tensor) -> Tensor:
        x = x + self.mixers[0](x)
        x = x + self.mlps[0](x)
        best = self.score(self.l0(x)).squeeze(-1).topk(8, -1).indices
        x = x.gather(2, best.unsqueeze(-1).expand(*best.shape, D))
        x = x + self.mixers[1](x)
        return x + self.mlps[1](x)


class Words(Net):
    """SpikeGPT, SpikeBERT: embeddings, positions, a norm, causal attention, an answer for every word."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.place, self.norm = nn.Embedding(20, D), nn.Parameter(torch.zeros(16, D)), nn.LayerNorm(D)
        self.truth = {k: v for k, v in self.truth.items() if not k.startswith("stem")}

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.stem(ids) + self.place).expand(2, *ids.shape, D)
        return self.head(self.last(self.blocks(x))).mean(0)


class Cross(Net):
    """Two streams: q of one, k and v of the other (event and frame)."""

    def __init__(self) -> None:
        super().__init__()
        self.other = Stem()
        self.truth |= {f"other.{n.removeprefix('stem.')}": what for n, what in STEM.items()}

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x), self.other(x)
        for mixer, ffn in zip(self.mixers, self.mlps, strict=True):
            s = mixer.inp(b)
            q, k, v = mixer.n3(mixer.gamma(mixer.inp(a))), mixer.n1(mixer.alpha(s)), mixer.n2(mixer.beta(s))
            a = a + mixer.proj(mixer.out(mixer.mix(q, k, v)))
            a = a + ffn(a)
        return self.head(self.last(a.mean(2))).mean(0)


class Pyramid(Net):
    """A detector: the tokens go back to a map, a lateral and a smoothing convolution, two heads on the map."""

    def __init__(self) -> None:
        super().__init__()
        del self.head
        self.lateral, self.smooth = nn.Conv2d(D, D, 1), nn.Conv2d(D, D, 3, padding=1)
        self.boxes, self.classes = nn.Conv2d(D, 4, 1), nn.Conv2d(D, 5, 1)
        self.truth = {k: v for k, v in self.truth.items() if k != "head"}
        self.truth |= {"boxes": ("head", None, None), "classes": ("head", None, None)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.last(self.blocks(self.stem(x))).mean(0).transpose(1, 2).unflatten(2, (GRID, GRID))
        x = self.smooth(F.interpolate(self.lateral(x), scale_factor=2)).relu()
        return {"boxes": self.boxes(x), "classes": self.classes(x)}


class Points(nn.Module):
    """A point cloud [B, N, 3]: a layer for every point, attention over points, the maximum over them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.l0, self.mixer, self.ffn = nn.Linear(3, D), lif(), Attention(), MLP()
        self.head = nn.Linear(D, 5)
        self.truth: Truth = {"embed": ("SPS", None, None), "head": ("head", None, None)} | mlp("ffn", 0)
        for name, role in (("alpha", "k"), ("beta", "v"), ("gamma", "q")):
            self.truth[f"mixer.{name}"] = ("QKV", 0, role)

    def forward(self, x: Tensor) -> Tensor:
        x = self.l0(self.embed(x).expand(2, *x.shape[:2], D))
        x = x + self.mixer(x)
        x = x + self.ffn(x)
        return self.head(x.amax(2)).mean(0)


class Graph(nn.Module):
    """A graph network: neighbours are summed by a fixed matrix; no attention."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.ones(9, 9))
        self.a, self.la, self.b, self.lb, self.head = nn.Linear(3, D), lif(), nn.Linear(D, D), lif(), nn.Linear(D, 5)
        self.truth: Truth = {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.la((self.adjacency @ self.a(x)).expand(2, *x.shape[:2], D))
        x = self.lb(self.adjacency @ self.b(x))
        return self.head(x.mean(2)).mean(0)


class UNet(nn.Module):
    """No transformer: down, up and a skip by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.up, self.d, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 8, 3, 1, 1), nn.Conv2d(8, 2, 1)
        self.n = nn.ModuleList([lif("s") for _ in range(5)])
        self.truth: Truth = {name: ("conv", None, None) for name in ("a", "b", "c", "up", "d")}

    def forward(self, x: Tensor) -> Tensor:
        a = self.n[0](self.a(x))
        x = self.n[2](self.c(self.n[1](self.b(a))))
        x = self.n[4](self.d(torch.cat([a, self.n[3](self.up(x))], 1)))
        return self.last(x)


class Channels(Attention):
    """Attention between channels (XCA): the scores stand over channels."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = heads(q), heads(k), heads(v)
        return merged(v @ (k.transpose(-1, -2) @ q))

    def truth_of(self, path: str, block: int) -> Truth:
        return {f"{path}.proj": ("projection", block, None)}


class Chunks(Attention):
    """STAtten: attention over the tokens of two time steps at once."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def joined(x: Tensor) -> Tensor:
            T, B, N, C = x.shape
            return heads(x.reshape(T // 2, 2, B, N, C).transpose(1, 2).reshape(T // 2, B, 2 * N, C))

        T, B, N, C = q.shape
        y = merged(joined(q) @ (joined(k).transpose(-1, -2) @ joined(v)))
        return y.reshape(T // 2, B, 2, N, C).transpose(1, 2).reshape(T, B, N, C)


class LowRank(Attention):
    """k and v by way of a few shared channels and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.few, self.norm = nn.Linear(D, 4), nn.LayerNorm(4)
        self.alpha, self.beta = nn.Linear(4, D), nn.Linear(4, D)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = self.inp(x)
        few = self.norm(self.few(s))
        return self.n3(self.gamma(s)), self.n1(self.alpha(few)), self.n2(self.beta(few))


class SameQk(OnlyQk):
    """q summed over all channels of a token, as a mask of every head."""

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.n1(self.one(x)), self.n2(self.two(x))
        return self.proj(self.gate(q.mean(-1, keepdim=True)) * k)


def of(mixer: type[nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Net(mixer)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "difference": of(Difference), "xor": of(Xor), "additions": of(Additions), "similarity": of(Similarity),
    "top k": of(TopK), "self gated": of(SelfGated), "head experts": of(HeadExperts), "haar": of(Haar),
    "fourier": of(Fourier), "gated mix": of(GatedMix), "recurrent": of(Recurrent), "pruned": Pruned, "words": Words,
    "cross": Cross, "pyramid": Pyramid, "points": Points, "graph": Graph, "unet": UNet, "channels": of(Channels),
    "chunks": of(Chunks), "low rank": of(LowRank), "mean of q": of(SameQk),
}  # fmt: skip


def images(name: str) -> Tensor:
    if name == "words":
        return torch.arange(GRID * GRID)[None]
    if name in ("points", "graph"):
        return torch.rand(1, 9, 3)
    return torch.rand(1, 3, 16, 16)
