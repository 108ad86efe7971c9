"""Residual units, and the blocks that they make: what mixes tokens and the feed-forward behind it, or convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spikeattn.structure.axes import TOKEN
from spikeattn.structure.cores import Core, projection
from spikeattn.structure.flow import Composite, Flow
from spikeattn.structure.graph import REDUCE, Node

ATTENTION, MIXING, POOLING, POINTWISE, DEPTHWISE, CONVOLUTION = (
    "attention", "mixing", "pooling", "pointwise", "depthwise", "convolution",
)  # fmt: skip
_MIXERS = (ATTENTION, MIXING, POOLING)
_LONG = 8  # layers: a sum over more of them, which spans several other units, is a skip connection and no unit


@dataclass(eq=False)
class Unit:
    """What stands between a tensor and the sum that adds it again; or, without such a sum, layers that belong together.

    Attributes:
        start, join: numbers of the tensor and the sum.
        layers: composites between, in order.
        cores: attention between.
        kind: see the constants above.
        feeds: whether it is a feed-forward.
        known: "dataflow", or "order" where no sum says so.
    """

    start: int
    join: int
    layers: list[Composite]
    cores: list[Core]
    kind: str = ""
    feeds: bool = False
    known: str = "dataflow"

    @property
    def numbers(self) -> frozenset[int]:
        return frozenset(c.number for c in self.layers)

    @property
    def first(self) -> int:
        return min([c.number for c in self.layers], default=self.join)


@dataclass(eq=False)
class Block:
    """Units that make one block; `open` while a feed-forward may follow."""

    units: list[Unit] = field(default_factory=list)
    open: bool = True

    @property
    def first(self) -> int:
        return min(u.first for u in self.units)

    @property
    def has_mixer(self) -> bool:
        return any(u.kind in _MIXERS for u in self.units)


def units_of(flow: Flow, cores: Sequence[Core]) -> list[Unit]:
    """The outermost units of a network, in the order of execution; those of later time steps left out."""
    found = []
    for join, (start, branches) in flow.residuals.items():
        inside = flow.between(start, branches)
        layers = [c for c in flow.composites if c.first.number in inside]
        own = [core for core in cores if core.last.number in inside]
        pools = [n for n in inside if _pools(flow.nodes[n])]
        if layers or own or pools:
            found.append(Unit(start, join, layers, own))
    found = _outermost(found)
    joins = {unit.join for unit in found}
    for core in cores:
        core.projection = projection(flow, list(cores), core, joins)
    found += _alone(flow, cores, found)
    found.sort(key=lambda unit: unit.first)
    seen: set[tuple[str, str, int]] = set()
    kept = []
    for unit in found:
        places = {c.place for c in unit.layers}
        if places and places <= seen:
            continue  # the same at a later time step
        seen |= places
        unit.kind = _kind(flow, unit)
        if kept and _continues(kept[-1], unit):
            kept[-1].layers += unit.layers
            kept[-1].join = unit.join
            continue
        kept.append(unit)
    return kept


def _continues(unit: Unit, behind: Unit) -> bool:
    """Whether two sums around one pointwise layer each are a feed-forward that adds its input in between, too."""
    both = unit.kind == behind.kind == POINTWISE and behind.start == unit.join
    return both and len(unit.layers) == len(behind.layers) == 1


def _pools(node: Node) -> bool:
    """Whether a node joins some of the tokens and leaves several."""
    return node.kind == REDUCE and node.contracts == TOKEN and node.tokens > 1


def _outermost(units: list[Unit]) -> list[Unit]:
    units = sorted(units, key=lambda unit: (unit.join - unit.start, unit.join))
    outer: list[Unit] = []
    for unit in units:  # from small to large
        inner = [u for u in outer if unit.start <= u.start and u.join <= unit.join and u is not unit]
        inner = [u for u in inner if u.numbers <= unit.numbers]
        worked = [u for u in inner if u.layers or u.cores]
        apart = _disjoint(worked)
        if apart >= 2 and (unit.cores or len(unit.layers) > _LONG):
            continue  # a skip over several units
        if len(worked) == 1 and worked[0].cores and _feeds_behind(unit, worked[0]):
            continue  # the sum around a block whose attention has a sum of its own
        outer = [u for u in outer if u not in inner]
        outer.append(unit)
    return outer


def _feeds_behind(unit: Unit, inner: Unit) -> bool:
    return len([c for c in unit.layers if c.number not in inner.numbers and c.number > inner.join]) >= 2


def _disjoint(units: list[Unit]) -> int:
    """How many of the units share no layer."""
    taken: set[int] = set()
    count = 0
    for unit in sorted(units, key=lambda unit: len(unit.layers)):
        if not unit.numbers & taken:
            taken |= unit.numbers
            count += 1
    return count


def _alone(flow: Flow, cores: Sequence[Core], units: Sequence[Unit]) -> list[Unit]:
    """Attention that no sum spans, and the layers of a feed-forward that follow one another behind it."""
    inside = {number for unit in units for number in unit.numbers}
    taken = inside | {c.number for core in cores for c in (*core.layers, *core.projection)}
    found = []
    for core in cores:
        layers = [*core.layers, *core.projection]
        if any(c.number in inside for c in layers):
            continue
        end = max((n.number for c in core.projection for n in c.layers), default=core.last.number)
        start = min((r for c in core.layers for r in c.reads), default=0)
        found.append(Unit(start, end, sorted(layers, key=lambda c: c.number), [core], known="order"))
        level, behind = flow.next_layers(end), []
        while level and len(behind) < 2 and all(c.pointwise and c.tokens > 1 and c.number not in taken for c in level):
            behind.append(level)
            level = flow.next_layers(level[-1].last.number)
        if len(behind) == 2:
            both = [c for part in behind for c in part]
            taken |= {c.number for c in both}
            found.append(Unit(end, both[-1].last.number, both, [], known="order"))
    return found


def _kind(flow: Flow, unit: Unit) -> str:
    if unit.cores:
        return ATTENTION
    if not unit.layers:
        return POOLING
    if any(c.mixes for c in unit.layers):
        return MIXING
    if all(c.pointwise for c in unit.layers):
        return POINTWISE
    spatial = [c for c in unit.layers if c.spatial]
    if all(c.depthwise for c in spatial):
        return DEPTHWISE
    return CONVOLUTION


def levels(flow: Flow, layers: Sequence[Composite]) -> list[list[Composite]]:
    """Layers by how many of the others lie before them."""
    depth: dict[int, int] = {}
    for c in sorted(layers, key=lambda c: c.number):
        own = [depth[o.number] for o in layers if o.number in depth and flow.before(o.last.number, c.first.number)]
        depth[c.number] = max(own, default=-1) + 1
    return [[c for c in layers if depth[c.number] == d] for d in range(max(depth.values(), default=-1) + 1)]


def blocks_of(flow: Flow, units: Sequence[Unit], ends: Sequence[int]) -> list[Block]:
    """Group the units; `ends` are numbers of layers of no unit, behind which another stage begins."""
    attention = any(u.kind == ATTENTION for u in units)
    made: list[Block] = []
    current: Block | None = None
    before: Unit | None = None
    for unit in units:
        if current is not None and before is not None and any(before.first < end < unit.first for end in ends):
            current.open, before = False, None
        joins = current is not None and current.open
        deep = len(levels(flow, unit.layers))
        if unit.kind in _MIXERS:
            unit.feeds = _carries_feed_forward(flow, unit)
            if joins and current is not None and _convolves(current) and not _belongs(current, unit, units, ends):
                joins = False
        elif unit.kind == POINTWISE:
            unit.feeds = deep >= 2 and _tokens(unit) > 1
            joins = joins and unit.feeds
            if not unit.feeds:
                continue
        elif before is not None and before.kind in _MIXERS and _ffn(flow, unit):
            unit.feeds = True
        elif unit.kind == DEPTHWISE:
            joins = joins and current is not None and not current.units
        else:
            joins = joins and current is not None and all(u.kind == DEPTHWISE for u in current.units)
            if deep < 2 and not joins:
                continue
            joins = joins and deep >= 2
        if not joins or current is None:
            current = Block()
            made.append(current)
        current.units.append(unit)
        current.open = not (unit.feeds or unit.kind == CONVOLUTION)
        before = unit
    return [b for b in made if attention or True]


def _carries_feed_forward(flow: Flow, unit: Unit) -> bool:
    """Whether a unit with attention has a feed-forward beside it, as x + attention(x) + mlp(x)."""
    own = {c.number for core in unit.cores for c in (*core.layers, *core.projection)}
    rest = [c for c in unit.layers if c.number not in own]
    return bool(unit.cores) and len(levels(flow, rest)) == 2 and all(c.pointwise for c in rest)


def _convolves(block: Block) -> bool:
    return all(u.kind == DEPTHWISE for u in block.units)


def _belongs(block: Block, unit: Unit, units: Sequence[Unit], ends: Sequence[int]) -> bool:
    """Whether a convolution before attention belongs to its block.

    It does where it stands before every attention of its stage; of a single one, where another stage has it too or both
    lie in one module.
    """
    own = _stage(unit, ends)
    mixers = [u for u in units if u.kind in _MIXERS]
    led = [b for a, b in zip(units, units[1:], strict=False) if a.kind == DEPTHWISE and b.kind in _MIXERS]
    here = [u for u in mixers if _stage(u, ends) == own]
    if not all(u in led for u in here):
        return False
    elsewhere = any(_stage(u, ends) != own for u in led)
    return len(here) > 1 or elsewhere or _folder(block.units[-1]) == _folder(unit) != ""


def _stage(unit: Unit, ends: Sequence[int]) -> int:
    return sum(end < unit.first for end in ends)


def _folder(unit: Unit) -> str:
    """The path that all layers of a unit share, without its last name."""
    paths = [n.path.split(".") for c in unit.layers for n in c.layers]
    shared = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared[:-1])


def _ffn(flow: Flow, unit: Unit) -> bool:
    """Whether a unit behind attention that convolves is a feed-forward: it begins and ends pointwise, or expands."""
    steps = levels(flow, unit.layers)
    if len(steps) < 2 or _tokens(unit) <= 1:
        return False
    ends = all(c.pointwise for c in (*steps[0], *steps[-1]))
    first, last = steps[0][0], steps[-1][-1]
    return ends or first.last.widths[1] > last.last.widths[1]


def _tokens(unit: Unit) -> int:
    return max((c.tokens for c in unit.layers), default=1)
