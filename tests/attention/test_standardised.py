"""The standardised test: its level at every position, its power, its second question, and what it never calls."""

from __future__ import annotations

import numpy as np
import pytest

import spikeattn as sa
from spikeattn.attention.significance import assess, benjamini_hochberg
from spikeattn.attention.standardised import FLOOR, standardised
from spikeattn.errors import SpikeattnError
from tests.attention import cases


def uneven(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Scores whose mean and spread depend on the position, with spikes that are rare at some of them."""
    mean, spread = np.linspace(-2, 2, shape[1]), np.geomspace(0.2, 2, shape[1])
    return np.exp(mean + spread * rng.standard_normal(shape))


def by_loops(x: np.ndarray, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z and p as the docstring says them, score by score; scores are at least .01 apart or equal."""
    z, p = np.zeros(len(x)), np.ones(len(x))
    places = [i for i in range(len(x)) if len(set(x0[:, i])) > 1]
    scores = {i: np.array([x[i], *x0[:, i]]) for i in places}
    floor = FLOOR * np.median([scores[i].std() for i in places])
    standard = {i: (scores[i] - scores[i].mean()) / max(scores[i].std(), floor) for i in places}
    n, leads = len(places) * len(x0), {}
    for i in places:
        second, first = sorted(standard[i])[-2:]
        if first - second > 1e-6:
            leads[i] = (int(standard[i].argmax()), first - second)
    for i in places:
        z[i] = standard[i][0]
        own = sum(standard[i] > z[i] - 1e-6) / (len(x0) + 1)
        pooled = (1 + sum((standard[j][1:] > z[i] - 1e-6).sum() for j in places)) / (1 + n)
        p[i] = min(max(pooled, own / 1.6), 2 * own, 1)
        if i in leads and leads[i][0] == 0:
            beyond = (1 + sum(who > 0 and lead > leads[i][1] - 1e-6 for who, lead in leads.values())) / (1 + n)
            p[i] = 2 / (1 / pooled + 1 / beyond)
    return z, p


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_its_definition_score_by_score(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 9)).round(1) * rng.choice([1, 3], 9)  # many ties
    x[:, 4] = 2.5  # a place that does not move
    x[:, 3] = [0.3, *[0.2] * 11]  # and one that moves in the observed map alone
    x[0, 5:] = x[1:, 5:].max(axis=0) + rng.choice([0.1, 1, 2], 4)  # beyond every null score of their places
    z, p = standardised(x[0], x[1:])
    expected = by_loops(x[0], x[1:])
    np.testing.assert_allclose(z, expected[0], atol=1e-12)
    np.testing.assert_allclose(p, expected[1], atol=1e-12)
    assert (z[3:5] == 0).all() and (p[3:5] == 1).all() and (p[5:] < 1 / 12).any()  # a constant null says nothing


@pytest.mark.parametrize("B", [100, 200])
def test_the_level_holds_at_every_position_and_in_every_map(B):
    rng, calls, any_q, any_lfdr = np.random.default_rng(B), [], [], []
    for _ in range(300):
        found = assess(*split(uneven(rng, (B + 1, 49))), "standardised")
        calls.append(found.p <= 0.1)
        any_q.append((found.q <= 0.1).any())
        any_lfdr.append((found.lfdr <= 0.1).any())
    level = np.mean(calls, axis=0)
    assert 0.02 <= level.min() and level.max() <= 0.16 + 0.04  # 2 standard errors of 300 maps
    assert np.mean(any_q) <= 0.12 + 0.04 and np.mean(any_lfdr) <= np.mean(any_q)
    pooled = np.mean([assess(*split(uneven(rng, (B + 1, 49))), "plus-one").p <= 0.1 for _ in range(100)], axis=0)
    assert pooled.min() < 0.01 and pooled.max() > 0.25  # what a null pooled over places makes of such places


@pytest.mark.parametrize(("tokens", "B"), [(49, 100), (196, 200)])
def test_planted_signals_are_found(tokens, B):
    rng, wrong, right = np.random.default_rng(tokens), [], []
    for _ in range(200):
        scores, signal = np.log(uneven(rng, (B + 1, tokens))), rng.permutation(tokens) < 6
        scores[0] += 4 * signal * np.geomspace(0.2, 2, tokens)
        called = assess(*split(np.exp(scores)), "standardised").q <= 0.1
        wrong.append((called & ~signal).sum() / max(1, called.sum()))
        right.append(called[signal].mean())
    assert np.mean(wrong) <= 0.12 and np.mean(right) >= 0.8


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_random_ties_are_uniform_and_never_count_against_a_token(alternative):
    rng, calls = np.random.default_rng(5), []
    scores = np.log(0.5 + rng.poisson(0.2, (61, 30)))
    for i in range(len(scores)):
        pair = scores[i], np.delete(scores, i, 0)
        random = standardised(*pair, alternative, rng)[1]
        assert (random <= standardised(*pair, alternative)[1] + 1e-12).all()
        calls.append(random <= 0.1)
    assert 0.07 <= np.mean(calls) <= 0.13


def test_rare_spikes_of_other_places_do_not_hide_a_signal():
    """A spike in one of 50 null maps is 7 deviations from its mean, and every second place has such spikes."""
    rng, right = np.random.default_rng(3), []
    for _ in range(50):
        scores = np.where(np.arange(64) % 2, rng.normal(size=(201, 64)), np.log(0.5 + (rng.random((201, 64)) < 0.02)))
        signal = rng.choice(np.arange(1, 64, 2), 3, replace=False)
        scores[0, signal] += 4
        right.append((assess(*split(np.exp(scores)), "standardised").q[signal] <= 0.1).mean())
    assert np.mean(right) >= 0.8


def test_a_place_whose_scores_have_a_bound_is_called_too():
    """No score of it lies farther than a deviation above its mean: a null pooled over places would never call it."""
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(101, 49))
    scores[:, 7] = -rng.exponential(size=101)
    turns = [assess(np.exp(scores[i]), np.exp(np.delete(scores, i, 0)), "standardised") for i in range(101)]
    assert 0.02 <= np.mean([found.p[7] <= 0.1 for found in turns]) <= 0.16


def test_less_attention_is_called_on_request_alone():
    rng = np.random.default_rng(0)
    scores = uneven(rng, (201, 16))
    scores[0] = np.exp(np.linspace(-2, 2, 16) - 6 * np.geomspace(0.2, 2, 16))
    assert not (assess(*split(scores), "standardised").q <= 0.1).any()
    assert (assess(*split(scores), "standardised", alternative="two-sided").q <= 0.1).all()
    with pytest.raises(SpikeattnError, match='"plus-one" is two-sided'):
        assess(*split(scores), "plus-one", alternative="greater")
    with pytest.raises(SpikeattnError, match="alternative"):
        assess(*split(scores), "standardised", alternative="less")


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_random_ties_never_count_against_a_token(alternative):
    counts = np.random.default_rng(3).poisson(1.0, (101, 64)).astype(float)
    p = {}
    for ties in ("plain", "random"):
        options = {"ties": ties, "alternative": alternative, "unit": 1.0}
        found = [
            assess(counts[i], np.delete(counts, i, 0), "standardised", seed=i, **options).p for i in range(len(counts))
        ]
        p[ties] = np.stack(found)
    assert (p["random"] <= p["plain"]).all() and (p["random"] < p["plain"]).mean() > 0.5
    assert (p["random"] <= 0.1).mean(axis=0).max() < 0.25  # 101 maps: at a level of .1, .25 is five deviations away


def test_lfdr_calls_nothing_that_q_does_not():
    scores = uneven(np.random.default_rng(4), (41, 64))
    for estimator in ("standardised", "plus-one", "per-token"):
        for observed in range(10):
            found = assess(scores[observed], np.delete(scores, observed, 0), estimator, seed=observed)
            q = found.q if found.q is not None else benjamini_hochberg(found.p)
            assert (found.lfdr >= q - 1e-15).all()


def test_a_question_has_an_answer_or_an_error():
    model, images = cases.digits(1)
    found = sa.attend(model, images, "pixel", 10)
    assert found.answer() is found and found.answer("where") is found.where
    with pytest.raises(SpikeattnError, match="did you mean 'where'"):
        found.answer("were")
    with pytest.raises(SpikeattnError, match="has no replicates"):
        sa.attend(model, images, "exact").answer("where")


def test_where_divides_every_map_by_its_mean():
    rng = np.random.default_rng(1)
    scores = rng.gamma(4, 1, (201, 64))
    scores[0] *= 3  # three times as much everywhere, and nowhere in particular
    assert (assess(*split(scores), "standardised").q <= 0.1).mean() > 0.5
    where = assess(*split(scores), "standardised", relative=True)
    assert not (where.q <= 0.1).any()
    twice = assess(*split(scores * rng.uniform(1, 9, (201, 1))), "standardised", relative=True)
    np.testing.assert_allclose(where.z, twice.z, atol=1e-9)


def test_attention_answers_both_questions_of_spikes_and_one_of_a_softmax():
    model, images = cases.digits(2)
    found = sa.attend(model, images, "pixel", 30, estimator="standardised", layer="all")
    assert found.where.q.shape == found.q.shape == found.maps.shape
    assert found.where.regularized("q").shape == found.maps.shape
    by_hand = assess(found.maps[1, 0], found.null_maps[1, :, 0], "standardised", unit=found.unit, relative=True)
    np.testing.assert_array_equal(found.where.p[1, 0], by_hand.p)
    softmax = sa.attend(*cases.vit(depth=1), "pixel", 5)
    assert softmax.where is None and softmax.answer("where") is softmax


def split(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The observed map and its null."""
    return scores[0], scores[1:]
