"""How far a spurious energy rests on the replicates that the null happened to have: random halves of them.

An interval over images resamples images together with what their own replicates said of them. The replicates of two
images are independent, so that their noise is in the spread over images already. What is not in it: a null of few
replicates is coarse and calls fewer tokens than one of many would, in every image alike. Tested again against half of
its replicates, an image shows both (McCarthy, Pseudo-replication: half samples, Review of the International Statistical
Institute 37, 1969): half samples scatter about the whole as the whole does about its mean, and what goes with 1 / B has
moved by as much from B to B / 2 as from infinitely many replicates to B. A bootstrap of the replicates shows the noise
alone: on the digits, where q <= .1 has a share of .75, .68, .66, .64 at B = 20, 50, 100, 200 and .64 at 480, drawing
with replacement moved it by -.04, .00, +.01, +.01.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from spikeattn.attention.bootstrap_test import Attention
from spikeattn.attention.resampling import halved
from spikeattn.attention.significance import AttentionWarning
from spikeattn.attention.tokens import TokenCounts
from spikeattn.spurious.arrangement import Arrangement
from spikeattn.spurious.significance_rules import Rule
from spikeattn.spurious.token_energy import TokenEnergy, over
from spikeattn.stats.bootstrap import tail_of
from spikeattn.stats.intervals import Floats, Intervals
from spikeattn.stats.ratios import ratio_intervals

# Images that are tested again, and how often in all: their 48 degrees of freedom know the deviation to 10 %, which is
# little beside the spread over images. All layers of all images 200 times would take minutes instead of a second.
IMAGES, TESTS = 16, 64
FEWEST = 2  # images: one alone has no interval
BOTH = "replicates"  # beside the method of an interval over images

Asked = tuple[str, Rule]  # question and rule


@dataclass(frozen=True, eq=False)
class ReplicateNoise:
    """Energies at halves of the replicates less those at all of them.

    Attributes:
        cells, heads: mJ [half, image, column]; the columns of `TokenEnergy`.
    """

    cells: Floats
    heads: Floats


def replicate_noise(
    energy: TokenEnergy, arrangement: Arrangement, tokens: TokenCounts, asked: Sequence[Asked], seed: int
) -> dict[Asked, ReplicateNoise] | None:
    """The noise for every question and rule.

    None for one image alone, where there are no replicates to halve, and where half of them are too few for a q.

    Args:
        energy: of the images of the arrangement.
        seed: of the halves.
    """
    n = len(arrangement.images)
    if n < FEWEST or any(one.null_maps is None or one.null_maps.shape[1] < 2 for one in arrangement.attentions):
        return None
    rows = np.unique(np.linspace(0, n - 1, min(n, IMAGES)).round().astype(np.intp))
    before = {each: energies_of(energy, arrangement, each) for each in asked}
    found: dict[Asked, list[tuple[Floats, Floats]]] = {each: [] for each in asked}
    for draw in range(-(-TESTS // len(rows))):
        again = _again(arrangement, tokens, rows, seed + draw)
        if any(rule.method == "q" for _, rule in asked) and not has_q(again.attentions):
            return None
        for each in asked:
            after = energies_of(energy, again, each, rows)
            cells, heads = (new - old[rows] for new, old in zip(after, before[each], strict=True))
            found[each].append((cells, heads))
    return {
        each: ReplicateNoise(np.stack([cells for cells, _ in draws]), np.stack([heads for _, heads in draws]))
        for each, draws in found.items()
    }


def energies_of(
    energy: TokenEnergy, arrangement: Arrangement, asked: Asked, rows: object = slice(None)
) -> tuple[Floats, Floats]:
    """Spurious mJ [image, cell] and [image, head] as a question and a rule have it."""
    question, rule = asked
    with warnings.catch_warnings():  # of constant maps, said of the attention itself
        warnings.simplefilter("ignore", AttentionWarning)
        shares = arrangement.of(lambda one: rule.spurious(one.answer(question)))
    return energy.of_cells(shares, rows), energy.of_heads(shares, rows)


def has_q(attentions: Sequence[Attention]) -> bool:
    """Whether the estimator has a q with so many replicates."""
    return all(found.q is not None for one in attentions for found in one.significance)


def widened(intervals: Intervals, moved: Floats, whole: Floats | float = 1.0) -> Intervals:
    """Intervals over images and replicates.

    The distance of a limit from the value becomes sqrt(d² + (quantile x deviation)²), with the deviation of a mean over
    images from half to half and the normal quantile of the confidence. Conservative: d holds that noise already. Then
    the limit on the side where more replicates would take the value moves by the shift. With many replicates the
    interval over images is left.

    Args:
        moved: differences of energies at halves [half, image, column].
        whole: what the value is a share of, mJ per image [column].
    """
    n = int(intervals.n_images)
    deviations = over(np.sqrt(moved.var(axis=0, ddof=1).mean(axis=0) / n), whole)
    shift = over(moved.mean(axis=(0, 1)), whole)
    noise = special.ndtri(1 - tail_of(intervals.confidence)) * deviations
    low = intervals.value - np.hypot(intervals.value - intervals.low, noise) - np.maximum(shift, 0)
    high = intervals.value + np.hypot(intervals.high - intervals.value, noise) + np.maximum(-shift, 0)
    method = [name if name == "none" else f"{name}, {BOTH}" for name in intervals.method]
    return replace(intervals, low=np.maximum(low, 0), high=high, method=np.array(method))


def shares_of(part: Floats, whole: Floats, moved: Floats | None, settings: dict[str, Any]) -> Intervals:
    """Ratios of means over images [image, column], with limits between 0 and 1.

    Args:
        moved: differences of `part` at halves of the replicates [half, image, column]; None leaves the intervals over
            images alone.
    """
    found = ratio_intervals(part, whole, **settings)
    if moved is not None:
        found = widened(found, moved, whole.mean(axis=0))
    value, low, high = (np.minimum(each, 1.0) for each in (found.value, found.low, found.high))  # sums are rounded
    return replace(found, value=value, low=low, high=high)


def _again(arrangement: Arrangement, tokens: TokenCounts, rows: NDArray[np.intp], seed: int) -> Arrangement:
    """The images at `rows` of an arrangement against a half of their replicates."""
    wanted = [arrangement.images[row] for row in rows]
    attentions = []
    for one in arrangement.attentions:
        held = [row for row, number in enumerate(one.provenance["indices"]) if number in wanted]
        if held:
            attentions.append(halved(one, seed, np.array(held)))
    return Arrangement(attentions, tokens, wanted)
