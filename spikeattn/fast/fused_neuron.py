"""SpikingJelly's multi-step neurons as one kernel each: the same spikes and potentials to the bit, counted as made.

Which arithmetic a neuron runs is not read off its version: a kernel is tried beside the neuron itself, and taken where
every bit is the same.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.fast import native
from spikeattn.fast.arena import empty
from spikeattn.tracing.kinds import is_identical

_HOMES = ("spikingjelly.", "spikeattn.compat.")
_INTEGRATE = ("IFNode", "MultiStepIFNode")
_LEAKY = ("LIFNode", "MultiStepLIFNode")
_PARAMETRIC = ("ParametricLIFNode", "MultiStepParametricLIFNode")
_LEVELS = ("ILIFNode",)
# What a class may hold that only gives its parent other arguments; the last line is Python's own.
_PRESETS = {
    "__init__", "__repr__", "extra_repr",
    "__module__", "__doc__", "__qualname__", "__annotations__", "__abstractmethods__", "_abc_impl",
    "__firstlineno__", "__static_attributes__",
}  # fmt: skip
# How a neuron charges, as foreign.c numbers it.
INTEGRATE, DIVIDE, DIVIDE_LEAK, MULTIPLY, MULTIPLY_LEAK, DECAY = range(6)
_TRIED = (3, 2, 4099)  # time steps, images and elements that a kernel is tried on: blocks of both sizes


@dataclass(frozen=True)
class Dynamics:
    """What a kernel needs to know of a neuron.

    Attributes:
        charge: one of the six above; None for levels.
        constant: tau, its inverse or the decay, as the charge takes it.
        reset: the potential after a spike; None takes the threshold off.
        start: the potential before the first step.
        most: the most spikes of a step.
    """

    charge: int | None
    constant: float
    threshold: float
    reset: float | None
    start: float
    most: float = 1.0


@dataclass(frozen=True)
class Spikes:
    """What a kernel gives.

    Attributes:
        spikes: [T, B, ...] float32.
        v: [B, ...], the potentials after the last step.
        counts: [T, B] int64, or None where there are several levels.
        fans: the counts, each spike weighed with the fan-out of its position, or None.
        nonfinite: how many potentials are NaN or infinite at the end; None where nobody has looked.
    """

    spikes: Tensor
    v: Tensor
    counts: Tensor | None = None
    fans: Tensor | None = None
    nonfinite: int | None = None


def dynamics_of(neuron: nn.Module) -> Dynamics | None:
    """How a kernel runs a neuron; None for a neuron that none has been seen to run to the bit.

    Args:
        neuron: stays as it is.
    """
    if not _is_candidate(neuron):
        return None
    with torch.no_grad():
        return next((each for each in _candidates(neuron) if _is_same(neuron, each)), None)


def _kind(neuron: nn.Module) -> str:
    """The class of SpikingJelly's that a neuron is, or is but for a constructor of its own; "" where it is neither."""
    for cls in type(neuron).__mro__:
        if cls.__module__.startswith(_HOMES):
            return cls.__name__ if cls.__name__ in (*_INTEGRATE, *_LEAKY, *_PARAMETRIC, *_LEVELS) else ""
        if vars(cls).keys() - _PRESETS:
            return ""
    return ""


def _is_candidate(neuron: Any) -> bool:
    kind = _kind(neuron)
    surrogate = getattr(neuron, "surrogate_function", None)
    replaced = any(callable(getattr(type(neuron), name, None)) for name in vars(neuron))
    plain = not (neuron._forward_hooks or neuron._forward_pre_hooks or replaced)
    return (
        kind != ""
        and plain
        and (getattr(neuron, "step_mode", "m") == "m" or kind.startswith("MultiStep"))
        and list(getattr(neuron, "_memories", {})) == ["v"]
        and getattr(surrogate, "spiking", False) is True
        and not getattr(neuron, "store_v_seq", False)
        and getattr(neuron, "_neuron_precision", None) is None
        and all(w.dtype == torch.float32 and w.device.type == "cpu" and w.dim() == 0 for w in neuron.parameters())
    )


def _candidates(neuron: Any) -> Iterator[Dynamics]:
    """What the arithmetic of a neuron may be, by its class; versions of SpikingJelly write some of it differently."""
    name, threshold, reset = _kind(neuron), neuron.v_threshold, neuron.v_reset
    start = neuron._memories_rv["v"]
    if not all(isinstance(each, float) for each in (threshold, start, 0.0 if reset is None else reset)):
        return
    decays = getattr(neuron, "decay_input", True)
    if name in _INTEGRATE:
        yield Dynamics(INTEGRATE, 0.0, threshold, reset, start)
    elif name in _LEVELS:
        most = float(neuron.surrogate_function.max_spike_count)
        yield Dynamics(None, 1.0 - 1.0 / neuron.tau, threshold, None, start, most)
    elif name in _LEAKY:
        tau = float(neuron.tau)
        if tau == 2.0 ** round(torch.tensor(tau).log2().item()):  # its inverse is exact, and to multiply is faster
            yield Dynamics(MULTIPLY if decays else MULTIPLY_LEAK, 1.0 / tau, threshold, reset, start)
        yield Dynamics(DIVIDE if decays else DIVIDE_LEAK, tau, threshold, reset, start)
        if not decays:
            yield Dynamics(DECAY, 1.0 - 1.0 / tau, threshold, reset, start)
    elif name in _PARAMETRIC:
        inverse = neuron.w.sigmoid()
        yield Dynamics(MULTIPLY if decays else MULTIPLY_LEAK, float(inverse), threshold, reset, start)
        if not decays:
            yield Dynamics(DECAY, float(1.0 - inverse), threshold, reset, start)


def _is_same(neuron: Any, dynamics: Dynamics) -> bool:
    """Whether a kernel makes every spike and potential that a neuron makes, of currents of very different sizes."""
    drawn = torch.Generator().manual_seed(0)
    sizes = 10.0 ** torch.empty(_TRIED[2]).uniform_(-6, 1, generator=drawn)
    x = (torch.randn(_TRIED, generator=drawn) + 0.5) * sizes
    x[:, :, :8] = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e38, 1e-42, dynamics.threshold])
    own = copy.deepcopy(neuron)
    own.reset()
    for part in (x, -x * 0.5):  # the second call begins at the potentials that the first has left
        begun = own._memories["v"]
        try:
            expected = own(part)
        except Exception:  # of a neuron that cannot run these currents, of whatever kind; it stays as it is
            return False
        made = run(dynamics, part, begun if isinstance(begun, Tensor) else None)
        pairs = ((made.spikes, expected), (made.v, own._memories["v"]))
        if not all(is_identical(a, b) for a, b in pairs):
            return False
    return True


def takes(x: Any) -> bool:
    """Whether the kernels run currents of this kind."""
    usual = isinstance(x, Tensor) and x.dtype == torch.float32 and x.device.type == "cpu" and x.dim() > 1
    return usual and type(x) in (Tensor, nn.Parameter) and x.numel() > 0 and not torch.is_grad_enabled()


def run(dynamics: Dynamics, x: Tensor, v: Tensor | None, fan_out: Tensor | None = None, norm: int = 0) -> Spikes:
    """Spikes of a neuron, [T, B, ...] of currents [T, B, ...] float32 on the CPU.

    Args:
        v: the potentials before the first step, [B, ...]; None for those of a neuron at rest. They stay as they are.
        norm: address of the batch norm whose output x, contiguous, is still to become; 0 for none.
        fan_out: [P] int32, weights of the last positions of x, whose spikes are weighed with them; see `count.fan_out`.
    """
    T, B = x.shape[:2]
    repeated = x.stride(0) == 0 and x[0].is_contiguous()
    x = x if repeated else x.contiguous()
    step = 0 if repeated else x.stride(0)
    potentials, spikes = empty(x.shape[1:]), empty(x.shape)
    if v is None:
        potentials.fill_(dynamics.start)
    else:
        potentials.copy_(v)
    each = prod(x.shape[2:])
    if dynamics.charge is None:
        native.call("levels", x, step, potentials, spikes, T, B * each, dynamics.constant, dynamics.threshold,
                    dynamics.most)  # fmt: skip
        return Spikes(spikes, potentials)
    counts = torch.zeros((T, B), dtype=torch.int64)
    fans = None if fan_out is None else torch.zeros((T, B), dtype=torch.int64)
    nonfinite = native.call(
        "neuron", x, step, potentials, spikes, T, B, each, ctypes.c_int(dynamics.charge),
        ctypes.c_int(dynamics.reset is None), dynamics.constant, dynamics.reset or 0.0, dynamics.threshold, fan_out,
        1 if fan_out is None else fan_out.numel(), counts, fans, ctypes.c_void_p(norm),
    )  # fmt: skip
    return Spikes(spikes, potentials, counts, fans, nonfinite)
