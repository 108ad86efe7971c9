"""Which tokens of one attention map stand out from maps of the same network on resampled input: z, p, pi0, q, lfdr.

Chung, Laletin: Attention Regularization, AISTATS 2026, https://arxiv.org/abs/2604.01339 (estimator="published"), with
the corrections that small and spiking maps need. Everything is one image at a time, on tokens, in float64. What
differs from the paper is said at each function.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeattn.attention.local_fdr import local_fdr
from spikeattn.attention.standardised import standardised
from spikeattn.errors import SpikeattnError, unknown

Floats = NDArray[np.float64]

ESTIMATORS = ("published", "plus-one", "per-token", "standardised")
DEFAULT_ESTIMATOR = "standardised"  # of `attend` and all that rests on it
ALTERNATIVES = ("two-sided", "greater")
PROPORTIONS = ("published", "bh")
LEVEL = 0.10  # of the false discovery rate at which a per-token q must be able to name a single token
RELIABLE_TOKENS = 196  # below, the published pi0 lets the realised FDR exceed its level
TIED_SHARE = 0.2  # of one value among a map's tokens: from here on it is a map of counts
PI0_FROM = 0.89


class AttentionWarning(UserWarning):
    """A map that was assessed, but not as an ordinary one."""


@dataclass(frozen=True, eq=False)
class Significance:
    """Result of `assess`: arrays in the shape of the observed map, pi0 one number.

    Attributes:
        z: distance of the log score from the null's mean, in standard deviations of the null.
        p: p-value, two-sided unless `alternative` is "greater".
        pi0: share of tokens taken to be noise.
        q: smallest false discovery rate at which the token is called. None with the per-token estimator and fewer than
            tokens / 0.10 replicates: no single token could ever be called.
        lfdr: probability that a token with this z is noise.
        estimator: of the p-values.
        replicates: B.
        alternative: "greater" or "two-sided".
    """

    z: Floats
    p: Floats
    pi0: float
    q: Floats | None
    lfdr: Floats
    estimator: str = "published"
    replicates: int = 0
    alternative: str = "two-sided"

    def measure(self, name: str) -> Floats:
        """z, p, q or lfdr by its name.

        Raises:
            SpikeattnError: a q that the estimator does not have.
        """
        values: Floats | None = getattr(self, name)
        if values is not None:
            return values
        tokens = self.p.size
        raise SpikeattnError(
            f"no per-token q from {self.replicates} replicates of {tokens} tokens: the smallest p-value is "
            f"1/{self.replicates + 1}, so that no single token can reach q = {LEVEL:.2f}. Draw at least "
            f"{int(np.ceil(tokens / LEVEL))} replicates, or pool the null over tokens with "
            'estimator="plus-one"; p and lfdr are there'
        )


def assess(
    observed: ArrayLike,
    null: ArrayLike,
    estimator: str = "published",
    *,
    pi0: str | None = None,
    unit: float | None = None,
    ties: str = "plain",
    seed: int = 0,
    alternative: str | None = None,
    relative: bool = False,
) -> Significance:
    """How surprising every token of a map is, given maps of the same network on resampled input.

    z = (log a - m0) / s0 with the mean and standard deviation (ddof 0) of the log null scores: of all tokens together,
    or token by token with estimator="per-token". p-values, two-sided, m tokens, B replicates:

    - "published": the share of all |z|, observed and null together, that exceed |z_i|; can be 0.
    - "plus-one": (1 + number of null |z| >= |z_i|) / (1 + m B), the null of all tokens together; never 0.
    - "per-token": (1 + number of the token's own null scores at least as far out) / (1 + B); far out means far from
      the mean of the B + 1 scores of that token, which makes it exact for any distribution.
    - "standardised" (ours): every token in standard deviations of its own B + 1 scores, then among those of all tokens,
      within bounds that its own rank sets; see `standardised`. One-sided: more attention than the null gives. It keeps
      its level at every position; the default of `attend`.

    A map with zeros takes log(a + unit / 2): for counts s of T*C neurons that is log((s + 1/2) / (T*C + 1)) up to a
    constant that cancels in z. In a map of counts (`unit` given, or one value on more than a fifth of the tokens) the
    published estimator counts |z| that reach |z_i|, not only those that exceed it, which the most frequent count would
    win everywhere; the published pi0, which lives on p-values above 0.89 that ties leave empty, is 1. lfdr is at least
    q, but for the published estimator on continuous scores: the null of few maps is N(0, 1), and on maps of noise alone
    the published lfdr calls a token in 24 to 53 % of the maps of a ViT at .1.

    Args:
        observed: scores [N] or [h, w], not negative.
        null: scores [B, N] or [B, h, w] of the replicates.
        estimator: of the p-values; see above.
        pi0: "published" (#{p > .89} / (.11 m), at least one token), or "bh" for 1. By default "published" with the
            published estimator, and otherwise "bh", which keeps the false discovery rate for any number of tokens.
        unit: value of one spike, where scores are counts (1) or rates (1 / (T*C)); None for continuous scores, where
            half of the smallest positive score stands in if there are zeros.
        ties: "plain" counts tied null scores as at least as far out (conservative for spike counts); "random" breaks
            ties at random, which makes p uniform under the null. Not for the published estimator.
        seed: of the random ties.
        alternative: "greater" or "two-sided", of the standardised estimator; by default "greater". The others are
            two-sided.
        relative: divide the scores of every map by their mean first. Scores as they are answer "how much": a map of
            spike counts can have more attention everywhere. Relative ones answer "where"; rows of a softmax add up to a
            constant, so they are relative already.

    Warns:
        AttentionWarning: constant map or null (nothing is called: p = q = lfdr = 1); published pi0 with fewer than 196
            tokens, or with a map of counts.

    Raises:
        SpikeattnError: shapes that do not fit, no replicate, NaN, infinite or negative scores, unknown names.
    """
    a, a0 = _checked(observed, null)
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS)
    if ties not in ("plain", "random"):
        raise unknown("treatment of ties", ties, ("plain", "random"))
    if ties == "random" and estimator == "published":
        raise SpikeattnError(
            'ties="random" needs estimator="standardised", "plus-one" or "per-token"; the published one counts > only'
        )
    sides = ("greater" if estimator == "standardised" else "two-sided") if alternative is None else alternative
    if sides not in ALTERNATIVES:
        raise unknown("alternative", sides, ALTERNATIVES)
    if sides == "greater" and estimator != "standardised":
        raise SpikeattnError(f'estimator="{estimator}" is two-sided; alternative="greater" needs "standardised"')
    proportion = ("published" if estimator == "published" else "bh") if pi0 is None else pi0
    if proportion not in PROPORTIONS:
        raise unknown("pi0", proportion, PROPORTIONS)

    shape, m, B = np.shape(observed), a.size, len(a0)
    x, x0 = _log_scores(a, a0, unit)
    if relative:
        x, x0 = x - np.log(np.exp(x).mean()), x0 - np.log(np.exp(x0).mean(axis=1, keepdims=True))
    why = _nothing_to_assess(x, x0)
    if why is not None:
        warnings.warn(f"{why}: no token is called (p = q = lfdr = 1)", AttentionWarning, stacklevel=2)
        ones = np.ones(shape)
        return Significance(np.zeros(shape), ones, 1.0, ones.copy(), ones.copy(), estimator, B, sides)

    rng = np.random.default_rng(seed) if ties == "random" else None
    if estimator == "standardised":
        z, p = standardised(x, x0, sides, rng)
        share = published_pi0(p) if proportion == "published" else 1.0
        q = benjamini_hochberg(p, share)
        lfdr = np.maximum(local_fdr(z, share), q)  # N(0, 1) is the density of no map: q alone keeps its level
        z, p, q, lfdr = (array.reshape(shape) for array in (z, p, q, lfdr))
        return Significance(z, p, share, q, lfdr, estimator, B, sides)
    z, z0 = standardise(x, x0, per_token=estimator == "per-token")
    counts = unit is not None or _is_tied(a) or _is_tied(a0)
    if estimator == "published":
        p = published_p(z, z0, reached=counts)
    else:
        p = plus_one_p(np.abs(z), np.abs(z0), rng) if estimator == "plus-one" else per_token_p(x, x0, rng)
    share = _proportion(p, proportion, counts)
    q = benjamini_hochberg(p, share)
    lfdr = local_fdr(z, share)
    if counts or estimator != "published":  # N(0, 1) is the density of few maps: alone it calls what q does not
        lfdr = np.maximum(lfdr, q)
    refused = estimator == "per-token" and B < m / LEVEL
    z, p, q, lfdr = (array.reshape(shape) for array in (z, p, q, lfdr))
    return Significance(z, p, share, None if refused else q, lfdr, estimator, B)


def assess_distribution(observed: ArrayLike, pmf: ArrayLike) -> Significance:
    """`assess` for spike counts whose null distribution is known: no replicates, nothing random (ours).

    z as for counts with the mean and deviation of log(s + 1/2) under the distribution; p = P(|Z| >= |z_i|); pi0 = 1;
    lfdr at least q.

    Args:
        observed: counts [N] or [h, w].
        pmf: probability of each count, [n + 1]; `nulls.poisson_binomial` gives one.

    Raises:
        SpikeattnError: counts that are no whole numbers from 0 to n, or probabilities that do not add up to 1.
    """
    s, chance = np.asarray(observed, dtype=np.float64), np.asarray(pmf, dtype=np.float64)
    n = chance.size - 1
    if s.size == 0 or not np.isfinite(s).all() or (s != np.round(s)).any() or s.min() < 0 or s.max() > n:
        raise SpikeattnError(f"the observed counts are not whole numbers from 0 to the distribution's largest, {n}")
    if chance.ndim != 1 or not (chance >= 0).all() or abs(chance.sum() - 1) > 1e-6:
        raise SpikeattnError("the distribution is not a list of probabilities that add up to 1")
    x = np.log(np.arange(n + 1) + 0.5)
    mean = chance @ x
    sd = np.sqrt(chance @ (x - mean) ** 2)
    if np.ptp(s) == 0 or sd <= 1e-9:
        warnings.warn("the map or its null is constant: no token is called", AttentionWarning, stacklevel=2)
        ones = np.ones(s.shape)
        return Significance(np.zeros(s.shape), ones, 1.0, ones.copy(), ones.copy(), "exact")
    scores = (x - mean) / sd
    z = scores[s.astype(np.int64)]
    size = np.abs(scores)
    order = np.argsort(size, kind="stable")
    beyond = np.append(np.cumsum(chance[order][::-1])[::-1], 0.0)  # P(|Z| >= the k-th smallest)
    p = np.clip(beyond[np.searchsorted(size[order], np.abs(z) - 1e-12)], 0.0, 1.0)
    q = benjamini_hochberg(p.ravel()).reshape(s.shape)
    lfdr = np.maximum(local_fdr(z.ravel()).reshape(s.shape), q)
    return Significance(z, p, 1.0, q, lfdr, "exact")


def standardise(x: Floats, x0: Floats, per_token: bool = False) -> tuple[Floats, Floats]:
    """z of the observed [m] and null [B, m] log scores, by the null's mean and standard deviation.

    A token whose own null has no spread takes the spread of all tokens.
    """
    mean, sd = x0.mean(), x0.std()
    if per_token:
        own = x0.std(axis=0)
        mean, sd = x0.mean(axis=0), np.where(own > 1e-9 * sd, own, sd)
    return (x - mean) / sd, (x0 - mean) / sd


def published_p(z: Floats, z0: Floats, reached: bool = False) -> Floats:
    """#{S > |z_i|} / |S| with S all |z|, observed [m] and null [B, m]; #{S >= |z_i|} if `reached`."""
    pool = np.sort(np.concatenate([np.abs(z), np.abs(z0).ravel()]))
    return (pool.size - np.searchsorted(pool, np.abs(z), side="left" if reached else "right")) / pool.size


def plus_one_p(score: Floats, null: Floats, rng: np.random.Generator | None = None) -> Floats:
    """(1 + #{null >= score}) / (1 + n) against all null scores together; with `rng`, ties are broken at random."""
    pool = np.sort(null.ravel())
    above = pool.size - np.searchsorted(pool, score, side="right")
    equal = np.searchsorted(pool, score, side="right") - np.searchsorted(pool, score, side="left")
    return _ranked(above, equal, pool.size, rng)


def per_token_p(x: Floats, x0: Floats, rng: np.random.Generator | None = None) -> Floats:
    """(1 + #{as far out}) / (1 + B) of each token [m] against its own null [B, m]; with `rng`, random ties."""
    centre = (x + x0.sum(axis=0)) / (len(x0) + 1)
    score, null = np.abs(x - centre), np.abs(x0 - centre)
    same = np.isclose(null, score, rtol=1e-12, atol=1e-12)
    return _ranked(((null > score) & ~same).sum(axis=0), same.sum(axis=0), len(x0), rng)


def benjamini_hochberg(p: Floats, pi0: float = 1.0) -> Floats:
    """q_(i) = min over j >= i of pi0 m p_(j) / j, at most 1."""
    order = np.argsort(p, kind="stable")
    scaled = pi0 * p.size * p[order] / np.arange(1, p.size + 1)
    q = np.empty_like(scaled)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q, 1.0)


def published_pi0(p: Floats) -> float:
    """min(1, #{p > .89} / (.11 m)), with at least one token counted: pi0 = 0 would call every token."""
    return min(1.0, max(1, int((p > PI0_FROM).sum())) / ((1 - PI0_FROM) * p.size))


def _ranked(above: NDArray[np.int64], equal: NDArray[np.int64], n: int, rng: np.random.Generator | None) -> Floats:
    ties = 1.0 + equal if rng is None else rng.random(above.shape) * (1.0 + equal)
    return (above + ties) / (1 + n)


def _proportion(p: Floats, wanted: str, counts: bool) -> float:
    if wanted == "bh":
        return 1.0
    if counts:
        warnings.warn("a map of counts has no published pi0; pi0 = 1 is used", AttentionWarning, stacklevel=3)
        return 1.0
    if p.size < RELIABLE_TOKENS:
        warnings.warn(
            f"the published pi0 of {p.size} tokens moves in steps of {1 / ((1 - PI0_FROM) * p.size):.2f}, and below "
            f'{RELIABLE_TOKENS} tokens more than q of the called tokens are noise; estimator="plus-one" keeps q',
            AttentionWarning,
            stacklevel=3,
        )
    return published_pi0(p)


def _checked(observed: ArrayLike, null: ArrayLike) -> tuple[Floats, Floats]:
    a, a0 = np.asarray(observed), np.asarray(null)
    if a.ndim not in (1, 2) or a.size == 0 or a0.shape[1:] != a.shape:
        raise SpikeattnError(
            f"the observed map has shape {list(a.shape)} and the null {list(a0.shape)}; valid are [N] with [B, N], or "
            "[h, w] with [B, h, w]: one image at a time"
        )
    if len(a0) < 1:
        raise SpikeattnError("the null has 0 replicates; at least 1 is needed, and 200 for a p-value of .05")
    for name, values in (("observed map", a), ("null", a0)):
        if not np.issubdtype(values.dtype, np.number) and values.dtype != bool:
            raise SpikeattnError(f"the {name} has type {values.dtype}; scores are real numbers")
        if not np.isfinite(values).all():
            raise SpikeattnError(f"the {name} holds NaN or infinite scores; look at the map function that made them")
        if (values < 0).any():
            raise SpikeattnError(
                f"the {name} holds negative scores (smallest {values.min():.4g}); their logarithm is taken, so give "
                "rates, counts or weights, and of signed maps the positive part"
            )
    return a.ravel().astype(np.float64), a0.reshape(len(a0), -1).astype(np.float64)


def _log_scores(a: Floats, a0: Floats, unit: float | None) -> tuple[Floats, Floats]:
    if unit is not None and not unit > 0:
        raise SpikeattnError(f"unit is {unit}; it is the value of one spike: 1 for counts, 1 / (T*C) for rates")
    offset = 0.0 if unit is None else unit / 2
    if unit is None and (a.min() == 0 or a0.min() == 0):
        positive = [values[values > 0].min() for values in (a, a0) if values.any()]
        offset = min(positive) / 2 if positive else 1.0
    return np.log(a + offset), np.log(a0 + offset)


def _is_tied(values: Floats) -> bool:
    """Whether one value takes up more than a fifth; not if all occur equally often, as tokens spread over pixels do."""
    counts = np.unique(values, return_counts=True)[1]
    spread = len(counts) > 2 and counts.max() == counts.min()
    return bool(counts.max() > max(1, TIED_SHARE * values.size) and not spread)


def _nothing_to_assess(x: Floats, x0: Floats) -> str | None:
    if x.size == 1:
        return "the map has one token"
    if np.ptp(x) <= 1e-12 * max(1.0, np.abs(x).max()):
        return "the map is constant"
    if x0.std() <= 1e-12 * max(1.0, np.abs(x0).max()):
        return "all null scores are equal"
    return None
