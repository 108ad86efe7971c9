"""Find what to count in a model: the tensor each synapse really receives, the neurons' spikes, and the products.

The model runs once with one image and once with two. The operations of both passes are compared: the axis that grew is
the batch. The result is a `Plan`: the ledger (what exists) and the taps (where and how to count it).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.recording import ledger as entries
from spikeattn.recording import neurons as nodes
from spikeattn.recording.counting import kind_of
from spikeattn.recording.fanout import ConvGeometry, fan_out_map
from spikeattn.recording.trace import NEURON, Event, Origin, Trace, tensors_in

Forward = Callable[[nn.Module, Tensor], Any]


def call_model(model: nn.Module, images: Tensor) -> Any:
    """The default forward pass: the model called on the batch."""
    return model(images)


@dataclass(frozen=True)
class Axes:
    """Where time and batch lie in a tensor: "TB", "T*B" (merged), "BT", "B*T", or "B" (no time axis)."""

    layout: str

    def split(self, x: Tensor, time_steps: int, batch: int) -> Tensor:
        """The tensor as [T, B, ...], or [1, B, ...] without a time axis; merged extra axes come after B."""
        if self.layout == "TB":
            return x
        if self.layout == "BT":
            return x.transpose(0, 1)
        lead = {"T*B": (time_steps, batch), "B*T": (batch, time_steps), "B": (1, batch)}[self.layout]
        extra = x.shape[0] // prod(lead)
        x = x.reshape(*lead, *((extra,) if extra > 1 else ()), *x.shape[1:])
        return x.transpose(0, 1) if self.layout == "B*T" else x


@dataclass(frozen=True)
class Fan:
    """A fan-out that depends on the position: `weights` [*space] for the synapse of this name."""

    synapse: str
    weights: Tensor


@dataclass(frozen=True)
class Tap:
    """Where a tensor appears in the forward pass and how to count it.

    Attributes:
        where: "output" or "argument" of a module, or "operation" (operand number `operand`, -1 for the result).
        slot: which of the module's calls per time step.
        binary: 0/1 by construction; checked in every batch.
        fans: fan-out-weighted counts to take from this tensor.
        tensor: whether its non-zeros are counted here (else only the fans).
    """

    name: str
    where: str
    module: str
    slot: int
    axes: Axes
    binary: bool = False
    fans: tuple[Fan, ...] = ()
    tensor: bool = True
    op: str = ""
    ordinal: int = 0
    operand: int = -1


@dataclass(frozen=True)
class Pairs:
    """A matrix product of two spike tensors: the pairs that meet are counted at this operation."""

    name: str
    module: str
    slot: int
    op: str
    ordinal: int
    axes: Axes


@dataclass(frozen=True)
class Plan:
    """What to count: the ledger, the taps, and the calls per time step of each module that is watched."""

    ledger: entries.Ledger
    neurons: Mapping[str, nn.Module]
    taps: tuple[Tap, ...]
    pairs: tuple[Pairs, ...]
    slots: Mapping[str, int]
    single_step: bool
    input_axes: Axes
    output_axes: Axes | None
    logits_from: str | None
    kinds: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)


def plan(
    model: nn.Module,
    images: Tensor,
    *,
    forward: Forward = call_model,
    neurons: nodes.NeuronPredicate = nodes.is_spiking_neuron,
    time_steps: int | None = None,
    layout: str = "TB",
) -> Plan:
    """Trace `model` on one and on two of `images` and decide what to count; the model is left as it was.

    Args:
        images: a batch as `forward` takes it, [B, C, H, W] or [B, T, C, H, W]; B = 1 is shown twice.
        forward: calls the model on a batch.
        neurons: which modules are spiking neurons.
        time_steps: T, where the neurons' calls do not tell.
        layout: order of time and batch inside the model, "TB" or "BT".

    Raises:
        SpikeattnError: no neurons, contradicting time steps, or an axis layout that cannot be read.
    """
    if layout not in ("TB", "BT"):
        raise SpikeattnError(f"layout is {layout!r}; valid are 'TB' ([T, B, ...] or [T*B, ...]) and 'BT' ([B, T, ...])")
    found = nodes.find_neurons(model, neurons)
    names = model.paper_names() if hasattr(model, "paper_names") else {}
    for sizes in ((1, 2), (2, 3)):  # a batch of one may take another kernel; then two and three are compared
        one, two = (_run(model, found, forward, images, n, names) for n in sizes)
        if [_key(e) for e in one.events] == [_key(e) for e in two.events]:
            return _Planner(model, found, one, two, sizes, names, time_steps, layout).build()
    raise SpikeattnError(
        f"{type(model).__name__} runs other operations on two images than on three, so what belongs to which image "
        "cannot be told apart"
    )


def ledger_of(model: nn.Module, seed: int = 0) -> entries.Ledger:
    """The ledger of one of spikeattn's models without data: traced on seeded random input of its own size."""
    config = getattr(model, "config", {})
    if not hasattr(model, "img_size") or not config:
        raise SpikeattnError(f"{type(model).__name__} does not say its input size; profile it on real input instead")
    generator = torch.Generator().manual_seed(seed)
    shape = (2, model.in_chans, *model.img_size)
    images = torch.randn(shape, generator=generator)
    if model.in_chans == 2:  # event counts, one frame per time step
        images = torch.rand((2, model.time_steps, *shape[1:]), generator=generator).mul(1.3).floor()
    device = next(model.parameters()).device
    return plan(model, images.to(device)).ledger


def _run(
    model: nn.Module, found: dict[str, nn.Module], forward: Forward, images: Tensor, n: int, names: Mapping[str, Any]
) -> Trace:
    batch = torch.cat([images] * n)[:n] if len(images) < n else images[:n]
    modes = {module: module.training for module in model.modules()}
    nodes.reset(model)
    model.eval()
    try:
        with torch.no_grad(), Trace(model, found, names) as trace:
            trace.outputs = list(tensors_in(forward(model, batch)))
    finally:
        for module, training in modes.items():
            module.training = training
        nodes.reset(model)
    if not trace.inputs:
        raise SpikeattnError(
            "forward(model, images) never called the model with a tensor; pass forward= a function that does"
        )
    return trace


def _key(event: Event) -> tuple[Any, ...]:
    return event.what, event.module, event.call, event.op, event.ordinal


class _Planner:
    """Builds a Plan from the traces of one image and of two."""

    def __init__(
        self, model: nn.Module, found: dict[str, nn.Module], one: Trace, two: Trace, sizes: tuple[int, int],
        names: Mapping[str, Any], time_steps: int | None, layout: str,
    ) -> None:  # fmt: skip
        self.model, self.found, self.one, self.two, self.names, self.layout = model, found, one, two, names, layout
        self.sizes = sizes
        self.calls: dict[str, int] = defaultdict(int)
        for event in one.events:
            self.calls[event.module] = max(self.calls[event.module], event.call + 1)
        self.calls[""] = len(one.inputs)
        axis = 0 if layout == "TB" else 1
        self.multi_step = {
            a.module
            for a, b in zip(one.events, two.events, strict=True)
            if a.what == NEURON and len(a.out_shape) > axis
            and nodes.is_multi_step(found[a.module], a.out_shape[axis] == b.out_shape[axis])
        }  # fmt: skip
        self.single_step = not self.multi_step
        self.T = self._time_steps(time_steps)
        self.slots = {m: n // self.T if self.single_step and n % self.T == 0 else n for m, n in self.calls.items()}
        self.tensors: dict[str, entries.Tensor] = {}
        self.taps: dict[tuple[Any, ...], Tap] = {}
        self.kinds: dict[str, tuple[bool, ...]] = {}
        self.tensor_names: dict[int, str] = {}
        self.synapses: dict[str, entries.Synapse] = {}
        self.products: dict[str, entries.Product] = {}
        self.pairs: list[Pairs] = []
        self.uncounted: dict[tuple[str, str], entries.Uncounted] = {}

    def _time_steps(self, given: int | None) -> int:
        axis = 0 if self.layout == "TB" else 1
        if self.single_step:
            counts = {e.module: self.calls[e.module] for e in self.one.events if e.what == NEURON}
            found = given or min(counts.values())
            odd = {name: n for name, n in counts.items() if n % found}
        else:
            counts = {}
            for a, b in zip(self.one.events, self.two.events, strict=True):
                if a.what == NEURON and a.module in self.multi_step:
                    counts[a.module] = a.out_shape[axis]
                    if a.out_shape[axis] != b.out_shape[axis]:
                        raise SpikeattnError(
                            f"axis {axis} of neuron {a.module} grows with the batch, so it is no time axis: "
                            f"{a.out_shape} and {b.out_shape} for {self.sizes[0]} and {self.sizes[1]} images; "
                            f"try layout={'BT' if self.layout == 'TB' else 'TB'!r}"
                        )
            found = given or min(counts.values())
            odd = {name: n for name, n in counts.items() if n != found}
        if odd:
            name, n = next(iter(odd.items()))
            raise SpikeattnError(
                f"neuron {name} sees {n} time steps where {found} are expected; "
                + ("single-step neurons must be called a whole number of times per step, say time_steps="
                   if self.single_step else "all neurons must share one T; check layout= and time_steps=")
            )  # fmt: skip
        return found

    # ---------------------------------------------------------------- axes
    def axes(self, one: tuple[int, ...], two: tuple[int, ...]) -> Axes | None:
        """Layout of a tensor from its shapes in the smaller and the larger batch; None where it cannot be told."""
        if len(one) != len(two):
            return None
        small, large = self.sizes
        grown = [d for d, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(grown) != 1 or one[grown[0]] * large != two[grown[0]] * small or one[grown[0]] % small:
            return None
        d, per_image = grown[0], one[grown[0]] // small
        if d == 1 and per_image == 1 and one[0] == self.T and not self.single_step:
            return Axes("TB")
        if d != 0:
            return None
        if self.single_step:
            return Axes("B")
        if self.layout == "BT" and per_image == 1 and len(one) > 1 and one[1] == self.T:
            return Axes("BT")
        if per_image % self.T == 0:
            return Axes("T*B" if self.layout == "TB" else "B*T")
        return Axes("B")

    def shape_of(self, shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
        """Axes of one image at one time step, from the shape in the smaller batch."""
        if axes.layout in ("TB", "BT"):
            return shape[2:]
        extra = shape[0] // self.sizes[0] // (self.T if axes.layout in ("T*B", "B*T") else 1)
        return (*((extra,) if extra > 1 else ()), *shape[1:])

    # ---------------------------------------------------------------- build
    def build(self) -> Plan:
        input_axes = self._input()
        pairs = list(zip(self.one.events, self.two.events, strict=True))
        for a, b in pairs:
            if a.call >= self.slots[a.module]:  # a later time step of a single-step network
                self._same_tensor(a)
                continue
            if a.what == NEURON:
                self._tensor(a, b, 0, Tap("", "output", a.module, a.call, Axes("")))
            elif a.what in ("conv", "linear"):
                self._synapse(a, b)
            elif a.what in ("mask", "token_sum", "matmul"):
                self._product(a, b)
            else:
                self._leave_out(a, f"{a.op} acts on spikes and has no counting rule")
        output_axes, logits_from = self._logits()
        ledger = entries.Ledger(
            time_steps=self.T,
            static_input=self.tensors["input"].static,
            tensors=tuple(self.tensors.values()),
            synapses=tuple(self.synapses.values()),
            products=tuple(self.products.values()),
            uncounted=tuple(self.uncounted.values()),
        )
        watched = {t.module for t in self.taps.values()} | {p.module for p in self.pairs}
        return Plan(
            ledger, self.found, tuple(self.taps.values()), tuple(self.pairs),
            {m: self.slots.get(m, 1) for m in watched}, self.single_step,
            input_axes, output_axes, logits_from, self.kinds,
        )  # fmt: skip

    def _input(self) -> Axes:
        one, two = self.one.inputs[0], self.two.inputs[0]
        origin, twin = self.one.origin(one), self.two.origin(two)
        axes = self.axes(tuple(one.shape), tuple(two.shape))
        if axes is None:
            raise SpikeattnError(
                f"the model's input has shape {tuple(one.shape)} for one image and {tuple(two.shape)} for two; "
                "expected one axis that holds the images"
            )
        if axes.layout == "B" and one.dim() >= 5 and one.shape[1] == self.T:  # frames, turned by the model itself
            axes = Axes("BT")
        steps = axes.split(two, self.T, self.sizes[1])
        static = bool((steps == steps[:1]).all()) and all(torch.equal(x, two) for x in self.two.inputs)
        shape = self.shape_of(tuple(one.shape), axes)
        self._add(origin, "input", shape, static, origin.flags | twin.flags, Tap("input", "argument", "", 0, axes))
        return axes

    def _add(
        self, origin: Origin, name: str, shape: tuple[int, ...], static: bool, flags: Tensor, tap: Tap
    ) -> entries.Tensor:
        neuron = self.found.get(origin.name or "") if origin.maker == "neuron" else None
        sources = self._sources(origin)
        binary = neuron is not None and nodes.emits_binary(neuron)
        if sources and None not in sources:
            binary = all(self._is_binary(source) for source in sources)
        sources = tuple(dict.fromkeys(source for source in sources if source))
        binary = binary and not bool(flags.any())
        known = self.names.get(name)
        tensor = entries.Tensor(
            name, shape, prod(shape), origin.maker, kind_of(*flags.tolist()), static, sources,
            *((known.role, known.part, known.block, known.hook) if known else (None, None, None, None)),
            nodes.neuron_class(neuron) if neuron is not None else None,
        )  # fmt: skip
        self.tensors[name] = tensor
        self.tensor_names[id(origin)] = name
        self.kinds[name] = tuple(flags.tolist())
        self.taps[("tensor", name)] = replace(tap, name=name, binary=binary)
        return tensor

    def _sources(self, origin: Origin) -> tuple[str | None, ...]:
        """Counted tensors that a pool or a mask was made from; None for one that is not counted."""
        names: list[str | None] = []
        for source in origin.sources:
            known = self.tensor_names.get(id(source))
            names += [known] if known else self._sources(source) or [None]
        return tuple(names)

    def _is_binary(self, name: str) -> bool:
        return self.taps[("tensor", name)].binary

    def _tensor(self, a: Event, b: Event, index: int, fallback: Tap) -> entries.Tensor | None:
        """The entry of operand `index`, made on first sight; None (and listed) where its axes cannot be read."""
        origin, twin = a.origins[index], b.origins[index]
        here = self.axes(a.shapes[index], b.shapes[index])
        if here is None:
            self._leave_out(a, f"the axes of {a.shapes[index]} (one image) and {b.shapes[index]} (two) cannot be read")
            return None
        elements = prod(self.shape_of(a.shapes[index], here))
        if id(origin) in self.tensor_names:
            known = self.tensors[self.tensor_names[id(origin)]]
            if known.elements == elements:
                return known
        made = self.axes(origin.shape, twin.shape) if origin.shape else None
        whole = made is not None and prod(self.shape_of(origin.shape, made)) == elements
        tap = fallback
        if whole and origin.name is not None:
            base, axes, shape = origin.name, made, self.shape_of(origin.shape, made)
            slot = sum(1 for n in self.tensors if n == base or n.startswith(base + "@"))
            tap = Tap("", "output", base, slot, axes)
        elif whole and origin.site is not None:
            base, axes, shape = origin.site, made, self.shape_of(origin.shape, made)
            maker = next(e for e in self.one.events if e.out is origin)
            tap = Tap("", "operation", maker.module, maker.call, axes, op=maker.op, ordinal=maker.ordinal)
        else:
            base, axes, shape = f"{a.site()}:{'ab'[index] if len(a.origins) > 1 else 'in'}", here, None
            if a.argument is not None and fallback.where == "argument":
                axes = self.axes(a.argument, b.argument) or here
            shape = self.shape_of(a.argument if axes is not here else a.shapes[index], axes)
            tap = replace(fallback, axes=axes)
        name = base if base not in self.tensors else f"{base}@{sum(n.startswith(base + '@') for n in self.tensors) + 2}"
        static = origin.stateless and self.tensors["input"].static
        return self._add(origin, name, shape, static, origin.flags | twin.flags, replace(tap, axes=axes))

    def _same_tensor(self, event: Event) -> None:
        """Later time steps of a single-step network: their tensors are the first step's, one call on."""
        for origin in (*event.origins, event.out):
            if origin.name in self.tensors:
                self.tensor_names.setdefault(id(origin), origin.name)

    def _at(self, event: Event, index: int = 0) -> Tap:
        if event.argument is not None and event.alone:
            return Tap("", "argument", event.module, event.call, Axes(""))
        return Tap(
            "", "operation", event.module, event.call, Axes(""), op=event.op, ordinal=event.ordinal, operand=index
        )

    def _synapse(self, a: Event, b: Event) -> None:
        tensor = self._tensor(a, b, 0, self._at(a))
        if tensor is None:
            return
        axes = self.axes(a.shapes[0], b.shapes[0])
        every_step = self.single_step or axes.layout != "B"
        per_call = self.T if every_step and not self.single_step else 1
        name = self._unique(a.site(), self.synapses)
        fan_out = a.fan_out
        if a.geometry is not None:
            fan_out = self._fan_out(a, b, name, tensor)
        op = a.op if a.geometry is None else f"conv{'_transpose' * a.geometry.transposed}{len(a.geometry.kernel)}d"
        out_axes = self.axes(a.out_shape, b.out_shape)
        known = self.names.get(name)
        self.synapses[name] = entries.Synapse(
            name=name,
            op=op if a.geometry is not None else "linear",
            input=tensor.name,
            dense_macs=a.macs // self.sizes[0] // per_call,
            fan_out=fan_out,
            output_elements=prod(self.shape_of(a.out_shape, out_axes)) if out_axes else 0,
            every_step=every_step,
            weights=a.weights,
            biases=a.biases,
            **_shape_of_weights(a),
            **({"role": known.role, "part": known.part, "block": known.block} if known else {}),
        )

    def _fan_out(self, a: Event, b: Event, name: str, tensor: entries.Tensor) -> int | None:
        """The fan-out if it is the same at every position; else None, and a tap that weighs each position."""
        geometry: ConvGeometry = a.geometry
        weights = fan_out_map(geometry, a.shapes[0][2:])
        if bool((weights == weights.flatten()[0]).all()):
            return int(weights.flatten()[0])
        if tensor.kind == "real":
            return None  # every position is a multiply-accumulate
        tap = self._at(a)
        shapes = (a.argument, b.argument) if tap.where == "argument" else (a.shapes[0], b.shapes[0])
        tap = replace(tap, name=tensor.name, axes=self.axes(*shapes), binary=self._is_binary(tensor.name))
        self.taps[("fan", name)] = replace(tap, fans=(Fan(name, weights),), tensor=False)
        return None

    def _product(self, a: Event, b: Event) -> None:
        operands = [self._tensor(a, b, i, self._at(a, i)) for i in range(len(a.origins))]
        out_axes = self.axes(a.out_shape, b.out_shape)
        if any(o is None for o in operands) or (out_axes is None and a.what != "token_sum"):
            return
        name = self._unique(a.out.name if a.what == "mask" and a.out.name else a.site(), self.products)
        if a.what == "matmul":
            axes = self.axes(a.shapes[0], b.shapes[0])
            per_call = 1 if self.single_step or axes.layout == "B" else self.T
            elements = a.macs // self.sizes[0] // per_call
            self.pairs.append(Pairs(name, a.module, a.call, a.op, a.ordinal, axes))
        elif a.what == "mask":
            elements = prod(self.shape_of(a.out_shape, out_axes))
            self._tensor_of_product(a, b)
        else:
            elements = operands[0].elements
        known = self.names.get(name) or self.names.get(operands[0].name)
        part = {"part": "SDSA" if known.part in ("SDSA", "QKV") else known.part, "block": known.block} if known else {}
        self.products[name] = entries.Product(name, a.what, tuple(o.name for o in operands), elements, a.what, **part)

    def _tensor_of_product(self, a: Event, b: Event) -> None:
        """A mask of spikes is a tensor of its own, also where nothing but a sum or a pool reads it."""
        if a.out.name is not None and id(a.out) not in self.tensor_names:
            with torch.no_grad():
                flags = torch.stack([o.flags for o in (*a.origins, *b.origins)]).any(0)
            axes = self.axes(a.out.shape, b.out.shape)
            if axes is not None and a.out.name not in self.tensors:
                shape = self.shape_of(a.out.shape, axes)
                self._add(a.out, a.out.name, shape, False, flags, Tap("", "output", a.out.name, 0, axes))

    def _leave_out(self, event: Event, reason: str) -> None:
        self.uncounted.setdefault((event.site(), event.op), entries.Uncounted(event.site(), event.op, reason))

    @staticmethod
    def _unique(name: str, taken: Mapping[str, Any]) -> str:
        if name not in taken:
            return name
        return f"{name}@{sum(n.startswith(name + '@') for n in taken) + 2}"

    def _logits(self) -> tuple[Axes | None, str | None]:
        """Axes of the model's output, and the module whose output per step has the model's output as its mean."""
        if not self.one.outputs:
            return None, None
        one, two = self.one.outputs[0], self.two.outputs[0]
        axes = self.axes(tuple(one.shape), tuple(two.shape))
        if self.single_step or axes is None or axes.layout != "B" or two.dim() != 2 or self.two.last_synapse is None:
            return axes, None
        path, steps = self.two.last_synapse
        if steps.shape == (self.T, *two.shape) and torch.allclose(steps.mean(0), two, rtol=1e-4, atol=1e-5):
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
