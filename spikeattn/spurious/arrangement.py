"""Attentions of some images, one per batch or per layer, as one table: [image, layer, head, token]."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.tokens import TokenCounts
from spikeattn.boundary.arguments import shown
from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import Floats


class Arrangement:
    """Where each map of some attentions stands in the table of all of them.

    Attributes:
        attentions: of one attend setting.
        images: numbers of the images, the table's first axis.
        layers: numbers of the layers, its second.
        heads: 1, or those of the attention where every head was assessed.

    Raises:
        SpikeattnError: other grids or axes than the tokens have, an image without tokens, a layer of an image that
            stands twice or is missing, heads in some and not in others.
    """

    def __init__(self, attentions: Sequence[Attention], tokens: TokenCounts, images: Sequence[int]) -> None:
        self.attentions, self.images = attentions, tuple(images)
        numbers = [_numbers_of(one, tokens) for one in attentions]
        blocks = [_blocks_of(one, len(tokens.layers)) for one in attentions]
        self._check_once(numbers, blocks)
        self.layers = tuple(sorted({block for each in blocks for block in each}))
        heads = {_sizes(one).get("head", 1) for one in attentions}
        if len(heads) > 1:
            raise SpikeattnError("some of the attention is by head and some is not; give heads= alike in every call")
        self.heads, self.n = max(heads), tokens.grid[0] * tokens.grid[1]
        place = {number: row for row, number in enumerate(self.images)}
        self._places = [
            np.ix_([place[number] for number in each], [self.layers.index(block) for block in of])
            for each, of in zip(numbers, blocks, strict=True)
        ]

    def of(self, values: Callable[[Attention], Floats]) -> Floats:
        """[image, layer, head, token] of values like the `maps` of an attention."""
        table = np.empty((len(self.images), len(self.layers), self.heads, self.n))
        for one, places in zip(self.attentions, self._places, strict=True):
            sizes = _sizes(one)
            shape = (len(one.maps), sizes.get("layer", 1), sizes.get("head", 1), self.n)
            table[places] = values(one).reshape(shape)
        return table

    def _check_once(self, numbers: list[list[int]], blocks: list[list[int]]) -> None:
        """Every layer that was attended, once for every image."""
        seen: set[tuple[int, int]] = set()
        for each, of in zip(numbers, blocks, strict=True):
            for entry in ((number, block) for number in each for block in of):
                if entry in seen:
                    raise SpikeattnError(f"layer {entry[1]} of image {entry[0]} stands twice in the attention")
                seen.add(entry)
        layers = sorted({block for each in blocks for block in each})
        for number in self.images:
            for block in layers:
                if (number, block) not in seen:
                    raise SpikeattnError(
                        f"image {number} was not attended at layer {block}, as others were; attend the same layers of "
                        'every image, as layer="all" does'
                    )


def attentions_of(attention: Any) -> list[Attention]:
    """One attention or several as a list.

    Raises:
        SpikeattnError: something else.
    """
    several = isinstance(attention, Iterable) and not isinstance(attention, Attention | str)
    attentions = list(attention) if several else [attention]
    if odd := [one for one in attentions if not isinstance(one, Attention)]:
        raise SpikeattnError(f"the attention is {shown(odd[0])}; give what spikeattn.attend returns, or several of it")
    return attentions


def check_alike(attentions: Sequence[Attention]) -> None:
    """Every attention answers the same question: one null, one kind of map, one estimator, one B.

    Raises:
        SpikeattnError: naming the first difference.
    """
    for name in ("null", "statistic", "estimator", "replicates"):
        values = list(dict.fromkeys(one.provenance[name] for one in attentions))
        if len(values) > 1:
            raise SpikeattnError(
                f"the attentions differ in {name}: {values[0]!r} and {values[1]!r}; their tokens are called against "
                "different nulls. Give attentions of one attend setting; those of other nulls go into also="
            )


def _sizes(one: Attention) -> dict[str, int]:
    """Sizes of the axes between the images and the grid, by name."""
    return dict(zip(one.axes[1:-2], one.maps.shape[1:-2], strict=True))


def _blocks_of(one: Attention, depth: int) -> list[int]:
    """Numbers of the blocks whose maps the attention holds, of `depth` blocks."""
    return list(range(depth)) if "layer" in one.axes else [int(one.provenance["layer"]) % depth]


def _numbers_of(one: Attention, tokens: TokenCounts) -> list[int]:
    """Numbers of the images of an attention, whose axes and grid are those of the tokens."""
    if not set(one.axes[1:-2]) <= {"layer", "head"}:
        raise SpikeattnError(
            f"the attention's maps have the axes {', '.join(one.axes)}; energy is joined with maps by layer and head "
            'over all time steps: attend with steps="mean" and a map of `attention_map`'
        )
    shapes = {"maps": one.maps.shape[-2:], "p-values": one.significance[0].p.shape}
    if one.null_maps is not None:
        shapes["null"] = one.null_maps.shape[-2:]
    for name, shape in shapes.items():
        if tuple(shape) != tuple(tokens.grid):
            raise SpikeattnError(
                f"the {name} of the attention are {'x'.join(map(str, shape))} and the tokens {tokens.grid[0]}x"
                f"{tokens.grid[1]}: give the attention of the model and image size that the tokens were counted at"
            )
    numbers: list[int] = one.provenance["indices"]
    if len(numbers) != len(one.maps):
        raise SpikeattnError(f"the attention has maps of {len(one.maps)} images and numbers of {len(numbers)}")
    strange = [number for number in numbers if number not in tokens.images]
    if strange:
        raise SpikeattnError(f"image {strange[0]} of the attention has no token counts; attend it with tokens=True")
    return numbers
