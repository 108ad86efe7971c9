"""One operation of a traced pass, as a label rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikeattn.tracing import labels
from spikeattn.tracing.labels import ANY, MIXED
from spikeattn.tracing.overloads import overload


@dataclass
class Call:
    """One operation: what ran, with what, and what it gave.

    Attributes:
        given: its tensors, in order; those of lists too.
        out: its results.
        of: the label of a tensor in the field at hand, None where it is ANY.
        image: whether the field is the image; otherwise steps, where a join is the later one.
        joins: whether the operation has joined several values of the field.
        before: the shape of its first tensor before it ran, where it works in place (`unsqueeze_`).
    """

    func: Any
    name: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    given: list[Tensor]
    out: list[Tensor]
    of: Callable[[Tensor], Tensor | None] = lambda tensor: None
    image: bool = True
    joins: bool = False
    before: torch.Size | None = None
    _bound: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def rank(self) -> int:
        """Axes of the first result."""
        return self.out[0].dim()

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by its name in the operation's schema."""
        if self._bound is None:
            self._bound = overload(self.func).arguments(self.args, self.kwargs)
        found = self._bound.get(name, default)
        return default if found is None else found

    def axes(self, name: str = "dim", of: int | None = None) -> list[int]:
        """The axes that an argument names, counted from the front; all of them where it names none."""
        rank = self.given[0].dim() if of is None else of
        given = self.argument(name)
        if given is None or (isinstance(given, (list, tuple)) and not given):
            return list(range(rank))
        return [axis % max(rank, 1) for axis in (given if isinstance(given, (list, tuple)) else [given])]

    def meet(self, a: Tensor | None, b: Tensor | None) -> Tensor | None:
        """The elementwise join of two labels of the rank of the result."""
        if a is None or b is None or a is b:
            return b if a is None else a
        if not self.image:
            out = labels.later(a, b)
            known = (a != ANY) & (b != ANY) & (a != MIXED) & (b != MIXED)
            self.joins |= bool(((a != b) & known).any())
            return out
        if a.shape == b.shape and bool((a == b).all()):
            return a
        out = labels.position(a, b)
        self.joins |= bool((out == MIXED).any()) or bool((labels.strict(a, b) == MIXED).any())
        return out

    def combine(self, a: Tensor | None, b: Tensor | None) -> Tensor | None:
        """What depends on both in every element."""
        if a is None or b is None:
            return b if a is None else a
        out = labels.strict(a, b)
        self.joins |= bool((out == MIXED).any())
        return out

    def together(self, label: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
        """The label behind an operation that makes one of everything along these axes."""
        out = labels.join_along(label, axes, keep)
        if any(label.shape[axis] > 1 for axis in axes):
            self.joins |= bool((out == MIXED).any())
        return out

    def full(self, label: Tensor, tensor: Tensor) -> Tensor:
        """The label with an entry for every element, in the shape that the tensor had before the operation."""
        return label.expand(self.before if tensor is self.given[0] and self.before is not None else tensor.shape)

    def again(self, replaced: dict[int, Any]) -> Any:
        """The operation once more, with other tensors in some places (by their position in `given`)."""
        number = -1

        def put(value: Any) -> Any:
            nonlocal number
            if isinstance(value, Tensor):
                number += 1
                return replaced[number] if number in replaced else value.cpu()  # labels live on the CPU
            if isinstance(value, (tuple, list)):
                return type(value)(put(item) for item in value) if not hasattr(value, "_fields") else value
            return value

        args = [put(value) for value in self.args]
        kwargs = {name: put(value) for name, value in self.kwargs.items() if name != "out"}
        return self.func(*args, **kwargs)
