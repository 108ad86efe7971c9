"""Neurons of NIR graphs (https://neuroir.org/docs/primitives.html): its differential equations in steps of dt.

Forward Euler, as snnTorch, norse and SpikingJelly run NIR's neurons: a state decays by the factor 1 - dt / tau, and its
input counts dt / tau times r. A neuron fires where v > v_threshold, once at most, and begins again at v_reset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.compat.lif import BaseNode, MemoryModule, Sigmoid
from spikeattn.compat.nir_file import NirNode

LEAKY = {"LI": ("tau",), "LIF": ("tau",), "CubaLI": ("tau_mem", "tau_syn"), "CubaLIF": ("tau_mem", "tau_syn")}
SPIKING = ("IF", "LIF", "CubaLIF", "Threshold")
INTEGRATING = ("I", "LI", "CubaLI")


class Above(nn.Module):
    """1 where x > 0, else 0, as NIR has it: at the threshold itself there is no spike."""

    spiking = True

    def __init__(self) -> None:
        super().__init__()
        self.step = Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return 1 - self.step(-x)


class Membrane(nn.Module):
    """One step of a membrane potential and, of kinds with a synapse, of the current before it: [B, ...] each.

    Buffers have the shape of the layer, or hold one number for all of it; None is what a kind does not have.

    Attributes:
        decay, gain: of the potential: v <- decay v + (1 - decay) rest + gain input.
        rest: the potential that it begins with, and that a leak leads to.
        current_decay, current_gain: of the current: i <- current_decay i + current_gain input.
    """

    decay: Tensor | None
    gain: Tensor | None
    rest: Tensor
    leak: Tensor | None
    current_decay: Tensor | None
    current_gain: Tensor | None

    def __init__(self, node: NirNode, dt: float) -> None:
        super().__init__()
        p = {key: np.asarray(value, dtype=np.float64) for key, value in node.parameters.items()}
        r, tau = p.get("r", np.ones(1)), p.get("tau", p.get("tau_mem"))
        decay = None if tau is None else 1 - dt / tau
        rest = p.get("v_leak", p.get("v_reset", np.zeros_like(r)))
        self._keep("decay", decay)
        self._keep("gain", dt * r if tau is None else dt * r / tau, unless=1)
        self._keep("rest", rest)
        self._keep("leak", None if decay is None else (1 - decay) * rest, unless=0)
        synapse = p.get("tau_syn")
        self._keep("current_decay", None if synapse is None else 1 - dt / synapse)
        self._keep("current_gain", None if synapse is None else dt * p.get("w_in", 1.0) / synapse, unless=1)

    def _keep(self, name: str, value: Any, unless: float | None = None) -> None:
        """A buffer in float32; None where the value is `unless` everywhere, so that an operation less is made."""
        tensor = None if value is None else torch.from_numpy(np.asarray(value, dtype=np.float32))
        idle = tensor is not None and unless is not None and bool((tensor == unless).all())
        self.register_buffer(name, None if idle else tensor)

    def start(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The states before the first step, for input of this shape."""
        if self.rest.numel() > 1 and self.rest.shape != x.shape[1:]:
            raise ValueError(f"neurons of shape {tuple(self.rest.shape)} get input of shape {tuple(x.shape[1:])}")
        current = None if self.current_decay is None else torch.zeros_like(x)
        return self.rest.to(x).expand_as(x).clone(), current

    def forward(self, x: Tensor, v: Tensor, i: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.current_decay is not None and i is not None:
            i = x = self.current_decay * i + (x if self.current_gain is None else self.current_gain * x)
        charge = x if self.gain is None else self.gain * x
        v = (v if self.decay is None else self.decay * v) + charge
        return (v if self.leak is None else v + self.leak), i


def _stepped(module: MemoryModule, membrane: Membrane, x: Tensor) -> Tensor:
    """The potential after a step, from the states that a module keeps; another batch begins from rest."""
    v, i = module._memories["v"], module._memories["i"]
    if not isinstance(v, Tensor) or v.shape != x.shape:
        v, i = membrane.start(x)
    v, module._memories["i"] = membrane(x, v, i)
    return v


class NirNeuron(BaseNode):
    """A spiking neuron of NIR: [B, ...] in step mode "s", [T, B, ...] in "m" -> spikes of the same shape."""

    threshold: Tensor
    back: Tensor

    def __init__(self, node: NirNode, dt: float, step_mode: str) -> None:
        super().__init__(surrogate_function=Above(), step_mode=step_mode)
        self.register_memory("i", None)
        self.membrane = None if node.kind == "Threshold" else Membrane(node, dt)
        p = node.parameters
        threshold = np.asarray(p["threshold" if self.membrane is None else "v_threshold"], dtype=np.float32)
        self.register_buffer("threshold", torch.from_numpy(threshold))
        self.register_buffer("back", torch.from_numpy(np.asarray(p.get("v_reset", 0 * threshold), dtype=np.float32)))
        self.kind = node.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the neurons of one image."""
        return tuple(self.threshold.shape)

    def _step(self, x: Tensor) -> Tensor:
        v = x if self.membrane is None else _stepped(self, self.membrane, x)
        spikes: Tensor = self.surrogate_function(v - self.threshold)
        if self.membrane is not None:
            self._memories["v"] = (1 - spikes) * v + spikes * self.back
        return spikes

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.shape}"


class NirIntegrator(MemoryModule):
    """A leaky or perfect integrator of NIR, which does not spike: [B, ...] or [T, B, ...] -> potentials, as above."""

    def __init__(self, node: NirNode, dt: float, step_mode: str) -> None:
        super().__init__()
        self.step_mode = step_mode
        self.register_memory("v", 0.0)
        self.register_memory("i", None)
        self.membrane = Membrane(node, dt)
        self.kind = node.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the potentials of one image."""
        return tuple(self.membrane.rest.shape)

    def forward(self, x: Tensor) -> Tensor:
        return self._step(x) if self.step_mode == "s" else torch.stack([self._step(each) for each in x])

    def _step(self, x: Tensor) -> Tensor:
        self._memories["v"] = v = _stepped(self, self.membrane, x)
        return v

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.shape}"
