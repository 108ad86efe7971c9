"""Where the tokens of the tensors of any network are, for counting their spikes: read off one pass."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.attention.anatomy import anatomy
from spikeattn.attention.capture import Forward
from spikeattn.attention.fields import Field, Maybe, compact
from spikeattn.attention.placement import tokens_of
from spikeattn.attention.roles import Anatomy
from spikeattn.attention.survey_record import Seen, Site, Survey
from spikeattn.errors import SpikeattnError
from spikeattn.structure.reading import structure_of
from spikeattn.tracing.layout import Axes
from spikeattn.tracing.taps import Pairs, Plan, Tap

IN_ORDER = "its tokens lie in another order than row by row, or with class tokens between them"


class InferredLayouts:
    """Which tensors of a plan have tokens, along which axes; see `token_taps.Layouts`.

    Attributes:
        blocks: number of the block with attention that every name of the ledger lies in.
    """

    def __init__(self, made: Plan, model: nn.Module, images: Tensor, layer: int | str, forward: Forward) -> None:
        body = anatomy(model, images, forward)
        if not body.blocks:
            raise SpikeattnError(f"{body.name} has no attention, so it has no tokens whose spikes could be counted")
        self.plan, self.seen = made, body.seen
        self.size = (int(images.shape[-2]), int(images.shape[-1]))
        self.grid = self._grid_of(body, layer)
        self.n, self.heads = self.grid[0] * self.grid[1], 1
        self.heads_of: dict[str, int] = {}
        self.blocks = _blocks(model, images, made, forward, body.blocks)
        self.layers = tuple(f"block {block}" for block in body.blocks)
        self.tokens: dict[str, tuple[int, ...]] = {}
        self.off_grid: dict[str, str] = {}
        for tap in made.taps:
            if tap.tensor and tap.name in self.blocks and tap.name not in self.tokens:
                self._place(tap)

    def _grid_of(self, body: Anatomy, layer: int | str) -> tuple[int, int]:
        blocks = body.blocks
        block = blocks[layer if isinstance(layer, int) and -len(blocks) <= layer < len(blocks) else -1]
        target = body.find("attention", block)
        if target.site is not None:
            calls = self.seen.results[target.site]
        else:
            known = self.seen.inputs if target.path.endswith(":in") else self.seen.outputs
            calls = known[target.path.removesuffix(":in")]
        tokens = tokens_of(calls[0].place.row, calls[0].place.column, self.size)
        if tokens is None:
            raise SpikeattnError(f"{target.path} has no tokens on a grid of the image, so none can be counted")
        return tokens.grid

    def _place(self, tap: Tap) -> None:
        shape = self.plan.ledger.tensor(tap.name).shape
        size = "x".join(map(str, shape))
        seen = _seen(self.seen, tap)
        cells = None if seen is None else self._cells(seen, tap.axes, shape)
        if cells is None:
            self.off_grid[tap.name] = f"its {size} elements have no place per token of {self.grid[0]}x{self.grid[1]}"
            return
        axes = tuple(axis for axis, n in enumerate(cells.shape) if n > 1)
        if cells.numel() != self.n or not np.array_equal(cells.flatten().numpy(), np.arange(self.n)):
            self.off_grid[tap.name] = f"its {size} elements: {IN_ORDER}"
            return
        self.tokens[tap.name] = axes
        self.off_grid.pop(tap.name, None)

    def _cells(self, seen: Seen, axes: Axes, shape: tuple[int, ...]) -> Tensor | None:
        """Compact cells of one image at one step; None where they are not those of the grid."""
        tokens = tokens_of(seen.place.row, seen.place.column, self.size)
        if tokens is None or tokens.grid != self.grid or len(axes.steps) > len(set(axes.steps)):
            return None
        whole, batch = torch.from_numpy(tokens.cells).expand(seen.shape), self.seen.batch
        if self.plan.one_image:  # its axes are those of a pass of one image, and the survey's was of several
            first = _of_first_image(whole, seen.place.image)
            if first is None:
                return None
            whole, batch = first, 1
        return compact(axes.split(whole, batch)[0, 0].reshape(shape))

    def side(self, pairs: Pairs, left: Tensor, right: Tensor) -> str | None:
        """Which axis of a product has the tokens of the grid, row by row: "inner", "outer", or None."""
        site = next((s for s in self.seen.operands if (s.path, s.op) == (pairs.module, pairs.op)
                     and s.ordinal in {ordinal for _, ordinal in pairs.at}), None)  # fmt: skip
        if site is None:
            return None
        given = self.seen.operands[site][0]
        one, two = (given[i] for i in pairs.operands)
        if self._line(one, -1) and self._line(two, -2):
            return "inner"
        return "outer" if self._line(two, -1) else None

    def _line(self, seen: Seen, axis: int) -> bool:
        """Whether the tokens of the grid lie along one axis, row by row."""
        if seen.shape[axis] != self.n:
            return False
        lines = [_along(field, axis) for field in (seen.place.row, seen.place.column)]
        if any(line is None for line in lines):
            return False
        tokens = tokens_of(lines[0], lines[1], self.size)
        if tokens is None or tokens.grid != self.grid:
            return False
        return np.array_equal(tokens.cells.ravel(), np.arange(self.n))


def _of_first_image(whole: Tensor, image: Maybe) -> Tensor | None:
    """What belongs to the first image; None where no one axis tells the images apart."""
    if image is None or not torch.equal(image.low, image.high):
        return None
    axes = [axis for axis, n in enumerate(image.low.shape) if n > 1]
    if len(axes) != 1:
        return None
    return whole.index_select(axes[0], (image.low.flatten() == 0).nonzero().flatten())


def _along(field: Maybe, axis: int) -> Field | None:
    """A field along one axis of a matrix product, where it varies along no other."""
    if field is None:
        return None
    others = [a for a in range(field.low.dim()) if a != field.low.dim() + axis]
    if any(field.low.shape[a] > 1 for a in others):
        return None
    return field.map(lambda x: x.flatten().expand(1) if x.numel() == 1 else x.flatten())


def _seen(survey: Survey, tap: Tap) -> Seen | None:
    """What the survey saw where a tap counts."""
    call = tap.at[0][0]
    if tap.where == "operation":
        site = Site(tap.module, tap.op, tap.at[0][1])
        if tap.operand < 0:
            return next(iter(survey.results.get(site, [])), None)
        given = survey.operands.get(site)
        return None if not given or tap.operand >= len(given[0]) else given[0][tap.operand]
    calls = (survey.outputs if tap.where == "output" else survey.inputs).get(tap.module, [])
    return calls[call] if call < len(calls) and tap.index == 0 and tap.columns is None else None


def _blocks(model: nn.Module, images: Tensor, made: Plan, forward: Forward, own: list[int]) -> dict[str, int]:
    """The block with attention of every name of a ledger, numbered among those."""
    found = structure_of(model, images[:1], forward, dict(made.neurons))
    places = {block: number for number, block in enumerate(own)}
    entries = [*found.modules.values(), *(entry for kind in found.entries.values() for entry in kind)]
    return {e.name: places[e.block] for e in entries if e.block in places}
