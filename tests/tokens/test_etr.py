"""Theorems and limits of elastic clip bounds, and the identities about advantages that motivate them."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tests.tokens.batches import token_batch
from trref.tokens.etr import elastic_bounds, etr, macro_scale, micro_scale
from trref.tokens.grpo import group_advantage, grpo


def _batch(seed, spread=0.4):
    """Three prompts of four answers, with rewards of both kinds."""
    log_prob, old, _, mask = token_batch(seed, B=12, spread=spread)
    group, reward = np.repeat([4, 1, 7], 4), (np.random.default_rng(seed).random(12) < 0.5).astype(float)
    reward[:2] = [0, 1]
    return log_prob, old, group_advantage(reward, group, std="population"), mask, reward, group


def _same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-13) and np.allclose(a[1], b[1], rtol=1e-13)


# ---- the bounds


def test_bounds_by_hand():
    """One of four right: |A| is sqrt 3 and 1/sqrt 3, four times the variance 3/4."""
    reward, group = np.array([1.0, 0, 0, 0]), np.zeros(4, int)
    A = group_advantage(reward, group, std="population")
    low, high = elastic_bounds(A, reward, group, clip_low=0.2, clip_high=0.3, micro=0.5, macro=0.4)
    scale = (1 + 0.5 * np.tanh([math.sqrt(3), 1 / math.sqrt(3)])) * 1.3
    assert np.allclose(low[:2], 0.2 * scale, rtol=1e-9) and np.allclose(high[:2], 0.3 * scale, rtol=1e-9)
    assert np.allclose(low[1:], low[1], rtol=1e-9)
    linear = elastic_bounds(A, reward, group, macro=0.0, shape="linear", reference=2.0, cap=0.5)
    assert np.allclose(linear.high[:2], [0.2 * 0.5, 0.2 / math.sqrt(12)], rtol=1e-9)


@pytest.mark.parametrize("shape", ["tanh", "linear"])
def test_bounds_grow_with_the_advantage(shape):
    A = np.linspace(-4, 4, 81)
    scale = micro_scale(A, micro=0.5, shape=shape, reference=1.0, cap=2.5)
    assert np.allclose(scale, scale[::-1], rtol=1e-9) and (np.diff(scale[40:]) >= 0).all() and scale[41] > scale[40]
    assert scale.max() <= (1.5 if shape == "tanh" else 2.5) < 4, "one rare success gets no huge region"


def test_bounds_grow_with_disagreement():
    G = 8
    scales = []
    for k in range(G + 1):
        reward = np.concatenate([np.ones(k), np.zeros(G - k)])
        scales.append(macro_scale(reward, np.zeros(G, int), macro=0.5)[0])
    assert np.allclose(scales, scales[::-1], rtol=1e-9) and (np.diff(scales[:5]) > 0).all()
    assert scales[0] == 1 and scales[4] == 1.5


def test_the_lower_bound_stays_below_one():
    _, _, A, _, reward, group = _batch(0)
    low, high = elastic_bounds(A, reward, group, clip_low=0.8, clip_high=0.8, micro=3.0, macro=2.0)
    assert low.max() == 0.95 < 1 < high.max()


@pytest.mark.parametrize("shape", ["tanh", "linear"])
def test_a_matched_budget_is_that_of_grpo(shape):
    _, _, A, _, reward, group = _batch(1)
    reward[8:] = 1.0  # a group without advantages does not count
    A[8:] = 0.0
    low, high = elastic_bounds(A, reward, group, clip_low=0.1, clip_high=0.15, shape=shape, budget="matched")
    assert low[A != 0].mean() == pytest.approx(0.1) and high[A != 0].mean() == pytest.approx(0.15)
    free = elastic_bounds(A, reward, group, clip_low=0.1, clip_high=0.15, shape=shape)
    kept = (free.high / np.where(high > 0, high, 1))[A != 0]
    assert np.allclose(kept, kept[0], rtol=1e-13), "the allocation is kept"
    assert np.ptp(high[A != 0]) > 0.01


# ---- the loss


def test_loss_by_hand():
    """A pair, one right: |A| = 1, largest disagreement; bounds 0.2 (1 + tanh(1)/2) 1.5."""
    reward, group = np.array([1.0, 0.0]), np.zeros(2, int)
    A = group_advantage(reward, group, std="population")
    width = 0.2 * (1 + math.tanh(1) / 2) * 1.5
    log_prob = np.log([[1.35], [0.5]])
    loss, gradient = etr(log_prob, np.zeros((2, 1)), A, np.ones((2, 1)), reward, group)
    assert 0.35 < width < 0.5
    assert loss == pytest.approx(-(1.35 - (1 - width)) / 2) and np.allclose(gradient, [[-1.35 / 2], [0]], rtol=1e-9)


@pytest.mark.parametrize("budget", ["elastic", "matched"])
def test_against_a_loop(budget):
    log_prob, old, A, mask, reward, group = _batch(2, spread=0.8)
    low, high = elastic_bounds(A, reward, group, budget=budget)
    total = 0.0
    for i in range(12):
        terms = []
        for t in range(int(mask[i].sum())):
            r = math.exp(log_prob[i, t] - old[i, t])
            terms.append(min(r * A[i], float(np.clip(r, 1 - low[i], 1 + high[i])) * A[i]))
        total += sum(terms) / len(terms)
    assert etr(log_prob, old, A, mask, reward, group, budget=budget)[0] == pytest.approx(-total / 12, rel=1e-13)


def test_equal_sizes_of_advantages_are_grpo_with_a_matched_budget():
    """Half right everywhere: all factors are equal, and matching removes them."""
    log_prob, old, _, mask, _, group = _batch(4)
    reward = np.tile([1.0, 0.0], 6)
    A = group_advantage(reward, group, std="population")
    _same(etr(log_prob, old, A, mask, reward, group, budget="matched"), grpo(log_prob, old, A, mask))
    wide = 0.2 * (1 + 0.5 * math.tanh(1)) * 1.5
    _same(etr(log_prob, old, A, mask, reward, group), grpo(log_prob, old, A, mask, clip=wide))


def test_groups_without_variance_do_nothing():
    log_prob, old, _, mask, _, group = _batch(5)
    for outcome in (0.0, 1.0):
        reward = np.full(12, outcome)
        for budget in ("elastic", "matched"):
            A = group_advantage(reward, group)
            loss, gradient = etr(log_prob, old, A, mask, reward, group, budget=budget)
            assert loss == 0 and not gradient.any()


def test_wider_bounds_free_tokens():
    """What GRPO leaves free stays free; some tokens that it clips are freed."""
    *batch, reward, group = _batch(6, spread=0.5)
    free, ours = grpo(*batch)[1] != 0, etr(*batch, reward, group)[1] != 0
    assert (ours[free]).all() and (ours & ~free).sum() > 2
    assert np.allclose(grpo(*batch)[1][free], etr(*batch, reward, group)[1][free], rtol=1e-14)


# ---- the identities


@pytest.mark.parametrize(("std", "factor"), [("population", 1.0), ("sample", math.sqrt(7 / 8))])
def test_advantages_already_know_the_variance(std, factor):
    G = 8
    for k in range(1, G):
        p, reward = k / G, np.concatenate([np.ones(k), np.zeros(G - k)])
        A = group_advantage(reward, np.zeros(G, int), std=std)
        assert A[0] == pytest.approx(factor * math.sqrt((1 - p) / p))
        assert A[-1] == pytest.approx(-factor * math.sqrt(p / (1 - p)))
        assert abs(A).mean() == pytest.approx(factor * 2 * math.sqrt(p * (1 - p)))
        _, high = elastic_bounds(A, reward, np.zeros(G, int), shape="linear", macro=0.0, cap=99.0)
        assert high.mean() == pytest.approx(0.2 * factor * 2 * math.sqrt(p * (1 - p))), (
            "linear in |A| allots by variance"
        )


@pytest.mark.parametrize("A", [-1.7, 0.4, 2.0])
def test_the_best_step_of_the_quadratic_model(A):
    best = minimize_scalar(lambda x: -(A * x - x**2 / (2 * 0.3)), tol=1e-12).x
    assert best == pytest.approx(0.3 * A, abs=1e-6)
