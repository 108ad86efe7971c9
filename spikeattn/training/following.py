"""Follows a network's own passes, as `sa.record` does, and hands on sums in the place of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from spikeattn.counting.recorder import Recorder
from spikeattn.counting.transfer import Sent
from spikeattn.errors import SpikeattnError
from spikeattn.runs.recording import Recording
from spikeattn.storage.counts import BatchCounts
from spikeattn.storage.ledger import Ledger
from spikeattn.structure.neuron_channels import NeuronAxes, neuron_axes
from spikeattn.tracing.examine import Forward
from spikeattn.tracing.taps import Plan
from spikeattn.training.sum_layout import Layer, Layout, layers_of

_COMPILED = (
    "compiled: the network is compiled by torch.compile; while it is followed it runs as plain Python, so that every "
    "spike is seen, and as compiled code outside"
)


@dataclass(frozen=True, eq=False)
class PassCounts:
    """What one forward pass has counted.

    Attributes:
        layout: what it counted, as that pass shows it.
        by_neuron: spikes of every neuron over time steps and images, on the device, by layer.
    """

    layout: Layout
    counts: BatchCounts
    by_neuron: Mapping[str, Tensor]


class Following(Recording):
    """The passes of a network, each handed to `take` when its counts have come; no row is kept.

    Args:
        take: called with the counts of every pass.
    """

    def __init__(self, model: nn.Module, take: Callable[[PassCounts], None], **options: Any) -> None:
        super().__init__(model, **options)
        self._compiled = compiled(model)
        self._receive = take
        self._axes: dict[str, NeuronAxes] = {}
        self._layers: tuple[Layer, ...] | None = None

    def settle(self) -> None:
        """Have the counts of every pass that has ended handed on: a GPU's come one pass later."""
        self._take()

    def forget(self) -> None:
        """Forget what has not been handed on, and what was seen of the network since the last time."""
        self.reset()

    def seen(self, ledger: Ledger) -> tuple[Ledger, tuple[str, ...]]:
        """A ledger with what the passes since the last `forget` have shown, and which warnings that adds."""
        if self._plan is None:
            return ledger, ()
        own = self._ledger(self._plan)
        warnings = own.warnings[len(self._plan.ledger.warnings) :]
        return own, (*warnings, *([_COMPILED] if self._compiled else []))

    def begin_inside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Follow a call of the network that has just begun, before there were hooks on it."""
        self._begin(self.model, args, kwargs)

    def _look(self, ledger: Ledger, images: Tensor, forward: Forward) -> None:
        try:
            self._axes = neuron_axes(self.model, images, forward, self._options["neurons"])
        except SpikeattnError:  # channels are then unknown, as the table of layers says
            self._axes = {}

    def _recorder_of(self, plan: Plan) -> Recorder:
        if self._layers is None:
            self._layers = layers_of(plan, self._axes)
        recorder = super()._recorder_of(plan)
        recorder.apart = {layer.name for layer in self._layers if layer.size}
        return recorder

    def _keep(self, plan: Plan, sent: Sent, size: int) -> None:
        counts = sent.result()
        self._receive(PassCounts(Layout.of(plan, self._layers or (), counts), counts, sent.by_neuron))


def compiled(model: nn.Module) -> bool:
    """Whether `torch.compile` has compiled a network or a part of it."""
    return any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) is not None for m in model.modules())
