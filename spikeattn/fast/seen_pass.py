"""The spikes of a pass over the first images of a network, neuron by neuron, to be compared with those of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from spikeattn.fast.pending_norm import ready
from spikeattn.fast.repeated_input import noting_repeats
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.kinds import is_identical
from spikeattn.tracing.nested_tensors import tensors_in
from spikeattn.tracing.taps import Plan

Forward = Callable[[nn.Module, Tensor], Any]
Muting = Callable[[], AbstractContextManager[None]]

_FEW = 4096  # values


class SeenPass:
    """What a network gives: the values of its neurons in the order of their calls, and its output.

    Args:
        wanted: whether somebody will ask for it, by the plan; without, for every network.

    Attributes:
        images: the batch that was shown; None before any was.
        values: of each call of a neuron, by its path, and at the end of the output, by ""; spikes of 0 and 1 as bools.
        repeated: convolutions whose input is the same at every time step (`repeated_input`).
    """

    def __init__(self, wanted: Callable[[Plan], bool] = lambda plan: True) -> None:
        self.wanted = wanted
        self.images: Tensor | None = None
        self.values: list[tuple[str, Tensor]] = []
        self.repeated: list[str] = []

    @contextmanager
    def watching(self, model: nn.Module, plan: Plan, images: Tensor, muting: Muting = nullcontext) -> Iterator[None]:
        """The pass inside is the one; what it gives in the end is handed to `end`.

        Args:
            muting: operations inside are none of the network's, where somebody counts these.
        """

        def keep(path: str, module: nn.Module, args: Any, output: Any) -> None:
            with muting():
                for x in tensors_in(output):
                    bits = x.bool() if _may_be_binary(x) else None
                    both = x.clone() if bits is None or not torch.equal(bits.to(x.dtype), x) else bits
                    self.values.append((path, both))

        self.images, self.values = images, []
        with ExitStack() as stack:
            self.repeated = stack.enter_context(noting_repeats(model, plan.ledger.time_steps, muting))
            for path, module in plan.neurons.items():
                stack.callback(module.register_forward_hook(partial(keep, path)).remove)
            yield

    def end(self, output: Any) -> None:
        """The pass has ended."""
        self.values += [("", ready(x)) for x in tensors_in(output)]


def seen(model: nn.Module, plan: Plan, images: Tensor, forward: Forward) -> SeenPass:
    """A pass over images of a network in eval mode."""
    found = SeenPass()
    nodes.reset(model)
    try:
        with torch.no_grad(), found.watching(model, plan, images):
            found.end(forward(model, images.clone()))
    finally:
        nodes.reset(model)
    return found


def first_difference(made: SeenPass, expected: SeenPass) -> str | None:
    """Where two passes differ first; None where they are the same bit by bit."""
    for (path, x), (place, known) in zip_longest(made.values, expected.values, fillvalue=("", torch.zeros(0))):
        if path != place or not _is_same(x, known):
            return place
    return None


def flips(made: SeenPass, expected: SeenPass) -> dict[str, tuple[int, int]]:
    """Values of neurons that differ between two passes, and how many there are, by path."""
    found: dict[str, tuple[int, int]] = {}
    for (path, x), (_, known) in zip(made.values, expected.values, strict=False):
        if path:
            before = found.get(path, (0, 0))
            different = int((x != known).sum()) if x.shape == known.shape else known.numel()
            found[path] = (before[0] + different, before[1] + known.numel())
    return found


def _may_be_binary(x: Tensor) -> bool:
    """Whether a few values, which are quickly read, are 0 and 1 alone."""
    few = x.as_strided((min(x.numel(), _FEW),), (1,)) if x.is_contiguous() else x
    return bool(((few == 0) | (few == 1)).all())


def _is_same(a: Tensor, b: Tensor) -> bool:
    if a.dtype == b.dtype == torch.float32:
        return is_identical(a, b)
    return a.dtype == b.dtype and torch.equal(a, b)
