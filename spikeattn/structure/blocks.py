"""Blocks: what mixes tokens and the feed-forward behind it, or convolutions; made of residual units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spikeattn.structure.flow import Composite, Flow
from spikeattn.structure.residual_units import (
    ATTENTION,
    CONVOLUTION,
    DEPTHWISE,
    MIXERS,
    MIXING,
    POINTWISE,
    Unit,
    levels,
    there_and_back,
    tokens_of,
)


@dataclass(eq=False)
class Block:
    """Units that make one block; `open` while a feed-forward may follow."""

    units: list[Unit] = field(default_factory=list)
    open: bool = True

    @property
    def first(self) -> int:
        return min(u.first for u in self.units)


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
        if unit.kind in MIXERS:
            unit.feeds = _carries_feed_forward(flow, unit)
            if joins and current is not None and _convolves(current) and not _belongs(flow, current, unit, units, ends):
                joins = False
                _drop_places(flow, made, 0)
            elif joins:
                _drop_places(flow, made, 1)
        elif unit.kind == POINTWISE:
            unit.feeds = deep >= 2 and tokens_of(unit) > 1
            if not unit.feeds:
                continue
            joins = joins or (before is not None and before.kind in MIXERS)
        elif before is not None and before.kind in MIXERS and _ffn(flow, unit):
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
        mixes = [u.kind in MIXERS for u in own]
        fits = all(u.kind in MIXERS or (u.kind == POINTWISE and len(levels(flow, u.layers)) > 1) for u in own)
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
    return steps if there_and_back(steps) == [c for step in steps for c in step] else []


def _convolves(block: Block) -> bool:
    return all(u.kind == DEPTHWISE for u in block.units)


def _belongs(flow: Flow, block: Block, unit: Unit, units: Sequence[Unit], ends: Sequence[int]) -> bool:
    """Whether a convolution before attention belongs to its block.

    It does where it stands before every attention of its stage; of a single one, where another stage has it too or both
    lie in one module.
    """
    own = _stage(unit, ends)
    mixers = [u for u in units if u.kind in MIXERS]
    led = []
    for before, own_unit, behind in zip((None, *units), units, units[1:], strict=False):
        feeds = before is not None and before.kind in MIXERS and _ffn(flow, own_unit)
        if own_unit.kind == DEPTHWISE and behind.kind in MIXERS and not feeds:
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
    if len(steps) < 2 or tokens_of(unit) <= 1:
        return False
    ends = all(c.pointwise for c in (*steps[0], *steps[-1]))
    first, last = steps[0][0], steps[-1][-1]
    return ends or first.last.widths[1] > last.last.widths[1]
