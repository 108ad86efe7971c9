"""Residual units: what stands between a tensor and the sum that adds it again, or layers that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spikeattn.structure.axes import TOKEN
from spikeattn.structure.cores import Core, projection
from spikeattn.structure.flow import Composite, Flow
from spikeattn.structure.graph_nodes import JOIN, REDUCE, Node

ATTENTION, MIXING, RECURRENT, POOLING, POINTWISE, DEPTHWISE, CONVOLUTION = (
    "attention", "mixing", "recurrent", "pooling", "pointwise", "depthwise", "convolution",
)  # fmt: skip
MIXERS = (ATTENTION, MIXING, RECURRENT, POOLING)
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
    for whole in _unsummed(flow, cores, found):
        found = [unit for unit in found if not (unit.numbers and unit.numbers <= whole.numbers)]
        found.append(whole)
    found.sort(key=lambda unit: unit.first)
    seen: set[tuple[str, str, int]] = set()
    kept: list[Unit] = []
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
    if unit.join not in flow.residuals or tokens_of(unit) <= 1:
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
        if _kind(flow, unit) not in MIXERS:
            continue
        next_start = next((s for s in starts if s == unit.join or flow.before(unit.join, s)), None)
        behind = [
            c for c in flow.composites
            if c.number not in taken and c.tokens > 1 and flow.before(unit.join, c.first.number)
            and (next_start is None or c.last.number == next_start or flow.before(c.last.number, next_start))
        ]  # fmt: skip
        layers = there_and_back(levels(flow, behind))
        if layers:
            taken |= {c.number for c in layers}
            found.append(Unit(unit.join, max(c.last.number for c in layers), layers, [], known="order"))
    return found


def there_and_back(steps: Sequence[Sequence[Composite]]) -> list[Composite]:
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


def tokens_of(unit: Unit) -> int:
    return max((c.tokens for c in unit.layers), default=1)
