"""The way of one forward pass's counts to the host: from a GPU as one vector in one copy; checked where it arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from spikeattn.errors import SpikeattnError
from spikeattn.storage.columns import Key
from spikeattn.storage.counts import BatchCounts


class Sent:
    """One pass on its way to the host: one vector of float64, copied without waiting where a GPU made it.

    Args:
        columns: [T, B] by key.
        broken, nonfinite: scalars, non-zero where spikes are not 0/1, and where NaN or infinite values are.
        predictions: [t, B], or None.
        dropout: it was at work.
        by_neuron: spikes at every place of a neuron's output, over positions and images; they stay on the device.
    """

    def __init__(
        self, batch: int, columns: Mapping[Key, Tensor], broken: Mapping[str, Tensor], nonfinite: Mapping[str, Tensor],
        flags: Mapping[str, Tensor], predictions: Tensor | None, extremes: Mapping[str, Tensor] | None = None,
        dropout: bool = False, by_neuron: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.by_neuron: Mapping[str, Tensor] = by_neuron or {}
        self._dropout = dropout
        self._batch, self._keys = batch, list(columns)
        self._names = [list(broken), list(nonfinite), list(flags)]
        groups = [list(columns.values()), list(broken.values()), list(nonfinite.values()), list(flags.values())]
        groups.append([] if predictions is None else [predictions])
        self._extremes = list(extremes or {})
        groups.append(list((extremes or {}).values()))
        self._sizes = [[part.numel() for part in group] for group in groups]
        self._event: torch.cuda.Event | None = None
        parts = [part for group in groups for part in group]
        if groups[0][0].device.type != "cuda":  # they are there already
            self._arrived = [(part.detach() if part.requires_grad else part).numpy().reshape(-1) for part in parts]
            return
        parts = [part.reshape(-1) for part in parts]
        packed = _joined(parts, groups[0][0].device)
        self._host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
        self._host.copy_(packed, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def result(self) -> BatchCounts:
        """The counts, checked; see `Tally.collect`."""
        if self._event is not None:
            self._event.synchronize()
            self._arrived = np.split(self._host.numpy(), np.cumsum([n for group in self._sizes for n in group])[:-1])
        values = iter(self._arrived)
        columns, broken, nonfinite, flags, predictions, extremes = (
            [next(values) for _ in group] for group in self._sizes
        )
        counts = {key: column.reshape(-1, self._batch) for key, column in zip(self._keys, columns, strict=True)}
        _check_binary(self._names[0], broken, self._dropout)
        _check_finite(self._names[1], nonfinite, counts)
        classes = predictions[0] if predictions else np.zeros(0)
        return BatchCounts(
            counts,
            classes.astype(np.int64).reshape(-1, self._batch),
            {name: tuple(bool(v) for v in value) for name, value in zip(self._names[2], flags, strict=True)},
            self._batch,
            {name: (float(v[0]), float(v[1])) for name, v in zip(self._extremes, extremes, strict=True)},
        )


def _joined(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """Flat tensors of any type, one after another in float64 on one device; few conversions, whatever their number."""
    types = {part.dtype for part in parts}
    pieces = {kind: torch.cat([p.to(device) for p in parts if p.dtype == kind]).double() for kind in types}
    if len(pieces) == 1:
        return next(iter(pieces.values()))
    ends = {kind: 0 for kind in types}
    ordered = []
    for part in parts:
        start = ends[part.dtype]
        ends[part.dtype] = start + part.numel()
        ordered.append(pieces[part.dtype][start : ends[part.dtype]])
    return torch.cat(ordered)


def _any(flags: Sequence[np.ndarray]) -> bool:
    return bool(flags) and bool(np.concatenate([flag.ravel() for flag in flags]).any())


def _check_binary(names: Sequence[str], broken: Sequence[np.ndarray], dropout: bool) -> None:
    if not _any(broken):
        return
    for name, bad in zip(names, broken, strict=True):
        if bad.any() and dropout:
            raise SpikeattnError(
                f"dropout in training mode has changed the spikes of {name} before they could be counted; counts stand "
                "before dropout, which cannot be told there. Record in eval mode, or set p of that dropout to 0"
            )
        if bad.any():
            raise SpikeattnError(
                f"tensor {name} should hold only 0 and 1 but holds other values in this batch; a hook, or a surrogate "
                "function with spiking=False, changes the spikes"
            )


def _check_finite(names: Sequence[str], nonfinite: Sequence[np.ndarray], counts: Mapping[Key, np.ndarray]) -> None:
    # At once first: a network has hundreds of columns, and asking numpy of each takes longer than looking at them.
    if not _any(nonfinite) and np.isfinite(np.concatenate([column.ravel() for column in counts.values()])).all():
        return
    found = [name for name, bad in zip(names, nonfinite, strict=True) if bad.any() and name != "the model's output"]
    found += [name for (_, name), column in counts.items() if not np.isfinite(column).all()]
    found += [name for name, bad in zip(names, nonfinite, strict=True) if bad.any() and name == "the model's output"]
    if found:
        raise SpikeattnError(
            f"NaN or infinite values reached {found[0]} in this batch: check the input images and the weights for NaN, "
            "and the precision for overflow; a NaN never reaches a threshold and would be counted as silence"
        )
