"""How far a spurious energy moves with another draw of the null's replicates: a bootstrap of the replicates.

An interval over images resamples images together with what their own replicates said of them. The replicates of two
images are independent, so that their noise is in the spread over images already. What is not in it: a null of few
replicates calls fewer (or more) tokens than one of many would, in every image alike. Replicates drawn again, with
replacement, with the images fixed, show both the noise and that shift, and the interval is widened by the two.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from spikeattn.attention.resampling import resampled
from spikeattn.attention.significance import AttentionWarning
from spikeattn.attention.tokens import TokenCounts
from spikeattn.spurious.arrangement import Arrangement
from spikeattn.spurious.rules import Rule
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
    """Energies at other draws of the replicates less those at the one that was drawn.

    Attributes:
        cells, heads: mJ [draw, image, column]; the columns of `TokenEnergy`.
    """

    cells: Floats
    heads: Floats


def replicate_noise(
    energy: TokenEnergy, arrangement: Arrangement, tokens: TokenCounts, asked: Sequence[Asked], seed: int
) -> dict[Asked, ReplicateNoise] | None:
    """The noise for every question and rule; None where the null has no replicates, or there is one image alone.

    Args:
        energy: of the images of the arrangement.
        seed: of the draws.
    """
    n = len(arrangement.images)
    if n < FEWEST or any(one.null_maps is None for one in arrangement.attentions):
        return None
    rows = np.unique(np.linspace(0, n - 1, min(n, IMAGES)).round().astype(np.intp))
    before = {each: energies_of(energy, arrangement, each) for each in asked}
    found: dict[Asked, list[tuple[Floats, Floats]]] = {each: [] for each in asked}
    for draw in range(-(-TESTS // len(rows))):
        again = _again(arrangement, tokens, rows, seed + draw)
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


def deviation(moved: Floats, n_images: int) -> Floats:
    """Root mean square of a mean over images, [column], from differences [draw, image, column].

    The variance is that of one image over draws, divided by the number of all images; the shift is the mean over
    draws and images, less what its own noise adds to its square.
    """
    draws, images = moved.shape[:2]
    variance = moved.var(axis=0, ddof=1).mean(axis=0)
    shift = np.maximum(moved.mean(axis=(0, 1)) ** 2 - variance / (draws * images), 0)
    root: Floats = np.sqrt(variance / n_images + shift)
    return root


def widened(intervals: Intervals, deviations: Floats) -> Intervals:
    """Intervals over images and replicates: each limit as far off as both together, in quadrature.

    The distance of a limit becomes sqrt(d² + (quantile x deviation)²), with the normal quantile of the confidence.
    Conservative, for the noise of the replicates counts twice; with many replicates the interval over images is left.
    """
    half = special.ndtri(1 - tail_of(intervals.confidence)) * deviations
    low = intervals.value - np.hypot(intervals.value - intervals.low, half)
    high = intervals.value + np.hypot(intervals.high - intervals.value, half)
    method = [name if name == "none" else f"{name}, {BOTH}" for name in intervals.method]
    return replace(intervals, low=np.maximum(low, 0), high=high, method=np.array(method))


def shares_of(part: Floats, whole: Floats, moved: Floats | None, settings: dict[str, Any]) -> Intervals:
    """Ratios of means over images [image, column], with limits between 0 and 1.

    Args:
        moved: differences of `part` at other draws of the replicates [draw, image, column]; None leaves the intervals
            over images alone.
    """
    found = ratio_intervals(part, whole, **settings)
    if moved is not None:
        found = widened(found, over(deviation(moved, len(whole)), whole.mean(axis=0)))
    return replace(found, high=np.minimum(found.high, 1.0))


def _again(arrangement: Arrangement, tokens: TokenCounts, rows: np.ndarray, seed: int) -> Arrangement:
    """The images at `rows` of an arrangement against replicates that were drawn anew."""
    wanted = [arrangement.images[row] for row in rows]
    attentions = []
    for one in arrangement.attentions:
        held = [row for row, number in enumerate(one.provenance["indices"]) if number in wanted]
        if held:
            attentions.append(resampled(one, seed, np.array(held)))
    return Arrangement(attentions, tokens, wanted)
