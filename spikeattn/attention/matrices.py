"""Matrices of attention as the layers apply them: caught where they meet the values, brought to [image, head, ...].

Whatever makes a matrix (an adapter, a position bias, talking heads, a difference of two softmaxes) is in it, since it
is taken as the operand of the product with v, in the pass that the model itself runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.attention.capture import Enough
from spikeattn.attention.place import Place
from spikeattn.attention.place_rules import MATRIX
from spikeattn.attention.placement import Tokens, tokens_of
from spikeattn.attention.survey import plain_attention
from spikeattn.attention.survey_record import Site, Survey
from spikeattn.errors import SpikeattnError
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.stack import Frame, ModuleStack, in_parts

Read = Callable[[Tensor], Tensor]
RESULT = -1  # in the place of an operand: what the operation gives


@dataclass(frozen=True, eq=False)
class Layout:
    """How the operand of one product lies: [outer x images x inner, queries, keys], or with keys before queries.

    Attributes:
        operand, transposed: which factor of the product is the matrix, and whether its rows are the keys.
        outer, inner: what shares the first axis with the images.
        queries: tokens of the queries with cells [group, query]; None where they have no places.
        keys: tokens of the keys with cells [group, key].
        group: of every group, which copy of its tokens it is: the number of its head.
    """

    operand: int
    transposed: bool
    outer: int
    inner: int
    queries: Tokens | None
    keys: Tokens
    group: NDArray[np.int64]

    @property
    def copies(self) -> int:
        """Matrices over the same tokens: heads, and time steps where there are some."""
        return int(self.group.max()) + 1

    @property
    def own_classes(self) -> NDArray[np.int64]:
        """Numbers of the queries that stand for no place of the image, class tokens first."""
        if self.queries is None:
            return np.array([0])
        return np.flatnonzero((self.queries.cells < 0).all(0))

    @property
    def windows(self) -> bool:
        """Whether groups hold different tokens."""
        return bool((self.keys.cells != self.keys.cells[:1]).any())

    def split(self, matrix: Tensor) -> Tensor:
        """[image, group, query, key]"""
        wide = matrix if matrix.dim() == 3 else matrix[None]
        wide = wide.mT if self.transposed else wide
        images = len(wide) // (self.outer * self.inner)
        return wide.unflatten(0, (self.outer, images, self.inner)).transpose(0, 1).flatten(1, 2)

    def onto_grid(self, scores: Tensor) -> Tensor:
        """Scores [image, group, key] as [image, copy, h, w]; what several groups of a copy hold is averaged."""
        h, w = self.keys.grid
        cells = torch.from_numpy(self.keys.cells + self.group[:, None] * h * w)
        there = torch.from_numpy(self.keys.cells >= 0)
        index = cells[there].to(scores.device)
        flat = scores.flatten(1)[:, there.flatten().to(scores.device)].float()
        size = self.copies * h * w
        total = flat.new_zeros(len(flat), size).index_add_(1, index, flat)
        count = flat.new_zeros(size).index_add_(0, index, torch.ones_like(index, dtype=flat.dtype))
        return (total / count).reshape(len(flat), self.copies, h, w)


def layout_of(seen: Survey, site: Site, image_size: tuple[int, int]) -> Layout | str:
    """The layout of a product; a sentence where its matrix is none of tokens with tokens."""
    matrix, batch = seen.matrices[site][0], seen.batch
    if (several := seen.summed(site)) > 1:
        return f"it applies {several} matrices to one v and joins what they give, so none of them is its attention"
    shape, place = matrix.matrix.shape, matrix.matrix.place
    key_axis = -1 if matrix.operand == 0 else -2
    values = matrix.values.place
    own = (values.row, values.column)
    key_fields = [_of_axis(f, -2 if matrix.operand == 0 else -1, key_axis, len(shape)) for f in own]
    if not _varies(key_fields, key_axis):
        key_fields = _along(place, key_axis)
    if not _varies(key_fields, key_axis) and shape[key_axis] > 1:
        return "its matrix joins channels with channels, not tokens with tokens"
    images = _images(place, values, shape, batch)
    if images is None:
        return "its matrix joins the images of a batch"
    outer, inner = images
    first = torch.arange(outer * inner) // inner * batch * inner + torch.arange(outer * inner) % inner
    keys = _tokens(key_fields, key_axis, shape, first, image_size)
    if keys is None:
        return "nobody knows where on the image its keys stand"
    query_axis = -2 if key_axis == -1 else -1
    query_fields = _along(place, query_axis)
    queries = _tokens(query_fields, query_axis, shape, first, image_size)
    return Layout(matrix.operand, key_axis == -2, outer, inner, queries, keys, _copies(keys.cells))


def _varies(fields: Any, axis: int) -> bool:
    return any(f is not None and f.low.shape[axis] > 1 for f in fields)


def _along(place: Place, axis: int) -> list[Any]:
    """Where the positions of one axis of a matrix stand: the rows of its first factor, or the columns of its second."""
    rank = 3
    ways = [(place.row, place.column), (place.other_row, place.other_column)]
    made = [[_of_axis(f, axis, axis, rank) for f in way] for way in ways]
    return next((way for way in made if _varies(way, axis)), made[0 if axis == -2 else 1])


def _of_axis(field: Any, axis: int, to: int, rank: int) -> Any:
    """A field of [group, ..., ...] along its first axis and another one, laid along `to`."""
    if field is None:
        return None
    other = -1 if axis == -2 else -2
    if field.low.shape[other] > 1:
        field = type(field)(field.low.amin(other, keepdim=True), field.high.amax(other, keepdim=True))
    return field if axis == to else field.map(lambda x: x.mT)


def _images(place: Place, values: Place, shape: tuple[int, ...], batch: int) -> tuple[int, int] | None:
    """What stands before and behind the images on the first axis."""
    if len(shape) == 2:
        return None
    for field in (values.image, place.image):
        if field is None:
            continue
        low, high = (end.expand(len(end), *end.shape[1:]) for end in field)
        line, top = low.amin((1, 2)), high.amax((1, 2))
        if bool((line != top).any()) or len(line) != shape[0]:
            continue
        size = shape[0] // batch
        for inner in (n for n in range(1, size + 1) if size % n == 0):
            if torch.equal(line, ((torch.arange(shape[0]) // inner) % batch).float()):
                return size // inner, inner
    return None


def _tokens(fields: Any, axis: int, shape: Any, first: Tensor, image_size: tuple[int, int]) -> Tokens | None:
    """Tokens with cells [group, position] of the groups of the first image."""
    if any(f is None for f in fields):
        return None
    other = -2 if axis == -1 else -1
    row, column = (field.map(lambda x: x.squeeze(other).expand(shape[0], shape[axis])[first]) for field in fields)
    return tokens_of(row, column, image_size)


def _copies(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of every group, how many before it hold the same tokens."""
    seen: dict[bytes, int] = {}
    numbers = []
    for row in cells:
        key = row.tobytes()
        numbers.append(seen.get(key, 0))
        seen[key] = numbers[-1] + 1
    return np.array(numbers)


# ------------------------------------------------------------------------------------------------------------ caught
def catch(
    model: nn.Module, call: Callable[[], Any], wanted: Mapping[Site, tuple[int, int, Read]]
) -> dict[Site, list[Tensor]]:
    """What `read` makes of operands of products in the pass that `call` runs; the pass ends behind the last of them.

    Args:
        wanted: by site, the operand (or RESULT), how often the site is passed, and `read`.

    Call it inside `ready(model)`.

    Raises:
        SpikeattnError: the pass takes another way than the survey's.
    """
    neurons = nodes.neurons_of(model)
    mode = _Catch(model, neurons, wanted)
    with ExitStack() as stack:
        stack.enter_context(plain_attention(model))
        stack.enter_context(mode.stack)
        stack.enter_context(mode)
        try:
            call()
        except Enough:
            pass
    missing = [site for site, (_, times, _) in wanted.items() if len(mode.found[site]) != times]
    if missing:
        raise SpikeattnError(
            f"the pass did not come by {len(missing)} of the {len(wanted)} matrices of attention that another pass had "
            f"shown, the first is {missing[0].op} in {missing[0].path or 'the model'}; does the model take another way "
            "from call to call?"
        )
    return mode.found


class _Catch(TorchDispatchMode):
    """Reads operands at sites."""

    def __init__(self, model: nn.Module, neurons: Any, wanted: Mapping[Site, tuple[int, int, Read]]) -> None:
        super().__init__()
        self.wanted, self.left = wanted, sum(times for _, times, _ in wanted.values())
        self.found: dict[Site, list[Tensor]] = {site: [] for site in wanted}
        self.stack = ModuleStack(model, neurons)
        self.paths = {site.path for site in wanted}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.stack.in_neuron:
            return func(*args, **(kwargs or {}))
        out = in_parts(self, func, args, kwargs or {})
        if out is not NotImplemented:
            return out
        frame = self.stack.frames[-1] if self.stack.frames else Frame("", 0, None)
        if frame.path in self.paths:
            name = func._schema.name.split("::")[1].rstrip("_")
            site = Site(frame.path, name, frame.ordinal(name))
            if site in self.wanted:
                operand, _, read = self.wanted[site]
                if operand == RESULT:
                    out = func(*args, **(kwargs or {}))
                    self._keep(site, read(out.detach()))
                    return out
                self._keep(site, read(args[MATRIX[name][operand]].detach()))
        return func(*args, **(kwargs or {}))

    def _keep(self, site: Site, tensor: Tensor) -> None:
        self.found[site].append(tensor)
        self.left -= 1
        if self.left == 0:
            raise Enough
