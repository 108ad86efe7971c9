"""Where time and images lie in a tensor, read from its shapes for a smaller and a larger batch.

The axis that grows holds the images. Where time steps, images and something else (heads, windows) share one axis, the
sums of its rows tell their order: the first images of both batches are the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from spikeattn.tracing.origins import View


@dataclass(frozen=True)
class Axes:
    """Order of time (T), images (B) and anything else (X) along the first axes of a tensor, or along one of them.

    Attributes:
        order: slowest first, e.g. "TB", "TBX" ([T*B*heads, ...]), "BT", or "B" where there is no time.
        at: the axis that these share.
        lead: 2 where time and images have axes of their own: time axis 0 and images axis `at`, or the other way round.
    """

    order: str
    at: int = 0
    lead: int = 1

    @property
    def timed(self) -> bool:
        """Whether the tensor holds all time steps."""
        return "T" in self.order

    def split(self, x: Tensor, time_steps: int, batch: int) -> Tensor:
        """The tensor as [T, B, ...], or [1, B, ...] without a time axis; anything that shares their axis comes next."""
        if self.lead == 2:
            x = x.movedim(self.at, 1) if self.at > 1 else x
            if "X" not in self.order:
                return x if self.order == "TB" else x.transpose(0, 1)
            x = x.flatten(0, 1)
        else:
            x = x.movedim(self.at, 0)
        x = x.unflatten(0, self._sizes(x.shape[0], time_steps, batch))
        x = x.movedim(self.order.index("B"), 0)
        order = "B" + self.order.replace("B", "")
        return x.movedim(order.index("T"), 0) if self.timed else x.unsqueeze(0)

    def images_in(self, shape: Sequence[int], time_steps: int) -> int:
        """Number of images in a tensor without anything else along their axis."""
        rows, _ = self._rows(shape)
        return rows // time_steps if self.timed else rows

    def of_image(self, shape: Sequence[int], time_steps: int, batch: int) -> tuple[int, ...]:
        """Axes of one image at one time step."""
        rows, rest = self._rows(shape)
        extra = rows // (batch * (time_steps if self.timed else 1))
        return (extra, *rest) if extra > 1 else rest

    def _rows(self, shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """Rows along the axes of time and images, and the other axes."""
        own = (0, max(self.at, 1)) if self.lead == 2 else (self.at,)
        return prod(shape[d] for d in own), tuple(size for d, size in enumerate(shape) if d not in own)

    def _sizes(self, rows: int, time_steps: int, batch: int) -> tuple[int, ...]:
        rest = rows // (batch * (time_steps if self.timed else 1))
        return tuple({"T": time_steps, "B": batch, "X": rest}[letter] for letter in self.order)


class AxisReader:
    """Reads axes under the number of time steps and the usual order of a model.

    Args:
        sizes: images in the smaller and in the larger batch.
        time_steps: T.
        layout: "TB" or "BT", tried first.
    """

    def __init__(self, sizes: tuple[int, int], time_steps: int, layout: str = "TB") -> None:
        self.sizes, self.time_steps, self.layout = sizes, time_steps, layout
        self._learned: dict[tuple[str, int, bool], str] = {}

    def learn(self, views: Iterable[tuple[str, View, View]]) -> None:
        """Note, module by module, the orders that rows leave no doubt about, for tensors whose rows say nothing."""
        votes: dict[tuple[str, int, bool], set[str]] = defaultdict(set)
        for module, one, two in views:
            for timed in (True, False) if self._growing(one, two) == 0 else ():
                orders = self._orders(one.shape[0] // self.sizes[0], timed)
                fitting = self._fitting(one, two, orders)
                if fitting[0] != orders[0] or len(fitting) == 1:
                    votes[module, one.shape[0], timed].add(fitting[0])
        self._learned = {key: orders.pop() for key, orders in votes.items() if len(orders) == 1}

    def read(self, one: View, two: View, timed: bool = True, module: str = "") -> Axes | None:
        """The axes of a tensor of a module, or None where they cannot be told; `timed` False: it holds one step."""
        at = self._growing(one, two)
        if at is None:
            return None
        per_image = one.shape[at] // self.sizes[0]
        if timed and at > 0:
            steps, odd = divmod(one.shape[0], self.time_steps)
            if not odd and (per_image == 1 or steps == 1) and (at == 1 or steps == 1):
                return Axes("T" + "X" * (steps > 1) + "B" + "X" * (per_image > 1), at, lead=2)
        if timed and at == 0 and self.layout == "BT" and len(one.shape) > 1 and one.shape[1] == self.time_steps:
            if per_image == 1:
                return Axes("BT", lead=2)
        orders = self._orders(per_image, timed)
        fitting = self._fitting(one, two, orders) if at == 0 else orders
        learned = self._learned.get((module, one.shape[0], timed)) if at == 0 else None
        return Axes(learned if learned in fitting else fitting[0], at)

    def _growing(self, one: View, two: View) -> int | None:
        """The axis that grows with the batch, if it is one and as much."""
        if len(one.shape) != len(two.shape):
            return None
        small, large = self.sizes
        grown = [d for d, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b]
        if len(grown) != 1 or one.shape[grown[0]] * large != two.shape[grown[0]] * small:
            return None
        return grown[0] if one.shape[grown[0]] % small == 0 else None

    def _orders(self, per_image: int, timed: bool) -> list[str]:
        """What an axis with so many rows per image can be, the usual one first."""
        orders = ["B"] if per_image == 1 else ["BX", "XB"]
        steps, odd = divmod(per_image, self.time_steps)
        if timed and not odd and (self.time_steps > 1 or steps == 1):
            first, second = ("TB", "BT") if self.layout == "TB" else ("BT", "TB")
            if steps == 1:  # as many rows as time steps are rather these than so many heads
                return [first, second, *orders]
            orders = [first + "X", *orders, second + "X", "TXB", "XTB"]
        return orders

    def _fitting(self, one: View, two: View, orders: list[str]) -> list[str]:
        """The orders in which the first images of both batches have the same rows; all of them where rows say nothing.

        The batch changes sums a little, so an unusual order must fit far better than the usual one.
        """
        if len(orders) == 1 or one.rows is None or two.rows is None:
            return orders
        misfits = [self._misfit(one.rows, two.rows, order) for order in orders]
        limit = 4 * min(misfits) + 1e-3 * float(one.rows.sum())
        return [order for order, misfit in zip(orders, misfits, strict=True) if misfit <= limit]

    def _misfit(self, one: Tensor, two: Tensor, order: str) -> float:
        """How far the first images of the two batches are apart if the rows have this order."""
        small, large = (
            Axes(order).split(rows.unsqueeze(-1), self.time_steps, batch)
            for rows, batch in zip((one, two), self.sizes, strict=True)
        )
        return float(torch.nan_to_num(large[:, : self.sizes[0]] - small).abs().sum())
