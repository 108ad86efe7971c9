"""Spikes and numbers side by side: a layer behind a concatenation adds weights for the ones, multiplies the others.

Such a layer is two synapses, one for the inputs that are spikes and one for those that are numbers. Which is known when
the pass has ended: at the first step of a recurrent layer its own spikes are zeros, which could be anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from spikeattn.tracing.labels import ANY, Label, compact
from spikeattn.tracing.operation_rules import Multiplication
from spikeattn.tracing.origins import Beside, Origin
from spikeattn.tracing.pass_events import Event


def beside(
    name: str, args: Any, kwargs: Mapping[str, Any], given: Sequence[Tensor], origins: Sequence[Origin], out: Tensor
) -> Beside | None:
    """What lies side by side in the result of an operation; None unless it is a concatenation."""
    if name != "cat" or len(given) < 2:
        return None
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    sizes = tuple(t.shape[axis] if t.dim() == out.dim() else 0 for t in given)
    if sum(sizes) != out.shape[axis] or 0 in sizes:
        return None
    return Beside(tuple(origins), sizes, out.data_ptr(), out.stride(axis))


def summed_axis(product: Multiplication, data: Tensor) -> int | None:
    """The axis of `data` that a layer sums over, if it sums over all of it."""
    if product.geometry is not None:
        return 1 if product.geometry.groups == 1 else None
    return data.dim() - 1 if data is product.a else data.dim() - 2


def ranges(data: Tensor, origin: Origin, axis: int | None) -> Iterator[tuple[Origin, int, int]]:
    """What lies side by side along an axis of a tensor: origin, start and size; nothing if that is another axis."""
    found = origin.beside
    if found is None or axis is None or axis < 0 or data.shape[axis] != sum(found.sizes):
        return
    if data.data_ptr() != found.address or data.stride(axis) != found.stride:
        return  # a copy, or turned
    start = 0
    for part, size in zip(found.origins, found.sizes, strict=True):
        yield part, start, size
        start += size


def narrowed(label: Label, axis: int, start: int, size: int) -> Label:
    """The label of a range of a tensor; of the zeros of a first step none, whatever lies beside them."""
    fields = {
        name: compact(values.narrow(axis, start, size)) if values.shape[axis] > 1 else values
        for name, values in label.fields.items()
    }
    return replace(label, fields={name: values for name, values in fields.items() if bool((values != ANY).any())})


def told_apart(events: Sequence[Event]) -> list[Event]:
    """The events of a pass, with a layer that receives spikes and numbers side by side as one event for each part.

    A concatenation of both counts as uncounted only where something else takes it.
    """
    mixed = {_layer(event) for event in events if _mixes(event)}
    split = [event for event in events if event.parts and _layer(event) in mixed]
    times = Counter(id(event.origins[0].beside) for event in split)
    found: list[Event] = []
    for event in events:
        if event.parts and _layer(event) in mixed:
            found += _apart(event)
        elif event.what != "unknown" or event.out.beside is None or not _settled(event.out.beside, times):
            found.append(event)
    return found


def _settled(one: Beside, times: Mapping[int, int]) -> bool:
    return one.uses > 0 and one.uses == times.get(id(one), 0)


def _layer(event: Event) -> tuple[Any, ...]:
    return event.module, event.op, event.weight_name, tuple(part.size for part in event.parts)


def _mixes(event: Event) -> bool:
    known = [part.origin.spiky for part in event.parts if not part.origin.blank]
    return any(known) and not all(known)


def _apart(event: Event) -> Iterator[Event]:
    total = sum(part.size for part in event.parts)
    for part in event.parts:
        geometry = event.geometry
        yield replace(
            event,
            origins=(part.origin,),
            views=(part.view,),
            macs=event.macs * part.size // total,
            weights=event.weights * part.size // total,
            biases=event.biases if part.start == 0 else 0,
            weight_name=f"{event.weight_name}[{part.start}:{part.start + part.size}]",
            geometry=None if geometry is None else replace(geometry, in_channels=part.size),
            columns=(part.axis, part.start, part.size),
            argument=None,
            parts=(),
        )
