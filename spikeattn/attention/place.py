"""Places: what of the image the elements of a tensor look at (see `fields`), and the operation that makes a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from spikeattn.attention.fields import Maybe
from spikeattn.tracing import labels

ROW, COLUMN, IMAGE, OTHER_ROW, OTHER_COLUMN = "row", "column", "image", "other_row", "other_column"
NAMES = (ROW, COLUMN, IMAGE, OTHER_ROW, OTHER_COLUMN)
OTHER = {ROW: OTHER_ROW, COLUMN: OTHER_COLUMN}


class Place(NamedTuple):
    """Fields of one tensor.

    Attributes:
        row, column, image: where its elements look.
        other_row, other_column: of a product of data with data, such as q and k, where those of its second factor do.
        product: whether it is such a product, or was made from one, as a matrix of attention is.
        stream: what has the same places: a tensor and whatever is made of it alone, element by element.
        behind: bits of the streams that it comes from, its own included.
    """

    row: Maybe = None
    column: Maybe = None
    image: Maybe = None
    other_row: Maybe = None
    other_column: Maybe = None
    product: bool = False
    stream: int = 0
    behind: int = 1

    def get(self, name: str) -> Maybe:
        """The field of a name."""
        return getattr(self, name)

    def with_fields(self, fields: Sequence[Maybe]) -> Place:
        """The same with other fields, in the order of `NAMES`."""
        row, column, image, other_row, other_column = fields
        return self._replace(row=row, column=column, image=image, other_row=other_row, other_column=other_column)


class Operation(NamedTuple):
    """One operation: its arguments by name, the tensors of data in them with their places, and its first result."""

    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    data: tuple[tuple[Tensor, Place], ...]
    out: Tensor

    @property
    def named(self) -> dict[str, Any]:
        """Every argument by its name in the schema."""
        known = {a.name: a.default_value for a in self.func._schema.arguments if a.has_default_value()}
        return (
            known
            | dict(zip((a.name for a in self.func._schema.arguments), self.args, strict=False))
            | dict(self.kwargs)
        )

    def place_of(self, x: Any) -> Place | None:
        """The place of an argument; None for weights and constants."""
        return next((place for tensor, place in self.data if tensor is x), None)


class Unplaced(Exception):
    """An operation behind which nobody knows any more where an element looks."""


def written(place: Place, shape: Sequence[int], like: Tensor) -> Place | None:
    """The place of a tensor of which a part of this shape was written: a step, a head of it; None where none fits."""
    if tuple(like.shape) == tuple(shape):
        return place
    if like.dim() == len(shape) + 1 and tuple(like.shape[1:]) == tuple(shape):
        own = [place.get(name) for name in NAMES]
        return place.with_fields([None if f is None else f.map(lambda c: labels.ranked(c, like.dim())) for f in own])
    return None
