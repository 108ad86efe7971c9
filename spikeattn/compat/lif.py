"""LIF and PLIF neurons of our own, for the models of this package where SpikingJelly 2 is not installed.

Names, arguments, state and spikes are those of SpikingJelly 2's neurons, bit for bit in float32 (tests/compat/
test_lif.py compares them), so a model and its weights do not depend on which of the two it was made with.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Heaviside(torch.autograd.Function):
    """1 where x >= 0, else 0; backward the derivative of a sigmoid of slope `alpha`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.alpha = alpha
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        s = (ctx.alpha * ctx.saved_tensors[0]).sigmoid()
        return grads[0] * (1 - s) * s * ctx.alpha, None


class Sigmoid(nn.Module):
    """The step that neurons fire by; `alpha` is SpikingJelly's default. Elements of any shape -> 0 or 1."""

    spiking = True

    def __init__(self, alpha: float = 4.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Heaviside.apply(x, self.alpha) if torch.is_grad_enabled() else (x >= 0).to(x)
        return y


class MemoryModule(nn.Module):
    """A module that keeps tensors between calls: under `_memories` by name, with their first values beside."""

    def __init__(self) -> None:
        super().__init__()
        self._memories: dict[str, Any] = {}
        self._memories_rv: dict[str, Any] = {}

    def register_memory(self, name: str, value: Any) -> None:
        self._memories[name] = self._memories_rv[name] = value

    def reset(self) -> None:
        """Put every memory back to its first value."""
        self._memories.update(self._memories_rv)


class BaseNode(MemoryModule):
    """A neuron with a membrane potential: [B, ...] in step mode "s", [T, B, ...] in "m" -> spikes of the same shape.

    A class that derives from it says in `single_step_functional_forward` what a step does: inputs and states in,
    outputs and states out.
    """

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: nn.Module | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.register_memory("v", 0.0 if v_reset is None else v_reset)
        self.v_threshold, self.v_reset, self.detach_reset = v_threshold, v_reset, detach_reset
        self.surrogate_function = Sigmoid() if surrogate_function is None else surrogate_function
        self.step_mode, self.store_v_seq = step_mode, False

    @property
    def v(self) -> Any:
        """The membrane potential after the last step; a number before the first one."""
        return self._memories["v"]

    def forward(self, x: Tensor) -> Tensor:
        if self.step_mode == "s":
            return self._step(x)
        return torch.stack([self._step(each) for each in x])

    def _step(self, x: Tensor) -> Tensor:
        v = self._memories["v"]
        if not isinstance(v, Tensor) or v.shape != x.shape:  # another batch begins from rest
            v = torch.full_like(x, self._memories_rv["v"], requires_grad=False)
        outputs, states = self.single_step_functional_forward((x,), (v.to(x),))
        self._memories["v"] = states[0]
        return outputs[0]

    def single_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
        h = self.charge(inputs[0], states[0])
        spikes = self.surrogate_function(h - self.v_threshold)
        fired = spikes.detach() if self.detach_reset else spikes
        v = h - fired * self.v_threshold if self.v_reset is None else fired * self.v_reset + (1 - fired) * h
        return (spikes,), (v, *states[1:])

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """The potential before it fires, from the input and the potential after the step before."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"v_threshold={self.v_threshold}, v_reset={self.v_reset}, step_mode={self.step_mode}"


class LIFNode(BaseNode):
    """Leaky integrate-and-fire: h = v + (x - (v - v_reset)) / tau; x is not divided without `decay_input`."""

    def __init__(self, tau: float = 2.0, decay_input: bool = True, **given: Any) -> None:
        super().__init__(**given)
        self.tau, self.decay_input = tau, decay_input

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        rest = self.v_reset or 0.0
        return v + (x - (v - rest)) / self.tau if self.decay_input else v - (v - rest) / self.tau + x


class ParametricLIFNode(BaseNode):
    """LIF that learns its time constant: 1 / tau = sigmoid(w)."""

    def __init__(self, init_tau: float = 2.0, decay_input: bool = True, **given: Any) -> None:
        super().__init__(**given)
        self.decay_input = decay_input
        self.w = nn.Parameter(torch.as_tensor(-math.log(init_tau - 1.0)))

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        rest, q = self.v_reset or 0.0, self.w.sigmoid()
        return v + (x - (v - rest)) * q if self.decay_input else v - (v - rest) * q + x
