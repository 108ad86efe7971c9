"""Accuracy after every step, against counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spikeattn.stats.accuracy import accuracy_over_time, no_accuracy
from spikeattn.stats.intervals import wilson_interval


def test_it_counts_the_labelled_images_alone() -> None:
    rows = pd.DataFrame({"label": [0, 1, 2, -1, 1], "pred_1": [0, 0, 0, 0, 0], "pred_3": [0, 1, 2, -1, 0]})
    found = accuracy_over_time(rows, 3)
    assert list(found["t"]) == [1, 2, 3] and list(found["n_labelled"]) == [4, 4, 4]
    assert found["accuracy"].tolist()[::2] == [0.25, 0.75] and np.isnan(found["accuracy"][1])
    wilson = wilson_interval(3, 4)
    assert (found["accuracy_low"][2], found["accuracy_high"][2]) == pytest.approx((wilson.low, wilson.high))


def test_without_labels_or_answers_it_is_unknown_and_not_zero() -> None:
    unlabelled = accuracy_over_time(pd.DataFrame({"label": [-1, -1], "pred_1": [0, -1]}), 1)
    assert unlabelled["accuracy"].isna().all() and list(unlabelled["n_labelled"]) == [0]
    silent = accuracy_over_time(pd.DataFrame({"label": [0, 1]}), 2)
    assert silent[["accuracy", "accuracy_low", "accuracy_high"]].isna().all(axis=None)
    assert list(silent.columns) == list(no_accuracy(2).columns) and len(no_accuracy(2)) == 2
