"""Attention, feed-forwards and other mixers of random transformers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.structure.random_layers import (
    Maker,
    Piece,
    T,
    Work,
    heads,
    in_windows,
    merged,
    square,
    tokens,
    unsquare,
    untokens,
)

Operands = Callable[[Tensor], dict[str, Tensor]]
# Of masks that multiply two operands alike nothing says which is which: "k|v" stands for either.
EITHER = {"masks": ("k", "v"), "channel masks": ("q", "k")}
CORES = ("qk v", "qk v", "q kv", "q kv", "einsum qk", "einsum kv", "softmax", "sdpa", "linear", "hamming", "windows",
         "masks", "masks", "channel masks", "token sum", "channel sum", "temporal", "causal", "cosine", "heads in turn",
         "wide", "one head", "bias", "l1")  # fmt: skip
PAIRS = ("token sum", "channel sum")  # of q and k alone


def attention(m: Maker, d: int, n: int, side: int, classes: bool) -> Piece:
    """A random attention of n heads on side x side tokens of d channels; `classes`: others beside them, or no grid."""
    rng, p = m.rng, m.piece()
    kind = m.draw("attention", [c for c in CORES if not (classes and c == "windows")])
    if kind == "temporal" and m.style.time != "multi":
        kind = "qk v"
    out = 2 * d if kind == "wide" else d
    make = operands(m, p, d, n, kind, classes, side > 2)
    core = core_of(m, p, kind, n)
    project = m.dense(p, out, d, "projection")
    enters, leaves = m.fire(p), m.fire(p)
    after = None if m.style.before else m.fire(p)
    between, maps = rng.random() < 0.7 or not m.style.before, m.style.maps

    def work(x: Tensor) -> Tensor:
        grid = x.shape[-2:]
        s = enters(x) if m.style.before else x
        y = core(**make(s)) * 0.25
        y = untokens(leaves(y) if between else y, grid, maps)
        y = project(y)
        return y if after is None else after(y)

    p.work = work
    return p


def operands(m: Maker, p: Piece, d: int, n: int, kind: str, classes: bool, reducible: bool) -> Operands:
    """Functions that make q, k and v as tokens from the spikes that attention reads."""
    rng, maps = m.rng, m.style.maps
    names = "qk" if kind in PAIRS else "qkv"
    widths = {r: (2 * d if kind == "wide" and r == "v" else d // n if kind == "one head" and r != "q" else d)
              for r in names}  # fmt: skip
    groups = rng.choice([list(names), list(names), [names], ["q", "kv"], ["qk", "v"]])
    if kind in PAIRS and len("".join(groups)) > 2:
        groups = [names]
    groups = ["".join(rng.sample(g, len(g))) for g in rng.sample(groups, len(groups))]
    made: list[tuple[str, Work]] = []
    alone = all("q" not in g or g == "q" for g in groups)  # k and v of fewer tokens need layers of their own
    alone = alone and reducible and not classes
    reduced = alone and rng.random() < 0.2 and kind not in (*PAIRS, "windows", "masks", "channel masks")
    m.recipe.append(f"groups {groups} {'reduced' if reduced else ''}")
    reduce = m.spatial(p, d, d, "conv", kernel=2, stride=2) if reduced else None
    fires = m.fire(p)
    for group in groups:
        role = _role(group, kind)
        layer = linear_map(m, p, d, sum(widths[r] for r in group), role, classes or reduced)
        fire = m.fire(p)
        made.append((group, _after(layer, fire)))
    per_head = kind not in ("wide", "one head") and rng.random() < 0.3

    def make(s: Tensor) -> dict[str, Tensor]:
        found = {}
        for group, layer in made:
            source = fires(reduce(s)) if reduce is not None and not {"q"} & set(group) else s
            y = tokens(layer(source), maps)
            if per_head and len(group) > 1:  # [heads, groups, channels of a head] in the channels
                parts = y.unflatten(-1, (n, len(group), -1)).unbind(-2)
                parts = tuple(x.flatten(-2) for x in parts)
            else:
                parts = y.split([widths[r] for r in group], -1)
            found |= dict(zip(group, parts, strict=True))
        return found

    return make


def _role(group: str, kind: str) -> str:
    """The role of a layer for some of q, k and v; two where they may stand for one another."""
    a, b = EITHER.get(kind, ("q", "q"))
    swapped = group.translate(str.maketrans(a + b, b + a))
    both = ["".join(sorted(roles, key="qkv".index)) for roles in (group, swapped)]
    return "|".join(dict.fromkeys(both))


def _after(layer: Work, fire: nn.Module) -> Work:
    return lambda x: fire(layer(x))


def linear_map(m: Maker, p: Piece, d: int, out: int, role: str, plain: bool) -> Work:
    """One layer, or several that act as one: in series or in branches."""
    ways = ("one", "one", "branches", "depthwise first", "series")
    way = "one" if plain else m.draw("operand", ways[:3] if m.style.norm == "layer" else ways)  # that is not linear
    last = m.dense(p, d, out, "QKV", role)
    if way == "one":
        return last
    if way == "branches":
        other = m.spatial(p, d, out, "QKV", role)
        return lambda x: last(x) + other(x)
    first = m.spatial(p, d, d, "QKV", role, depthwise=True)
    if way == "depthwise first":
        return lambda x: last(first(x))
    before = m.dense(p, d, d, "QKV", role)
    return lambda x: last(first(before(x)))


def core_of(m: Maker, p: Piece, kind: str, n: int) -> Callable[..., Tensor]:
    """The products of an attention, of operands [..., N, C]."""
    fire, scale = m.fire(p), nn.Parameter(torch.ones(1))
    p.register_parameter("_scale", scale)

    def first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return merged(heads(q, n) @ heads(k, n).transpose(-1, -2) @ heads(v, n))

    def later(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return merged(heads(q, n) @ (heads(k, n).transpose(-1, -2) @ heads(v, n)))

    def scored(f: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        def work(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return merged(f(heads(q, n) @ heads(k, n).transpose(-1, -2) * scale) @ heads(v, n))

        return work

    def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = heads(q, n), heads(k, n), heads(v, n)
        return merged(q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(-2).unsqueeze(-1) + 1))

    def hamming(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = heads(q, n), heads(k, n)
        alike = q @ k.transpose(-1, -2) + (1 - q) @ (1 - k).transpose(-1, -2)
        return merged(alike @ heads(v, n))

    def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        lead = q.shape[:-2]
        y = F.scaled_dot_product_attention(*(heads(x.reshape(-1, *x.shape[-2:]), n) for x in (q, k, v)))
        return merged(y).reshape(*lead, *q.shape[-2:])

    def temporal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def joined(x: Tensor) -> Tensor:  # [T, B, N, C] -> [B, T * N, C]
            return x.transpose(0, 1).flatten(1, 2)

        return first(joined(q), joined(k), joined(v)).unflatten(1, (T, -1)).transpose(0, 1)

    def in_turn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own = [(a @ b.transpose(-1, -2)) @ c for a, b, c in zip(*(x.chunk(n, -1) for x in (q, k, v)), strict=True)]
        return torch.cat(own, -1)

    def one_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return merged((heads(q, n) @ k.transpose(-1, -2).unsqueeze(-3)) @ v.unsqueeze(-3))

    def einsum(q: Tensor, k: Tensor, v: Tensor, by: str) -> Tensor:
        q, k, v = heads(q, n), heads(k, n), heads(v, n)
        if by == "qk":
            return merged(torch.einsum("...nm,...md->...nd", torch.einsum("...nd,...md->...nm", q, k), v))
        return merged(torch.einsum("...nd,...de->...ne", q, torch.einsum("...nd,...ne->...de", k, v)))

    def causal(x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[-2:], device=x.device).tril() == 0
        return x.masked_fill(mask, float("-inf")).softmax(-1)

    return {
        "qk v": first, "q kv": later, "wide": first, "linear": linear, "hamming": hamming, "sdpa": sdpa,
        "einsum qk": lambda **x: einsum(**x, by="qk"), "einsum kv": lambda **x: einsum(**x, by="kv"),
        "softmax": scored(lambda x: x.softmax(-1)), "causal": scored(causal), "bias": scored(lambda x: x + scale),
        "l1": scored(lambda x: x / (x.sum(-1, keepdim=True) + 1)),
        "windows": lambda q, k, v: in_windows(first, 2, q, k, v), "temporal": temporal, "heads in turn": in_turn,
        "cosine": lambda q, k, v: first(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v), "one head": one_head,
        "masks": lambda q, k, v: fire((k * v).sum(-2, keepdim=True)) * q,
        "channel masks": lambda q, k, v: merged(
            fire((heads(q, n) * heads(k, n)).sum(-1, keepdim=True)) * heads(v, n)),
        "token sum": lambda q, k: merged(fire(heads(q, n).sum(-1, keepdim=True)) * heads(k, n)),
        "channel sum": lambda q, k: fire(q.sum(-2, keepdim=True)) * k,
    }[kind]  # fmt: skip


# -------------------------------------------------------------------- feed-forwards
def feed_forward(m: Maker, d: int, plain: bool) -> Piece:
    """A random feed-forward; `plain` without convolutions: where tokens stand on no grid or nothing would tell it."""
    kinds = ["mlp"] * 4 + ["gated", "fused gated", "experts"]
    kind = m.draw("feed-forward", kinds if plain else [*kinds, "depthwise", "depthwise", "beside", "dense"])
    p, wide = m.piece(), m.rng.choice((2, 4)) * d
    if kind == "mlp":
        p.work = m.stack(p, [m.dense(p, d, wide, "MLP1"), m.dense(p, wide, d, "MLP2")])
    elif kind == "depthwise":
        middle = m.spatial(p, wide, wide, "conv", depthwise=True)
        p.work = m.stack(p, [m.dense(p, d, wide, "MLP1"), middle, m.dense(p, wide, d, "MLP2")])
    elif kind == "beside":  # a convolution around the middle of it
        up, down = m.dense(p, d, wide, "MLP1"), m.dense(p, wide, d, "MLP2")
        a, b, c = (m.stack(p, [layer]) for layer in (up, m.spatial(p, wide, wide, "conv", depthwise=True), down))

        def around(x: Tensor) -> Tensor:
            y = a(x)
            return c(y + b(y))

        p.work = around
    elif kind == "dense":
        p.work = m.stack(p, [m.spatial(p, d, wide, "MLP1"), m.spatial(p, wide, d, "MLP2")])
    elif kind == "experts":
        experts(m, p, d, wide)
    else:
        gated(m, p, d, wide, kind == "fused gated")
    return p


def gated(m: Maker, p: Piece, d: int, wide: int, fused: bool) -> None:
    ups = [m.dense(p, d, 2 * wide, "MLP1")] if fused else [m.dense(p, d, wide, "MLP1") for _ in range(2)]
    down, n = m.dense(p, wide, d, "MLP2"), [m.fire(p) for _ in range(5)]
    axis = -3 if m.style.maps else -1

    def work(x: Tensor) -> Tensor:
        s = n[0](x) if m.style.before else x
        a, b = ups[0](s).chunk(2, axis) if fused else (ups[0](s), ups[1](s))
        y = down(n[3](n[1](a) * n[2](b)))
        return y if m.style.before else n[4](y)

    p.work = work


def experts(m: Maker, p: Piece, d: int, wide: int) -> None:
    count = m.rng.choice((2, 3))
    router, enters, axis = m.dense(p, d, count, "gate"), m.fire(p), -3 if m.style.maps else -1
    own = [m.stack(p, [m.dense(p, d, wide, "MLP1"), m.dense(p, wide, d, "MLP2")]) for _ in range(count)]
    firing, fire = m.rng.random() < 0.5, m.fire(p)

    def work(x: Tensor) -> Tensor:
        weights = router(enters(x))
        weights = fire(weights) if firing else weights.softmax(axis)
        return sum(weights.narrow(axis, i, 1) * f(x) for i, f in enumerate(own))  # type: ignore[return-value]

    p.work = work


# -------------------------------------------------------------------- other mixers
def mixer(m: Maker, d: int, side: int) -> Piece:
    """What mixes tokens without attention: weights over them, a pool, a depthwise convolution, a fixed matrix."""
    p, kind = m.piece(), m.draw("mixer", ("weights", "pool", "depthwise", "matrix"))
    fire, other, maps, count = m.fire(p), m.fire(p), m.style.maps, side * side
    if kind == "pool":
        p.work = lambda x: unsquare(_pooled(square(fire(x), maps)), maps)
    elif kind == "depthwise":
        kernel = m.rng.choice((3, 5))
        p.work = m.stack(p, [m.spatial(p, d, d, "conv", kernel=kernel, depthwise=True)])
    elif kind == "weights":
        up, down = (m.put(p, layer) for layer in (nn.Linear(count, 2 * count), nn.Linear(2 * count, count)))
        m.note(up, "mixing")
        m.note(down, "mixing")

        def mix(x: Tensor) -> Tensor:
            y = tokens(x, maps).transpose(-1, -2)
            y = down(other(up(fire(y)))).transpose(-1, -2)
            return untokens(y, (side, side), maps)

        p.work = mix
    else:
        fixed = m.put(p, Fixed(count))
        m.note(fixed, "mixing")
        p.work = lambda x: untokens(fixed(tokens(fire(x), maps)), (side, side), maps)
    return p


class Fixed(nn.Module):
    """A matrix over tokens that is no parameter, as in a wavelet transform."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(count))

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix @ x


def _pooled(x: Tensor) -> Tensor:
    y = x.reshape(-1, *x.shape[-3:])
    return (F.avg_pool2d(y, 3, 1, 1) - y).reshape(x.shape)
