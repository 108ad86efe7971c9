"""The tensors of a plan: which one an operation receives, what it is called, and where it is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import nn

from spikeattn.errors import SpikeattnError
from spikeattn.storage.ledger_rows import CountedTensor, current_part, kind_of
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.layout import Axes, LayoutReader
from spikeattn.tracing.origins import Origin, View
from spikeattn.tracing.pass_events import BATCH_ITSELF, NEURON, Event
from spikeattn.tracing.step_matching import Line
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

    def __init__(
        self, neurons: Mapping[str, nn.Module], reader: LayoutReader, names: Mapping[str, Any], repeats: bool,
        events: str | None, levels: int | None = None,
    ) -> None:  # fmt: skip
        self.entries: dict[str, CountedTensor] = {}
        self.taps: dict[str, Tap] = {}
        self._neurons, self._reader, self._names = neurons, reader, names
        self._repeats, self._events, self._levels = repeats, events, levels
        self._times = {reader.time.name, *reader.time.tables}
        self._T, self._batch = reader.time_steps, reader.batch
        self._places: dict[int, _Place] = {}

    def read(self, view: View) -> Axes | None:
        """The axes of a tensor; None where they cannot be told."""
        return self._reader.read(view.shape, view.label)

    # ---------------------------------------------------------------- entries
    def input(self, line: Line) -> None:
        """Enter the model's input; frames that the network takes one by one are no still image."""
        a = line.first
        axes = self.read(a.views[0])
        if axes is None:
            raise SpikeattnError(
                f"the model's input has shape {a.views[0].shape} for {self._batch} images: "
                f"{self._reader.unreadable(a.views[0].shape, a.views[0].label)}; forward= must make it of the images "
                "that it is given, by operations of torch"
            )
        at, place = tuple((e.call, 0) for e in line.events), a.positions[0]
        where = "batch" if place == BATCH_ITSELF else "argument"
        tap = Tap("", where, "", at, axes, line.by_call, steps=line.steps, index=max(place, 0))
        self._add(line, 0, unique("input", self.entries), tap, a.views[0].shape, axes)

    def neuron(self, line: Line, state: str) -> None:
        """Enter the spikes of a neuron; `state` names what survives a reset."""
        if self.operand(line, 0) is None:
            a, survivor = line.first, f"; its state, {state}, survives the reset" if state else ""
            raise SpikeattnError(
                f"neuron {a.module} gives {a.out_view.shape} for {self._batch} images, and "
                f"{self._reader.unreadable(a.out_view.shape, a.out_view.label)}, so its spikes cannot be counted per "
                f"image{survivor}"
            )

    def operand(self, line: Line, index: int, joined: bool = False) -> CountedTensor | None:
        """The entry of what an operation receives, made on first sight; None where its axes cannot be read.

        Args:
            joined: the operation joins time steps, so what it receives is counted per image.
        """
        known = self._known(line, index, joined)
        if known is not None:
            return known
        a = line.first
        tap, view = self._whole(line, index, joined) or self.here(line, index)
        axes = self.read(view)
        if axes is None:
            return None
        if line.by_call:
            axes = replace(axes, along=(), steps=(), step=None, joined=False)
        elif self._T > 1 and (joined or axes.step is not None):
            axes = axes.untimed
        base = a.origins[index].name if tap.where == "output" else a.origins[index].site
        if tap.where == "argument" or (tap.where == "operation" and tap.operand >= 0):
            base = f"{a.site()}:{'ab'[index] if len(a.origins) > 1 else 'in'}"
        assert base is not None  # what a module hands out has its name, what an operation makes has its site
        return self._add(line, index, unique(base, self.entries), replace(tap, axes=axes), view.shape, axes)

    def mask(self, line: Line) -> None:
        """Enter a mask of spikes that a module hands out, also where nothing but a sum or a pool reads it."""
        outs = [event.out for event in line.events]
        first = outs[0]
        if (
            first.name is None
            or first.view is None
            or any(o.name != first.name for o in outs)
            or id(first) in self._places
        ):
            return
        axes = self.read(first.view)
        if axes is None:
            return
        for out, event in zip(outs, line.events, strict=True):
            out.flags = _flags(event.origins) if out.flags is None else out.flags
        at = tuple((o.call, 0) for o in outs)
        tap = Tap("", "output", first.name, at, axes, line.by_call, steps=line.steps)
        self._enter(unique(first.name, self.entries), tap, outs, axes.of_image(first.view.shape, self._batch), False)

    # ---------------------------------------------------------------- where a tensor is counted
    def _known(self, line: Line, index: int, joined: bool) -> CountedTensor | None:
        """The counted tensor that an operation receives, whole and at its own time steps; or None."""
        at = [self._places.get(id(event.origins[index])) for event in line.events]
        places = [place for place in at if place is not None]
        if len(places) < len(at) or len({place.name for place in places}) > 1:
            return None
        tap, a = self.taps[places[0].name], line.first
        if joined and self._T > 1:
            whole = _all_of(a, index) and tap.axes.joined and not line.by_call
            return self.entries[tap.name] if whole else None
        if not (tap.axes.timed or tap.by_call):  # one tensor for all time steps, or repeated for them
            own = self.read(line.labelled.views[index])
            times = len(own.steps) if own is not None and own.timed else 1
            alike = len({id(event.origins[index]) for event in line.events}) == 1
            alike &= all(_all_of(event, index, times) for event in line.events)
        elif any(not _all_of(event, index) for event in line.events):
            return None
        elif self._T == 1:
            alike = True
        elif line.by_call:
            alike = tap.by_call and tuple(place.step for place in places) == line.steps == tap.steps
        else:
            here = self.read(line.labelled.views[index])
            alike = here is not None and here.timed and sorted(set(here.steps)) == sorted(set(tap.axes.steps))
        return self.entries[tap.name] if alike else None

    def _whole(self, line: Line, index: int, joined: bool) -> tuple[Tap, View] | None:
        """A tap at the module or operation that made the operand, if the operand is all of that; else None."""
        a = line.first
        origins = [event.origins[index] for event in line.events]
        if a.what == NEURON:
            at = tuple((event.call, 0) for event in line.events)
            tap = Tap("", "output", a.module, at, Axes(), line.by_call, steps=line.steps, index=a.positions[0])
            return tap, a.out_view
        whole = all(_all_of(event, index) for event in line.events)
        if not whole or origins[0].maker == NEURON or len({id(o) for o in origins}) < len(origins):
            return None
        view = line.labelled.origins[index].view
        here, made = self.read(line.labelled.views[index]), None if view is None else self.read(view)
        if view is None or here is None or made is None or (here.timed != made.timed and self._T > 1 and not joined):
            return None
        name = origins[0].name
        if name is not None and all(o.name == name for o in origins):
            at = tuple((o.call, 0) for o in origins)
            return Tap("", "output", name, at, made, line.by_call, steps=line.steps), view
        makers = [o.operation for o in origins if o.operation is not None]
        if len(makers) == len(origins) and len({(module, op) for module, _, op, _ in makers}) == 1:
            module, _, op, _ = makers[0]
            at = tuple((call, ordinal) for _, call, _, ordinal in makers)
            return Tap("", "operation", module, at, made, line.by_call, op=op, steps=line.steps), view
        return None

    def here(self, line: Line, index: int) -> tuple[Tap, View]:
        """A tap at the operation itself: the module's argument where that is the operand, or the operand."""
        a = line.first
        argument = line.labelled.argument
        if a.alone and argument is not None and all(event.argument is not None for event in line.events):
            at = tuple((event.call, 0) for event in line.events)
            return Tap("", "argument", a.module, at, Axes(), line.by_call, steps=line.steps), argument
        at = tuple((event.call, event.ordinal) for event in line.events)
        tap = Tap(
            "", "operation", a.module, at, Axes(), line.by_call, op=a.op, operand=a.positions[index], steps=line.steps,
            columns=a.columns,
        )  # fmt: skip
        return tap, line.labelled.views[index]

    # ---------------------------------------------------------------- what a tensor is
    def _add(self, line: Line, index: int, name: str, tap: Tap, shape: Sequence[int], axes: Axes) -> CountedTensor:
        origins = [event.origins[index] for event in line.events]
        image = axes.of_image(shape, self._batch)
        return self._enter(name, tap, origins, image, self.is_static(line, index, axes))

    def _enter(
        self, name: str, tap: Tap, origins: Sequence[Origin], shape: tuple[int, ...], static: bool
    ) -> CountedTensor:
        """A tensor of the ledger with its tap; `origins` are those of its events, step by step."""
        first = origins[0]
        neuron = self._neurons.get(first.name or "") if first.maker == NEURON else None
        flags = _flags(origins)
        sources = self._sources(first)
        binary = neuron is not None and nodes.emits_binary(neuron)
        counted = [source for source in sources if source is not None]
        if sources and len(counted) == len(sources):
            binary = all(self.taps[source].binary for source in counted)
        made = [o for o in origins if not o.blank] or [first]  # the zeros of a first step are what the others are
        unit = made[0].unit or 1.0
        known = self._names.get(name)
        # Spikes of a neuron in other places: its neurons stand in the ledger already, and are not charged twice.
        maker = "op" if first.maker == NEURON and tap.where != "output" else first.maker
        spikes = all(o.spiky for o in made) or self._is_events(origins, static)
        self.entries[name] = CountedTensor(
            name, shape, prod(shape), maker, kind_of(*flags.tolist()) if spikes else "real", static,
            tuple(dict.fromkeys(filter(None, sources))), known.role if known else None,
            current_part(known.part) if known else None, known.block if known else None, known.hook if known else None,
            neuron=None if neuron is None or maker != NEURON else nodes.neuron_class(neuron),
            unit=unit, number=not spikes, joined=tap.axes.joined, summed=spikes and any(o.summed for o in made),
        )  # fmt: skip
        for place, origin in enumerate(origins):
            self._places[id(origin)] = _Place(name, tap.step(place))
        binary = binary and not bool(flags.any()) and unit == 1.0
        if binary:
            self.entries[name] = replace(self.entries[name], low=0.0, high=1.0)
        elif neuron is not None and self._levels is not None and not nodes.is_spiking_neuron(neuron):
            self.entries[name] = replace(self.entries[name], high=float(self._levels))
        self.taps[name] = replace(tap, name=name, binary=binary, unit=unit)
        return self.entries[name]

    def _is_events(self, origins: Sequence[Origin], static: bool) -> bool:
        """Whether values of the input that turn out to be whole numbers are events: in frames they are, in a still
        image they are pixels; the user may say otherwise."""
        if not all(o.of_input for o in origins):
            return False
        return self._events == "events" or (self._events is None and not static)

    def is_static(self, line: Line, index: int, axes: Axes) -> bool:
        """Whether an operand is the same at every time step by construction: a still image that is repeated."""
        if any(event.columns is not None for event in line.events):
            return False  # beside it lies what is not, so the layer runs at every step
        origins = [event.origins[index] for event in line.events]
        if not all(o.stateless and o.steady and not self._times & o.apart for o in origins):
            return False
        read = [self.read(event.views[index]) for event in line.events]
        own = [axes for axes in read if axes is not None]
        if len(own) < len(read) or len({origin.made_as for origin in origins}) > 1:
            return False
        if axes.timed or any(each.timed for each in own):
            return self._repeats
        stepped = self._T > 1 and any(each.step is not None for each in own)  # a loop over what the network repeats
        return (self._repeats or not stepped) and not any(each.joined for each in own)

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


def _flags(origins: Sequence[Origin]) -> torch.Tensor:
    """The value flags of all of them together."""
    return torch.stack([o.value_flags for o in origins]).any(0)


def _all_of(event: Event, index: int, times: int = 1) -> bool:
    """Whether an operand holds every element of its origin, so many times."""
    made = event.origins[index].view
    return made is not None and prod(event.views[index].shape) == times * prod(made.shape)
