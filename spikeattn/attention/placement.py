"""Tokens on the image: the grid they form, the pixels that each of them stands for, and scores painted on these.

Token i stands on the pixels [c - s/2, c + s/2) about the centre c of its receptive field, where s is the distance of
the centres; padding counts as pixels outside. A pixel belongs to the token in whose range its own centre lies, so that
half a pixel goes to the later token; pixels in no range have no token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeattn.attention.fields import Maybe
from spikeattn.errors import SpikeattnError, unknown

Floats = NDArray[np.float64]

MODES = ("nearest", "bilinear")


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the rows and columns of a token grid lie on the image, in pixels; edges, so that pixel p is [p, p + 1).

    Attributes:
        rows, columns: first and last edge of every row [h, 2] and column [w, 2], not cut at the image.
        image_size: height and width.
        known: whether they are those of the receptive fields; else the grid is spread evenly over the image.
        note: why they are not known.
    """

    rows: Floats
    columns: Floats
    image_size: tuple[int, int]
    known: bool = True
    note: str = ""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return len(self.rows), len(self.columns)

    def tokens(self, size: tuple[int, int] | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row of tokens that every row of pixels belongs to, [H], and the columns' likewise; -1 for none.

        Args:
            size: of a picture of the image in place of the image's own.
        """
        height, width = size or self.image_size
        return (
            _owners(self.rows, self.image_size[0], height),
            _owners(self.columns, self.image_size[1], width),
        )

    def covered(self, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """Pixels [H, W] that belong to a token."""
        rows, columns = self.tokens(size)
        return (rows >= 0)[:, None] & (columns >= 0)

    @property
    def even(self) -> bool:
        """Whether the grid lies over the whole image, every token on as many pixels."""
        spread = evenly(self.grid, self.image_size, "")
        return bool(np.array_equal(spread.rows, self.rows) and np.array_equal(spread.columns, self.columns))

    def shares(self) -> Floats:
        """Pixels of the image that every token stands on, [h, w]."""
        pairs = zip(self.tokens(), self.grid, strict=True)
        found = [np.bincount(owners[owners >= 0], minlength=n) for owners, n in pairs]
        return np.outer(*found).astype(np.float64)

    def coverage(self, pixels: NDArray[np.bool_]) -> Floats:
        """Share [h, w] of each token's pixels that a mask [H, W] covers; 0 for a token without pixels."""
        mask = np.asarray(pixels, dtype=np.float64)
        for axis, (owners, n) in enumerate(zip(self.tokens(), self.grid, strict=True)):
            member = (owners[None] == np.arange(n)[:, None]).astype(np.float64)  # [tokens, pixels]
            mask = np.moveaxis(np.tensordot(member, mask, (1, axis)), 0, axis)
        shares = self.shares()
        return np.divide(mask, shares, out=np.zeros_like(mask), where=shares > 0)

    def paint(self, values: Tensor, size: tuple[int, int] | None = None, mode: str = "nearest") -> Tensor:
        """Scores [..., h, w] on the pixels [..., H, W]; 0 on pixels that belong to no token.

        Raises:
            SpikeattnError: an unknown mode, or scores of another grid.
        """
        if mode not in MODES:
            raise unknown("interpolation", mode, MODES)
        if tuple(values.shape[-2:]) != self.grid:
            raise SpikeattnError(
                f"the scores are {list(values.shape)}; give [..., {self.grid[0]}, {self.grid[1]}], the grid of tokens"
            )
        size = size or self.image_size
        for axis, (edges, length, pixels) in enumerate(
            zip((self.rows, self.columns), self.image_size, size, strict=True), start=-2
        ):
            values = _spread(values, axis, edges, length, pixels, mode)
        return values * torch.from_numpy(self.covered(size)).to(values.device, values.dtype)


def evenly(grid: tuple[int, int], image_size: tuple[int, int], note: str) -> Placement:
    """A grid spread over the whole image, where nothing better is known."""
    edges = []
    for n, size in zip(grid, image_size, strict=True):
        bounds = np.arange(n + 1) * size / n
        edges.append(np.stack([bounds[:-1], bounds[1:]], axis=1))
    return Placement(edges[0], edges[1], image_size, False, note)


def _centres(pixels: int, length: int) -> Floats:
    """Centres of the pixels of a picture, in those of the image."""
    return (np.arange(pixels) + 0.5) * length / pixels


def _owners(edges: Floats, length: int, pixels: int) -> NDArray[np.int64]:
    centres = _centres(pixels, length)
    found = np.searchsorted(edges[:, 0], centres, side="right") - 1
    inside = (found >= 0) & (centres < edges[np.maximum(found, 0), 1])
    return np.where(inside, found, -1)


def _spread(values: Tensor, axis: int, edges: Floats, length: int, pixels: int, mode: str) -> Tensor:
    if mode == "nearest":
        owners = np.maximum(_owners(edges, length, pixels), 0)
        return values.index_select(axis, torch.from_numpy(owners).to(values.device))
    middle = edges.mean(1)
    place = np.interp(_centres(pixels, length), middle, np.arange(len(middle)))
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, len(middle) - 1)
    share = torch.from_numpy(place - lower).to(values.device, values.dtype)
    shape = [-1, 1] if axis == -2 else [-1]
    first, second = (values.index_select(axis, torch.from_numpy(i).to(values.device)) for i in (lower, upper))
    return torch.lerp(first, second, share.view(shape).expand_as(first))


# ------------------------------------------------------------------------------------------------------- from places
@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of a tensor on their grid.

    Attributes:
        cells: number of the place on the grid, row by row, of every token in the form of the fields; -1 for class
            tokens and padding.
        placement: of the grid.
    """

    cells: NDArray[np.int64]
    placement: Placement

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.placement.grid


def tokens_of(row: Maybe, column: Maybe, image_size: tuple[int, int]) -> Tokens | None:
    """The tokens that these fields tell apart; None where none has a place, or they fill no grid."""
    if row is None or column is None:
        return None
    shape = torch.broadcast_shapes(row.low.shape, column.low.shape)
    lines, edges = [], []
    known = np.ones(shape, bool)
    ranges = []
    for field, size in zip((row, column), image_size, strict=True):
        low, high = (end.expand(shape).double().numpy() for end in field)
        known &= np.isfinite(low) & (high >= 0) & (low <= size - 1)  # padding alone is no token of the image
        ranges.append((low, high))
    if not known.any():
        return None
    for low, high in ranges:
        centres = np.round((low[known] + high[known] + 1) / 2, 3)  # thousandths: rounding of resized positions
        middle, number = np.unique(centres, return_inverse=True)
        edges.append(_edges(middle, float(low[known].min()), float(high[known].max())))
        lines.append(number)
    h, w = (len(e) for e in edges)
    cell = lines[0] * w + lines[1]
    if len(np.unique(cell)) != h * w:
        return None
    cells = np.full(shape, -1, np.int64)
    cells[known] = cell
    return Tokens(cells, Placement(edges[0], edges[1], image_size))


def _edges(middle: Floats, low: float, high: float) -> Floats:
    """Edges half-way between neighbours; of a single token those of its receptive field."""
    if len(middle) == 1:
        return np.array([[low, high + 1]])
    steps = np.diff(middle)
    before, behind = np.append(steps[0], steps), np.append(steps, steps[-1])
    return np.stack([middle - before / 2, middle + behind / 2], axis=1)
