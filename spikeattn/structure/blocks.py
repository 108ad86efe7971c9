"""Residual units, and the blocks that they make: what mixes tokens and the feed-forward behind it, or convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spikeattn.structure.axes import TOKEN
from spikeattn.structure.cores import Core, projection
from spikeattn.structure.flow import Composite, Flow
from spikeattn.structure.graph import JOIN, REDUCE, Node

ATTENTION, MIXING, RECURRENT, POOLING, POINTWISE, DEPTHWISE, CONVOLUTION = (
    "attention", "mixing", "recurrent", "pooling", "pointwise", "depthwise", "convolution",
)  # fmt: skip
_MIXERS = (ATTENTION, MIXING, RECURRENT, POOLING)
_DEEPEST = 3  # layers one after another in a feed-forward: up, a middle over space, down
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
    for unit in found:  # k and v may be made from another tensor than the one that the sum adds
        unit.layers += [c for core in unit.cores for c in core.layers if c.number not in unit.numbers]
        unit.layers.sort(key=lambda c: c.number)
    joins = {unit.join for unit in found}
    for core in cores:
        core.projection = projection(flow, list(cores), core, joins)
    found += _alone(flow, cores, found)
    for own in _unsummed(flow, cores, found):
        found = [unit for unit in found if not (unit.numbers and unit.numbers <= own.numbers)]
        found.append(own)
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
    """Whether a node joins some of the tokens and leaves several, or transforms them."""
    transforms = node.op.startswith("_fft") and node.tokens > 1
    return transforms or (node.kind == REDUCE and node.contracts == TOKEN and node.tokens > 1)


def _recurs(flow: Flow, unit: Unit) -> bool:
    """Whether tokens go through a unit one after another and are joined again, as in a state-space model."""
    if unit.join not in flow.residuals or _tokens(unit) <= 1:
        return False
    inside = flow.between(unit.start, flow.residuals[unit.join][1])
    joins = [flow.nodes[n] for n in inside if flow.nodes[n].kind == JOIN and len(flow.nodes[n].parents) > 1]
    return any(all(flow.nodes[p].tokens <= 1 for p in node.parents) for node in joins)


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
    """Attention that no sum spans."""
    inside = {number for unit in units for number in unit.numbers}
    found = []
    for core in cores:
        layers = [*core.layers, *core.projection]
        if any(c.number in inside for c in layers):
            continue
        end = max((n.number for c in core.projection for n in c.layers), default=core.last.number)
        start = min((r for c in core.layers for r in c.reads), default=0)
        layers += [  # what leaves out tokens for k and v alone
            c for c in flow.composites
            if c not in layers and c.number not in inside and flow.before(start, c.first.number)
            and flow.before(c.last.number, core.last.number)
        ]  # fmt: skip
        found.append(Unit(start, end, sorted(layers, key=lambda c: c.number), [core], known="order"))
    return found


def _unsummed(flow: Flow, cores: Sequence[Core], units: Sequence[Unit]) -> list[Unit]:
    """Feed-forwards behind what mixes tokens that no sum spans: layers that widen the channels and bring them back."""
    # A convolution with a sum of its own may stand in the middle of a feed-forward.
    whole = [u for u in units if u.cores or not u.layers or len(u.layers) > 1 or not u.layers[0].depthwise]
    taken = {number for unit in whole for number in unit.numbers} | {c.number for core in cores for c in core.layers}
    starts = sorted(unit.start for unit in whole)
    found = []
    for unit in units:
        if _kind(flow, unit) not in _MIXERS:
            continue
        next_start = next((s for s in starts if s == unit.join or flow.before(unit.join, s)), None)
        behind = [
            c for c in flow.composites
            if c.number not in taken and c.tokens > 1 and flow.before(unit.join, c.first.number)
            and (next_start is None or c.last.number == next_start or flow.before(c.last.number, next_start))
        ]  # fmt: skip
        layers = _there_and_back(levels(flow, behind))
        if layers:
            taken |= {c.number for c in layers}
            found.append(Unit(unit.join, max(c.last.number for c in layers), layers, [], known="order"))
    return found


def _there_and_back(steps: Sequence[Sequence[Composite]]) -> list[Composite]:
    """The first layers of some that end with the channels that they began with, and hold more or work on each token."""
    if not steps:
        return []
    (width, wide), tokens = steps[0][0].widths, steps[0][0].tokens
    for depth, step in enumerate(steps[1:_DEEPEST], 2):
        if any(c.tokens != tokens for c in step):
            return []
        if all(c.widths[1] == width for c in step):
            ends = all(c.pointwise for c in (*steps[0], *step))
            return [c for own in steps[:depth] for c in own] if ends or wide > width else []
    return []


def _kind(flow: Flow, unit: Unit) -> str:
    if unit.cores:
        return ATTENTION
    if not unit.layers:
        return POOLING
    if any(c.mixes for c in unit.layers):
        return MIXING
    if _recurs(flow, unit):
        return RECURRENT
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
    made: list[Block] = []
    current: Block | None = None
    before: Unit | None = None
    leading = _leading(flow, units, ends)
    for unit in units:
        if unit in leading:
            _drop_places(flow, made, 0)
            unit.feeds, before = True, unit
            current = Block([unit])
            made.append(current)
            continue
        if current is not None and before is not None and any(before.first < end < unit.first for end in ends):
            current.open, before = False, None
        joins = current is not None and current.open
        deep = len(levels(flow, unit.layers))
        if unit.kind in _MIXERS:
            unit.feeds = _carries_feed_forward(flow, unit)
            if joins and current is not None and _convolves(current) and not _belongs(flow, current, unit, units, ends):
                joins = False
                _drop_places(flow, made, 0)
            elif joins:
                _drop_places(flow, made, 1)
        elif unit.kind == POINTWISE:
            unit.feeds = deep >= 2 and _tokens(unit) > 1
            if not unit.feeds:
                continue
            joins = joins or (before is not None and before.kind in _MIXERS)
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
    return made


def _drop_places(flow: Flow, made: list[Block], last: int) -> None:
    """Take single convolutions at the end of some blocks out, but for the `last`: they are position embeddings."""
    while len(made) > last:
        block = made[-1 - last]
        if not block.open or len(block.units) > 1 or not _is_single(flow, block.units[0]):
            return
        made.remove(block)


def _is_single(flow: Flow, unit: Unit) -> bool:
    """Whether a unit is one convolution and the sum around it."""
    return unit.kind in (CONVOLUTION, DEPTHWISE) and len(levels(flow, unit.layers)) < 2


def _leading(flow: Flow, units: Sequence[Unit], ends: Sequence[int]) -> list[Unit]:
    """Feed-forwards that stand before what mixes tokens in every block of their stage, alone or as one of two."""
    stages: dict[int, list[Unit]] = {}
    for unit in units:
        stages.setdefault(_stage(unit, ends), []).append(unit)
    found = []
    for own in stages.values():
        places = 0  # units of one layer in front: position embeddings
        while places < len(own) and _is_single(flow, own[places]):
            places += 1
        depthwise = any(u.kind == DEPTHWISE for u in own[:places])  # or what mixes tokens in the first block
        own = own[places:]
        mixes = [u.kind in _MIXERS for u in own]
        fits = all(u.kind in _MIXERS or (u.kind == POINTWISE and len(levels(flow, u.layers)) > 1) for u in own)
        for pattern in ([False, True], [False, True, False]):
            if fits and mixes == pattern * (len(mixes) // len(pattern)) and not (depthwise and len(pattern) > 2):
                found += own[:: len(pattern)]
                break
    return found


def _carries_feed_forward(flow: Flow, unit: Unit) -> bool:
    """Whether a unit that mixes tokens has a feed-forward beside it, as x + attention(x) + mlp(x), or behind it."""
    return bool(beside(flow, unit))


def beside(flow: Flow, unit: Unit) -> list[list[Composite]]:
    """The levels of the feed-forward in a unit that mixes tokens; empty where it has none."""
    if unit.kind not in (ATTENTION, MIXING):
        return []
    own = {c.number for core in unit.cores for c in (*core.layers, *core.projection)}
    rest = [
        c for c in unit.layers
        if c.number not in own and not c.mixes and c.tokens > 1
        and not any(flow.before(c.last.number, core.last.number) for core in unit.cores)
    ]  # fmt: skip
    steps = levels(flow, rest)
    return steps if _there_and_back(steps) == [c for step in steps for c in step] else []


def _convolves(block: Block) -> bool:
    return all(u.kind == DEPTHWISE for u in block.units)


def _belongs(flow: Flow, block: Block, unit: Unit, units: Sequence[Unit], ends: Sequence[int]) -> bool:
    """Whether a convolution before attention belongs to its block.

    It does where it stands before every attention of its stage; of a single one, where another stage has it too or both
    lie in one module.
    """
    own = _stage(unit, ends)
    mixers = [u for u in units if u.kind in _MIXERS]
    led = []
    for before, own_unit, behind in zip((None, *units), units, units[1:], strict=False):
        feeds = before is not None and before.kind in _MIXERS and _ffn(flow, own_unit)
        if own_unit.kind == DEPTHWISE and behind.kind in _MIXERS and not feeds:
            led.append(behind)
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
