"""Build a plan from the traces of a smaller and a larger batch: every tensor, synapse and product, and its taps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from spikeattn.recording import entries
from spikeattn.recording.ledger import Ledger
from spikeattn.tracing.axes import Axes, AxisReader
from spikeattn.tracing.events import INPUT, NEURON, Event
from spikeattn.tracing.fanout import fan_out_map
from spikeattn.tracing.origins import View
from spikeattn.tracing.steps import Line, lines_of, main_view, time_steps_of
from spikeattn.tracing.taps import Fan, Pairs, Plan, Tap
from spikeattn.tracing.tensors import Tensors, unique
from spikeattn.tracing.trace import Trace


class Planner:
    """Builds a Plan from two traces; see `examine.plan` for the arguments. `kept` names state that survives a reset."""

    def __init__(
        self, neurons: Mapping[str, nn.Module], one: Trace, two: Trace, names: Mapping[str, Any],
        time_steps: int | None, layout: str, kept: str = "",
    ) -> None:  # fmt: skip
        self.neurons, self.one, self.two, self.names, self.kept = neurons, one, two, names, kept
        self.sizes = (one.batch, two.batch)
        pairs = list(zip(one.events, two.events, strict=True))
        self.T, multi = time_steps_of(neurons, pairs, self.sizes, layout, time_steps)
        self.reader = AxisReader(self.sizes, self.T, layout)
        self.reader.learn((a.module, *views) for a, b in pairs for views in zip(a.views, b.views, strict=True))
        self.lines = lines_of(pairs, self.reader, multi, one.calls)
        self.tensors = Tensors(neurons, self.reader, names)
        self.synapses: dict[str, entries.Synapse] = {}
        self.products: dict[str, entries.Product] = {}
        self.uncounted: dict[tuple[str, str], entries.Uncounted] = {}
        self.fans: list[Tap] = []
        self.pairs: list[Pairs] = []

    def build(self) -> Plan:
        """Go through the operations in their order."""
        for line in self.lines:
            a = line.first
            if a.what == INPUT:
                self.tensors.input(line, self.lines)
            elif a.what == NEURON:
                self.tensors.neuron(line, self.kept)
            elif a.what in ("conv", "linear"):
                self._synapse(line)
            elif a.what in ("mask", "token_sum", "matmul"):
                self._product(line)
            else:
                acts = "acts on spikes" if any(o.spiky for o in a.origins) else "multiplies real numbers"
                self._leave_out(a, a.reason or f"{a.op} {acts} and has no counting rule")
        return self._plan()

    def _plan(self) -> Plan:
        tensors = self.tensors
        taps = (*tensors.taps.values(), *self.fans)
        watched = (*taps, *self.pairs)
        output_axes, logits_from = self._logits()
        return Plan(
            ledger=Ledger(
                time_steps=self.T,
                static_input=tensors.entries["input"].static,
                tensors=tuple(tensors.entries.values()),
                synapses=tuple(self.synapses.values()),
                products=tuple(self.products.values()),
                uncounted=tuple(self.uncounted.values()),
                warnings=self._warnings(),
            ),
            neurons=self.neurons,
            taps=taps,
            pairs=tuple(self.pairs),
            calls={entry.module: self.one.calls[entry.module] for entry in watched if entry.module},
            ordinals={
                (entry.module, call, entry.op): self.one.ordinals[entry.module, call][entry.op]
                for entry in watched
                if entry.op
                for call, _ in entry.at
            },
            input_axes=tensors.taps["input"].axes,
            output_axes=output_axes,
            logits_from=logits_from,
        )

    def _warnings(self) -> tuple[str, ...]:
        idle = [name for name in self.neurons if not self.one.calls[name]]
        if not idle:
            return ()
        return (f"idle: {len(idle)} neurons are never called in the forward pass, the first is {idle[0]}",)

    def _leave_out(self, event: Event, reason: str) -> None:
        self.uncounted.setdefault((event.site(), event.op), entries.Uncounted(event.site(), event.op, reason))

    # ---------------------------------------------------------------- synapses
    def _steps(self, line: Line) -> tuple[bool, int] | None:
        """Whether a line runs at every time step, and how many steps one event covers; None: images mix in it."""
        a, b = line.pairs[0]
        axes = self.tensors.read(main_view(a), main_view(b), line)
        if axes is None and a.what != "mask":
            axes = self.tensors.read(a.out_view, b.out_view, line)
        if axes is None or a.macs * self.sizes[1] != b.macs * self.sizes[0]:
            return None
        return line.by_call or axes.timed or self.T == 1, self.T if axes.timed else 1

    def _synapse(self, line: Line) -> None:
        a, b = line.pairs[0]
        steps = self._steps(line)
        tensor = self.tensors.operand(line, 0) if steps is not None else None
        if steps is None or tensor is None:
            self._leave_out(a, self.tensors.unreadable(a.views[0], b.views[0]))
            return
        every_step, covered = steps
        name = unique(a.site(), self.synapses)
        out_axes = self.tensors.read(a.out_view, b.out_view, line)
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
        tap, one, two = self.tensors.here(line, 0)
        own, axes = self.tensors.taps[tensor.name], self.tensors.read(one, two, line)
        tap = replace(tap, name=tensor.name, axes=axes, binary=own.binary, unit=own.unit)
        self.fans.append(replace(tap, fans=(Fan(name, weights),), tensor=False))
        return None

    # ---------------------------------------------------------------- products
    def _product(self, line: Line) -> None:
        a, b = line.pairs[0]
        steps = self._steps(line)
        operands = [self.tensors.operand(line, i) for i in range(len(a.origins))] if steps is not None else [None]
        axes = [self.tensors.read(one, two, line) for one, two in zip(a.views, b.views, strict=True)]
        if steps is None or None in operands or (a.what == "matmul" and None in axes):
            self._leave_out(a, "the axes of its operands cannot be read, or it mixes the images of a batch")
            return
        every_step, covered = steps
        name = unique(a.out.name if a.what == "mask" and a.out.name else a.site(), self.products)
        elements = operands[0].elements
        if a.what == "matmul":
            elements = a.macs // self.sizes[0] // covered
            self._pairs(line, name, operands, axes)
        elif a.what == "mask":
            elements = prod(a.out_view.shape) // self.sizes[0] // covered
            self.tensors.mask(line)
        known = self.names.get(name) or self.names.get(operands[0].name)
        part = {"part": "SDSA" if known.part in ("SDSA", "QKV") else known.part, "block": known.block} if known else {}
        self.products[name] = entries.Product(
            name, a.what, tuple(o.name for o in operands), elements, a.what, every_step=every_step, **part
        )

    def _pairs(self, line: Line, name: str, operands: Sequence[entries.Tensor], axes: Sequence[Axes]) -> None:
        """Count the pairs of spikes that meet in a matrix product; also by value unless an operand can only be 0/1."""
        if any(o.kind == "real" for o in operands):
            return
        at = tuple((event.call, event.ordinal) for event, _ in line.pairs)
        by_value = not any(self.tensors.taps[o.name].binary for o in operands)
        a, units = line.first, (operands[0].unit, operands[1].unit)
        self.pairs.append(
            Pairs(name, a.module, at, line.by_call, a.op, a.positions, (axes[0], axes[1]), units, by_value)
        )

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
