"""Build a plan from a trace: every tensor, synapse and product, and where each is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import Addition, CountedTensor, Product, Synapse, Uncounted, current_part
from spikeattn.tracing.branches import Branches
from spikeattn.tracing.fanout import ConvGeometry, fan_out_map
from spikeattn.tracing.labels import IMAGE
from spikeattn.tracing.layout import Axes, LayoutReader
from spikeattn.tracing.pass_events import INPUT, NEURON, SUMS, Event
from spikeattn.tracing.plan_additions import PlanAdditions
from spikeattn.tracing.plan_tensors import Tensors, unique
from spikeattn.tracing.step_matching import Line, lines_of, main_view, time_steps_of
from spikeattn.tracing.taps import Fan, Pairs, Plan, Tap, logits_of
from spikeattn.tracing.tracer import Trace


class Planner:
    """Builds a Plan from a trace; see `examine.plan` for the arguments. `state` names what survives a reset."""

    def __init__(
        self, neurons: Mapping[str, nn.Module], trace: Trace, names: Mapping[str, Any], state: str = "",
        events: str | None = None, levels: int | None = None,
    ) -> None:  # fmt: skip
        self.neurons, self.trace, self.names, self.state = neurons, trace, names, state
        self.B = trace.batch
        self.T = time_steps_of(neurons, trace.calls, trace.labeller)
        time = trace.labeller.time
        assert time is not None  # as `Trace.finish` leaves it
        self.reader = LayoutReader(time, self.T, self.B)
        self.lines = lines_of(trace.events, self.reader)
        self.tensors = Tensors(neurons, self.reader, names, trace.labeller.repeats, events, levels)
        self.synapses: dict[str, Synapse] = {}
        self.products: dict[str, Product] = {}
        self.uncounted: dict[tuple[str, str], Uncounted] = {}
        self.branches = Branches()
        self.fans: list[Tap] = []
        self.pairs: list[Pairs] = []
        # By geometry and size of the maps, which blocks repeat.
        self._fan_outs: dict[tuple[ConvGeometry, tuple[int, ...]], torch.Tensor] = {}

    def build(self) -> Plan:
        """Go through the operations in their order."""
        for line in self.lines:
            a = line.first
            if a.what == INPUT:
                self.tensors.input(line)
            elif a.what == NEURON:
                self.tensors.neuron(line, self.state)
            elif a.what in ("conv", "linear"):
                self._synapse(line)
            elif a.what in ("mask", "matmul", *SUMS):
                self._product(line)
            else:
                acts = "acts on spikes" if any(o.spiky for o in a.origins) else "multiplies real numbers"
                self._leave_out(a, a.reason or f"{a.op} {acts} and has no counting rule")
        taken = (*self.synapses, *self.products)
        found = PlanAdditions(self.reader, self.tensors, self.branches, self._joins, self._steps, taken)
        found.build(self.trace.additions)
        self.uncounted |= found.uncounted
        return self._plan(tuple(found.rows.values()))

    def _plan(self, additions: tuple[Addition, ...]) -> Plan:
        tensors, calls = self.tensors, self.trace.calls
        taps = (*tensors.taps.values(), *self.fans)
        watched: tuple[Tap | Pairs, ...] = (*taps, *self.pairs)
        output_axes, logits = self._logits()
        return Plan(
            ledger=Ledger(
                time_steps=self.T,
                static_input=tensors.entries["input"].static,
                tensors=tuple(tensors.entries.values()),
                synapses=tuple(self.synapses.values()),
                products=tuple(self.products.values()),
                uncounted=tuple(self.uncounted.values()),
                warnings=self._warnings(),
                additions=additions,
            ),
            neurons=self.neurons,
            taps=taps,
            pairs=tuple(self.pairs),
            calls={
                **{path: calls.get(path, 0) for path in self.trace.weighted if path},
                **{entry.module: calls[entry.module] for entry in watched if entry.module},
            },
            ordinals={
                (entry.module, call, entry.op): self.trace.ordinals[entry.module, call][entry.op]
                for entry in watched
                if entry.op
                for call, _ in entry.at
            },
            called_by=self.trace.called_by,
            input_axes=tensors.taps["input"].axes,
            output_axes=output_axes,
            logits_from=None if logits is None else logits[0],
            logits_axes=None if logits is None else logits[1],
            output_form=self.trace.output_form,
            looks_up=self.trace.looks_up,
            one_image=self.B == 1,
        )

    def _warnings(self) -> tuple[str, ...]:
        found, labeller = [], self.trace.labeller
        idle = [name for name in self.neurons if not self.trace.calls.get(name)]
        if idle:
            some = f"{len(idle)} neurons are" if len(idle) > 1 else "1 neuron is"
            found.append(f"idle: {some} never called in the forward pass, the first is {idle[0]}")
        if self.T == 1 and labeller.user_steps is None and labeller.T is None:
            found.append(
                "time: T = 1, since no neuron runs along an axis of time or is called more than once; if the network "
                "works on more time steps, say time_steps="
            )
        if labeller.guessed:
            names = ", ".join(dict.fromkeys(labeller.guessed))
            found.append(
                f"labels: which images the results of {names} belong to was found by changing one image and looking "
                "what moves, since no rule knows these operations"
            )
        if labeller.hidden:
            where, why = next(iter(labeller.hidden.items()))
            found.append(f"hidden: {where} reads a number out of data of several images ({why}); what becomes of it is "
                         "not followed")  # fmt: skip
        return tuple(found)

    def _leave_out(self, event: Event, reason: str) -> None:
        self.uncounted.setdefault((event.site(), event.op), Uncounted(event.site(), event.op, reason))

    # ---------------------------------------------------------------- synapses
    def _joins(self, line: Line) -> bool:
        """Whether an operation joins time steps: it runs once per image."""
        a = line.labelled
        if line.by_call or self.T == 1 or a.what in SUMS:
            return False
        found = [self.tensors.read(view) for view in (a.out_view, *a.views)]
        return any(axes is not None and axes.joined for axes in found) or (
            found[0] is not None and not found[0].timed and any(axes is not None and axes.timed for axes in found[1:])
        )

    def _steps(self, line: Line, joined: bool) -> tuple[bool, int, int | None] | None:
        """Whether a line runs at every time step, how many steps one event covers, and at how many it runs (None: all).

        None where the images of its operand cannot be told apart.
        """
        a = line.labelled
        axes = self.tensors.read(main_view(a)) or (None if a.what == "mask" else self.tensors.read(a.out_view))
        if axes is None or a.macs % self.B:
            return None
        if line.by_call:
            return True, 1, None if len(line.steps) == self.T else len(line.steps)
        if axes.timed and not joined:
            covered = len(set(axes.steps))
            return True, covered, None if covered == self.T else covered
        return self.T == 1, 1, None

    def _synapse(self, line: Line) -> None:
        a, joined = line.first, self._joins(line)
        if all(event.origins[0].blank for event in line.events):
            return  # the zeros of a first step, which another operation takes at the later ones
        steps = self._steps(line, joined)
        tensor = self.tensors.operand(line, 0, joined) if steps is not None else None
        if steps is None or tensor is None:
            view = line.labelled.views[0]
            self._leave_out(a, self.reader.unreadable(view.shape, view.label))
            return
        every_step, covered, runs = steps
        name = unique(a.site(), self.synapses)
        self.branches.add(name, a.origins, (event.out for event in line.events))
        out_axes = self.tensors.read(line.labelled.out_view)
        known = self.names.get(name)
        self.synapses[name] = Synapse(
            name=name,
            op="linear" if a.geometry is None else a.geometry.op,
            input=tensor.name,
            dense_macs=a.macs // self.B // covered,
            fan_out=a.fan_out if a.geometry is None else self._fan_out(line, name, tensor),
            output_elements=prod(out_axes.of_image(a.out_view.shape, self.B)) if out_axes else 0,
            every_step=every_step,
            runs=runs,
            weights=a.weights,
            biases=a.biases,
            **_shape_of_weights(a),
            **({"role": known.role, "part": known.part, "block": known.block} if known else {}),
        )

    def _fan_out(self, line: Line, name: str, tensor: CountedTensor) -> int | None:
        """The fan-out if it is the same at every position; else None, and a tap that weighs each position."""
        a = line.first
        assert a.geometry is not None
        key = (a.geometry, a.views[0].shape[2:])
        if key not in self._fan_outs:
            self._fan_outs[key] = fan_out_map(*key)
        weights = self._fan_outs[key]
        if bool((weights == weights.flatten()[0]).all()):
            return int(weights.flatten()[0])
        if tensor.number:
            return None  # every position is a multiply-accumulate
        tap, view = self.tensors.here(line, 0)
        own, axes = self.tensors.taps[tensor.name], self.tensors.read(view)
        assert axes is not None  # or its tensor would not be counted
        axes = axes.untimed if tensor.joined or line.by_call else axes
        tap = replace(tap, name=tensor.name, axes=axes, binary=own.binary, unit=own.unit)
        self.fans.append(replace(tap, fans=(Fan(name, weights),), tensor=False))
        return None

    # ---------------------------------------------------------------- products
    def _product(self, line: Line) -> None:
        a, joined = line.first, self._joins(line)
        if a.what in SUMS and IMAGE in a.out_view.label.joined:
            return  # over the images of the batch: bookkeeping, or the network would have been refused
        steps = self._steps(line, joined)
        entered = [self.tensors.operand(line, i, joined) for i in range(len(a.origins))] if steps else []
        operands = [operand for operand in entered if operand is not None]
        read = [self.tensors.read(view) for view in line.labelled.views]
        axes = [each for each in read if each is not None]
        if steps is None or len(operands) < len(a.origins) or (a.what == "matmul" and len(axes) < len(read)):
            unread = next((v for v, each in zip(line.labelled.views, read, strict=True) if each is None), a.out_view)
            self._leave_out(a, self.reader.unreadable(unread.shape, unread.label))
            return
        every_step, covered, runs = steps
        name = unique(a.out.name if a.what == "mask" and a.out.name else a.site(), self.products)
        self.branches.add(name, a.origins, (event.out for event in line.events))
        elements = operands[0].elements
        if a.what == "matmul":
            elements = a.macs // self.B // covered
            self._pairs(line, name, operands, [each.untimed for each in axes] if joined else axes)
        elif a.what == "mask":
            elements = prod(a.out_view.shape) // self.B // covered
            self.tensors.mask(line)
        known = self.names.get(name) or self.names.get(operands[0].name)
        part: dict[str, Any] = {}
        if known is not None:
            label = current_part(known.part)
            part = {"part": "attention" if label == "QKV" else label, "block": known.block}
        self.products[name] = Product(
            name, a.what, tuple(o.name for o in operands), elements, a.what, every_step=every_step, runs=runs,
            summed_over=prod(a.views[0].shape) // max(prod(a.out_view.shape), 1) if a.what in SUMS else None, **part,
        )  # fmt: skip

    def _pairs(self, line: Line, name: str, operands: Sequence[CountedTensor], axes: Sequence[Axes]) -> None:
        """Count the pairs of spikes that meet in a matrix product; also by value unless an operand can only be 0/1."""
        if any(o.number or o.summed for o in operands):
            return
        at = tuple((event.call, event.ordinal) for event in line.events)
        by_value = not any(self.tensors.taps[o.name].binary for o in operands)
        a, units = line.first, (operands[0].unit, operands[1].unit)
        both = (axes[0], axes[1])
        self.pairs.append(
            Pairs(name, a.module, at, line.by_call, a.op, a.positions, both, units, by_value, steps=line.steps)
        )

    # ---------------------------------------------------------------- predictions
    def _logits(self) -> tuple[Axes | None, tuple[str, Axes | None] | None]:
        """Axes of the model's output, and the layer whose output per step has the model's output as mean or sum."""
        if self.trace.scores is None:
            return None, None
        output = self.trace.outputs[self.trace.scores]
        axes = self.tensors.read(self.trace.output_views[self.trace.scores])
        if axes is not None and not axes.timed:
            axes = replace(axes, step=None, joined=False)
        if self.T == 1 or axes != Axes() or output.dim() != 2:
            return axes, None
        for path, calls in reversed(self.trace.layers.items()):
            steps, own = logits_of([x for x, _ in calls], self.tensors.read(calls[0][1]), self.B), calls[0][1]
            if steps is None or steps.shape != (self.T, *output.shape):
                continue
            if any(_alike(way(0), output) for way in (steps.mean, steps.sum)):
                return axes, (path, self.tensors.read(own))
        return axes, None


# Of the mean over time in another order of additions, in float32; the means of other layers differ in the first digit.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5


def _alike(steps: torch.Tensor, output: torch.Tensor) -> bool:
    """Whether an output is this mean or sum of a layer's, up to rounding; numbers of another type are not."""
    plain = output.layout == torch.strided and output.device == steps.device
    plain = plain and output.dtype == steps.dtype and output.is_floating_point()
    return plain and torch.allclose(steps, output, rtol=_RELATIVE, atol=_ABSOLUTE)


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
