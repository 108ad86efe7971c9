"""Time steps of a model: how many there are, and which operations of a forward pass are the same one, step by step.

A multi-step network handles all time steps in one call of a layer. A single-step network calls its layers once per
step, in a loop of its own; there an operation is a line of events, one per step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from spikeattn.errors import SpikeattnError
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.axes import AxisReader
from spikeattn.tracing.events import NEURON, Event
from spikeattn.tracing.origins import View

Pair = tuple[Event, Event]  # the same event for the smaller and the larger batch


@dataclass(frozen=True)
class Line:
    """One operation.

    Attributes:
        pairs: its events: one per time step if `by_call`, else a single one.
        by_call: the time steps are calls, in order.
    """

    pairs: tuple[Pair, ...]
    by_call: bool

    @property
    def first(self) -> Event:
        """The event of the first time step, in the smaller batch."""
        return self.pairs[0][0]


def main_view(event: Event) -> View:
    """The tensor whose axes say whether an operation covers all time steps: what it reads, of a mask what it gives.

    What a module is given tells more than what it makes of it: [T, B, ...] rather than [T*B, ...].
    """
    return event.out_view if event.what == "mask" else event.argument or event.views[0]


def time_steps_of(
    neurons: Mapping[str, nn.Module], pairs: Sequence[Pair], sizes: tuple[int, int], layout: str, given: int | None
) -> tuple[int, frozenset[str]]:
    """T, and the paths of the neurons that handle all time steps in one call.

    Raises:
        SpikeattnError: no neuron was called; neurons that see different numbers of steps, or another one than given.
    """
    calls: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair[0].what == NEURON:
            calls[pair[0].module].append(pair)
    if not calls:
        raise SpikeattnError(
            f"none of the {len(neurons)} neurons is called in the forward pass, the first is {next(iter(neurons))}: "
            "call them as modules, self.lif(x), not through their forward methods"
        )
    axis = 0 if layout == "TB" else 1
    multi = frozenset(name for name, found in calls.items() if _over_time(neurons[name], found[0], axis, given))
    seen = {name: _axis_length(name, found, axis, sizes, layout) for name, found in calls.items() if name in multi}
    if given is not None and (not isinstance(given, int) or given < 1):
        raise SpikeattnError(f"time_steps is {given!r}; give a whole number of at least 1, or leave it out")
    T = given or min(seen.values() or [len(found) for found in calls.values()])
    for name, found in calls.items():
        if name in multi:
            if seen[name] != T:
                raise SpikeattnError(
                    f"neuron {name} sees {seen[name]} time steps where {T} are expected; all neurons must share one T; "
                    "check layout= and time_steps="
                )
        elif len(found) % T and not _merged(neurons[name], found[0][0], sizes, T):
            raise SpikeattnError(
                f"neuron {name} sees {len(found)} time steps where {T} are expected; single-step neurons must be "
                "called a whole number of times per step, say time_steps="
            )
    return T, multi


def lines_of(
    pairs: Sequence[Pair], reader: AxisReader, multi: frozenset[str], calls: Mapping[str, int]
) -> list[Line]:
    """The operations of a forward pass, in the order of their first events.

    Raises:
        SpikeattnError: a layer of a single-step network is called several times, but not a multiple of T.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    lines: list[tuple[int, Line]] = []
    for index, (a, b) in enumerate(pairs):
        axes = reader.read(main_view(a), main_view(b), module=a.module) if multi and a.what != "unknown" else None
        if a.module in multi or (axes is not None and axes.timed):
            lines.append((index, Line(((a, b),), False)))
        else:
            groups[a.what, a.module, a.op, a.weight_name].append(index)
    for indices in groups.values():
        for members, by_call in _by_step(indices, pairs, reader.time_steps, _REFINEMENTS):
            a = pairs[members[0]][0]
            if not by_call and not multi:
                _check_calls(a, calls[a.module], reader.time_steps)
            lines.append((members[0], Line(tuple(pairs[i] for i in members), by_call)))
    return [line for _, line in sorted(lines, key=lambda entry: entry[0])]


def _by_step(
    indices: Sequence[int], pairs: Sequence[Pair], T: int, refinements: Sequence[Callable[[Pair], Hashable]]
) -> list[tuple[list[int], bool]]:
    """Events of one group as lines of T alike events each; told apart further where that does not come out."""
    slots, odd = divmod(len(indices), T)
    if not odd:
        for lines in ([indices[s::slots] for s in range(slots)], [indices[s * T : s * T + T] for s in range(slots)]):
            if all(_alike([pairs[i] for i in line]) for line in lines):
                return [(list(line), True) for line in lines]
    if not refinements:
        return [([i], False) for i in indices]
    finer: dict[Hashable, list[int]] = defaultdict(list)
    for i in indices:
        finer[refinements[0](pairs[i])].append(i)
    return [found for part in finer.values() for found in _by_step(part, pairs, T, refinements[1:])]


def _shapes(pair: Pair) -> Hashable:
    return tuple(view.shape for event in pair for view in (*event.views, event.out_view))


def _makers(pair: Pair) -> Hashable:
    return tuple(origin.maker_name for origin in pair[0].origins)


_REFINEMENTS = (_shapes, _makers)


def _alike(line: Sequence[Pair]) -> bool:
    """Whether events can be the steps of one operation; at the first step a recurrent one receives other zeros."""
    alike = len({_shapes(pair) for pair in line}) == 1
    return alike and (line[0][0].what == NEURON or len({_makers(pair) for pair in line[1:]}) <= 1)


def _check_calls(event: Event, calls: int, T: int) -> None:
    if event.what in ("conv", "linear", "matmul", "mask", "token_sum") and calls > 1 and calls % T:
        raise SpikeattnError(
            f"module {event.module or 'itself, the whole model,'} is called {calls} times in one forward pass of {T} "
            "time steps, which is no whole number of times per step; say time_steps= if T is another number"
        )


def _over_time(neuron: nn.Module, pair: Pair, axis: int, given: int | None) -> bool:
    """Whether a neuron runs along an axis: it says so, or its state lacks the axis, or the axis can be that of time."""
    one, two = pair[0].out_view.shape, pair[1].out_view.shape
    if len(one) <= axis:
        return False
    lacks = any((*one[:axis], *one[axis + 1 :]) == state for state in pair[0].state)
    return nodes.is_multi_step(neuron, lacks or one[axis] == two[axis] == (given or one[axis]))


def _axis_length(name: str, found: Sequence[Pair], axis: int, sizes: tuple[int, int], layout: str) -> int:
    for a, b in found:
        one, two = a.out_view.shape, b.out_view.shape
        if one[axis] != two[axis]:
            raise SpikeattnError(
                f"axis {axis} of neuron {name} grows with the batch, so it is no time axis: {one} and {two} for "
                f"{sizes[0]} and {sizes[1]} images. A neuron that runs over images hands its state from one image to "
                f"the next; if the model keeps its tensors the other way round, try layout="
                f"{'BT' if layout == 'TB' else 'TB'!r}, else the module that calls it must give it [T, B, ...]"
            )
    lengths = sorted({a.out_view.shape[axis] for a, _ in found})
    if len(lengths) > 1:
        raise SpikeattnError(
            f"neuron {name} is called with {' and with '.join(map(str, lengths))} time steps in one forward pass; all "
            "neurons must share one T"
        )
    return lengths[0]


def _merged(neuron: Any, event: Event, sizes: tuple[int, int], T: int) -> bool:
    """Whether a neuron without state or step mode takes all time steps at once, [T*B, ...]."""
    return getattr(neuron, "step_mode", None) is None and event.out_view.shape[0] % (T * sizes[0]) == 0
