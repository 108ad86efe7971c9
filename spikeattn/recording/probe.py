"""Check on a network that spikeattn does not know: each image's counts must come from that image alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.recording import neurons as nodes
from spikeattn.recording.origins import tensors_in
from spikeattn.recording.recorder import Recorder
from spikeattn.recording.tally import BatchCounts
from spikeattn.recording.taps import Forward, Plan


def probe(model: nn.Module, plan: Plan, images: Tensor, forward: Forward) -> None:
    """Run two images, the first beside another one, and the same two again; the first image's counts must not move.

    Raises:
        SpikeattnError: state leaks from one pass into the next, or one image changes another one's counts (an axis
            taken for the wrong one, or a network that mixes its batch).
    """
    pair = torch.cat([images[:1], images[-1:]])
    other = torch.cat([images[:1], images[-1:].flip(-1).roll(1, -1)])
    with Recorder(model, plan) as recorder:
        first, beside, again = (_run(model, recorder, batch, forward) for batch in (pair, other, pair))
    moved = _first_difference(first[0], again[0], slice(None))
    if moved is not None:
        state = nodes.changed(first[1], again[1])
        where = f" (kept in {state})" if state else ""
        raise SpikeattnError(
            f"two passes over the same images after a reset give different counts, first at {moved}: the model keeps "
            f"state that spikingjelly's reset does not clear{where}, or draws random numbers in eval mode; clear it, "
            "or seed them with torch.manual_seed, in forward="
        )
    moved = _first_difference(first[0], beside[0], slice(0, 1))
    if moved is not None:
        raise SpikeattnError(
            f"replacing one image of a batch changes the counts of another one, first at {moved}: either the order of "
            "time and batch is not the assumed one (try layout='BT'), or the network mixes the images of a batch"
        )


def _run(
    model: nn.Module, recorder: Recorder, batch: Tensor, forward: Forward
) -> tuple[BatchCounts, dict[str, tuple[Any, ...]]]:
    """Counts of one pass, and the state that the model starts it with."""
    nodes.reset(model)
    state = nodes.state_of(model)
    try:
        with torch.no_grad(), recorder.watching(len(batch)) as tally:
            output = forward(model, batch.clone())
            return tally.collect(next(tensors_in(output), None)), state
    finally:
        nodes.reset(model)


def _first_difference(a: BatchCounts, b: BatchCounts, rows: slice) -> str | None:
    for (measure, name), values in a.counts.items():
        if not np.array_equal(values[:, rows], b.counts[measure, name][:, rows]):
            return f"{name} ({measure})"
    return None
