"""Neurons of integers without state: `round(clamp(x, 0, D)) / D`, as an I-LIF neuron runs in a forward pass.

Every publication brings a class of its own for it. So nothing is read off a name: the neuron is run, its operations are
read off that run with their constants, and they are taken where they alone give the neuron's own bits.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikeattn.tracing.kinds import is_identical

_TRIED = (3, 5, 1371)  # a neuron is tried on so many elements: vectors and a rest
_MOST = 4096  # levels that are listed


@dataclass(frozen=True)
class Quantiser:
    """round(clamp(x, low, high)), divided by `scale` or multiplied with it."""

    low: float
    high: float
    scale: float
    multiplies: bool

    def __call__(self, x: Tensor) -> Tensor:
        """What it makes of a tensor."""
        return self._scaled(x.clamp(self.low, self.high).round())

    def levels(self) -> Tensor | None:
        """The values that it can give, from the lowest; None where they are too many to be listed."""
        if not 0 <= self.high - self.low < _MOST:  # nor infinite, or no number
            return None
        low, high = round(self.low), round(self.high)
        return self._scaled(torch.arange(low, high + 1).float())

    def is_what(self, neuron: nn.Module, x: Tensor, *args: Any) -> bool:
        """Whether a neuron does this with tensors like one that it is given, and with what it is given beside it.

        Args:
            neuron: stays as it is, its plain attributes that is; it is called.
        """
        drawn = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
        noise = (drawn * (self.high - self.low + 2) + self.low - 1).to(x)
        with torch.no_grad():
            try:
                own: Any = copy.copy(neuron)
                made = own.forward(noise, *args)
            except Exception:  # of whatever kind; the network will meet it, or does not call it so
                return False
        return isinstance(made, Tensor) and made.dtype == x.dtype and torch.equal(made, self(noise))

    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.scale if self.multiplies else x / self.scale


def quantiser_of(neuron: nn.Module) -> Quantiser | None:
    """What a neuron does in eval mode; None for a neuron that does anything else.

    Args:
        neuron: stays as it is; a copy is called twice.
    """
    if any(neuron.parameters()) or any(neuron.buffers()) or any(neuron.children()) or _is_watched(neuron):
        return None
    ran = _Operations(x := shown())
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            own, kept = (copy.deepcopy(neuron).eval() for _ in range(2))
            with ran:
                made = own.forward(x)  # it has no hooks, and those of all modules are for the network's own
            pairs = [(x, made)]
            pairs += [(halves := between(), own.forward(halves))]
            changed = vars(own) != vars(kept)
        except Exception:  # of a neuron that takes other tensors, of whatever kind
            return None
        found = ran.quantiser(made)
        if found is None or changed:
            return None
        return found if all(is_identical(found(given), its) for given, its in pairs) else None


def shown() -> Tensor:
    """Numbers of very different sizes, and those that are none."""
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(_TRIED, generator=drawn) * 10.0 ** torch.empty(_TRIED).uniform_(-3, 2, generator=drawn)
    x[:, :, :8] = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 0.5, 1.5, 1e-42])
    return x


def between() -> Tensor:
    """What lies between two levels exactly, and beside that."""
    return (torch.arange(-64, 4096).float() / 8).view(1, -1)


def _is_watched(neuron: Any) -> bool:
    return bool(neuron._forward_hooks or neuron._forward_pre_hooks or "forward" in vars(neuron))


@dataclass
class _Ran:
    name: str
    constants: tuple[float | None, ...]


@dataclass
class _Chain:
    """Operations each of which takes what the last one has made, and numbers."""

    last: Tensor | None
    ran: list[_Ran] = field(default_factory=list)


class _Operations(TorchDispatchMode):
    """Notes the operations that a neuron runs on `x`, as long as each takes the last one's result."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self._chain = _Chain(x)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        chain = self._chain
        constants = tuple(each.item() if isinstance(each, Tensor) and each.dim() == 0 else each for each in args[1:])
        numbers = all(each is None or isinstance(each, (int, float)) for each in constants)
        if not args or args[0] is not chain.last or not numbers or kwargs or func._schema.is_mutable:
            chain.last = None  # and nothing is the next one
        else:
            chain.last = out
            chain.ran.append(_Ran(func._schema.name.split("::")[1], constants))
        return out

    def quantiser(self, made: Any) -> Quantiser | None:
        """What the operations were, if they were those of a quantiser and gave what the neuron has."""
        if made is not self._chain.last:
            return None
        ran = self._chain.ran
        if [each.name for each in ran[:2]] != ["clamp", "round"] or len(ran) > 3 or ran[1].constants:
            return None
        bounds = (*ran[0].constants, None)[:2]
        last = ran[2] if len(ran) == 3 else _Ran("div", (1.0,))
        if None in bounds or last.name not in ("div", "mul") or len(last.constants) != 1:
            return None
        low, high, scale = (float(each) for each in (*bounds, last.constants[0]) if each is not None)
        return Quantiser(low, high, scale, last.name == "mul")
