"""Check on a network that spikeattn does not know: each image's counts must come from that image alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from spikeattn.errors import SpikeattnError
from spikeattn.recording import neurons as nodes
from spikeattn.recording.recorder import Recorder
from spikeattn.recording.tally import BatchCounts
from spikeattn.recording.taps import Forward, Plan


def probe(model: nn.Module, plan: Plan, images: Tensor, forward: Forward) -> None:
    """Run two images, the same two again, and the first beside another one; the first image's counts must not move.

    Raises:
        SpikeattnError: state leaks from one pass into the next, or one image changes another one's counts (an axis
            taken for the wrong one, or a network that mixes its batch).
    """
    pair = torch.cat([images[:1], images[-1:]])
    other = torch.cat([images[:1], images[-1:].flip(-1).roll(1, -1)])
    with Recorder(model, plan) as recorder:
        first, again, beside = (_run(model, recorder, batch, forward) for batch in (pair, pair, other))
    moved = _first_difference(first, again, slice(None))
    if moved is not None:
        raise SpikeattnError(
            f"two passes over the same images after a reset give different counts at {moved}: the model keeps state "
            "that spikingjelly's reset does not clear, or draws random numbers in eval mode; reset it in forward="
        )
    moved = _first_difference(first, beside, slice(0, 1))
    if moved is not None:
        raise SpikeattnError(
            f"replacing one image of a batch changes the counts of another one at {moved}: either the order of time "
            "and batch is not the assumed one (try layout='BT'), or the network mixes the images of a batch"
        )


def _run(model: nn.Module, recorder: Recorder, batch: Tensor, forward: Forward) -> BatchCounts:
    nodes.reset(model)
    try:
        with torch.no_grad(), recorder.watching(len(batch)) as tally:
            output = forward(model, batch)
            return tally.collect(output if isinstance(output, Tensor) else None)
    finally:
        nodes.reset(model)


def _first_difference(a: BatchCounts, b: BatchCounts, rows: slice) -> str | None:
    for (measure, name), values in a.counts.items():
        if not np.array_equal(values[:, rows], b.counts[measure, name][:, rows]):
            return f"{name} ({measure})"
    return None
