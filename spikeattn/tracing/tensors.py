"""The tensors of a plan: which one an operation receives, what it is called, and where it is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import nn

from spikeattn.errors import SpikeattnError
from spikeattn.recording import entries
from spikeattn.recording.counting import kind_of
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.axes import Axes, AxisReader
from spikeattn.tracing.events import NEURON, Event
from spikeattn.tracing.origins import Origin, View
from spikeattn.tracing.steps import Line, main_view
from spikeattn.tracing.taps import Tap


@dataclass(frozen=True)
class _Place:
    """The counted tensor that an origin is, and the time step of it (None: all of them, or none)."""

    name: str
    step: int | None


class Tensors:
    """Collects the tensors that are counted, in the order in which the network makes them.

    Attributes:
        entries: of the ledger, by name.
        taps: where each is counted, by name.
    """

    def __init__(self, neurons: Mapping[str, nn.Module], reader: AxisReader, names: Mapping[str, Any]) -> None:
        self.entries: dict[str, entries.Tensor] = {}
        self.taps: dict[str, Tap] = {}
        self._neurons, self._reader, self._names = neurons, reader, names
        self._T, self._sizes = reader.time_steps, reader.sizes
        self._places: dict[int, _Place] = {}

    def read(self, one: View, two: View, line: Line) -> Axes | None:
        """The axes of a tensor of this line; None where they cannot be told."""
        return self._reader.read(one, two, not line.by_call, line.first.module)

    def unreadable(self, one: View, two: View) -> str:
        """Why a tensor is not counted."""
        small, large = self._sizes
        return f"the axes of {one.shape} and {two.shape} (for {small} and {large} images) cannot be read"

    # ---------------------------------------------------------------- entries
    def input(self, line: Line, lines: Sequence[Line]) -> None:
        """Enter the model's input; frames that the model turns itself, or takes one by one, are [B, T, ...]."""
        a, b = line.pairs[0]
        shape, axes, frames = a.views[0].shape, self.read(a.views[0], b.views[0], line), False
        if axes is None:
            raise SpikeattnError(
                f"the model's input has shape {shape} for {self._sizes[0]} images and {b.views[0].shape} for "
                f"{self._sizes[1]}; expected one axis that holds the images"
            )
        whole = axes.lead == 1 and axes.at == 0 and not line.by_call and len(shape) > 1 and axes.order != "BX"
        if not line.by_call and axes.order == "B":
            frames = any(self._takes_frames(other, prod(shape)) for other in lines)
        if whole and shape[1] == self._T and (frames or len(shape) >= 5):
            axes = Axes("BT", lead=2)
        tap = Tap("", "argument", "", tuple((e.call, 0) for e, _ in line.pairs), axes, line.by_call)
        tensor = self._add(line, 0, unique("input", self.entries), tap, shape, axes)
        if frames and not axes.timed:  # frames that share an axis with something else: no still image
            self.entries[tensor.name] = replace(tensor, static=False)

    def _takes_frames(self, line: Line, elements: int) -> bool:
        """Whether a layer receives the input step by step: all of it over a time axis, or a T-th of it per call."""
        a, b = line.pairs[0]
        if a.what not in ("conv", "linear") or not a.origins[0].of_input or self._T == 1:
            return False
        axes, received = self.read(a.views[0], b.views[0], line), prod(a.views[0].shape)
        timed = axes is not None and axes.timed
        return (timed and received == elements) or (line.by_call and received * self._T == elements)

    def neuron(self, line: Line, kept: str) -> None:
        """Enter the spikes of a neuron; `kept` names state that survives a reset."""
        if self.operand(line, 0) is None:
            (a, b), state = line.pairs[0], f"; its state, {kept}, survives the reset" if kept else ""
            raise SpikeattnError(
                f"neuron {a.module} gives {a.out_view.shape} for {self._sizes[0]} images and {b.out_view.shape} for "
                f"{self._sizes[1]}, so no axis holds the images{state}"
            )

    def operand(self, line: Line, index: int) -> entries.Tensor | None:
        """The entry of what an operation receives, made on first sight; None where its axes cannot be read."""
        known = self._known(line, index)
        if known is not None:
            return known
        a = line.first
        tap, one, two = self._whole(line, index) or self.here(line, index)
        axes = self.read(one, two, line)
        if axes is None:
            return None
        base = a.origins[index].name if tap.where == "output" else a.origins[index].site
        if tap.where == "argument" or (tap.where == "operation" and tap.operand >= 0):
            base = f"{a.site()}:{'ab'[index] if len(a.origins) > 1 else 'in'}"
        return self._add(line, index, unique(base, self.entries), replace(tap, axes=axes), one.shape, axes)

    def mask(self, line: Line) -> None:
        """Enter a mask of spikes that a module hands out, also where nothing but a sum or a pool reads it."""
        outs = [event.out for pair in line.pairs for event in pair]
        first, second = outs[0], outs[1]
        if first.name is None or any(o.name != first.name for o in outs) or id(first) in self._places:
            return
        axes = self.read(first.view, second.view, line)
        if axes is None:
            return
        for out, event in zip(outs, [event for pair in line.pairs for event in pair], strict=True):
            out.flags = torch.stack([o.flags for o in event.origins]).any(0) if out.flags is None else out.flags
        tap = Tap("", "output", first.name, tuple((o.call, 0) for o in outs[::2]), axes, line.by_call)
        shape = axes.of_image(first.view.shape, self._T, self._sizes[0])
        self._enter(unique(first.name, self.entries), tap, outs, shape, False)

    # ---------------------------------------------------------------- where a tensor is counted
    def _known(self, line: Line, index: int) -> entries.Tensor | None:
        """The counted tensor that an operation receives, whole and at its own time step at every step; or None."""
        places = [self._places.get(id(a.origins[index])) for a, _ in line.pairs]
        if any(place is None or place.name != places[0].name for place in places):
            return None
        tap = self.taps[places[0].name]
        a, b = line.pairs[0]
        if not (tap.axes.timed or tap.by_call):  # one tensor for all time steps, or repeated for them
            own = self.read(a.views[index], b.views[index], line)
            times = self._T if own is not None and own.timed else 1
            alike = len({id(event.origins[index]) for event, _ in line.pairs}) == 1
            alike &= all(_all_of(event, index, times) for pair in line.pairs for event in pair)
        elif any(not _all_of(event, index) for pair in line.pairs for event in pair):
            return None
        elif self._T == 1:
            alike = True
        elif line.by_call:
            alike = tap.by_call and [place.step for place in places] == list(range(self._T))
        else:
            here = self.read(main_view(a), main_view(b), line)
            alike = tap.axes.timed and here is not None and here.timed
        return self.entries[tap.name] if alike else None

    def _whole(self, line: Line, index: int) -> tuple[Tap, View, View] | None:
        """A tap at the module or operation that made the operand, if the operand is all of that; else None."""
        a, b = line.pairs[0]
        origins = [event.origins[index] for event, _ in line.pairs]
        if a.what == NEURON:
            at = tuple((event.call, 0) for event, _ in line.pairs)
            return Tap("", "output", a.module, at, Axes("B"), line.by_call), a.out_view, b.out_view
        whole = all(_all_of(event, index) for event, _ in line.pairs)
        if not whole or origins[0].maker == NEURON or len({id(o) for o in origins}) < len(origins):
            return None
        one, two = origins[0].view, b.origins[index].view
        here, made = self.read(a.views[index], b.views[index], line), self.read(one, two, line)
        if here is None or made is None or (here.timed != made.timed and self._T > 1):
            return None
        if all(o.name is not None and o.name == origins[0].name for o in origins):
            at = tuple((o.call, 0) for o in origins)
            return Tap("", "output", origins[0].name, at, made, line.by_call), one, two
        if all(o.made is not None and o.made[::2] == origins[0].made[::2] for o in origins):
            module, _, op, _ = origins[0].made
            at = tuple((o.made[1], o.made[3]) for o in origins)
            return Tap("", "operation", module, at, made, line.by_call, op=op), one, two
        return None

    def here(self, line: Line, index: int) -> tuple[Tap, View, View]:
        """A tap at the operation itself: the module's argument where that is the operand, or the operand."""
        a, b = line.pairs[0]
        if a.alone and all(event.argument is not None for pair in line.pairs for event in pair):
            at = tuple((event.call, 0) for event, _ in line.pairs)
            return Tap("", "argument", a.module, at, Axes("B"), line.by_call), a.argument, b.argument
        at = tuple((event.call, event.ordinal) for event, _ in line.pairs)
        tap = Tap("", "operation", a.module, at, Axes("B"), line.by_call, op=a.op, operand=a.positions[index])
        return tap, a.views[index], b.views[index]

    # ---------------------------------------------------------------- what a tensor is
    def _add(self, line: Line, index: int, name: str, tap: Tap, shape: Sequence[int], axes: Axes) -> entries.Tensor:
        origins = [event.origins[index] for pair in line.pairs for event in pair]
        image = axes.of_image(shape, self._T, self._sizes[0])
        return self._enter(name, tap, origins, image, self._static(line, index, axes))

    def _enter(
        self, name: str, tap: Tap, origins: Sequence[Origin], shape: tuple[int, ...], static: bool
    ) -> entries.Tensor:
        """A tensor of the ledger with its tap; `origins` are those of both traces, step by step."""
        first = origins[0]
        neuron = self._neurons.get(first.name or "") if first.maker == NEURON else None
        flags = torch.stack([o.flags for o in origins]).any(0)
        sources = self._sources(first)
        binary = neuron is not None and nodes.emits_binary(neuron)
        if sources and None not in sources:
            binary = all(self.taps[source].binary for source in sources)
        unit = first.unit or 1.0
        known = self._names.get(name)
        self.entries[name] = entries.Tensor(
            name, shape, prod(shape), first.maker, kind_of(*flags.tolist()), static,
            tuple(dict.fromkeys(source for source in sources if source)),
            *((known.role, known.part, known.block, known.hook) if known else (None, None, None, None)),
            neuron=nodes.neuron_class(neuron) if neuron is not None else None,
            unit=unit,
        )  # fmt: skip
        for step, origin in enumerate(origins[::2]):
            self._places[id(origin)] = _Place(name, step if tap.by_call else None)
        binary = binary and not bool(flags.any()) and unit == 1.0
        self.taps[name] = replace(tap, name=name, binary=binary, unit=unit)
        return self.entries[name]

    def _static(self, line: Line, index: int, axes: Axes) -> bool:
        """Whether an operand is the same at every time step, for what no neuron has touched."""
        data = [b.data[index] if index < len(b.data) else None for _, b in line.pairs]
        if any(x is None for x in data):
            return False
        if line.by_call:
            return all(torch.equal(x, data[0]) for x in data)
        a, b = line.pairs[0]
        own = self.read(a.views[index], b.views[index], line)
        steps = (own if own is not None and own.timed else axes).split(data[0], self._T, self._sizes[1])
        return bool((steps == steps[:1]).all())

    def _sources(self, origin: Origin) -> tuple[str | None, ...]:
        """Counted tensors that a pool or a mask was made from; None for one that is not counted."""
        names: list[str | None] = []
        for source in origin.sources:
            place = self._places.get(id(source))
            names += [place.name] if place else self._sources(source) or [None]
        return tuple(names)


def unique(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or the name with @2, @3 ... where it is taken."""
    if name not in taken:
        return name
    return f"{name}@{sum(n.startswith(name + '@') for n in taken) + 2}"


def _all_of(event: Event, index: int, times: int = 1) -> bool:
    """Whether an operand holds every element of its origin, so many times."""
    made = event.origins[index].view
    return made is not None and prod(event.views[index].shape) == times * prod(made.shape)
