"""Accuracy of a run had it stopped after t steps, from the predictions that its count table keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from spikeattn.errors import SpikeattnError
from spikeattn.stats.intervals import CONFIDENCE, Interval, wilson_interval

COLUMNS = ("accuracy", "accuracy_low", "accuracy_high", "n_labelled")
NO_ACCURACY = "no-accuracy"  # code of the warning where labels were given all the same


def accuracy_over_time(rows: pd.DataFrame, time_steps: int, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Share of the labelled images that are answered right after t steps, with Wilson limits.

    Args:
        rows: label (-1 unknown) and the predictions pred_1..pred_T there are, a row per image (`Counts.rows`).

    Returns:
        A row per t (1..T): t, accuracy, accuracy_low, accuracy_high (NaN where no image has a label, or the model gave
        no logits at t), n_labelled.
    """
    labelled = (rows["label"] >= 0).to_numpy()
    n, nan = int(labelled.sum()), float("nan")
    records = []
    for t in range(1, time_steps + 1):
        share = (nan, nan, nan)
        if n and f"pred_{t}" in rows:
            right = int(np.count_nonzero((rows[f"pred_{t}"] == rows["label"]).to_numpy()[labelled]))
            found = wilson_interval(right, n, confidence)
            share = (found.value, found.low, found.high)
        records.append((t, *share, n))
    return pd.DataFrame(records, columns=["t", *COLUMNS])


def mean_accuracy(correct: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean accuracy of several networks on the same images, with Wilson's limits over images.

    Networks that err on the same images are no more images, those that err on others are. So Wilson's interval is that
    of the number of images which one network would need for the same standard error, n p (1 - p) / var, var the
    variance of the share of networks that answer an image right (the effective sample size of E. L. Korn and B. I.
    Graubard, Survey Methodology 24, 1998); at least n, and at most n x networks. Of one network it is n.

    Args:
        correct: [N, networks], 1 where an image is answered right and 0 where not.

    Raises:
        SpikeattnError: no images.
    """
    right = np.asarray(correct, dtype=np.float64)
    if right.ndim != 2 or not right.size:
        raise SpikeattnError(f"answers of one image and one network at least are needed, got an array {right.shape}")
    n, networks = right.shape
    share, variance = float(right.mean()), float(right.mean(axis=1).var())
    alike = share * (1 - share) / variance if variance > 0 else 1.0
    images = n * min(max(alike, 1.0), float(networks))
    found = wilson_interval(min(share, 1.0) * images, images, confidence)
    return replace(found, value=share)


def no_accuracy(time_steps: int, n_labelled: int = 0) -> pd.DataFrame:
    """The same where no prediction was kept, as of a published table of rates."""
    nan = np.full(time_steps, np.nan)
    columns = {"accuracy": nan, "accuracy_low": nan, "accuracy_high": nan, "n_labelled": n_labelled}
    return pd.DataFrame({"t": range(1, time_steps + 1)} | columns)


def why_no_accuracy(rows: pd.DataFrame, provenance: Mapping[str, Any]) -> str | None:
    """Why no image of a run can be said to be answered right or wrong; None where some can.

    Args:
        rows: as of `accuracy_over_time`.
        provenance: of the run: "output", what the network gives, and "targets", labels of another task, both in words.
    """
    scored = any(str(column).startswith("pred_") for column in rows)
    labelled = bool((rows["label"] >= 0).any())
    reasons = []
    if not scored:
        form = provenance.get("output")
        shown = "" if form is None else f": it is {form}"
        reasons.append(f"the output holds no class scores [B, classes]{shown}")
    if not labelled:
        form = provenance.get("targets")
        shown = "the images have no labels" if form is None else f"the labels ({form}) are no class per image"
        reasons.append(shown)
    return "; ".join(reasons) or None
