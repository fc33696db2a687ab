"""Theorems and limits of the penalty on the divergence."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from trref.policy.ppo import unclipped_surrogate
from trref.policy.ppo_penalty import adapt_kl_weight, kl_estimators, kl_penalty_objective


def _batch(seed, n=40, K=4):
    rng = np.random.default_rng(seed)
    old = rng.standard_normal((n, K))
    return old + 0.5 * rng.standard_normal((n, K)), old, rng.integers(0, K, n), rng.standard_normal(n)


def test_numbers_by_hand():
    """p_old = (1/2, 1/2), p = (3/4, 1/4), action 0, advantage 2: ratio 1.5; KL = log(2/3)/2 + log(2)/2."""
    loss, gradient = kl_penalty_objective(
        np.log([[0.75, 0.25]]), np.zeros((1, 2)), np.array([0]), np.array([2.0]), kl_weight=4.0
    )
    kl = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert loss == pytest.approx(-(3 - 4 * kl))
    assert gradient == pytest.approx(-np.array([[3 * 0.25 - 4 * 0.25, -3 * 0.25 + 4 * 0.25]]))


def test_no_penalty_is_the_unclipped_surrogate():
    logits, old, actions, advantage = _batch(0)
    rows = np.arange(len(actions))
    log_prob, old_log_prob = log_softmax(logits, 1)[rows, actions], log_softmax(old, 1)[rows, actions]
    expected = unclipped_surrogate(log_prob, old_log_prob, advantage)[0]
    assert kl_penalty_objective(logits, old, actions, advantage, kl_weight=0.0)[0] == pytest.approx(expected, rel=1e-12)


def test_a_heavy_penalty_freezes_the_policy():
    _, old, actions, advantage = _batch(1)
    far = []
    for beta in (1.0, 100.0):
        logits = old.copy()
        for _ in range(400):
            logits -= 20 / beta * kl_penalty_objective(logits, old, actions, advantage, kl_weight=beta)[1]
        far.append(abs(softmax(logits, 1) - softmax(old, 1)).max())
    assert far[1] < 0.02 * far[0] < 0.02


@pytest.mark.parametrize("start", [1e-4, 1.0, 1e4])
def test_adaptation_reaches_the_target(start):
    """An update that moves the policy by KL = 0.3 / (1 + beta), whatever the weight at the start."""
    assert 0.01 / 1.5 <= _adapted(start, power=1)[-1] <= 1.5 * 0.01


def test_adaptation_may_swing_for_ever():
    """Where twice the weight makes a quarter of the divergence, the band of 1.5² may be stepped over each time."""
    tail = _adapted(1e-4, power=2)[-4:]
    assert max(tail) > 1.5 * 0.01 and min(tail) < 0.01 / 1.5


def _adapted(beta, power):
    divergences = []
    for _ in range(40):
        divergences.append(0.3 / (1 + beta) ** power)
        beta = float(adapt_kl_weight(np.array(beta), np.array(divergences[-1]), target=0.01))
    return divergences


def test_thresholds():
    beta = np.array(3.0)
    assert [float(adapt_kl_weight(beta, np.array(kl), target=0.02)) for kl in (0.0133, 0.0134, 0.0299, 0.0301)] == [
        1.5,
        3.0,
        3.0,
        6.0,
    ]


def test_expectations_of_the_estimators():
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5))
    k1, k2, k3 = kl_estimators(np.log(q), np.log(p))
    exact = (p * np.log(p / q)).sum()
    assert p @ k1 == pytest.approx(exact, rel=1e-12) and p @ k3 == pytest.approx(exact, rel=1e-12)
    assert abs(p @ k2 - exact) > 0.01 * exact
    assert (k2 >= 0).all() and (k3 >= 0).all() and k1.min() < 0


def test_for_small_steps_k2_is_right_too_and_k1_is_noisier():
    rng = np.random.default_rng(3)
    logits = rng.standard_normal(6)
    p, q = softmax(logits), softmax(logits + 0.01 * rng.standard_normal(6))
    k1, k2, k3 = kl_estimators(np.log(q), np.log(p))
    exact = (p * np.log(p / q)).sum()
    assert p @ k2 == pytest.approx(exact, rel=0.05)
    spread = [p @ (k - exact) ** 2 for k in (k1, k2, k3)]
    assert spread[0] > 100 * max(spread[1:])
