"""Firing rates: counts divided by elements, per tensor and time step, with an interval over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spikeattn.energy.activity import CountTable
from spikeattn.stats.column_blocks import columns_at_once, joined
from spikeattn.stats.intervals import CONFIDENCE, REPLICATES, Intervals, images_by_label, mean_intervals
from spikeattn.storage.ledger import Ledger
from spikeattn.storage.ledger_rows import CountedTensor


class RateTable(pd.DataFrame):
    """The frame of `rates`: a real DataFrame, whose parquet file holds the time steps as text.

    The column t mixes whole numbers with "mean", which a column of a parquet file cannot.
    """

    @property
    def _constructor(self) -> type[RateTable]:
        return RateTable

    def to_parquet(self, *args: Any, **kwargs: Any) -> Any:
        """As of any DataFrame, with t as "1", "2", ..., "mean"."""
        plain = pd.DataFrame(self)
        return (plain.assign(t=plain["t"].astype(str)) if "t" in plain else plain).to_parquet(*args, **kwargs)


def mean_rates(ledger: Ledger, counts: CountTable) -> NDArray[Any]:
    """The mean firing rate at every time step, [T]: non-zero outputs of all neurons / neurons."""
    neurons = [t for t in ledger.tensors if t.maker == "neuron"]
    spikes = sum(np.asarray(counts.column("nnz", t.name)).sum(axis=0) for t in neurons)
    return np.asarray(spikes / (counts.n_images * sum(t.elements for t in neurons)))


def image_rates(ledger: Ledger, counts: CountTable) -> NDArray[Any]:
    """The mean firing rate of every image over all steps, [N]; NaN where the network has no neurons."""
    neurons = [t for t in ledger.tensors if t.maker == "neuron"]
    places = ledger.time_steps * sum(t.elements for t in neurons)
    spikes = sum((np.asarray(counts.column("nnz", t.name)).sum(axis=1) for t in neurons), np.zeros(counts.n_images))
    return np.asarray(spikes / places if places else np.full(counts.n_images, np.nan))


def rates(
    ledger: Ledger,
    counts: CountTable,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    labels: NDArray[np.integer] | None = None,
    clusters: NDArray[np.integer] | None = None,
) -> RateTable:
    """Firing rate of every tensor at every time step.

    Args:
        replicates, seed, confidence: of the bootstrap over images.
        labels: [N] of the images, for one such table per label, each from its own images alone.
        clusters: [N] classes that are drawn, each with its images, in place of images; see `stats.classes`.

    Returns:
        One row per tensor and time step, in the order of the network. Columns: label (only with labels; -1 is
        unknown), tensor (dotted path), role (its name in the paper, if it has one), part, block, kind, t (1..T and
        "mean"; "mean" alone where there is no split over time steps), nonzero_rate (share of non-zero elements),
        mean_rate (mean |value|: the same for binary spikes, larger for integer ones; NaN for real tensors), ci_low and
        ci_high of nonzero_rate, interval (its method, see `spikeattn.stats.intervals.Interval`; "upper bound" flags
        tensors that spike in one image or none), n_images. An input of token ids has no rate, and no row.
    """
    T, tensors = ledger.time_steps, [t for t in ledger.tensors if not (t.maker == "input" and ledger.of_tokens)]
    groups: list[tuple[int | None, slice | NDArray[np.intp]]] = [(None, slice(None))]
    if labels is not None:
        groups = list(images_by_label(labels, counts.n_images).items())
    rows: list[int] = []
    means: list[NDArray[Any]] = []
    limits: list[list[Intervals]] = [[] for _ in groups]
    at_once = max(1, columns_at_once(counts.n_images) // (T + 1))
    for start in range(0, len(tensors), at_once):
        shares = []
        for tensor in tensors[start : start + at_once]:
            share, mean = _share_and_means(counts, tensor, [images for _, images in groups])
            shares.append(share)
            means.append(mean)
            rows.append(share.shape[1])
        table = np.concatenate(shares, axis=1)
        for found, (_, images) in zip(limits, groups, strict=True):
            found.append(mean_intervals(table[images], replicates, seed, confidence, ceiling=1.0, labels=clusters))
    steps = [[*range(1, T + 1), "mean"] if n == T + 1 else ["mean"] for n in rows]
    columns = {
        "tensor": np.repeat([t.name for t in tensors], rows),
        "role": np.repeat(np.array([t.role for t in tensors], dtype=object), rows),
        "part": np.repeat(np.array([t.part for t in tensors], dtype=object), rows),
        "block": pd.array([t.block for t, n in zip(tensors, rows, strict=True) for _ in range(n)], dtype="Int64"),
        "kind": np.repeat([t.kind for t in tensors], rows),
        "t": pd.Series([t for each in steps for t in each], dtype=object),
    }
    frames = []
    for (label, _), blocks, mean in zip(groups, limits, np.concatenate(means, axis=1), strict=True):
        of_group = joined(blocks)
        frame = pd.DataFrame(
            columns
            | {
                "nonzero_rate": of_group.value,
                "mean_rate": mean,
                "ci_low": of_group.low,
                "ci_high": of_group.high,
                "interval": of_group.method,
                "n_images": of_group.n_images,
            }
        )
        if labels is not None:
            frame.insert(0, "label", label)
        frames.append(frame)
    frame = RateTable(pd.concat(frames, ignore_index=True))
    frame.attrs = {"confidence": confidence, "replicates": replicates, "seed": seed, "time_steps": T}
    frame.attrs |= {} if clusters is None else {"cluster": "label"}
    return frame


def _share_and_means(
    counts: CountTable, tensor: CountedTensor, groups: Sequence[slice | NDArray[np.intp]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Share of non-zero elements of every image [N, T + 1], the last its mean, and mean |value| [groups, T + 1].

    [N, 1] and [groups, 1] of what is counted per image, and has a mean alone.
    """
    share = counts.column("nnz", tensor.name) / tensor.elements
    values = counts.column("abs", tensor.name)
    mean = np.stack([values[images].mean(axis=0) / tensor.elements for images in groups])
    mean = np.full_like(mean, np.nan) if tensor.kind == "real" else mean
    if share.shape[1] != counts.time_steps:
        return share, mean
    share = np.concatenate([share, share.mean(axis=1, keepdims=True)], axis=1)
    return share, np.concatenate([mean, mean.mean(axis=1, keepdims=True)], axis=1)
