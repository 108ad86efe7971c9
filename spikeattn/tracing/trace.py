"""Watch one forward pass operation by operation: which module made each tensor, and what every synapse receives.

A `Trace` is a dispatch mode: it sees the tensor operations that a model really executes, so functional calls
(`F.conv2d`, `q @ k`, `k * v`) are found like modules. What happens inside a neuron is passed over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.tracing.events import INPUT, NEURON, Event
from spikeattn.tracing.fanout import ConvGeometry
from spikeattn.tracing.neurons import memories
from spikeattn.tracing.origin_book import OriginBook
from spikeattn.tracing.origins import (
    ALIAS,
    MATMULS,
    Origin,
    View,
    derive,
    distinct_elements,
    tensors_in,
)
from spikeattn.tracing.stack import Frame, ModuleStack, in_parts

_LOGITS = 1 << 18  # outputs of layers with more elements than this are no logits


class Trace(TorchDispatchMode):
    """Collect the events of one forward pass of `model`; see the module's docstring.

    A tensor bears the name of the innermost module that handed it out, unless a path in `names` hands it on.

    Args:
        batch: number of images that will be shown.
        units: what the spikes of a neuron are multiples of, where that is not 1; None where they are real numbers.

    Attributes:
        events: what happened.
        inputs: what went into the model, once per call of it.
        layers: what small layers with weights gave, call by call, by path: candidates for logits.
        calls: calls of each module.
        ordinals: how often each operation ran in each call, by (path, call).
        origins: of every tensor.
    """

    def __init__(
        self, model: nn.Module, neurons: Mapping[str, nn.Module], batch: int, names: Collection[str] = (),
        units: Mapping[str, float | None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.events: list[Event] = []
        self.inputs: list[Tensor] = []
        self.layers: dict[str, list[Tensor]] = defaultdict(list)
        self.ordinals: dict[tuple[str, int], dict[str, int]] = {}
        self.names, self.batch, self.units = names, batch, units or {}
        self._model = model
        self.origins = OriginBook(batch)
        self._stack = _TracingStack(self, model, neurons)

    @property
    def calls(self) -> Mapping[str, int]:
        return self._stack.calls

    def __enter__(self) -> Trace:
        for name, tensor in (*self._model.named_parameters(), *self._model.named_buffers()):
            self.origins[tensor] = Origin(site=name, weight=True, stateless=True)
        self._stack.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.__exit__(*error)

    # ---------------------------------------------------------------- operations
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.origins.muted or not self._stack.frames:
            return func(*args, **kwargs)
        out = in_parts(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        name = func._schema.name.split("::")[1].rstrip("_")
        if self._stack.in_neuron:
            self._inside_neuron(name)
            return func(*args, **kwargs)
        written = _written(func, args, kwargs)
        for tensor in written:
            if self.origins[tensor].spiky:
                self.origins.observe(tensor)
        out = func(*args, **kwargs)
        self._observe(name, args, kwargs, out, written)
        return out

    def _observe(self, name: str, args: Any, kwargs: Any, out: Any, written: Sequence[Tensor]) -> None:
        given = list(tensors_in((args, tuple(kwargs.values()))))
        made = list(tensors_in(out))
        if not made:
            return
        ordinal = self._stack.frames[-1].ordinal(name)
        if written and name == "copy":
            given = given[1:]
        if name in ALIAS and given and made[0].numel() >= given[0].numel() and _keeps_values(given[0], made[0]):
            result = self.origins[given[0]]
        elif name == "convolution":
            result = self._convolve(name, args, given, made[0], ordinal)
        elif name in MATMULS:
            result = self._multiply(name, args, given, made[0], ordinal)
        else:
            origins = [self.origins[t] for t in given]
            result, what = derive(name, args, kwargs, given, origins, made[0])
            if what:
                data = given[:1] if what == "token_sum" else given
                self._event(what, name, ordinal, given, data, result, made[0])
        for tensor in written:
            self.origins.overwrite(tensor, result)
        self.origins[made[0]] = result
        for tensor in made[1:]:  # each part of a split is a tensor of its own
            self.origins[tensor] = replace(result)

    def _convolve(self, name: str, args: Any, given: Sequence[Tensor], out: Tensor, ordinal: int) -> Origin:
        x, w = args[0], args[1]
        result = self._product_of(x, w)
        if result.weight:
            return result
        geometry = ConvGeometry(
            in_channels=w.shape[0] if args[6] else w.shape[1] * args[8],
            out_channels=out.shape[1],
            kernel=tuple(w.shape[2:]),
            stride=tuple(args[3]),
            padding=tuple(args[4]),
            dilation=tuple(args[5]),
            transposed=bool(args[6]),
            output_padding=tuple(args[7]),
            groups=int(args[8]),
        )
        positions = x if geometry.transposed else out
        facts = {
            "macs": geometry.macs_per_position * positions[:, :1].numel(),
            "weights": w.numel(),
            "biases": 0 if args[2] is None else args[2].numel(),
            "weight_name": self.origins[w].site,
        }
        if self.origins[w].weight:
            self._event("conv", name, ordinal, given, [x], result, out, geometry=geometry, **facts)
        else:
            reason = "its kernel is computed from the input"
            self._event("unknown", name, ordinal, given, [x, w], result, out, reason=reason)
        return result

    def _multiply(self, name: str, args: Any, given: Sequence[Tensor], out: Tensor, ordinal: int) -> Origin:
        a, b = args[MATMULS[name]], args[MATMULS[name] + 1]
        result = self._product_of(a, b)
        if result.weight:
            return result
        columns = int(b.shape[-1]) if b.dim() > 1 else 1
        macs = a.numel() * columns
        biases = args[0].numel() if MATMULS[name] and self.origins[args[0]].weight else 0
        for weight, data, fan_out in ((b, a, columns), (a, b, int(a.shape[-2]) if a.dim() > 1 else 1)):
            if self.origins[weight].weight:
                facts = {"weights": distinct_elements(weight), "weight_name": self.origins[weight].site}
                facts |= {"macs": macs, "fan_out": fan_out, "biases": biases}
                self._event("linear", name, ordinal, given, [data], result, out, **facts)
                return result
        if a.dim() < 2 or b.dim() < 2:
            reason = "a product of vectors has no counting rule"
            self._event("unknown", name, ordinal, given, [a, b], result, out, reason=reason)
            return result
        if self.origins[a].spiky and self.origins[b].spiky:
            result.unit, result.summed = self.origins[a].unit * self.origins[b].unit, True
        self._event("matmul", name, ordinal, given, [a, b], result, out, macs=macs)
        return result

    def _product_of(self, a: Tensor, b: Tensor) -> Origin:
        a, b = self.origins[a], self.origins[b]
        return Origin(weight=a.weight and b.weight, stateless=a.stateless and b.stateless, varies=a.varies or b.varies)

    def _inside_neuron(self, name: str) -> None:
        """A layer with weights inside a neuron is not counted, so it is listed."""
        if name != "convolution" and name not in MATMULS:
            return
        path = self._stack.frames[-1].path
        reason = "weights inside a neuron are taken as part of its dynamics and are not counted"
        nothing = Origin()
        self.events.append(Event("unknown", path, 0, name, 0, (), (), nothing, View(()), alone=True, reason=reason))

    def _event(
        self, what: str, op: str, ordinal: int, given: Sequence[Tensor], data: Sequence[Tensor], result: Origin,
        out: Tensor, **facts: Any,
    ) -> None:  # fmt: skip
        frame = self._stack.frames[-1]
        origins = tuple(self.origins.observe(t) if what != "unknown" else self.origins[t] for t in data)
        positions = tuple(next(i for i, t in enumerate(given) if t is operand) for operand in data)
        argument = None
        if len(data) == 1 and frame.argument is not None:
            same = self.origins[frame.argument] is origins[0] and frame.argument.numel() == data[0].numel()
            argument = self.origins.view(frame.argument) if same else None
        module = self._stack.module(frame.path)
        alone = what in ("conv", "linear") and _is_operation(module)
        if alone and isinstance(bias := getattr(module, "bias", None), Tensor):
            facts["biases"] = bias.numel()
        event = Event(
            what, frame.path, frame.call, op, ordinal, origins, tuple(self.origins.view(t) for t in data), result,
            self.origins.view(out) if what in ("matmul", "mask") else View(tuple(out.shape)), positions,
            tuple(t.detach().clone() if o.stateless else None for t, o in zip(data, origins, strict=True)),
            argument=argument, alone=alone, **facts,
        )  # fmt: skip
        result.made, result.site, result.view = (frame.path, frame.call, op, ordinal), event.site(), event.out_view
        self.events.append(event)

    # ---------------------------------------------------------------- modules
    def entered(self, frame: Frame) -> None:
        """The model was called, with a tensor somewhere in its arguments."""
        x = frame.argument
        origin = self.origins[x] = Origin(
            INPUT, frame.call, stateless=True, of_input=True, varies=True, maker=INPUT, view=self.origins.view(x)
        )
        self.origins.observe(x)
        self.inputs.append(x)
        view, data = origin.view, (x.detach().clone(),)
        self.events.append(
            Event(INPUT, "", frame.call, INPUT, 0, (origin,), (view,), origin, view, data=data, alone=True)
        )

    def left(self, path: str, frame: Frame, tensors: Sequence[Tensor], neuron: bool) -> None:
        """A module has handed out tensors; the first one bears its name."""
        self.ordinals[path, frame.call] = dict(frame.ordinals)
        if not tensors:
            return
        first = tensors[0]
        if neuron:
            unit, view = self.units.get(path, 1.0), self.origins.view(first)
            origin = self.origins[first] = Origin(path, frame.call, unit=unit, maker=NEURON, varies=True, view=view)
            self.origins.observe(first)
            state = tuple(tuple(kept.shape) for kept in memories(self._stack.module(path)))
            self.events.append(
                Event(NEURON, path, frame.call, NEURON, 0, (origin,), (view,), origin, view, alone=True, state=state)
            )
            return
        origin = self.origins[first]
        if path and not origin.weight and (origin.name is None or path in self.names):
            origin.name, origin.call, origin.view = path, frame.call, self.origins.view(first)
        last = next((e for e in reversed(self.events) if e.what not in ("unknown", "token_sum", "mask")), None)
        if last is not None and last.module == path and last.what == "linear" and first.numel() <= _LOGITS:
            self.layers[path].append(first.detach())


class _TracingStack(ModuleStack):
    """The module stack of a trace: tells it what goes into the model, and what modules hand out."""

    def __init__(self, trace: Trace, model: nn.Module, neurons: Mapping[str, nn.Module]) -> None:
        super().__init__(model, neurons)
        self._trace = trace

    def enter(self, path: str, args: Any) -> None:
        super().enter(path, args)
        if path == "" and self.frames[-1].argument is not None:
            for other in list(tensors_in(args))[1:]:  # further arguments are data too
                self._trace.origins[other] = Origin(stateless=True, varies=True, of_input=True)
            self._trace.entered(self.frames[-1])

    def leave(self, path: str, output: Any) -> Frame | None:
        frame = super().leave(path, output)
        if frame is not None:
            self._trace.left(path, frame, list(tensors_in(output)), path in self._neurons)
        return frame


def _is_operation(module: nn.Module) -> bool:
    """Whether a module is a layer with weights and nothing else, so that its name names the operation."""
    parts = {name for name, _ in module.named_children()}
    return parts <= {"parametrizations"} and any(True for _ in module.parameters())


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Tensors that an operation writes into: of `add_`, `copy_`, and `out=`."""
    if not func._schema.is_mutable:
        return []
    found = []
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += tensors_in(args[index] if index < len(args) else kwargs.get(argument.name))
    return found


def _keeps_values(before: Tensor, after: Tensor) -> bool:
    """Whether a copy in another type has the same values: real numbers that become integers do not."""
    return after.is_floating_point() or not before.is_floating_point()
