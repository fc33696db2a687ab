"""The global term by enumeration, the limits, and what becomes of groups that agree."""

import itertools

import numpy as np
import pytest
from scipy.stats import zscore

from tests.tokens.batches import token_batch
from trref.tokens.copo import copo, global_advantage, prompt_reward
from trref.tokens.copo_weight import local_weight
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.terms import logit_gradient


def _batch(seed, spread=0.5):
    """Three prompts of four answers: none right, one of the first two right, at random."""
    log_prob, old, _, mask = token_batch(seed, B=12, spread=spread)
    rng = np.random.default_rng(seed)
    group, reward = np.repeat([0, 1, 2], 4), (rng.random(12) < 0.5).astype(float)
    reward[:4] = 0
    reward[4:6] = 1, 0
    return log_prob, old, group_advantage(reward, group), mask, group, reward, rng.integers(0, 4, 12)


def test_zscore_of_the_prompts():
    """Every prompt counts once, whatever its number of answers."""
    rng = np.random.default_rng(0)
    group, reward = np.repeat([3, 1, 8, 5], [2, 7, 3, 4]), rng.standard_normal(16)
    R = {g: reward[group == g].mean() for g in group}
    expected = dict(zip(R, zscore(list(R.values())), strict=True))
    assert np.allclose(global_advantage(reward, group), [expected[g] for g in group], rtol=1e-12)
    assert np.allclose(prompt_reward(reward, group), [R[g] for g in group], rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_equal_prompts_and_single_prompts_have_none(value):
    assert not global_advantage(np.full(7, value), np.array([0, 0, 0, 1, 1, 2, 2])).any()
    assert not global_advantage(np.array([1.0, 0, 0, 1, 0, 1]), np.zeros(6, int)).any()
    assert not global_advantage(np.array([1.0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0]), np.repeat([0, 1], [3, 9])).any()


def test_expected_global_gradient():
    """Over all groups of three from four answers: 1/G of the gradient of the probability of being right."""
    V, G = 4, 3
    rng = np.random.default_rng(1)
    z, right = rng.standard_normal(V), np.array([0.0, 1.0, 0.0, 1.0])
    p = np.exp(z) / np.exp(z).sum()
    mean = np.zeros(V)
    for group in itertools.product(range(V), repeat=G):
        scores = np.eye(V)[list(group)] - p
        R = prompt_reward(right[list(group)], np.zeros(G, int))
        mean += p[list(group)].prod() * (R[:, None] * scores).mean(0)
    assert np.allclose(mean, p * (right - p @ right) / G, atol=1e-15)


def test_unanimous_groups():
    """All wrong: every sampled answer is pushed down alike; all right: up; and GRPO does nothing."""
    old = np.log(np.array([0.5, 0.2, 0.5, 0.2]))[:, None]
    group, reward = np.array([0, 0, 1, 1]), np.array([0.0, 0, 1, 1])
    A = group_advantage(reward, group)
    assert not A.any()
    _, gradient = copo(old, old, A, np.ones((4, 1)), group, reward, np.array([1, 1, 2, 2]))
    assert gradient[:, 0] == pytest.approx([0.25, 0.25, -0.25, -0.25])
    moved = logit_gradient(np.zeros((1, 1, 3)), np.array([[0]]), -gradient[:1])[0, 0]
    assert moved[0] < 0 < moved[1] == moved[2], "probability goes to answers that were not sampled"


def test_by_hand():
    """Two prompts: one half right with a weight of 0.25, one all wrong."""
    old, group, reward = np.full((4, 1), -1.0), np.array([0, 0, 1, 1]), np.array([1.0, 0, 0, 0])
    A, answer = np.array([1.0, -1, 0, 0]), np.array([0, 1, 2, 2])
    hyper = {"gamma": 1.0, "threshold": float(np.log(2) + np.log(3))}
    assert local_weight(group, answer, **hyper)[0] == pytest.approx(0.25)
    loss, gradient = copo(old, old, A, np.ones((4, 1)), group, reward, answer, **hyper)
    w1 = 1 / 7  # the logistic function at -log 6
    assert -4 * gradient[:, 0] == pytest.approx([0.25 + 0.75, -0.25 + 0.75, -(1 - w1), -(1 - w1)])
    assert loss == pytest.approx(-(1.5 - 2 * (1 - w1)) / 4)


def test_groups_of_one_are_reinforce_with_a_batch_baseline():
    log_prob, old, _, mask, _, reward, answer = _batch(3, spread=0.0)
    batch = log_prob, old, np.zeros(12), mask, np.arange(12), reward, answer
    theirs = grpo(log_prob, old, zscore(reward), mask)
    assert np.allclose(copo(*batch)[1], theirs[1], rtol=1e-9, atol=1e-15)


def test_blending_losses_or_advantages():
    """One and the same wherever both advantages have one sign."""
    batch = _batch(4, spread=1.0)
    A, other = batch[2], global_advantage(batch[5], batch[4])
    two = [copo(*batch, gamma=1.0, blend=b)[1] for b in ("losses", "advantages")]
    one_sign = A * other >= 0
    assert np.allclose(two[0][one_sign], two[1][one_sign], rtol=1e-12)
    assert not np.allclose(two[0][~one_sign], two[1][~one_sign])
