"""Attention: products of tensors made from the same tokens, and which of their operands are q, k and v."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from math import prod

from spikeattn.structure import axes as ax
from spikeattn.structure.axes import CHANNEL, OTHER, TOKEN
from spikeattn.structure.flow import Composite, Flow
from spikeattn.structure.graph_nodes import PRODUCT, REDUCE, Node

MATRIX = ("mm", "bmm", "baddbmm", "addmm")
DATAFLOW, ORDER, NAMES, UNKNOWN = "dataflow", "order", "names", "unknown"


@dataclass(eq=False)
class Operand:
    """What a product of a core reads beside other products of it.

    Attributes:
        product: whose operand it is; `place` says which.
        layer: the composite that made it, None for the block's own input.
        range: its channels of that composite's last layer.
        source: the node that it comes from.
        role, known: q, k or v, and how that is known.
    """

    product: Node
    place: int
    source: Node
    layer: Composite | None
    range: tuple[tuple[int, int], ...]
    role: str | None = None
    known: str = UNKNOWN

    @property
    def key(self) -> tuple[int, tuple[tuple[int, int], ...]]:
        return (self.layer.number, self.range) if self.layer is not None else (-1 - self.source.number, ())


@dataclass(eq=False)
class Core:
    """The products of one attention, its operands, and the layer that projects the result.

    Attributes:
        gates: layers that scale what the attention gives.
    """

    products: list[Node]
    operands: list[Operand]
    projection: list[Composite] = field(default_factory=list)
    gates: list[Composite] = field(default_factory=list)
    heads: int | None = None

    @property
    def layers(self) -> list[Composite]:
        """The composites that make q, k and v."""
        found = {o.layer.number: o.layer for o in self.operands if o.layer is not None}
        return [found[number] for number in sorted(found)]

    @property
    def last(self) -> Node:
        return self.products[-1]


def find(flow: Flow) -> tuple[list[Core], list[Node]]:
    """The attention of a network, and the products that are gates."""
    products = [n for n in flow.nodes if n.kind == PRODUCT]
    group = {n.number: n.number for n in products}

    def top(number: int) -> int:
        while group[number] != number:
            number = group[number]
        return number

    for node in products:
        for source in node.sources:
            for origin in flow.sources(source):
                if origin.kind == PRODUCT and origin.number != node.number:
                    group[top(node.number)] = top(origin.number)
    members: dict[int, list[Node]] = {}
    for node in products:
        members.setdefault(top(node.number), []).append(node)
    cores, gates = [], []
    for own in members.values():
        core = _core(flow, own)
        if core is None:
            gates += own
        else:
            cores.append(core)
    cores.sort(key=lambda core: core.products[0].number)
    for core in cores:
        core.heads = _heads(flow, core)
        core.projection = projection(flow, cores, core, flow.residuals)
    return cores, gates


def projection(flow: Flow, cores: list[Core], core: Core, joins: Collection[int]) -> list[Composite]:
    """The layers behind a core; the sums in `joins` end the way."""
    taken = {c.number for other in cores for c in other.layers}
    return [c for c in flow.next_layers(core.last.number, joins) if c.number not in taken]


def _core(flow: Flow, products: list[Node]) -> Core | None:
    operands = _operands(flow, products, frozenset())
    stops = {read for o in operands if o.layer is not None for read in o.layer.reads}
    operands = _operands(flow, products, frozenset(stops - {n.number for n in products}))
    if len({o.key for o in operands}) < 2 or not any(o.layer for o in operands):
        return None
    if max((ax.count(axes, TOKEN) for n in products for axes in n.operands), default=1) <= 1:
        return None
    matrix = any(n.op in MATRIX or n.op.startswith("_scaled_dot") for n in products)
    sums = [n for p in products for n in _sums(flow, p, products, operands)]
    if not matrix and not sums:
        return None
    if not matrix:
        numbers = {n.number for o in operands if o.layer is not None for n in o.layer.layers}
        for o in operands:
            behind = {m for m in numbers if flow.before(m, o.source.number)}
            own = {n.number for n in o.layer.layers} if o.layer is not None else set()
            if behind - own:
                return None  # one operand is computed from the other: a gate
        if any(o.layer is None for o in operands):
            return None
    elif all(n.op not in MATRIX or n.contracts == OTHER for n in products if not n.op.startswith("_scaled")):
        if not any(n.op.startswith("_scaled") for n in products):
            return None
    core = Core(products, operands)
    _roles(flow, core)
    return core


def _sums(flow: Flow, product: Node, products: list[Node], operands: list[Operand]) -> list[Node]:
    """Sums over tokens or channels right behind a product, or between a layer and a product."""
    found = []
    starts = [o.source.number for o in operands if o.product is product]
    starts += [p.number for p in products if flow.before(p.number, product.number)]
    for source in product.sources:
        for start in starts:
            if source == start or flow.before(start, source):
                found += [n for n in flow.passed(start, source) if _is_sum(n)]
    for child in flow.children[product.number]:
        node = flow.nodes[child]
        if _is_sum(node):
            found.append(node)
    return found


def _is_sum(node: Node) -> bool:
    return node.kind == REDUCE and node.contracts in (TOKEN, CHANNEL) and node.op in ("sum", "mean")


def _operands(flow: Flow, products: list[Node], stops: frozenset[int]) -> list[Operand]:
    own = {n.number for n in products}
    found = []
    for product in products:
        for place, start in enumerate(product.sources):
            for source in flow.sources(start, stops):
                if source.number in own:
                    continue
                layer = flow.of_layer.get(source.number)
                channels: tuple[tuple[int, int], ...] = ()
                if layer is not None:
                    axes = _before_sums(flow, source, start) or product.operands[place]
                    channels = ax.channels(axes, source.number)
                    if channels == ((0, source.widths[1]),):
                        channels = ()
                found.append(Operand(product, place, source, layer, channels))
    return found


def _before_sums(flow: Flow, source: Node, end: int) -> ax.Axes | None:
    """The axes of what a sum over channels on the way adds up, which still hold all of them."""
    for node in flow.passed(source.number, end):
        if node.kind == REDUCE and node.contracts == CHANNEL:
            return node.operands[0]
    return None


# -------------------------------------------------------------------- roles
def _roles(flow: Flow, core: Core) -> None:
    matrix = [n for n in core.products if _is_matrix(n)]
    whole = [n for n in core.products if n.op.startswith("_scaled_dot")]
    pair = _pair(flow, core, matrix)
    if whole:
        for product in whole:
            for place, role in enumerate("qkv"):
                _give(flow, core, product, place, role, DATAFLOW)
    elif pair:
        _of_matrices(flow, core, *pair)
    else:
        _of_masks(flow, core)
    _settle(core)
    if whole or pair:
        _take_gates(flow, core)


def _is_matrix(node: Node) -> bool:
    """A matrix product, or an elementwise one of every token with every other, as of XOR attention."""
    return node.op in MATRIX or any(f.side and f.side[0] == node.number for factors in node.axes for f in factors)


def _take_gates(flow: Flow, core: Core) -> None:
    """Operands that scale the result of the other products are no q, k or v."""
    for product in core.products:
        if product.op in MATRIX or product.op.startswith("_scaled_dot"):
            continue
        own = [o for o in core.operands if o.product is product and o.layer is not None]
        places = {o.place for o in own}
        results = [at for at, source in enumerate(product.sources) if at not in places]
        if own and results and all(o.role is None for o in own):
            core.gates += [o.layer for o in own if o.layer is not None]
            core.operands = [o for o in core.operands if o not in own]


def _give(flow: Flow, core: Core, product: Node, place: int, role: str, known: str) -> None:
    """Give a role to an operand of a product, also where it is scaled by what was computed from it, as by its norm."""
    for operand in core.operands:
        if operand.product is product and operand.place == place and operand.role is None:
            operand.role, operand.known = role, known
    for origin in flow.sources(product.sources[place]):
        if origin in core.products and not _is_matrix(origin):
            own = [o for o in core.operands if o.product is origin]
            layers = [{o.layer for o in own if o.place == at} for at in range(len(origin.sources))]
            if all(found == layers[0] for found in layers) and len({o.range for o in own if o.range}) <= 1:
                for at in range(len(origin.sources)):
                    _give(flow, core, origin, at, role, known)


def _pair(flow: Flow, core: Core, matrix: list[Node]) -> tuple[list[Node], Node, int] | None:
    """Matrix products (scores are their sum), the next one that reads their result, and at which place."""
    for second in reversed([n for n in matrix if n.op in MATRIX]):
        for place, start in enumerate(second.sources):
            firsts = [n for n in _made_from(flow, core, start) if n in matrix and n is not second]
            if firsts:
                return firsts, second, place
    return None


def _made_from(flow: Flow, core: Core, start: int) -> list[Node]:
    """What a tensor is made from, through products of the core that scale or mask element by element."""
    found: list[Node] = []
    for origin in flow.sources(start):
        if origin in core.products and not _is_matrix(origin) and not origin.op.startswith("_scaled_dot"):
            found += [n for source in origin.sources for n in _made_from(flow, core, source)]
        else:
            found.append(origin)
    return list(dict.fromkeys(found))


def _of_matrices(flow: Flow, core: Core, firsts: list[Node], second: Node, place: int) -> None:
    goes_on = {f.side for f in second.contracted[place] if f.side is not None}
    first = next((n for n in firsts if any(side[0] == n.number for side in goes_on)), firsts[0])
    sides = {side[1] for side in goes_on if side[0] == first.number}
    contracts = first.contracts or _between(flow, first, [second])
    tokens = contracts == TOKEN or (contracts == OTHER and second.contracts == CHANNEL)
    if tokens:
        inner, other, last = "k", "v", "q"
    else:
        inner, other, last = "k", "q", "v"
    known = DATAFLOW
    if len(sides) == 1:
        side = sides.pop()
    else:  # which axis goes on cannot be told: q and k, k and v in this order
        side, known = (0 if tokens else 1), ORDER
    _give(flow, core, first, side, inner, known)
    _give(flow, core, first, 1 - side, other, known)
    _give(flow, core, second, 1 - place, last, DATAFLOW)


def _of_masks(flow: Flow, core: Core) -> None:
    products = core.products
    matrix = [n for n in products if n.op in MATRIX]
    first = matrix[0] if matrix else products[0]
    own = [o for o in core.operands if o.product is first]
    later = [o for o in core.operands if o.product is not first]
    summed = _between(flow, first, products)
    single = [o for o in own if any(_is_sum(n) for n in flow.passed(o.source.number, first.sources[o.place]))]
    if later and summed == TOKEN:
        _symmetric(own, ("k", "v"))
        for o in later:
            o.role, o.known = "q", DATAFLOW
    elif later and summed == CHANNEL:
        _symmetric(own, ("q", "k"))
        for o in later:
            o.role, o.known = "v", DATAFLOW
    elif not later and len({o.place for o in single}) == 1:
        for o in own:
            o.role, o.known = ("q" if o in single else "k"), DATAFLOW
    elif matrix and not later and all(len({o.layer for o in own if o.place == at}) == 1 for at in (0, 1)):
        _symmetric(own, ("q", "k") if first.contracts == CHANNEL else ("k", "v"))


def _between(flow: Flow, first: Node, products: list[Node]) -> str:
    """What is summed over between a product and the next one, or right behind it; or by a matrix product itself."""
    for second in products:
        if flow.before(first.number, second.number):
            for source in second.sources:
                if source == first.number or flow.before(first.number, source):
                    for node in flow.passed(first.number, source):
                        if _is_sum(node):
                            return node.contracts
    if first.op in MATRIX:
        return first.contracts
    return ""


def _symmetric(operands: list[Operand], roles: tuple[str, str]) -> None:
    """Two operands that play the same part: by their names if both tell and differ, else in their order."""
    for place, role in enumerate(roles):
        for operand in operands:
            if operand.place == place:
                operand.role, operand.known = role, ORDER
    named = [(o, letter(o.layer.last.path) if o.layer is not None else None) for o in operands]
    if len(named) == 2 and {name for _, name in named} == set(roles):
        for operand, name in named:
            operand.role, operand.known = name, NAMES


def letter(path: str) -> str | None:
    """q, k or v, where the last part of a path that tells says so ("attn.q_conv.0", "to_k", "v")."""
    words = {"query": "q", "queries": "q", "key": "k", "keys": "k", "value": "v", "values": "v"}
    for part in reversed(path.lower().split(".")):
        found = {words.get(w, w) for w in re.split(r"[^a-z]+", part)} & {"q", "k", "v"}
        if len(found) == 1:
            return found.pop()
    return None


def _settle(core: Core) -> None:
    """The same operand plays one part, in however many products."""
    roles: dict[tuple[int, tuple[tuple[int, int], ...]], tuple[str, str]] = {}
    for operand in core.operands:
        if operand.role is not None:
            roles.setdefault(operand.key, (operand.role, operand.known))
    for operand in core.operands:
        if operand.role is None and operand.key in roles:
            operand.role, operand.known = roles[operand.key]


def _heads(flow: Flow, core: Core) -> int | None:
    for product in core.products:
        if product.op in MATRIX and len(product.operands[0]) == 3:
            found = [prod(f.size for f in axes[0] if f.kind == CHANNEL) for axes in product.operands]
            return max(found)
        if product.op.startswith("_scaled_dot"):
            return prod(f.size for a in product.operands[0][:-2] for f in a if f.kind == CHANNEL)
    sums = [n for p in core.products for n in _sums(flow, p, core.products, core.operands)]
    over = next((n for n in sums if n.contracts == CHANNEL), None)
    return ax.count(over.axes, CHANNEL) if over is not None else None
