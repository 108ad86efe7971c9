"""Which operations of a forward pass are the same one, time step by time step.

A multi-step network handles all time steps in one call of a layer. A single-step network calls its layers once per
step, in a loop of its own; there an operation is a line of events, one per step at which it runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from spikeattn.errors import SpikeattnError
from spikeattn.tracing.labeller import Labeller, steps_of_calls
from spikeattn.tracing.labels import IMAGE
from spikeattn.tracing.layout import Axes, LayoutReader
from spikeattn.tracing.origins import View
from spikeattn.tracing.pass_events import ADDITION, NEURON, Event


@dataclass(frozen=True)
class Line:
    """One operation.

    Attributes:
        events: one per time step at which it runs if `by_call`, else a single one.
        by_call: the calls belong to a step each.
        steps: of these, in order.
    """

    events: tuple[Event, ...]
    by_call: bool
    steps: tuple[int, ...] = ()

    @property
    def first(self) -> Event:
        """The event of the first time step."""
        return self.events[0]

    @property
    def labelled(self) -> Event:
        """The first event all of whose operands belong to images; at the first step some are zeros of no image."""
        return next((e for e in self.events if all(v.label.get(IMAGE) is not None for v in e.views)), self.events[0])


def main_view(event: Event) -> View:
    """The tensor whose axes say whether an operation covers all time steps: what it reads, of a product what it gives.

    What a module is given tells more than what it makes of it: [T, B, ...] rather than [T*B, ...].
    """
    if event.what in ("mask", "matmul") or (event.what == ADDITION and len(event.views) > 1):
        return event.out_view
    return event.argument or event.views[0]


def time_steps_of(neurons: Mapping[str, nn.Module], calls: Mapping[str, int], labeller: Labeller) -> int:
    """T: as the user says it, else the axis that neurons run along, else how often they are called.

    Raises:
        SpikeattnError: no neuron was called, or one as often as no whole number of times per step.
    """
    called = {name: calls[name] for name in neurons if calls.get(name)}
    if not called:
        raise SpikeattnError(
            f"none of the {len(neurons)} neurons is called in the forward pass, the first is {next(iter(neurons))}: "
            "call them as modules, self.lif(x), not through their forward methods"
        )
    T = labeller.user_steps or labeller.T or labeller.steps or steps_of_calls(list(called.values()))
    if labeller.T is None and labeller.totals and labeller.latest >= T:
        raise SpikeattnError(
            f"the neurons' calls do not tell the time steps: {max(called, key=called.__getitem__)} is called "
            f"{max(called.values())} times, others less often, and step {labeller.latest + 1} is seen where {T} are "
            "expected; say time_steps="
        )
    for name in called if labeller.T is None else ():
        if called[name] > T and called[name] % T:
            raise SpikeattnError(
                f"neuron {name} sees {called[name]} time steps where {T} are expected; single-step neurons must be "
                "called a whole number of times per step, say time_steps="
            )
    return T


def lines_of(events: Sequence[Event], reader: LayoutReader) -> list[Line]:
    """The operations of a forward pass, in the order of their first events."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    steps: dict[int, int] = {}
    lines: list[tuple[int, Line]] = []
    for index, event in enumerate(events):
        step = step_of(event, reader) if event.what != "unknown" and reader.time_steps > 1 else None
        if step is None:
            lines.append((index, Line((event,), False)))
        else:
            steps[index] = step
            groups[event.what, event.module, event.op, event.weight_name].append(index)
    for indices in groups.values():
        for members in _by_step(indices, events, steps, _REFINEMENTS):
            line = Line(tuple(events[i] for i in members), len(members) > 1, tuple(steps[i] for i in members))
            lines.append((members[0], line if line.by_call else Line(line.events, False)))
    return [line for _, line in sorted(lines, key=lambda entry: entry[0])]


def step_of(event: Event, reader: LayoutReader) -> int | None:
    """The one time step that an event belongs to: of the neuron that waits for it, else of what it computes with.

    None where it covers several, or none in particular.
    """
    view = event.out_view if event.what == NEURON else main_view(event)
    found: list[Axes | None] = [reader.read(v.shape, v.label) for v in (view, event.out_view, *event.views)]
    needed = event.out.needed if event.what != NEURON else None
    timed = [axes for axes in found if axes is not None and axes.timed]
    # A synapse that its step awaits takes in what earlier steps have left beside: a recurrent one.
    recurrent = event.what in ("conv", "linear") and all(max(axes.steps) == needed for axes in timed)
    if timed and not recurrent:
        return None
    if needed is not None:
        return needed
    if any(axes is not None and axes.joined for axes in found):
        return None
    steps = [axes.step for axes in found if axes is not None and axes.step is not None]
    return max(steps) if steps else None


def _by_step(
    indices: Sequence[int], events: Sequence[Event], steps: Mapping[int, int],
    refinements: Sequence[Callable[[Event], Hashable]],
) -> list[list[int]]:  # fmt: skip
    """Events of one group as lines with at most one event per step; told apart further where they differ."""
    by_step: dict[int, list[int]] = defaultdict(list)
    for i in indices:
        by_step[steps[i]].append(i)
    width = max(len(found) for found in by_step.values())
    lines = [[found[slot] for _, found in sorted(by_step.items()) if slot < len(found)] for slot in range(width)]
    even = len({len(found) for found in by_step.values()}) == 1
    if not refinements or (even and all(_alike([events[i] for i in line]) for line in lines)):
        return lines
    finer: dict[Hashable, list[int]] = defaultdict(list)
    for i in indices:
        finer[refinements[0](events[i])].append(i)
    return [found for part in finer.values() for found in _by_step(part, events, steps, refinements[1:])]


def _shapes(event: Event) -> Hashable:
    return tuple(view.shape for view in (*event.views, event.out_view))


def _makers(event: Event) -> Hashable:
    return tuple(origin.maker_name for origin in event.origins)


def _units(event: Event) -> tuple[float | None, ...]:
    """What the operands are multiples of, None for numbers; zeros of a first step go with spikes of 0 and 1."""
    return tuple(1.0 if origin.blank else origin.unit for origin in event.origins)


_REFINEMENTS = (_shapes, _makers, _units)


def _alike(line: Sequence[Event]) -> bool:
    """Whether events can be the steps of one operation; at the first step a recurrent one receives other zeros."""
    alike = len({_shapes(event) for event in line}) == 1
    alike &= len({_units(event) for event in line if not any(origin.blank for origin in event.origins)}) <= 1
    return alike and (line[0].what == NEURON or len({_makers(event) for event in line[1:]}) <= 1)
