"""Other people's networks made fast for a run: their neurons, max-pools and batch norms run by kernels, to the bit.

Nothing is copied: for as long as a `Fusion` is open, the modules that have a kernel run it in place of their `forward`.
Whatever is said of them meanwhile holds: hooks, state, reset, names. Afterwards they are as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from spikeattn.compat.torch_modes import without_dispatch
from spikeattn.errors import SpikeattnError
from spikeattn.fast import count, fused_neuron, native
from spikeattn.fast.arena import Arena, using
from spikeattn.fast.count import Left
from spikeattn.fast.folding import Pair, layers_of, pairs_of
from spikeattn.fast.fused_layers import Layer, NormLayer, Pool, layer_of
from spikeattn.fast.fused_neuron import Dynamics, dynamics_of
from spikeattn.fast.fused_quantiser import Kernel, kernel_of
from spikeattn.fast.pending_norm import put_off, ready
from spikeattn.fast.repeated_input import run_once
from spikeattn.fast.seen_pass import Forward, SeenPass, first_difference, flips, seen
from spikeattn.tracing.layout import Axes
from spikeattn.tracing.spike_units import nature_of
from spikeattn.tracing.taps import Fan, Plan, Tap, fans_ahead

FOLDED = "folded"  # what runs, beside `prepare.PLAIN`
WORTH = 1_000_000  # spikes and silences per image; below, a pass takes milliseconds, and trying the kernels 0.1 s
_CHECKED = 2  # images that both ways must agree on, as many as the trace has seen
_GLOBAL_HOOKS = torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks
_NOTHING: Mapping[str, Tensor] = {}
ReaderOf = Callable[[str, Tensor], tuple[count.Reader, count.Slots] | None]


class Fusion:
    """The modules of a network that have kernels; open it with `with`.

    Args:
        pairs: convolutions that take their batch norm in, which changes rounding (`folding`).
        repeated: convolutions of an input that is the same at every time step (`repeated_input`).

    Attributes:
        neurons, layers: paths of those that give the same bits.
        pairs: those folded.
        reader_of: says what counts the output of a neuron of integers, by its path and a tensor that lies as the output
            will (`Recorder.reader_of`); None where nobody does.
        checked: images that were shown to the network as it is, too.
        flipped: where batch norms are folded, spikes that were others there, and how many there are, by neuron.
    """

    def __init__(
        self, model: nn.Module, plan: Plan, pairs: Sequence[Pair] = (), repeated: Sequence[str] = ()
    ) -> None:  # fmt: skip
        self._model, self._arena = model, Arena()
        self._dynamics: dict[nn.Module, Dynamics] = {}
        self._layers: dict[nn.Module, Layer] = {}
        self._quantisers: dict[nn.Module, Kernel] = {}
        self.reader_of: ReaderOf = lambda path, x: None
        ahead = fans_ahead(plan)
        self._fan_outs = {path: fan for path in plan.neurons if (fan := _fan_out(plan, path, ahead)) is not None}
        self._counted = {path for path in plan.neurons if _can_leave(plan, path)}
        self._left: dict[str, tuple[ref[Tensor], int, Left]] = {}
        self.neurons, self.layers, self.pairs = list[str](), list[str](), list(pairs)
        self.checked = 0
        self.flipped: dict[str, tuple[int, int]] = {}
        self._find(plan)
        for pair in pairs:
            first, second = model.get_submodule(pair.convolution), model.get_submodule(pair.norm)
            self._layers[first], self._layers[second] = layers_of(first, second, pair.spikes)
            self.layers = [path for path in self.layers if path != pair.norm]
        for path in sorted(set(repeated) - {pair.convolution for pair in pairs}):
            convolution = model.get_submodule(path)
            self._layers[convolution] = run_once(convolution, plan.ledger.time_steps)
            self.layers.append(path)

    def _find(self, plan: Plan) -> None:
        known: dict[str, Dynamics | None] = {}
        quantisers: dict[Any, Kernel | None] = {}
        inside = tuple(f"{neuron}." for neuron in plan.neurons)
        for path, module in self._model.named_modules():
            if path in plan.neurons:
                key = _said(module)
                if key not in known:
                    known[key] = dynamics_of(module)
                if (dynamics := known[key]) is not None:
                    self._dynamics[module] = dynamics
                    self.neurons.append(path)
                    continue
                nature = nature_of(module) or path
                if nature not in quantisers:
                    quantisers[nature] = kernel_of(module)
                if (quantiser := quantisers[nature]) is not None:
                    self._quantisers[module] = quantiser
                    self.neurons.append(path)
            elif not path.startswith(inside):
                if (layer := layer_of(module)) is not None:
                    self._layers[module] = layer
                    self.layers.append(path)

    def __enter__(self) -> Fusion:
        paths = {module: path for path, module in self._model.named_modules()}
        for module, dynamics in self._dynamics.items():
            module.__dict__["forward"] = partial(self._fire, module, paths[module], dynamics)
        for module, quantiser in self._quantisers.items():
            module.__dict__["forward"] = partial(self._quantise, module, paths[module], quantiser)
        for module, layer in self._layers.items():
            module.__dict__["forward"] = partial(self._apply, module, layer)
        return self

    def may_put_off(self) -> bool:
        """Whether batch norms may be put off: there are some, no hook of the user that might keep what they give, and
        nothing that changes rounding, so that a trial tells."""
        hooks = (*_GLOBAL_HOOKS, *(h for m in self._model.modules() for h in (m._forward_hooks, m._forward_pre_hooks)))
        norms = any(isinstance(layer, NormLayer) for layer in self._layers.values())
        return norms and not self.pairs and not any(hooks)

    @contextmanager
    def trying(self, puts_off: bool) -> Iterator[None]:
        """Inside is the pass that says which batch norms are put off from then on: those that kernels alone read."""
        norms = [layer.norm for layer in self._layers.values() if isinstance(layer, NormLayer)]
        for norm in norms:
            norm.begin_trial(puts_off)
        with self:
            yield
        for norm in norms:
            norm.end_trial()

    def __exit__(self, *error: object) -> None:
        for module in (*self._dynamics, *self._quantisers, *self._layers):
            module.__dict__.pop("forward", None)
        self._left.clear()

    def left(self, path: str, x: Tensor) -> Left:
        """The counts of a neuron's output, taken when it was made; none where a hook has put another in its place, or
        has written into it."""
        known, version, counts = self._left.get(path, (None, 0, _NOTHING))
        same = known is not None and known() is x and not x.is_inference() and x._version == version
        return counts if same else _NOTHING

    def _leave(self, path: str, made: Tensor, counts: Left) -> None:
        if not made.is_inference():  # else nobody could tell that it is written into
            self._left[path] = ref(made), made._version, counts

    def facts(self) -> dict[str, Any]:
        """What ran, as an entry of the provenance."""
        ran = {"neurons": len(self.neurons), "layers": len(self.layers), "checked_images": self.checked}
        changed = {path: list(each) for path, each in self.flipped.items() if each[0]}
        if not self.pairs:
            return {"fused": {**ran, "identical": True}}
        return {"fused": {**ran, "folded": len(self.pairs), "identical": not changed, "flipped": changed}}

    def warning(self) -> str:
        """How many spikes folding has flipped, and where most; empty where it has flipped none."""
        flipped, total = (sum(each[place] for each in self.flipped.values()) for place in (0, 1))
        if not flipped:
            return ""
        most = max(self.flipped, key=lambda path: self.flipped[path][0] / self.flipped[path][1])
        there = self.flipped[most]
        return (
            f"folded: rounding differs from the network's own, by which {flipped:,} of {total:,} values of its "
            f"neurons ({flipped / total:.2g}) are others on the first {self.checked} images, most in {most} "
            f"({there[0]:,} of {there[1]:,})"
        )

    def _fire(self, neuron: Any, path: str, dynamics: Dynamics, *args: Any, **kwargs: Any) -> Any:
        v = neuron._memories["v"]
        begun = v if isinstance(v, Tensor) else None
        self._left.pop(path, None)
        x: Any = args[0] if len(args) == 1 and not kwargs else None
        x, norm = (ready(x), 0) if dynamics.charge is None else put_off(x)  # the kernel of levels runs no batch norm
        if not _takes(neuron, x, begun):
            return type(neuron).forward(neuron, *map(ready, args), **kwargs)
        weights, fan_out = self._fan_outs.get(path, (None, None))
        if weights is not None and weights.shape != x.shape[x.dim() - weights.dim() :]:
            weights = fan_out = None
        with using(self._arena), without_dispatch():
            made = fused_neuron.run(dynamics, x, begun, fan_out, norm)
        neuron._memories["v"] = made.v
        if path in self._counted and made.counts is not None:
            counts = {"nnz": made.counts, "nonfinite": torch.tensor(made.nonfinite)}
            if made.fans is not None and weights is not None:
                counts |= {"fan_nnz": made.fans, "weights": weights}
            self._leave(path, made.spikes, counts)
        return made.spikes

    def _quantise(self, neuron: nn.Module, path: str, quantiser: Kernel, *args: Any, **kwargs: Any) -> Any:
        self._left.pop(path, None)
        made: Tensor | None = None
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            with using(self._arena), without_dispatch():
                x, norm = put_off(args[0])
                counts = self.reader_of(path, x)
                if counts is None:
                    made = quantiser(x, norm)
                elif (counted := quantiser.counted(x, *counts, norm)) is not None:
                    made, read = counted
                    if read is not None:
                        self._leave(path, made, read)
        return type(neuron).forward(neuron, *map(ready, args), **kwargs) if made is None else made

    def _apply(self, module: nn.Module, layer: Layer, *args: Any, **kwargs: Any) -> Any:
        with using(self._arena), without_dispatch():
            given = args if isinstance(layer, Pool) else tuple(map(ready, args))
            made = layer(given[0]) if len(args) == 1 and not kwargs else None
        return type(module).forward(module, *map(ready, args), **kwargs) if made is None else made


def _takes(neuron: Any, x: Any, v: Tensor | None) -> bool:
    """Whether a kernel runs what a neuron is called with, from the potentials that it holds."""
    if getattr(neuron, "step_mode", "m") != "m" or not fused_neuron.takes(x):
        return False
    return v is None or (v.shape == x.shape[1:] and v.dtype == torch.float32 and v.device == x.device)


def _said(module: Any) -> str:
    """What tells neurons apart of which one kernel may be right and another one wrong."""
    weights = [(name, float(w.detach())) for name, w in module.named_parameters() if w.numel() == 1]
    plain = {key: value for key, value in vars(module).items() if isinstance(value, (int, float, str, type(None)))}
    hooks = bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
    surrogate = getattr(module, "surrogate_function", None)
    return repr((type(module), plain, getattr(module, "_memories_rv", None), weights, hooks, surrogate))


def _output_taps(plan: Plan, path: str) -> list[Tap]:
    return [tap for tap in plan.taps if tap.where == "output" and tap.module == path]


def _can_leave(plan: Plan, path: str) -> bool:
    """Whether the kernel's counts, [T, B] of a tensor [T, B, ...], are those that the plan asks for."""
    usual = Axes(at=1, along=(0,), steps=tuple(range(plan.ledger.time_steps)))
    taps = _output_taps(plan, path)
    fans = [fan for tap in taps for fan in tap.fans]
    return all(
        tap.binary and not tap.by_call and tap.index == 0 and tap.columns is None and tap.axes == usual for tap in taps
    ) and (not fans or _fan_out(plan, path, {}) is not None)


def _fan_out(plan: Plan, path: str, ahead: Mapping[str, Fan]) -> tuple[Tensor, Tensor] | None:
    """The fan-outs by position that every synapse behind a neuron has, or those that one has for which it is to be
    weighed `ahead`: as the plan has them and as the kernels read them; None where there are none, or several."""
    taps = _output_taps(plan, path)
    fans = [fan for tap in taps for fan in tap.fans] or [ahead[tap.name] for tap in taps[:1] if tap.name in ahead]
    alike = fans and all(torch.equal(each.weights, fans[0].weights) for each in fans)
    weights = count.fan_out(fans[0].weights) if alike else None
    return None if weights is None else (fans[0].weights, weights.flatten())


def is_worth(plan: Plan) -> bool:
    """Whether a network makes so many spikes that kernels pay; it depends on the plan alone, so that ranks agree."""
    made = (tensor.elements for tensor in plan.ledger.tensors if tensor.name in plan.neurons)
    return plan.ledger.time_steps * sum(made) >= WORTH


def fuse(
    model: nn.Module, plan: Plan, images: Tensor, forward: Forward, fold: bool = False, expected: SeenPass | None = None
) -> Fusion | str:
    """Kernels for a network in eval mode, tried on its first images; or why it has none, in words.

    Args:
        images: a batch, [B, ...]; two of them are shown to the network as it is and with its kernels.
        fold: batch norms go into the convolutions before them too, which may flip spikes; they are counted.
        expected: what the network as it is gave for some images, which are shown to its kernels then.
    """
    if any(each.device.type != "cpu" for each in (images, *model.parameters())):
        return "its kernels are for the CPU"
    if reason := native.build().reason:
        return reason
    if expected is None or expected.images is None:
        expected = seen(model, plan, images[: 1 if plan.one_image else _CHECKED], forward)
    assert expected.images is not None
    shown = expected.images
    pairs = pairs_of(model, plan, shown, forward) if fold else ()
    fusion = Fusion(model, plan, pairs, expected.repeated)
    if not (fusion.pairs or fusion.neurons or fusion.layers):
        return "none of its neurons, pools and batch norms has a kernel"
    reason = ""
    for puts_off in (True, False) if fusion.may_put_off() else (False,):
        reason = _tried(fusion, puts_off, model, plan, shown, forward, expected)
        if not reason:
            fusion.checked = len(shown)
            return fusion
    return reason


def _tried(
    fusion: Fusion, puts_off: bool, model: nn.Module, plan: Plan, shown: Tensor, forward: Forward, expected: SeenPass
) -> str:
    """Why the kernels cannot run a network, by a pass over its first images; empty where they can."""
    try:
        with fusion.trying(puts_off):
            made = seen(model, plan, shown, forward)
    except Exception as error:  # of the network's code, which may rest on more than the numbers, as on strides
        return f"with kernels it fails ({type(error).__name__}: {error})"
    if fusion.pairs:
        fusion.flipped = flips(made, expected)
    elif (differs := first_difference(made, expected)) is not None:
        return f"with kernels its spikes are not the same bit by bit, first at {differs or 'its output'}"
    return ""


def refused(reason: str, fold: bool) -> SpikeattnError:
    """The error where kernels were asked for and there can be none."""
    asked = "fold" if fold else "plain"
    return SpikeattnError(f"{asked}={fold}: the network has no fast path: {reason}; leave {asked} out")
