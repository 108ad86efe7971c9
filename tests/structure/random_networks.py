"""Random spiking transformers with the truth of their layers: `network(seed)`.

From the shell, `python -m tests.structure.random_networks 0 5000` tries the seeds from 0 to 4999 and prints what is
wrong.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import torch
from torch import Tensor, nn

import spikeattn as sa
from tests.structure.random_layers import Maker, Piece, Style, T, Truth, Work, patches, shown, square, tokens, unsquare
from tests.structure.random_pieces import attention, feed_forward, mixer

SIZE, WORDS = 32, 12


class RandomNet(nn.Module):
    """A stem, stages and a head; `truth` by path, `images` as it takes them, `recipe` says what it is made of."""

    truth: dict[str, Truth]
    images: Tensor
    blocks: int
    recipe: list[str]

    def __init__(self, time: str, stem: Piece, stages: nn.ModuleList, head: Piece) -> None:
        super().__init__()
        self.time, self.stem, self.stages, self.head = time, stem, stages, head

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.time == "loop":
            return tuple(sum(y) / T for y in zip(*(self._once(x) for _ in range(T)), strict=True))
        at = 1 if self.time == "batch first" else 0
        x = x.unsqueeze(at).repeat(*(T if i == at else 1 for i in range(x.dim() + 1)))
        if self.time == "merged":
            found = [y.unflatten(0, (T, -1)).mean(0) for y in self._once(x.flatten(0, 1))]
        else:
            found = [y.mean(at) for y in self._once(x)]
        return found[0] if len(found) == 1 else tuple(found)

    def _once(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def network(seed: int) -> RandomNet:
    """The network of a seed, with the truth of every layer that has one."""
    rng = random.Random(seed)
    style = Style.of(rng)
    words = rng.random() < 0.08
    count = 1 if words else rng.choice((1, 1, 2, 3))
    classes = rng.choice(("front", "back")) if count == 1 and rng.random() < 0.25 else ""
    if words or classes:
        style = replace(style, maps=False)
    m = Maker(rng, style)
    d, n = rng.choice((8, 16)), rng.choice((2, 4))
    side = WORDS if words else SIZE // 4
    stages, first = nn.ModuleList(), 0
    kinds = sorted((rng.choice(("attention", "attention", "mixer", "convolution")) for _ in range(count)),
                   key=lambda kind: kind != "convolution")  # fmt: skip
    if kinds[-1] == "convolution" or words or classes:
        kinds[-1] = "attention"
    stem = embedding(m, d) if words else stem_of(m, d, classes, kinds[0] == "attention")
    for number, kind in enumerate(kinds):
        stage = m.piece()
        if number:
            m.block = None
            entry, d, side = downsampling(m, d), 2 * d, side // 2
            stages.append(entry)
        if kind == "convolution":
            first = convolutions(m, stage, d, first)
        else:
            first = blocks(m, stage, kind, d, n, side, first, bool(classes) or words)
        stages.append(stage)
    m.block = None
    net = RandomNet(style.time, stem, stages, head_of(m, d, classes))
    net.truth, net.blocks, net.recipe = shown(m.truths, net), first, m.recipe
    net.images = torch.arange(WORDS)[None] if words else torch.zeros(1, 3, SIZE, SIZE)
    return net


# -------------------------------------------------------------------- stems
def embedding(m: Maker, d: int) -> Piece:
    p = m.piece()
    table, fire = m.put(p, nn.Embedding(20, d)), m.fire(p)
    place = nn.Parameter(torch.zeros(WORDS, d))
    p.register_parameter("place", place)
    p.work = lambda x: fire(table(x) + place) if not m.style.before else table(x) + place
    return p


def stem_of(m: Maker, d: int, classes: str, places: bool) -> Piece:
    """Images to a quarter of their size, with a class token if asked; `places`: a position embedding may stand in it.

    It may not before convolution blocks, of which nothing would tell it.
    """
    rng, p = m.rng, m.piece()
    images = Maker(rng, replace(m.style, maps=True))
    images.truths, images.recipe = m.truths, m.recipe
    kind = m.draw("stem", ("patch", "strides", "pools", "shortcut", "hybrid", "linear"))
    fire = m.fire(p)
    if kind == "linear":
        size, way = 4, rng.choice(("unfold", "views"))
        layer = m.put(p, nn.Linear(3 * size * size, d))
        m.note(layer, "SPS")

        def work(x: Tensor) -> Tensor:
            y = layer(patches(x, size, way))
            return y.transpose(-1, -2).unflatten(-1, (SIZE // 4, -1))
    elif kind == "patch":
        layer = images.spatial(p, 3, d, "SPS", kernel=4, stride=4)
        work = layer.forward
    elif kind == "strides":
        a, b, c = (images.spatial(p, w, d, "SPS", stride=s) for w, s in ((3, 2), (d, 2), (d, 1)))
        after = (m.fire(p), m.fire(p))

        def work(x: Tensor) -> Tensor:
            return c(after[1](b(after[0](a(x)))))
    elif kind == "hybrid":
        a, b = (images.spatial(p, w, d, "SPS", stride=s) for w, s in ((3, 2), (d, 1)))
        after = (m.fire(p), m.fire(p))
        layer = m.put(p, nn.Linear(4 * d, d))
        m.note(layer, "SPS")

        def work(x: Tensor) -> Tensor:
            y = layer(patches(after[1](b(after[0](a(x)))), 2, "views"))
            return y.transpose(-1, -2).unflatten(-1, (SIZE // 4, -1))
    else:
        a = images.spatial(p, 3, d, "SPS", pool=True)
        b = images.spatial(p, d, d, "SPS", pool=True)
        short = images.spatial(p, d, d, "SPS", kernel=1, stride=2) if kind == "shortcut" else None
        between = m.fire(p)

        def work(x: Tensor) -> Tensor:
            y = between(a(x))
            return b(y) if short is None else b(y) + short(y)

    place = images.spatial(p, d, d, "SPS", depthwise=rng.random() < 0.5) if places and rng.random() < 0.3 else None
    other = m.fire(p)
    token = nn.Parameter(torch.zeros(1, d)) if classes else None
    p.register_parameter("token", token)

    def whole(x: Tensor) -> Tensor:
        y = work(x)
        y = fire(y) if not m.style.before or place is not None else y
        if place is not None:
            y = y + (other(place(y)) if not m.style.before else place(y))
        y = y if m.style.maps else unsquare(y, False)
        if token is None:
            return y
        own = token.expand(*y.shape[:-2], 1, d)
        return torch.cat([own, y] if classes == "front" else [y, own], -2)

    p.work = whole
    return p


def downsampling(m: Maker, d: int) -> Piece:
    """Half the grid, twice the channels."""
    p = m.piece()
    kind = m.draw("downsampling", ("stride", "pool", "merge", "shortcut", "two"))
    if kind == "merge":
        fire, layer, maps = m.fire(p), m.put(p, nn.Linear(4 * d, 2 * d)), m.style.maps
        m.note(layer, "downsampling")

        def merge(x: Tensor) -> Tensor:
            y = layer(patches(square(fire(x) if m.style.before else x, maps), 2, "views"))
            side = round(y.shape[-2] ** 0.5)
            y = y.transpose(-1, -2).unflatten(-1, (side, side)) if maps else y
            return y if m.style.before else fire(y)

        p.work = merge
        return p
    stride, pool = (1, True) if kind == "pool" else (2, False)
    layers = [m.spatial(p, d, 2 * d, "downsampling", stride=stride, pool=pool)]
    if kind in ("two", "shortcut"):
        layers.append(m.spatial(p, 2 * d, 2 * d, "downsampling"))
    way = m.stack(p, layers)
    if kind == "shortcut":
        short = m.stack(p, [m.spatial(p, d, 2 * d, "downsampling", kernel=1, stride=2)])
        p.work = lambda x: way(x) + short(x)
    else:
        p.work = way
    return p


# -------------------------------------------------------------------- blocks
def convolutions(m: Maker, stage: Piece, d: int, first: int) -> int:
    """A stage of convolution blocks; the number of the next block."""
    kind, works = m.draw("convolutions", ("separable", "basic")), list[Work]()
    for _ in range(m.rng.choice((1, 2))):
        m.block = first
        p = m.piece()
        if kind == "separable":
            middle = m.spatial(p, 2 * d, 2 * d, "conv", kernel=7, depthwise=True)
            works.append(m.stack(p, [m.dense(p, d, 2 * d, "conv"), middle, m.dense(p, 2 * d, d, "conv")]))
        works.append(m.stack(p, [m.spatial(p, d, 2 * d, "conv"), m.spatial(p, 2 * d, d, "conv")]))
        m.put(stage, p)
        first += 1

    def work(x: Tensor) -> Tensor:
        for f in works:
            x = x + f(x)
        return x

    stage.work = work
    return first


def blocks(
    m: Maker, stage: Piece, kind: str, d: int, n: int, side: int, first: int, plain: bool
) -> int:  # fmt: skip
    """A stage of mixers and feed-forwards; the number of the next block."""
    rng, works = m.rng, list[Work]()
    way = m.draw("sums", ("each", "each", "each", "each", "outer", "parallel", "none", "mixer", "before"))
    way = "each" if kind == "mixer" else way
    leads = kind == "attention" and not plain and way == "each" and rng.random() < 0.2
    for _ in range(2 if leads else rng.choice((1, 2, 3))):
        m.block = first
        lead = m.piece() if leads else None
        if lead is not None:
            lead.work = m.stack(lead, [m.spatial(lead, d, d, "conv", depthwise=True)])
            m.put(stage, lead)
        f = m.put(stage, attention(m, d, n, side, plain) if kind == "attention" else mixer(m, d, side))
        # Behind depthwise mixers and before attention a feed-forward that convolves may be a convolution block.
        alike = way == "before" or m.recipe[-1] == "mixer depthwise"
        g = m.put(stage, feed_forward(m, d, plain or alike))
        works.append(block(way, f, g, lead))
        first += 1

    def work(x: Tensor) -> Tensor:
        for f in works:
            x = f(x)
        return x

    stage.work = work
    return first


def block(way: str, f: nn.Module, g: nn.Module, lead: nn.Module | None) -> Work:
    """A mixer f and a feed-forward g with their sums."""

    def each(x: Tensor) -> Tensor:
        x = x if lead is None else x + lead(x)
        x = x + f(x)
        return x + g(x)

    def mixed(x: Tensor) -> Tensor:
        return g(x + f(x))

    def before(x: Tensor) -> Tensor:
        x = x + g(x)
        return x + f(x)

    return {
        "each": each, "outer": lambda x: x + g(f(x)), "parallel": lambda x: x + f(x) + g(x), "none": lambda x: g(f(x)),
        "mixer": mixed, "before": before,
    }[way]  # fmt: skip


# -------------------------------------------------------------------- heads
def head_of(m: Maker, d: int, classes: str) -> Piece:
    p = m.piece()
    kind = m.draw("head", ("linear", "linear", "norm", "mlp", "two", "wide first"))
    fire, other = m.fire(p), m.fire(p)
    norm = m.put(p, nn.LayerNorm(d)) if kind == "norm" else nn.Identity()
    wide = m.dense(p, d, 2 * d, "head") if kind == "wide first" else None
    width = 2 * d if wide is not None else d
    layers = [m.put(p, layer) for layer in (
        [nn.Linear(width, width), nn.Linear(width, 5)] if kind == "mlp" else
        [nn.Linear(width, 5), nn.Linear(width, 5)] if kind == "two" else [nn.Linear(width, 5)])]  # fmt: skip
    for layer in layers:
        m.note(layer, "head")

    def work(x: Tensor) -> tuple[Tensor, ...]:
        y = fire(x) if wide is None else other(wide(fire(x)))
        y = tokens(y, m.style.maps)
        y = y[..., 0 if classes == "front" else -1, :] if classes else y.mean(-2)
        y = norm(y)
        if kind == "two":
            return layers[0](y), layers[1](y)
        for layer in layers:
            y = layer(y)
        return (y,)

    p.work = work  # type: ignore[assignment]
    return p


# -------------------------------------------------------------------- the check
def wrong(net: RandomNet) -> list[tuple[str, Truth, Truth]]:
    """Layers that the inference reads otherwise: path, truth, what it says."""
    found = sa.structure(net, net.images)
    got = {e.name: (e.part, e.block, e.role) for e in found.entries["synapses"]}
    return [(path, want, got[path]) for path, want in net.truth.items() if path in got and not _fits(want, got[path])]


def _fits(want: Truth, got: Truth) -> bool:
    return want[:2] == got[:2] and got[2] in ((want[2] or "").split("|") if want[2] else [None])


def _try(first: int, last: int) -> None:
    total = faults = 0
    for seed in range(first, last):
        net = network(seed)
        try:
            found = wrong(net)
        except sa.SpikeattnError as error:
            print(seed, error)
            continue
        total, faults = total + len(net.truth), faults + len(found)
        if found:
            print(seed, *net.recipe, sep="; ")
        for path, want, got in found[:4]:
            print(seed, path, want, "->", got, flush=True)
    print(f"{last - first} networks, {total} layers, {faults} wrong")


if __name__ == "__main__":
    _try(int(sys.argv[1]), int(sys.argv[2]))
