"""Build a plan from the traces of a smaller and a larger batch: name every tensor, synapse and product, and tap it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import nn

from spikeattn.errors import SpikeattnError
from spikeattn.recording import ledger as entries
from spikeattn.recording import neurons as nodes
from spikeattn.recording.axes import Axes, AxisReader
from spikeattn.recording.counting import kind_of
from spikeattn.recording.fanout import fan_out_map
from spikeattn.recording.origins import Origin
from spikeattn.recording.steps import Line, lines_of, main_view, time_steps_of
from spikeattn.recording.taps import Fan, Pairs, Plan, Tap
from spikeattn.recording.trace import INPUT, NEURON, Event, Trace, View


@dataclass(frozen=True)
class _Place:
    """The counted tensor that an origin is, and the time step of it (None: all of them, or none)."""

    name: str
    step: int | None


class Planner:
    """Builds a Plan from two traces; see `taps.plan` for the arguments."""

    def __init__(
        self, model: nn.Module, neurons: Mapping[str, nn.Module], one: Trace, two: Trace, names: Mapping[str, Any],
        time_steps: int | None, layout: str,
    ) -> None:  # fmt: skip
        self.model, self.neurons, self.one, self.two, self.names = model, neurons, one, two, names
        self.sizes = (one.batch, two.batch)
        pairs = list(zip(one.events, two.events, strict=True))
        self.T, self.multi = time_steps_of(neurons, pairs, self.sizes, layout, time_steps)
        self.reader = AxisReader(self.sizes, self.T, layout)
        self.lines = lines_of(pairs, self.reader, self.multi, one.calls)
        self.tensors: dict[str, entries.Tensor] = {}
        self.synapses: dict[str, entries.Synapse] = {}
        self.products: dict[str, entries.Product] = {}
        self.uncounted: dict[tuple[str, str], entries.Uncounted] = {}
        self.taps: dict[tuple[str, str], Tap] = {}
        self.pairs: list[Pairs] = []
        self.kinds: dict[str, tuple[bool, ...]] = {}
        self.places: dict[int, _Place] = {}

    def build(self) -> Plan:
        for line in self.lines:
            a = line.first
            if a.what == INPUT:
                self._input(line)
            elif a.what == NEURON:
                self._tensor(line, 0)
            elif a.what in ("conv", "linear"):
                self._synapse(line)
            elif a.what in ("mask", "token_sum", "matmul"):
                self._product(line)
            else:
                self._leave_out(a, a.reason or f"{a.op} acts on spikes and has no counting rule")
        output_axes, logits_from = self._logits()
        return Plan(
            ledger=entries.Ledger(
                time_steps=self.T,
                static_input=self.tensors["input"].static,
                tensors=tuple(self.tensors.values()),
                synapses=tuple(self.synapses.values()),
                products=tuple(self.products.values()),
                uncounted=tuple(self.uncounted.values()),
                warnings=self._warnings(),
            ),
            neurons=self.neurons,
            taps=tuple(self.taps.values()),
            pairs=tuple(self.pairs),
            calls={t.module: self.one.calls[t.module] for t in (*self.taps.values(), *self.pairs) if t.module},
            ordinals={
                (t.module, call, t.op): self.one.ordinals[t.module, call][t.op]
                for t in (*self.taps.values(), *self.pairs) if t.op for call, _ in t.at
            },
            input_axes=self.taps["tensor", "input"].axes,
            output_axes=output_axes,
            logits_from=logits_from,
            kinds=self.kinds,
        )  # fmt: skip

    def _warnings(self) -> tuple[str, ...]:
        idle = [name for name in self.neurons if not self.one.calls[name]]
        if not idle:
            return ()
        return (f"idle: {len(idle)} neurons are never called in the forward pass, the first is {idle[0]}",)

    # ---------------------------------------------------------------- tensors
    def _input(self, line: Line) -> None:
        """The model's input; frames that the model turns itself, or takes one by one, are a [B, T, ...] input."""
        a, b = line.pairs[0]
        axes = self._read(a.views[0], b.views[0], line)
        if axes is None:
            raise SpikeattnError(
                f"the model's input has shape {a.views[0].shape} for {self.sizes[0]} images and {b.views[0].shape} for "
                f"{self.sizes[1]}; expected one axis that holds the images"
            )
        shape = a.views[0].shape
        if axes == Axes("B") and not line.by_call and len(shape) > 1 and shape[1] == self.T:
            if len(shape) >= 5 or (self.T > 1 and self._takes_frames(a.origins[0], prod(shape))):
                axes = Axes("BT", lead=2)
        tap = Tap("", "argument", "", tuple((p[0].call, 0) for p in line.pairs), axes, line.by_call)
        self._add(line, 0, self._unique("input", self.tensors), tap, shape, axes)

    def _takes_frames(self, origin: Origin, elements: int) -> bool:
        """Whether operations receive the input step by step: all of it over a time axis, or a T-th of it per call."""
        for line in self.lines:
            a, b = line.pairs[0]
            if a.what not in ("conv", "linear") or not a.origins[0].of_input:
                continue
            axes, received = self._read(a.views[0], b.views[0], line), prod(a.views[0].shape)
            timed = axes is not None and axes.timed
            if (timed and received == elements) or (line.by_call and received * self.T == elements):
                return True
        return False

    def _read(self, one: View, two: View, line: Line) -> Axes | None:
        return self.reader.read(one, two, timed=not line.by_call)

    def _tensor(self, line: Line, index: int) -> entries.Tensor | None:
        """The entry of operand `index`, made on first sight; None (and listed) where its axes cannot be read."""
        a, b = line.pairs[0]
        known = self._known(line, index)
        if known is not None:
            return known
        tap, one, two = self._whole(line, index) or self._here(line, index)
        axes = self._read(one, two, line)
        if axes is None:
            self._leave_out(a, f"the axes of {one.shape} and {two.shape} (for {self.sizes[0]} and {self.sizes[1]} "
                               "images) cannot be read")  # fmt: skip
            return None
        base = a.origins[index].name if tap.where == "output" else a.origins[index].site
        if tap.where == "argument" or (tap.where == "operation" and tap.operand >= 0):
            base = f"{a.site()}:{'ab'[index] if len(a.origins) > 1 else 'in'}"
        return self._add(line, index, self._unique(base, self.tensors), replace(tap, axes=axes), one.shape, axes)

    def _known(self, line: Line, index: int) -> entries.Tensor | None:
        """The counted tensor that an operation receives, whole and at its own time step at every step; or None."""
        places = [self.places.get(id(a.origins[index])) for a, _ in line.pairs]
        if any(place is None or place.name != places[0].name for place in places):
            return None
        tap = self.taps["tensor", places[0].name]
        a, b = line.pairs[0]
        here, each = self._read(main_view(a), main_view(b), line), line.by_call and tap.by_call
        if not (tap.axes.timed or tap.by_call):  # one tensor for all time steps, or repeated for them
            alike = len({id(e.origins[index]) for e, _ in line.pairs}) == 1
            times = self.T if here is not None and here.timed and not _all_of(a, index) else 1
            alike &= all(_all_of(e, index, times) for pair in line.pairs for e in pair)
        elif any(not _all_of(e, index) for pair in line.pairs for e in pair):
            return None
        else:
            alike = tap.axes.timed and not line.by_call and here is not None and here.timed
            alike |= each and [place.step for place in places] == list(range(self.T))
        return self.tensors[tap.name] if alike else None

    def _whole(self, line: Line, index: int) -> tuple[Tap, View, View] | None:
        """A tap at the module or operation that made the operand, if the operand is all of that; else None."""
        origins = [a.origins[index] for a, _ in line.pairs]
        a, b = line.pairs[0]
        one, two = View(origins[0].shape), View(b.origins[index].shape)
        same = all(_all_of(e, index) and e.origins[index].shape for e, _ in line.pairs)
        if a.what == NEURON:
            return Tap("", "output", a.module, tuple((e.call, 0) for e, _ in line.pairs), Axes("B"), line.by_call), *(
                a.views[0], b.views[0])  # fmt: skip
        if not same or origins[0].maker == "neuron" or len({id(o) for o in origins}) < len(origins):
            return None
        here, made = (self._read(*views, line) for views in ((a.views[index], b.views[index]), (one, two)))
        if here is None or made is None or here.timed != made.timed:
            return None
        if all(o.name is not None and o.name == origins[0].name for o in origins):
            at = tuple((o.call, 0) for o in origins)
            return Tap("", "output", origins[0].name, at, made, line.by_call), one, two
        if all(o.made is not None and o.made[::2] == origins[0].made[::2] for o in origins):
            module, _, op, _ = origins[0].made
            at = tuple((o.made[1], o.made[3]) for o in origins)
            return Tap("", "operation", module, at, made, line.by_call, op=op), one, two
        return None

    def _here(self, line: Line, index: int) -> tuple[Tap, View, View]:
        """A tap at the operation itself: the module's argument where that is the operand, or the operand."""
        a, b = line.pairs[0]
        if a.alone and all(e.argument is not None for e, _ in line.pairs):
            at = tuple((e.call, 0) for e, _ in line.pairs)
            return Tap("", "argument", a.module, at, Axes("B"), line.by_call), a.argument, b.argument
        at = tuple((e.call, e.ordinal) for e, _ in line.pairs)
        tap = Tap("", "operation", a.module, at, Axes("B"), line.by_call, op=a.op, operand=a.positions[index])
        return tap, a.views[index], b.views[index]

    def _add(self, line: Line, index: int, name: str, tap: Tap, shape: Sequence[int], axes: Axes) -> entries.Tensor:
        origins = [e.origins[index] for pair in line.pairs for e in pair]
        image = axes.of_image(shape, self.T, self.sizes[0])
        return self._enter(name, tap, origins, image, self._static(line, index, axes))

    def _enter(
        self, name: str, tap: Tap, origins: Sequence[Origin], shape: tuple[int, ...], static: bool
    ) -> entries.Tensor:
        """A tensor of the ledger with its tap; `origins` are those of both traces, step by step."""
        first = origins[0]
        neuron = self.neurons.get(first.name or "") if first.maker == "neuron" else None
        with torch.no_grad():
            flags = torch.stack([o.flags for o in origins]).any(0)
        sources = self._sources(first)
        binary = neuron is not None and nodes.emits_binary(neuron)
        if sources and None not in sources:
            binary = all(self.taps["tensor", source].binary for source in sources)
        unit = first.unit or 1.0
        known = self.names.get(name)
        self.tensors[name] = entries.Tensor(
            name, shape, prod(shape), first.maker, kind_of(*flags.tolist()), static,
            tuple(dict.fromkeys(source for source in sources if source)),
            *((known.role, known.part, known.block, known.hook) if known else (None, None, None, None)),
            neuron=nodes.neuron_class(neuron) if neuron is not None else None,
            unit=unit,
        )  # fmt: skip
        for step, origin in enumerate(origins[::2]):
            self.places[id(origin)] = _Place(name, step if tap.by_call else None)
        self.kinds[name] = tuple(flags.tolist())
        binary = binary and not bool(flags.any()) and unit == 1.0
        self.taps["tensor", name] = replace(tap, name=name, binary=binary, unit=unit)
        return self.tensors[name]

    def _static(self, line: Line, index: int, axes: Axes) -> bool:
        """Whether an operand is the same at every time step, for what no neuron has touched."""
        data = [b.data[index] if index < len(b.data) else None for _, b in line.pairs]
        if any(x is None for x in data):
            return False
        if line.by_call:
            return all(torch.equal(x, data[0]) for x in data)
        here = self._read(line.pairs[0][0].views[index], line.pairs[0][1].views[index], line) or axes
        here = axes if axes.timed and not here.timed else here
        steps = here.split(data[0], self.T, self.sizes[1])
        return bool((steps == steps[:1]).all())

    def _sources(self, origin: Origin) -> tuple[str | None, ...]:
        """Counted tensors that a pool or a mask was made from; None for one that is not counted."""
        names: list[str | None] = []
        for source in origin.sources:
            place = self.places.get(id(source))
            names += [place.name] if place else self._sources(source) or [None]
        return tuple(names)

    # ---------------------------------------------------------------- synapses and products
    def _steps(self, line: Line) -> tuple[bool, int] | None:
        """Whether a line runs at every time step, and how many times steps one event covers; None: images mix in it."""
        a, b = line.pairs[0]
        axes = self._read(main_view(a), main_view(b), line)
        if axes is None and a.what != "mask":
            axes = self._read(a.out_view, b.out_view, line)
        if axes is None or a.macs * self.sizes[1] != b.macs * self.sizes[0]:
            return None
        return line.by_call or axes.timed, self.T if axes.timed else 1

    def _synapse(self, line: Line) -> None:
        a, b = line.pairs[0]
        steps = self._steps(line)
        tensor = self._tensor(line, 0) if steps is not None else None
        if steps is None or tensor is None:
            self._leave_out(a, f"the axes of {a.views[0].shape} and {b.views[0].shape} (for {self.sizes[0]} and "
                               f"{self.sizes[1]} images) cannot be read")  # fmt: skip
            return
        every_step, covered = steps
        name = self._unique(a.site(), self.synapses)
        out_axes = self._read(a.out_view, b.out_view, line)
        known = self.names.get(name)
        self.synapses[name] = entries.Synapse(
            name=name,
            op="linear" if a.geometry is None else a.geometry.op,
            input=tensor.name,
            dense_macs=a.macs // self.sizes[0] // covered,
            fan_out=a.fan_out if a.geometry is None else self._fan_out(line, name, tensor),
            output_elements=prod(out_axes.of_image(a.out_view.shape, self.T, self.sizes[0])) if out_axes else 0,
            every_step=every_step,
            weights=a.weights,
            biases=a.biases,
            **_shape_of_weights(a),
            **({"role": known.role, "part": known.part, "block": known.block} if known else {}),
        )

    def _fan_out(self, line: Line, name: str, tensor: entries.Tensor) -> int | None:
        """The fan-out if it is the same at every position; else None, and a tap that weighs each position."""
        a = line.first
        weights = fan_out_map(a.geometry, a.views[0].shape[2:])
        if bool((weights == weights.flatten()[0]).all()):
            return int(weights.flatten()[0])
        if tensor.kind == "real":
            return None  # every position is a multiply-accumulate
        tap, one, two = self._here(line, 0)
        own = self.taps["tensor", tensor.name]
        tap = replace(tap, name=tensor.name, axes=self._read(one, two, line), binary=own.binary, unit=own.unit)
        self.taps["fan", name] = replace(tap, fans=(Fan(name, weights),), tensor=False)
        return None

    def _product(self, line: Line) -> None:
        a, b = line.pairs[0]
        steps = self._steps(line)
        operands = [self._tensor(line, i) for i in range(len(a.origins))] if steps is not None else [None]
        axes = [self._read(one, two, line) for one, two in zip(a.views, b.views, strict=True)]
        if any(o is None for o in operands) or (a.what == "matmul" and None in axes):
            self._leave_out(a, "the axes of its operands cannot be read, or it mixes the images of a batch")
            return
        every_step, covered = steps
        name = self._unique(a.out.name if a.what == "mask" and a.out.name else a.site(), self.products)
        elements = operands[0].elements
        if a.what == "matmul":
            elements = a.macs // self.sizes[0] // covered
            self._pairs(line, name, operands, axes)
        elif a.what == "mask":
            elements = prod(a.out_view.shape) // self.sizes[0] // covered
            self._tensor_of_mask(line)
        known = self.names.get(name) or self.names.get(operands[0].name)
        part = {"part": "SDSA" if known.part in ("SDSA", "QKV") else known.part, "block": known.block} if known else {}
        self.products[name] = entries.Product(
            name, a.what, tuple(o.name for o in operands), elements, a.what, every_step=every_step, **part
        )

    def _pairs(self, line: Line, name: str, operands: Sequence[entries.Tensor], axes: Sequence[Axes]) -> None:
        """Count the pairs of spikes that meet in a matrix product; also by value unless an operand can only be 0/1."""
        if any(o.kind == "real" for o in operands):
            return
        at = tuple((e.call, e.ordinal) for e, _ in line.pairs)
        by_value = not any(self.taps["tensor", o.name].binary for o in operands)
        units = (operands[0].unit, operands[1].unit)
        a = line.first
        self.pairs.append(
            Pairs(name, a.module, at, line.by_call, a.op, a.positions, (axes[0], axes[1]), units, by_value)
        )

    def _tensor_of_mask(self, line: Line) -> None:
        """A mask of spikes is a tensor of its own, also where nothing but a sum or a pool reads it."""
        outs = [e.out for pair in line.pairs for e in pair]
        one, two = View(outs[0].shape), View(outs[1].shape)
        axes = self._read(one, two, line)
        if outs[0].name is None or id(outs[0]) in self.places or axes is None:
            return
        if any(o.name != outs[0].name for o in outs):
            return
        for out, event in zip(outs, [e for pair in line.pairs for e in pair], strict=True):
            out.flags = torch.stack([o.flags for o in event.origins]).any(0) if out.flags is None else out.flags
        tap = Tap("", "output", outs[0].name, tuple((o.call, 0) for o in outs[::2]), axes, line.by_call)
        name = self._unique(outs[0].name, self.tensors)
        self._enter(name, tap, outs, axes.of_image(one.shape, self.T, self.sizes[0]), False)

    def _leave_out(self, event: Event, reason: str) -> None:
        self.uncounted.setdefault((event.site(), event.op), entries.Uncounted(event.site(), event.op, reason))

    @staticmethod
    def _unique(name: str, taken: Mapping[str, Any]) -> str:
        if name not in taken:
            return name
        return f"{name}@{sum(n.startswith(name + '@') for n in taken) + 2}"

    # ---------------------------------------------------------------- predictions
    def _logits(self) -> tuple[Axes | None, str | None]:
        """Axes of the model's output, and the layer whose output per step has the model's output as mean or sum."""
        if not self.one.outputs:
            return None, None
        one, two = self.one.outputs[0], self.two.outputs[0]
        axes = self.reader.read(View(tuple(one.shape)), View(tuple(two.shape)))
        if self.T == 1 or axes != Axes("B") or two.dim() != 2:
            return axes, None
        for path, calls in reversed(self.two.layers.items()):
            steps = calls[0] if len(calls) == 1 else torch.stack(calls) if len({c.shape for c in calls}) == 1 else None
            if steps is None or steps.shape != (self.T, *two.shape):
                continue
            if any(torch.allclose(way(0), two, rtol=1e-4, atol=1e-5) for way in (steps.mean, steps.sum)):
                return axes, path
        return axes, None


def _all_of(event: Event, index: int, times: int = 1) -> bool:
    """Whether an operand holds every element of its origin, so many times."""
    return prod(event.views[index].shape) == times * prod(event.origins[index].shape)


def _shape_of_weights(event: Event) -> dict[str, Any]:
    geometry = event.geometry
    if geometry is None:
        return {"out_channels": event.fan_out}
    stride = (1,) * len(geometry.kernel) if geometry.transposed else geometry.stride
    return {
        "out_channels": geometry.out_channels,
        "groups": geometry.groups,
        "kernel": geometry.kernel,
        "stride": stride,
    }
