"""Questions about a graph: what lies before what, which layers act as one, which sums add a branch to what it read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from spikeattn.structure.graph import Graph
from spikeattn.structure.graph_nodes import ADD, INPUT, PRODUCT, REDUCE, SYNAPSE, Node

NORMS = ("native_layer_norm", "native_group_norm", "rms_norm", "_fused_rms_norm")


@dataclass(eq=False)
class Composite:
    """Layers that act as one linear map: in series, with linear maps alone between, or summed branches of one tensor.

    Attributes:
        layers: synapses, in the order of execution.
        reads: numbers of the nodes that it reads.
    """

    layers: tuple[Node, ...]
    reads: tuple[int, ...]

    @property
    def first(self) -> Node:
        return self.layers[0]

    @property
    def last(self) -> Node:
        return self.layers[-1]

    @property
    def number(self) -> int:
        return self.layers[0].number

    @property
    def place(self) -> tuple[str, str, int]:
        """What stays the same at a later time step."""
        return self.layers[0].place

    @property
    def spatial(self) -> tuple[Node, ...]:
        """Layers whose kernel covers more than one position."""
        return tuple(n for n in self.layers if prod(n.kernel) > 1)

    @property
    def depthwise(self) -> bool:
        """Whether all that is spatial in it works channel by channel."""
        return bool(self.spatial) and all(n.groups == n.widths[0] > 1 for n in self.spatial)

    @property
    def pointwise(self) -> bool:
        """Whether every position goes through it alone, or only through depthwise convolutions beside dense layers."""
        return not self.spatial

    @property
    def shrinks(self) -> bool:
        """Whether a stride leaves out positions."""
        return any(max(n.stride, default=1) > 1 for n in self.layers)

    @property
    def mixes(self) -> bool:
        """Whether its weights stand over tokens, as in an MLP-Mixer."""
        return any(n.contracts == "token" and any(f.kind == "token" and f.birth == n.number for a in n.axes for f in a)
                   for n in self.layers)  # fmt: skip

    @property
    def widths(self) -> tuple[int, int]:
        """Channels in and out."""
        return self.first.widths[0], self.last.widths[1]

    @property
    def tokens(self) -> int:
        return self.last.tokens


class Flow:
    """A graph with its composites, and who is an ancestor of whom."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.children: dict[int, list[int]] = defaultdict(list)
        for node in self.nodes:
            for parent in node.parents:
                self.children[parent].append(node.number)
        self._before: list[int] = []
        for node in self.nodes:  # bit n of a node: node n is an ancestor
            own = 0
            for parent in node.parents:
                own |= self._before[parent] | (1 << parent)
            self._before.append(own)
        self._after = [0] * len(self.nodes)  # bit n of a node: node n is a descendant
        for node in reversed(self.nodes):
            for parent in node.parents:
                self._after[parent] |= self._after[node.number] | (1 << node.number)
        self._work = sum(1 << n.number for n in self.nodes if n.kind in (SYNAPSE, PRODUCT, REDUCE))
        self.leads = 0
        for number in graph.outputs:
            self.leads |= self._before[number] | (1 << number)
        self.composites = self._composites()
        self.of_layer = {n.number: c for c in self.composites for n in c.layers}

    def before(self, a: int, b: int) -> bool:
        """Whether node a is an ancestor of node b."""
        return bool(self._before[b] >> a & 1)

    def onward(self, node: int) -> bool:
        """Whether a node reaches the output."""
        return bool(self.leads >> node & 1)

    def through_work(self, a: int, b: int) -> bool:
        """Whether a layer, product or reduction lies between a node and one behind it, that one included."""
        return bool((self._before[b] | 1 << b) & self._after[a] & self._work)

    # ---------------------------------------------------------------- composites
    def _composites(self) -> list[Composite]:
        layers = [n for n in self.nodes if n.kind == SYNAPSE]
        leader = {n.number: n.number for n in layers}

        def top(number: int) -> int:
            while leader[number] != number:
                number = leader[number]
            return number

        for node in layers:
            source = node.parents[0]
            if (
                self.nodes[source].kind == SYNAPSE
                and len(self.children[source]) == 1
                and not _ends(self.nodes[source], node)
            ):
                leader[node.number] = top(source)
        for node in self.nodes:  # branches of one tensor that are summed
            if node.kind == ADD and all(self.nodes[t].kind == SYNAPSE for t in self.terms(node.number)):
                terms = self.terms(node.number)
                reads = {self._root(top(t)) for t in terms}
                if len(reads) == 1 and all(len(self.children[t]) == 1 for t in terms):
                    for t in terms[1:]:
                        leader[top(t)] = top(terms[0])
        groups: dict[int, list[Node]] = defaultdict(list)
        for node in layers:
            groups[top(node.number)].append(node)
        found = []
        for members in groups.values():
            own = {n.number for n in members}
            outside = tuple(dict.fromkeys(p for n in members for p in n.parents if p not in own))
            found.append(Composite(tuple(members), outside))
        return sorted(found, key=lambda c: c.number)

    def _root(self, layer: int) -> int:
        return self.nodes[layer].parents[0]

    def terms(self, add: int) -> tuple[int, ...]:
        """What a tree of additions adds, sums of sums that nobody else reads taken apart."""
        found: list[int] = []
        for parent in self.nodes[add].parents:
            node = self.nodes[parent]
            if node.kind == ADD and len(self.children[parent]) == 1:
                found += self.terms(parent)
            else:
                found.append(parent)
        return tuple(found)

    # ---------------------------------------------------------------- residual sums
    @cached_property
    def residuals(self) -> dict[int, tuple[int, tuple[int, ...]]]:
        """Sum -> what is added unchanged, and the branches that have read it."""
        found: dict[int, tuple[int, tuple[int, ...]]] = {}
        inner = set()
        for node in reversed(self.nodes):
            if node.kind != ADD or node.number in inner:
                continue
            terms = self.terms(node.number)
            inner |= {p for p in self._tree(node.number)}
            for x in sorted(terms):
                branches = tuple(y for y in terms if y != x and self.before(x, y) and self.through_work(x, y))
                if branches:
                    found[node.number] = (x, branches)
                    break
        return found

    def _tree(self, add: int) -> Iterator[int]:
        for parent in self.nodes[add].parents:
            if self.nodes[parent].kind == ADD and len(self.children[parent]) == 1:
                yield parent
                yield from self._tree(parent)

    def between(self, start: int, ends: Iterable[int]) -> set[int]:
        """Nodes on the ways from a node to some others, those others included."""
        back = 0
        for end in ends:
            back |= self._before[end] | 1 << end
        return set(_bits(back & self._after[start]))

    # ---------------------------------------------------------------- walks
    def sources(self, start: int, stops: frozenset[int] = frozenset()) -> list[Node]:
        """What an operand is made from: the nearest layers, products, residual sums or given stops behind it."""
        found: list[Node] = []
        seen: set[int] = set()

        def visit(number: int, depth: int) -> None:
            if number in seen:
                return
            seen.add(number)
            node = self.nodes[number]
            stop = node.kind in (SYNAPSE, PRODUCT, INPUT) or number in stops or number in self.residuals
            if stop or not node.parents:
                found.append(node)
                return
            for parent in node.parents:
                visit(parent, depth + 1)

        visit(start, 0)
        return found

    def passed(self, start: int, end: int) -> Iterator[Node]:
        """Nodes on the ways from one node (not it) to another (it too) that weigh and multiply nothing."""
        for n in _bits((self._before[end] | 1 << end) & self._after[start]):
            yield self.nodes[n]

    def next_layers(self, start: int, joins: Collection[int] | None = None) -> list[Composite]:
        """The layers that read a node next, through neurons, scales and views; sums in `joins` end the way.

        Every residual sum does, unless given.
        """
        found: dict[int, Composite] = {}
        seen: set[int] = set()
        todo = [start]
        while todo:
            number = todo.pop()
            for child in self.children[number]:
                node = self.nodes[child]
                if child in seen:
                    continue
                seen.add(child)
                if node.kind == SYNAPSE:
                    found[self.of_layer[child].number] = self.of_layer[child]
                elif node.kind != PRODUCT and not self._joins(child, self.residuals if joins is None else joins):
                    todo.append(child)
        return sorted(found.values(), key=lambda c: c.number)

    def _joins(self, number: int, joins: Collection[int]) -> bool:
        """Whether a sum is one of those given, or a part of one."""
        if number in joins:
            return True
        node = self.nodes[number]
        while node.kind == ADD and len(self.children[node.number]) == 1:
            node = self.nodes[self.children[node.number][0]]
            if node.kind == ADD and node.number in joins:
                return True
        return False

    @cached_property
    def distinct(self) -> list[Composite]:
        """The composites without those that run again, at a later time step."""
        seen: dict[tuple[str, str, int], Composite] = {}
        for composite in self.composites:
            seen.setdefault(composite.place, composite)
        return list(seen.values())


def _bits(number: int) -> Iterator[int]:
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def _ends(first: Node, second: Node) -> bool:
    """Whether a layer that reads another one directly is no part of it: tokens are gone, or one joins them all."""
    return second.tokens <= 1 < first.tokens
