"""Which layer an addition belongs to: of a residual sum the last one of the branch, not that of the shortcut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spikeattn.tracing.origins import Origin


class Branches:
    """The layers of a pass and what lies between them; `add` takes them in the order of execution.

    A layer here is a synapse or a product: what its tensors are made from goes on behind it.
    """

    def __init__(self) -> None:
        self._order: list[tuple[str, Sequence[Origin], Origin]] = []
        self._layers: dict[int, str] = {}
        self._rank: dict[str, int] = {}
        self._sums: set[int] = set()
        self._nearest: dict[int, frozenset[str]] = {}
        self._depth: dict[int, int] = {}
        self._before: dict[int, set[int]] = {}

    def add(self, name: str, operands: Sequence[Origin], results: Iterable[Origin]) -> None:
        """Note a layer: what it reads at its first time step, and what it gives at each."""
        made = list(results)
        self._rank.setdefault(name, len(self._order))
        self._order.append((name, operands, made[0]))
        self._layers |= {id(origin): name for origin in made}

    def sums(self, results: Iterable[Origin]) -> None:
        """Note what residual sums give."""
        self._sums |= {id(origin) for origin in results}

    def of_sum(self, operands: Sequence[Origin]) -> str | None:
        """The last layer of the branch of a residual sum.

        The branch is made from the shortcut; where neither is made from the other (a shortcut with a layer of its own,
        branches side by side), a sum of earlier branches is the shortcut, else the shorter way from the input, else
        what ran first.
        """
        if len(operands) == 1:
            return self._last(operands[0])
        a, b = operands
        if self._made_from(b, a):
            return self._last(b)
        if self._made_from(a, b):
            return self._last(a)
        if (id(a) in self._sums) != (id(b) in self._sums):
            return self._last(b if id(a) in self._sums else a)
        return self._last(max(a, b, key=lambda origin: (self._depth_of(origin), self._latest(origin))))

    def of_average(self, operand: Origin, result: Origin) -> str | None:
        """The first layer that reads a sum or an average; without any, the last one before it."""
        for place, (name, operands, _) in enumerate(self._order):
            if id(result) in self._between(place, operands):
                return name
        return self._last(operand)

    # ---------------------------------------------------------------- walks
    def _last(self, origin: Origin) -> str | None:
        found = self._nearest_of(origin)
        return max(found, key=lambda name: self._rank[name]) if found else None

    def _latest(self, origin: Origin) -> int:
        return max((self._rank[name] for name in self._nearest_of(origin)), default=-1)

    def _nearest_of(self, origin: Origin) -> frozenset[str]:
        """The layers that a tensor is made by, with no other layer between."""
        self._walk(origin)
        return self._nearest[id(origin)]

    def _depth_of(self, origin: Origin) -> int:
        """Layers on the longest way from the input."""
        self._walk(origin)
        return self._depth[id(origin)]

    def _walk(self, start: Origin) -> None:
        """Nearest layers and depth of a tensor and of all that it is made from; deep networks have deep ways."""
        todo = [start]
        while todo:
            origin = todo[-1]
            if id(origin) in self._depth:
                todo.pop()
                continue
            missing = [p for p in origin.parents if id(p) not in self._depth]
            if missing:
                todo += missing
                continue
            name = self._layers.get(id(origin))
            above = frozenset[str]().union(*(self._nearest[id(p)] for p in origin.parents))
            self._nearest[id(origin)] = above if name is None else frozenset((name,))
            deepest = max((self._depth[id(p)] for p in origin.parents), default=0)
            self._depth[id(origin)] = deepest + (name is not None)
            todo.pop()

    def _made_from(self, origin: Origin, other: Origin) -> bool:
        """Whether a tensor is made from another one."""
        seen, todo = {id(origin)}, list(origin.parents)
        while todo:
            parent = todo.pop()
            if parent is other:
                return True
            if id(parent) not in seen:
                seen.add(id(parent))
                todo += parent.parents
        return False

    def _between(self, place: int, operands: Sequence[Origin]) -> set[int]:
        """What lies between a layer's operands, they included, and the layers before it."""
        if place not in self._before:
            seen: set[int] = set()
            todo = list(operands)
            while todo:
                origin = todo.pop()
                if id(origin) not in seen:
                    seen.add(id(origin))
                    todo += () if id(origin) in self._layers else origin.parents
            self._before[place] = seen
        return self._before[place]
