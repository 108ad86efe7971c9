"""Rules that choose tokens, on equal footing: none sees the objects of test images, all may see training images."""

from __future__ import annotations

import numpy as np

from spikeattn.attention.regularize import LEVEL

from .measures import otsu, top
from .scores import Flags, Tested, random_scores

QUESTIONS = ("how much", "where")


def choices(train: Tested, test: Tested, seed: int = 0) -> dict[str, Flags]:
    """Tokens of the test images [image, h, w] by rule.

    "bootstrap, QUESTION" is q <= .1. Four rules take, on average over the training images, as many tokens as the
    bootstrap's "how much" does there: "threshold" cuts the raw map at one value for all images, "gradient" the map
    times its gradient; "top-k" and "random" take the same number of every image. "null threshold" cuts the raw map at
    the value that one in ten replicates of the training images exceeds somewhere. "Otsu" and "mean" cut each image at
    a value of its own and take as many as it gives.
    """
    found = {f"bootstrap, {name}": test.called[name] for name in QUESTIONS if name in test.called}
    share = float(train.called["how much"].mean())
    found["threshold"] = _cut(train, test, "raw", share)
    if "gradient" in test.scores:
        found["gradient"] = _cut(train, test, "gradient", share)
    raw = test.scores["raw"]
    k = round(share * raw[0].size)
    found["null threshold"] = raw > np.quantile(train.null_largest, 1 - LEVEL, method="higher")
    found["top-k"], found["Otsu"] = top(raw, k, seed), otsu(raw)
    found["mean"] = raw > raw.mean((1, 2), keepdims=True)
    found["random"] = top(random_scores(raw.shape, seed), k, seed)
    return found


def _cut(train: Tested, test: Tested, name: str, share: float) -> Flags:
    """Tokens above the value that `share` of the training tokens exceed, at most."""
    values = np.sort(train.scores[name], axis=None)
    if share <= 0:
        return np.zeros(test.scores[name].shape, bool)
    cut = values[max(0, int(np.ceil((1 - share) * values.size)) - 1)]
    above: Flags = test.scores[name] > cut
    return above
