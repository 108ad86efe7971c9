"""Which order of time and images a network takes, found by trying the other one after the loader's has failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spikeattn.counting.probe import probed_plan
from spikeattn.data.batches import Batch
from spikeattn.errors import SpikeattnError
from spikeattn.tracing.batch_parts import turned
from spikeattn.tracing.examine import Forward
from spikeattn.tracing.taps import Plan

_TURN = "forward=lambda model, images: model(images.transpose(0, 1))"


def order_advice(
    model: nn.Module, images: Tensor, forward: Forward, batch: Batch, options: Mapping[str, Any], error: SpikeattnError
) -> str | None:
    """What to say where a network cannot be examined in the loader's order of axes.

    Args:
        error: why it cannot.
        images: of the batch, on the model's device, [B, ...].
        forward: calls the model on them in the loader's order.
        options: of `probed_plan`.

    Returns:
        None where the order has no part in it: `error` says all.
    """
    if images.dim() < 3:
        return None
    try:
        made = probed_plan(model, images, turned(forward), **options)
    except SpikeattnError:
        made = None
    name = type(model).__name__
    takes, gives = ("[B, T, ...]", "[T, B, ...]") if batch.time_first else ("[T, B, ...]", "[B, T, ...]")
    if made is not None and not made.one_image:
        return (
            f"{name} keeps images apart where it is given {takes}, and not where it is given {gives}; {_reason(batch)}"
        )
    if not batch.time_first:
        return None
    shape, n = list(batch.images.transpose(0, 1).shape), len(batch.ids)
    return f"{error} (the loader gives [T, B, ...], of shape {shape} for {n} images)"


def check_time_first(model: nn.Module, made: Plan, batch: Batch) -> None:
    """Refuse [T, B, ...] that the labels alone tell where the network does not take that axis for its time.

    Raises:
        SpikeattnError: as many labels as axis 1 is long may be labels of other images.
    """
    if not batch.time_first or batch.images.shape[1] == 1 or made.input_axes.timed or _frame_by_frame(made):
        return
    raise SpikeattnError(
        f"batch {batch.number} of the loader has images of shape {list(batch.images.transpose(0, 1).shape)} and "
        f"{len(batch.ids)} labels, and {type(model).__name__} does not take axis 0 for its time; give one label per "
        'image, or say layout="TB" if the loader gives [T, B, ...] all the same'
    )


def _frame_by_frame(made: Plan) -> bool:
    """Whether `forward` hands the frames to the model one by one."""
    return any(tap.name == "input" and tap.by_call for tap in made.taps)


def _reason(batch: Batch) -> str:
    shape = list(batch.images.transpose(0, 1).shape if batch.time_first else batch.images.shape)
    if batch.time_first is None:
        return (
            f"nothing tells which of the two the loader gives, whose first batch is {shape}: say "
            f'layout="TB" if it gives [T, B, ...], or give {_TURN} if it gives [B, T, ...]'
        )
    gives = "[T, B, ...]" if batch.time_first else "[B, T, ...]"
    return f"the loader gives {gives}, of shape {shape} for {len(batch.ids)} images: give {_TURN}"
