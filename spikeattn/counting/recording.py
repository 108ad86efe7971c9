"""The context of `sa.record`: every call of a model inside it is counted, with no loop of our own around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from spikeattn.counting.recorder import Recorder
from spikeattn.errors import SpikeattnError
from spikeattn.storage.counts import BatchCounts
from spikeattn.tracing import neurons as nodes
from spikeattn.tracing.examine import plan
from spikeattn.tracing.taps import Plan
from spikeattn.tracing.values import tensors_in


class Recording:
    """The context of `record`: follows the model's own calls; see there."""

    def __init__(self, model: nn.Module, neurons: nodes.NeuronPredicate, time_steps: int | None, layout: str) -> None:
        self.model = model = nodes.unwrap(model)
        self.passes: list[BatchCounts] = []
        self._options = {"neurons": neurons, "time_steps": time_steps, "layout": layout}
        self._recorder: Recorder | None = None
        self._handles: list[Any] = []
        self._open: Any = None
        self._tracing = False
        self._uncompiled = nodes.uncompiled()
        nodes.find_neurons(model, neurons)

    def __enter__(self) -> Recording:
        self._uncompiled.__enter__()
        self._handles = [
            self.model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True),
            self.model.register_forward_hook(self._end),
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._abandon()
        if self._recorder is not None:
            self._recorder.__exit__()
        self._uncompiled.__exit__(None, None, None)

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._tracing:
            return
        self._abandon()
        tensors = list(tensors_in((args, kwargs)))
        if len(tensors) != 1 or len(args) != 1 or kwargs:
            raise SpikeattnError(
                f"{type(model).__name__} was called with {len(args)} arguments and {len(kwargs)} keywords; record() "
                "follows calls with one tensor. For other calls use profile(model, loader, forward=lambda model, "
                "images: ...)"
            )
        x = tensors[0].detach()
        first = self._recorder is None
        if first:
            self._recorder = Recorder(model, self._trace(x)).__enter__()
        batch = self._recorder.plan.input_axes.images_in(x.shape)
        self._open = self._recorder.watching(batch, (args, kwargs))
        tally = self._open.__enter__()
        if first:  # the hooks just registered on the model itself act from its next call on
            with self._recorder.muting():
                tally.count(next(tap for tap in self._recorder.plan.taps if tap.name == "input"), x, None)

    def _trace(self, x: Tensor) -> Plan:
        """Trace the first batch (in eval mode, without gradients); frames may be [T, B, C, H, W] or [B, T, C, H, W]."""
        frames = x.dim() == 5 and not hasattr(self.model, "paper_names")
        self._tracing = True
        try:
            return self._plan(x, 1 if frames else 0)
        except SpikeattnError:
            if not frames:
                raise
            return self._plan(x, 0)
        finally:
            self._tracing = False

    def _plan(self, x: Tensor, axis: int) -> Plan:
        """The plan for input whose images lie along `axis`."""
        images = x.transpose(0, axis)
        return plan(self.model, images, forward=lambda m, images: m(images.transpose(0, axis)), **self._options)

    def _end(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._open is None or self._tracing:
            return
        tally = self._recorder.tally
        opened, self._open = self._open, None
        opened.__exit__(None, None, None)
        self.passes.append(tally.collect(next(tensors_in(output), None)))

    def _abandon(self) -> None:
        """Close a pass that an exception cut short."""
        if self._open is not None:
            opened, self._open = self._open, None
            opened.__exit__(None, None, None)

    def counts(self) -> pd.DataFrame:
        """Counts of every forward pass so far, one row per image, tensor and time step.

        Columns: forward (number of the pass), image (position in its batch), tensor, t (1..T), nonzero, abs_sum,
        elements. Rates are nonzero / elements.
        """
        if not self.passes:
            raise SpikeattnError("nothing recorded yet: call the model inside `with record(model) as rec:` first")
        frames = []
        for number, done in enumerate(self.passes):
            for tensor in self._recorder.plan.ledger.tensors:
                nonzero = done.counts["nnz", tensor.name]
                T, B = nonzero.shape
                columns = {
                    "forward": number,
                    "image": np.tile(np.arange(B), T),
                    "tensor": tensor.name,
                    "t": np.repeat(np.arange(1, T + 1), B),
                    "nonzero": nonzero.ravel().astype(np.int64),
                    "abs_sum": done.counts.get(("abs", tensor.name), nonzero).ravel(),
                    "elements": tensor.elements,
                }
                frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)


def record(
    model: nn.Module,
    *,
    neurons: nodes.NeuronPredicate = nodes.is_spiking_neuron,
    time_steps: int | None = None,
    layout: str = "TB",
) -> Recording:
    """Count the spikes of every forward pass inside a `with` block; the model itself is not changed.

    >>> with sa.record(model) as rec:
    ...     model(images)
    >>> rec.counts()

    The first batch is traced first: the model runs on one and on two of its images, in eval mode. Nothing else is run,
    so it is not checked, as `sa.profile` does, whether one image changes the counts of another or state outlives a
    reset; for a network of your own `sa.profile(model, [images])` checks both.

    Args:
        model: any module with SpikingJelly neurons, called with one tensor.
        neurons: which modules are spiking neurons.
        time_steps: T, where the neurons' calls do not tell.
        layout: order of time and batch inside the model, "TB" or "BT".

    Returns:
        A context; `counts()` of it has a row per forward pass, image, tensor and time step.

    Raises:
        SpikeattnError: no neurons; a forward pass without `reset_net` before it; NaN; batches of another shape.
    """
    return Recording(model, neurons, time_steps, layout)
