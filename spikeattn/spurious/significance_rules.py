"""Rules that say how much of a token's energy is spurious: all where it is not significant, or its lfdr as a weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikeattn.attention.bootstrap_test import Answer
from spikeattn.attention.regularize import METHOD, THRESHOLD, WITH_THRESHOLD
from spikeattn.errors import SpikeattnError, unknown
from spikeattn.stats.intervals import Floats

SHARING = (*WITH_THRESHOLD, "soft")  # methods that say of every token which share of it is noise; pi0 ranks tokens


@dataclass(frozen=True)
class Rule:
    """A token is significant where its `method` is at most the threshold; method="soft" has none and weighs by lfdr."""

    method: str = METHOD
    threshold: float | None = THRESHOLD

    def __str__(self) -> str:
        return "lfdr as weight" if self.threshold is None else f"{self.method} <= {self.threshold:g}"

    def spurious(self, answer: Answer) -> Floats:
        """Share of each token's energy that is spurious, like `answer.maps`; 0 or 1 but for "soft".

        Raises:
            SpikeattnError: a q that the estimator does not have.
        """
        if self.threshold is None:
            return answer.lfdr
        measured: Floats = getattr(answer, self.method)
        return (measured > self.threshold).astype(float)

    def above(self, answer: Answer) -> Floats:
        """Share that counts as above the null; what is neither spurious nor above is below it."""
        return np.where(answer.z >= 0, 1 - self.spurious(answer), 0.0)


# What "significant" means in practice: the false discovery rate at three levels, of which .1 is the package's own; p,
# which controls nothing over many tokens but is what Attention Regularization cuts by; its lfdr, cut and as a weight.
RULES = (
    Rule("q", 0.05), Rule("q", 0.1), Rule("q", 0.2), Rule("p", 0.05), Rule("p", 0.1), Rule("lfdr", 0.1),
    Rule("soft", None),
)  # fmt: skip


def rule_of(method: str, threshold: float | None) -> Rule:
    """The rule of a method and its threshold, by default 0.1.

    Raises:
        SpikeattnError: an unknown method, a threshold that is none or that the method does not have.
    """
    if method not in SHARING:
        raise unknown("method", method, SHARING)
    if method == "soft":
        if threshold is not None:
            raise SpikeattnError('method="soft" has no threshold; lfdr, p and q have one')
        return Rule("soft", None)
    limit = THRESHOLD if threshold is None else threshold
    if not 0 <= limit <= 1:
        raise SpikeattnError(f"threshold is {threshold}; it is a probability in [0, 1], {THRESHOLD} by default")
    return Rule(method, limit)
