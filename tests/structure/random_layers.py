"""Layers of random transformers: under random names, in random layouts, each with the truth of what it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

T = 2
Truth = tuple[str, int | None, str | None]
Work = Callable[[Tensor], Tensor]
# Names say nothing or lie: those of q, k and v among them are given to any layer.
_NAMES = (
    "q", "k", "v", "query", "key", "value", "proj", "fc1", "fc2", "mlp", "attn", "conv", "head", "stem", "gate", "a",
    "b", "c", "net", "layer", "op", "x1", "x2", "block", "embed", "lif", "bn", "W", "down", "up",
)  # fmt: skip


@dataclass(frozen=True)
class Style:
    """What all layers of a network have in common.

    Attributes:
        time: "multi" [T, B, ...], "batch first" [B, T, ...], "merged" [T * B, ...] or "loop" [B, ...], T times.
        maps: tensors between the pieces are [..., C, h, w], else tokens [..., N, C].
        dense: "linear", "conv1d" or "conv2d" for what works on each token.
        norm: "batch", "layer" or "none" behind a dense layer.
        before: neurons stand before the layers (membrane shortcut), else behind them.
        fires: "lif", "if" or "step", a threshold written as a function.
    """

    time: str
    maps: bool
    dense: str
    norm: str
    before: bool
    fires: str

    @classmethod
    def of(cls, rng: random.Random) -> Style:
        return cls(
            rng.choice(("multi", "batch first", "merged", "loop")), rng.random() < 0.4,
            rng.choice(("linear", "conv1d", "conv2d")), rng.choice(("batch", "batch", "layer", "none")),
            rng.random() < 0.5, rng.choice(("lif", "lif", "if", "step")),
        )  # fmt: skip


class Fire(nn.Module):
    """A spiking neuron on tensors of any of the layouts."""

    def __init__(self, style: Style) -> None:
        super().__init__()
        self.time = style.time
        mode = "s" if style.time == "loop" else "m"
        self.f: nn.Module = {
            "lif": lambda: neuron.LIFNode(tau=2.0, detach_reset=True, step_mode=mode),
            "if": lambda: neuron.IFNode(step_mode=mode), "step": Step,
        }[style.fires]()  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.time == "merged":
            return self.f(x.unflatten(0, (T, -1))).flatten(0, 1)
        return self.f(x.transpose(0, 1)).transpose(0, 1) if self.time == "batch first" else self.f(x)


class Step(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x >= 0.5).to(x.dtype)


class Dense(nn.Module):
    """A layer on every token of [..., N, C] (or of maps), with its norm."""

    def __init__(self, style: Style, width: int, out: int, bias: bool) -> None:
        super().__init__()
        self.style = style
        self.weights: nn.Module = {
            "linear": lambda: nn.Linear(width, out, bias=bias),
            "conv1d": lambda: nn.Conv1d(width, out, 1, bias=bias),
            "conv2d": lambda: nn.Conv2d(width, out, 1, bias=bias),
        }[style.dense]()  # fmt: skip
        self.norm: nn.Module | None = {
            "batch": lambda: (nn.BatchNorm2d if style.dense == "conv2d" else nn.BatchNorm1d)(out),
            "layer": lambda: nn.LayerNorm(out), "none": lambda: None,
        }[style.norm]()  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        grid = x.shape[-2:] if self.style.maps else (x.shape[-2], 1)
        y = tokens(x, self.style.maps)
        lead, (N, C) = y.shape[:-2], y.shape[-2:]
        y = y.reshape(-1, N, C)
        if self.style.dense == "linear":
            y = self.weights(y)
            y = self._normed(y.transpose(1, 2)).transpose(1, 2) if self.style.norm == "batch" else self._normed(y)
        else:
            y = y.transpose(1, 2)
            y = self.weights(y.unflatten(2, tuple(grid)) if self.style.dense == "conv2d" else y)
            y = self._normed(y) if self.style.norm == "batch" else y
            y = y.flatten(2).transpose(1, 2)
            y = self._normed(y) if self.style.norm == "layer" else y
        return untokens(y.reshape(*lead, N, -1), tuple(grid), self.style.maps)

    def _normed(self, x: Tensor) -> Tensor:
        return x if self.norm is None else self.norm(x)


class Spatial(nn.Module):
    """A convolution over the grid of tokens, with its norm and, if asked, a pool behind it."""

    def __init__(self, maps: bool, width: int, out: int, kernel: int, stride: int, groups: int, pool: bool) -> None:
        super().__init__()
        self.maps = maps
        self.weights = nn.Conv2d(width, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.norm, self.pool = nn.BatchNorm2d(out), nn.MaxPool2d(2) if pool else None

    def forward(self, x: Tensor) -> Tensor:
        y = square(x, self.maps)
        lead = y.shape[:-3]
        y = self.norm(self.weights(y.reshape(-1, *y.shape[-3:])))
        y = y if self.pool is None else self.pool(y)
        return unsquare(y.reshape(*lead, *y.shape[-3:]), self.maps)


def tokens(x: Tensor, maps: bool) -> Tensor:
    return x.flatten(-2).transpose(-1, -2) if maps else x


def untokens(x: Tensor, grid: Sequence[int], maps: bool) -> Tensor:
    return x.transpose(-1, -2).reshape(*x.shape[:-2], x.shape[-1], *grid) if maps else x


def square(x: Tensor, maps: bool) -> Tensor:
    """[..., N, C] of a square grid as maps."""
    if maps:
        return x
    side = round(x.shape[-2] ** 0.5)
    return x.transpose(-1, -2).unflatten(-1, (side, side))


def unsquare(x: Tensor, maps: bool) -> Tensor:
    return x if maps else x.flatten(-2).transpose(-1, -2)


class Piece(nn.Module):
    """Modules under random names, and a function that uses them."""

    work: Work

    def forward(self, x: Tensor) -> Tensor:
        return self.work(x)


class Maker:
    """Makes pieces and notes the truth of every layer in them.

    Attributes:
        block: number of the block that layers made now belong to; None outside.
        recipe: what was drawn, in words.
    """

    def __init__(self, rng: random.Random, style: Style) -> None:
        self.rng, self.style = rng, style
        self.truths: list[tuple[nn.Module, Truth]] = []
        self.block: int | None = None
        self.recipe: list[str] = [str(style)]

    def draw(self, what: str, kinds: Sequence[str]) -> str:
        """A random kind, noted in the recipe."""
        kind = self.rng.choice(kinds)
        self.recipe.append(f"{what} {kind}")
        return kind

    def piece(self) -> Piece:
        return Piece()

    def put(self, piece: Piece, module: nn.Module) -> nn.Module:
        """Give a module to a piece under a name that says nothing, or lies."""
        name = self.rng.choice(_NAMES)
        while hasattr(piece, name):
            name += str(self.rng.randrange(10))
        setattr(piece, name, module)
        return module

    def note(self, module: nn.Module, part: str, role: str | None = None) -> None:
        self.truths.append((module, (part, self.block, role)))

    def fire(self, piece: Piece) -> nn.Module:
        return self.put(piece, Fire(self.style))

    def dense(self, piece: Piece, width: int, out: int, part: str, role: str | None = None) -> nn.Module:
        made = Dense(self.style, width, out, self.rng.random() < 0.5)
        self.note(made.weights, part, role)
        return self.put(piece, made)

    def spatial(
        self, piece: Piece, width: int, out: int, part: str, role: str | None = None, kernel: int = 3, stride: int = 1,
        depthwise: bool = False, pool: bool = False,
    ) -> nn.Module:  # fmt: skip
        made = Spatial(self.style.maps, width, out, kernel, stride, width if depthwise else 1, pool)
        self.note(made.weights, part, role)
        return self.put(piece, made)

    def stack(self, piece: Piece, layers: Sequence[nn.Module], end: bool = True) -> Work:
        """Layers one after another with their neurons, before or behind them; the last one's only if `end`."""
        fires = [self.fire(piece) for _ in layers]
        before = self.style.before

        def work(x: Tensor) -> Tensor:
            for i, (own, fire) in enumerate(zip(layers, fires, strict=True)):
                x = own(fire(x)) if before else own(x)
                x = fire(x) if not before and (end or i < len(layers) - 1) else x
            return x

        return work


def heads(x: Tensor, n: int) -> Tensor:
    """[..., N, C] -> [..., heads, N, C / heads]."""
    return x.unflatten(-1, (n, -1)).transpose(-2, -3)


def merged(x: Tensor) -> Tensor:
    return x.transpose(-2, -3).flatten(-2)


def patches(x: Tensor, size: int, way: str) -> Tensor:
    """[..., C, H, W] -> [..., N, C * size^2], by unfold or by views."""
    if way == "unfold":
        y = F.unfold(x.reshape(-1, *x.shape[-3:]), size, stride=size).transpose(1, 2)
        return y.reshape(*x.shape[:-3], *y.shape[1:])
    C, H, W = x.shape[-3:]
    y = x.reshape(*x.shape[:-3], C, H // size, size, W // size, size)
    n = y.dim()
    y = y.permute(*range(n - 5), n - 4, n - 2, n - 5, n - 3, n - 1)
    return y.reshape(*x.shape[:-3], (H // size) * (W // size), C * size * size)


def in_windows(f: Callable[..., Tensor], side: int, *operands: Tensor) -> Tensor:
    """Attention in windows of side x side tokens."""

    def cut(x: Tensor) -> Tensor:
        n, grid = x.dim(), round(x.shape[-2] ** 0.5)
        x = x.unflatten(-2, (grid // side, side, grid // side, side))
        x = x.transpose(n - 1, n)
        return x.reshape(-1, side * side, x.shape[-1])

    lead, N = operands[0].shape[:-2], operands[0].shape[-2]
    y, count = f(*map(cut, operands)), round(N**0.5) // side
    y = y.reshape(*lead, count, count, side, side, -1)
    n = y.dim()
    return y.transpose(n - 4, n - 3).reshape(*lead, N, -1)


def shown(truths: Sequence[tuple[nn.Module, Truth]], model: nn.Module) -> dict[str, Truth]:
    """Truth by path."""
    paths = {id(m): path for path, m in model.named_modules()}
    return {paths[id(m)]: what for m, what in truths if id(m) in paths}
