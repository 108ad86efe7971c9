"""How much of an attention is more than noise, in a few lines: what `Attention` says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spikeattn.attention.regularize import METHOD, THRESHOLD, regularize
from spikeattn.attention.significance import Significance
from spikeattn.boundary.number_format import percent
from spikeattn.errors import SpikeattnError

RULE = f"{METHOD} ≤ {THRESHOLD:g}"
MOST = 12  # layers with a line of their own


class Answered(Protocol):
    """Maps and what of them is significant to one question; see `bootstrap_test.Answer`."""

    @property
    def maps(self) -> NDArray[Any]: ...
    @property
    def significance(self) -> tuple[Significance, ...]: ...


def shares_of(answer: Answered) -> NDArray[np.float64]:
    """The share of tokens of every map that are significant by the default rule, [image, (layer), (step), (head)].

    Raises:
        SpikeattnError: the estimator has no q with so few replicates.
    """
    ones = np.ones(answer.maps.shape[-2:])
    kept = [float((regularize(ones, found, METHOD) > 0).mean()) for found in answer.significance]
    return np.array(kept).reshape(answer.maps.shape[:-2])


def as_text(answers: Mapping[str, Answered], axes: Sequence[str], known: Mapping[str, Any]) -> str:
    """How the maps were made and tested, and the share of significant tokens by question and layer.

    Args:
        answers: by question.
        axes: names of the axes of the maps.
        known: the provenance of the attention.
    """
    null = "exact" if known["null"] == "exact" else f"{known['null']}, B = {known['replicates']}"
    lines = [f"{'map':<11}{known['statistic']}", f"{'null':<11}{null}; {known['estimator']} p"]
    for question, answer in answers.items():
        try:
            shares = shares_of(answer)
        except SpikeattnError as error:
            lines.append(f"{question:<11}not known: {error}")
            continue
        least, most = (percent(float(x)).removesuffix(" %") for x in (shares.min(), shares.max()))
        lines.append(
            f"{question:<11}{percent(float(shares.mean()))} of tokens significant ({RULE}); maps {least} to {most} %"
        )
        if "layer" in axes:
            by_layer = (
                np.moveaxis(shares, axes.index("layer"), 0).reshape(shares.shape[axes.index("layer")], -1).mean(1)
            )
            told = [f"block {number + 1}: {percent(float(share))}" for number, share in enumerate(by_layer[:MOST])]
            lines += [f"{'':<11}{', '.join(told[start : start + 4])}" for start in range(0, len(told), 4)]
    return "\n".join([*lines, f"{'to look':<11}attention.visualize(0), .plot(), .frame()"])
