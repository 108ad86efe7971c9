"""Watch one forward pass operation by operation: which module made each tensor, and what every synapse receives.

A `Trace` is a dispatch mode: it sees the tensor operations that a model really executes, so functional calls
(`F.conv2d`, `q @ k`, `k * v`) are found like modules. What happens inside a neuron is passed over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from spikeattn.recording.counting import value_flags
from spikeattn.recording.fanout import ConvGeometry

# The same elements, seen or stored another way (expand and repeat: the same elements more often).
_ALIAS = {
    "view", "reshape", "_unsafe_view", "_reshape_alias", "permute", "transpose", "t", "squeeze", "unsqueeze", "flatten",
    "expand", "repeat", "clone", "contiguous", "_to_copy", "to", "detach", "alias", "lift_fresh", "copy",
}  # fmt: skip
# Some of the elements, or several tensors side by side: values stay what they are.
_PARTS = {
    "select", "slice", "split", "split_with_sizes", "chunk", "unbind", "narrow", "index", "index_select", "cat",
    "stack", "unfold", "im2col", "constant_pad_nd", "roll", "flip", "gather", "pad", "where",
}  # fmt: skip
_POOLS = ("max_pool", "adaptive_max_pool", "amax", "max")
_MATMULS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "dot": 0, "mv": 0}
# Read a tensor without computing on it, or do arithmetic on membrane potentials that convolutions have made.
_SILENT = {
    "empty_like",
    "zeros_like",
    "ones_like",
    "full_like",
    "new_zeros",
    "new_empty",
    "eq",
    "ne",
    "isnan",
    "any",
    "all",
}

NEURON = "neuron"


@dataclass(eq=False)
class Origin:
    """Where a tensor comes from; views of a tensor share its origin.

    Attributes:
        name: dotted path of the module that made it, or None.
        site: the operation that made it, for products of spikes.
        spiky: its values descend from spikes by operations that keep them integer.
        weight: it descends from parameters alone.
        stateless: it descends from the input and constants alone, through no neuron.
        maker: "input", "neuron", "pool", "mask" or "op".
        flags: value flags seen so far (see counting.value_flags), or None.
        shape: of the tensor when it was made.
        sources: what it was pooled or masked from.
    """

    name: str | None = None
    site: str | None = None
    spiky: bool = False
    weight: bool = False
    stateless: bool = False
    maker: str = "op"
    flags: Tensor | None = None
    shape: tuple[int, ...] = ()
    sources: tuple[Origin, ...] = ()


@dataclass(frozen=True, eq=False)
class Event:
    """One neuron call, synapse or product, in the order of execution.

    Attributes:
        what: "neuron", "conv", "linear", "matmul", "mask", "token_sum" or "unknown".
        module: dotted path of the innermost module at work.
        call: which call of that module it was, from 0.
        op, ordinal: aten operation and its position among those of that name in this call of the module.
        origins, shapes: of the data operands (for a synapse its input alone, for a neuron its output).
        argument: shape of the module's first argument if that holds exactly the elements the operation receives.
        weights, biases: parameters of a synapse; a bias that is added in an operation of its own is not seen.
    """

    what: str
    module: str
    call: int
    op: str
    ordinal: int
    origins: tuple[Origin, ...]
    shapes: tuple[tuple[int, ...], ...]
    out: Origin
    out_shape: tuple[int, ...]
    macs: int = 0
    geometry: ConvGeometry | None = None
    fan_out: int | None = None
    argument: tuple[int, ...] | None = None
    alone: bool = False
    weights: int = 0
    biases: int = 0

    def site(self) -> str:
        """Name of the operation: the module's path where the module is the operation, else path.op_ordinal."""
        if self.alone:
            return self.module
        return ".".join(filter(None, [self.module, f"{self.op}_{self.ordinal}"]))


@dataclass
class _Frame:
    path: str
    call: int
    argument: Tensor | None
    ordinals: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class ModuleStack:
    """Hooks that keep the stack of modules at work; neurons are opaque. Use as a context manager."""

    def __init__(self, model: nn.Module, neurons: dict[str, nn.Module]) -> None:
        self.frames: list[_Frame] = []
        self.calls: dict[str, int] = defaultdict(int)
        self.in_neuron = 0
        self._neurons = neurons
        self._paths = {path: module for path, module in model.named_modules() if not _inside(path, neurons)}
        self._handles: list[Any] = []

    def _entering(self, path: str) -> Callable[..., None]:
        return lambda module, args, kwargs: self.enter(path, (*args, *kwargs.values()))

    def _leaving(self, path: str) -> Callable[..., None]:
        return lambda module, args, output: self.leave(path, output)

    def enter(self, path: str, args: tuple[Any, ...]) -> None:
        argument = next((a for a in args if isinstance(a, Tensor)), None)
        self.frames.append(_Frame(path, self.calls[path], argument))
        self.calls[path] += 1
        self.in_neuron += path in self._neurons

    def leave(self, path: str, output: Any) -> None:
        while self.frames:
            frame = self.frames.pop()
            self.in_neuron -= frame.path in self._neurons
            if frame.path == path:
                return

    def __enter__(self) -> ModuleStack:
        self.calls.clear()
        self.in_neuron = 0
        for path, module in self._paths.items():
            self._handles.append(module.register_forward_pre_hook(self._entering(path), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leaving(path)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.frames.clear()


class Trace(TorchDispatchMode):
    """Collect the events of one forward pass of `model`; see the module's docstring.

    After `with Trace(model, neurons) as trace: model(x)`, `trace.events` holds the events, `trace.inputs` and
    `trace.outputs` what went in (once per call of the model) and came out, `trace.last_synapse` the last layer with
    weights and what it gave.
    A tensor bears the name of the innermost module that handed it out, unless a path in `names` hands it on.
    """

    def __init__(self, model: nn.Module, neurons: dict[str, nn.Module], names: Collection[str] = ()) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.last_synapse: tuple[str, Tensor] | None = None
        self.names = names
        self._model = model
        self._origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._stack = _TracingStack(self, model, neurons)

    def __enter__(self) -> Trace:
        for tensor in (*self._model.parameters(), *self._model.buffers()):
            self._origins[tensor] = Origin(weight=True, stateless=True)
        self._stack.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.__exit__(*error)

    def origin(self, tensor: Tensor) -> Origin:
        """The origin of a tensor; one never seen is a constant made in the forward pass."""
        found = self._origins.get(tensor)
        if found is None:
            found = self._origins[tensor] = Origin(stateless=True)
        return found

    def observe_flags(self, tensor: Tensor) -> Origin:
        """The tensor's origin, with its value flags extended by what the tensor holds."""
        origin = self.origin(tensor)
        with self.paused():
            flags = value_flags(tensor).cpu()
            origin.flags = flags if origin.flags is None else origin.flags | flags
        return origin

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Operations of our own, which are no part of the model."""
        self._stack.in_neuron += 1
        try:
            yield
        finally:
            self._stack.in_neuron -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self._stack.in_neuron and self._stack.frames:
            self._observe(func._schema.name.split("::")[1].rstrip("_"), args, kwargs, out)
        return out

    def _observe(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        given = list(tensors_in((args, tuple(kwargs.values()))))
        made = list(tensors_in(out))
        if not made:
            return
        frame = self._stack.frames[-1]
        ordinal = frame.ordinals[name]
        frame.ordinals[name] += 1
        if name in _ALIAS and given and made[0].numel() >= given[0].numel():
            for tensor in made:
                self._origins[tensor] = self.origin(given[0])
            return
        origins = [self.origin(t) for t in given]
        spiky = bool(origins) and all(o.spiky for o in origins)
        result = Origin(
            stateless=all(o.stateless for o in origins),
            weight=bool(origins) and all(o.weight for o in origins),
            spiky=spiky and (name in _ALIAS or name in _PARTS),
        )
        if name == "convolution" or name in _MATMULS:
            self._multiply(name, args, result, made[0], ordinal)
        elif name == "mul" and len(given) == 2 and spiky and all(t.dim() for t in given):
            result.spiky, result.maker, result.sources = True, "mask", tuple(origins)
            self._event("mask", name, ordinal, given, result, made[0])
        elif name == "sum" and spiky:
            result.spiky = True
            self._event("token_sum", name, ordinal, given[:1], result, made[0])
        elif name.startswith(_POOLS):
            result.spiky, result.maker, result.sources = spiky, "pool", tuple(origins[:1])
        elif name in ("add", "sub", "rsub") and spiky:
            result.spiky = True
            if len(given) == 2:
                self._event("unknown", name, ordinal, given, result, made[0])
        elif name in ("add", "sub", *_SILENT) or _scaling(name, given):
            pass  # a residual added to membrane potentials, a constant that folds into the next threshold
        elif any(o.spiky for o in origins) and not result.spiky:
            self._event("unknown", name, ordinal, given, result, made[0])
        self._origins[made[0]] = result
        for tensor in made[1:]:  # each part of a split is a tensor of its own
            self._origins[tensor] = replace(result)

    def _multiply(self, name: str, args: Any, result: Origin, out: Tensor, ordinal: int) -> None:
        if name == "convolution":
            x, w = args[0], args[1]
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
            macs = geometry.macs_per_position * positions[:, :1].numel()
            what = "conv" if self.origin(w).weight else "unknown"
            facts = {"macs": macs, "weights": w.numel(), "biases": 0 if args[2] is None else args[2].numel()}
            self._event(what, name, ordinal, [x], result, out, geometry=geometry, **facts)
            return
        a, b = args[_MATMULS[name]], args[_MATMULS[name] + 1]
        macs = a.numel() * (b.shape[-1] if b.dim() > 1 else 1)
        biases = args[0].numel() if _MATMULS[name] and self.origin(args[0]).weight else 0
        if self.origin(b).weight and not self.origin(a).weight:
            facts = {"macs": macs, "fan_out": int(b.shape[-1]), "weights": b.numel(), "biases": biases}
            self._event("linear", name, ordinal, [a], result, out, **facts)
        elif self.origin(a).weight and not self.origin(b).weight:
            facts = {"macs": macs, "fan_out": int(a.shape[-2]), "weights": a.numel(), "biases": biases}
            self._event("linear", name, ordinal, [b], result, out, **facts)
        elif not result.weight:
            result.spiky = self.origin(a).spiky and self.origin(b).spiky
            self._event("matmul", name, ordinal, [a, b], result, out, macs=macs)

    def _event(
        self, what: str, op: str, ordinal: int, data: list[Tensor], result: Origin, out: Tensor, **facts: Any
    ) -> None:
        frame = self._stack.frames[-1]
        origins = tuple(self.observe_flags(t) for t in data)
        argument = None
        if len(data) == 1 and frame.argument is not None:
            same = self.origin(frame.argument) is origins[0] and frame.argument.numel() == data[0].numel()
            argument = tuple(frame.argument.shape) if same else None
        module = self._stack.module(frame.path)
        alone = _is_operation(module, what)
        if alone and isinstance(bias := getattr(module, "bias", None), Tensor):
            facts["biases"] = bias.numel()
        event = Event(
            what, frame.path, frame.call, op, ordinal, origins, tuple(tuple(t.shape) for t in data), result,
            tuple(out.shape), argument=argument, alone=alone, **facts,
        )  # fmt: skip
        result.site, result.shape = event.site(), tuple(out.shape)
        self.events.append(event)


class _TracingStack(ModuleStack):
    """The module stack of a trace: names the tensors that modules hand out."""

    def __init__(self, trace: Trace, model: nn.Module, neurons: dict[str, nn.Module]) -> None:
        super().__init__(model, neurons)
        self._trace = trace

    def module(self, path: str) -> nn.Module:
        return self._paths[path]

    def enter(self, path: str, args: tuple[Any, ...]) -> None:
        super().enter(path, args)
        if path == "" and self.frames[-1].argument is not None:
            x = self.frames[-1].argument
            first = self._trace.inputs[0] if self._trace.inputs else None
            origin = Origin("input", stateless=True, maker="input", shape=tuple(x.shape))
            self._trace._origins[x] = origin if first is None else self._trace.origin(first)
            self._trace.observe_flags(x)
            self._trace.inputs.append(x)

    def leave(self, path: str, output: Any) -> None:
        trace = self._trace
        call = self.frames[-1].call if self.frames else 0
        super().leave(path, output)
        tensors = list(tensors_in(output))
        if path in self._neurons and tensors:
            origin = trace._origins[tensors[0]] = Origin(name=path, spiky=True, maker="neuron")
            trace.observe_flags(tensors[0])
            shape = origin.shape = tuple(tensors[0].shape)
            trace.events.append(Event(NEURON, path, call, NEURON, 0, (origin,), (shape,), origin, shape, alone=True))
            return
        for tensor in tensors[:1]:
            origin = trace.origin(tensor)
            if path and not origin.weight and (origin.name is None or path in trace.names):
                origin.name, origin.shape = path, tuple(tensor.shape)
            if trace.events and trace.events[-1].module == path and trace.events[-1].what == "linear":
                trace.last_synapse = (path, tensor)


def _is_operation(module: nn.Module, what: str) -> bool:
    """Whether a module is a layer with weights of its own and nothing else, so that its name names the operation."""
    if what in ("conv", "linear"):
        return any(True for _ in module.parameters(recurse=False)) and not any(True for _ in module.children())
    return False


def _scaling(name: str, given: list[Tensor]) -> bool:
    return name in ("mul", "div", "neg") and sum(t.dim() > 0 for t in given) < 2


def _inside(path: str, neurons: dict[str, nn.Module]) -> bool:
    return any(path.startswith(neuron + ".") for neuron in neurons)


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
