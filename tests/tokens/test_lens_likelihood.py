"""The likelihood's minimiser and cross-entropy, and the value function's gradient by enumeration."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from trref.tokens.lens_likelihood import difficulty, mle_loss, value_function


def test_difficulty_by_hand():
    """Two of six choices right: D = 1/2; one certain answer: 1."""
    assert difficulty(np.array([[1.0, 1, 0, 0, 0, 0], [1.0, 0, 0, 0, 0, 0]])) == pytest.approx([0.5, 1.0])


def test_cross_entropy():
    rng = np.random.default_rng(0)
    p, D = rng.random(40), 1.5
    reward = (rng.random(40) < 0.5).astype(float)
    loss, _ = mle_loss(np.log(p), reward, np.full(40, D))
    expected = log_loss(reward, p / D) - reward.mean() * np.log(D)
    assert loss == pytest.approx(expected)


@pytest.mark.parametrize("correct", [[1, 1, 0, 0, 0, 0], [0.9, 0.4, 0.2, 0.3, 0.1, 0.05]])
def test_the_minimiser_is_the_true_policy(correct):
    """With the true D, over all labels of all answers asked equally often."""
    correct = np.array(correct, dtype=float)
    D = difficulty(correct[None])[0]

    def value(z):
        log_p = log_softmax(z)
        if (np.exp(log_p)[correct < 1] >= D).any():
            return 1e3, np.zeros(6)
        total, slope = 0.0, np.zeros(6)
        for label, weight in ((1.0, correct), (0.0, 1 - correct)):
            rows = np.flatnonzero(weight)
            for i in rows:
                loss, g = mle_loss(log_p[i : i + 1], np.array([label]), np.array([D]))
                total += weight[i] * loss
                slope += weight[i] * g[0] * (np.eye(6)[i] - np.exp(log_p))
        return total, slope

    start = np.log(D * np.maximum(correct, 0.02)) * 0.7
    found = minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    assert np.exp(log_softmax(found.x)) == pytest.approx(D * correct, abs=2e-4)


def test_the_value_is_what_the_likelihood_ascends():
    """E[calibrated reward x score] over all answers, by the gradient of the likelihood of each."""
    rng = np.random.default_rng(1)
    z, right = rng.standard_normal((1, 5)), np.array([[0.0, 1, 0, 0, 1]])
    log_p = log_softmax(z, -1)[0]
    p, D = np.exp(log_p), np.array([0.9])
    mean = np.zeros(5)
    for y in range(5):
        _, g = mle_loss(log_p[y : y + 1], right[0, y : y + 1], D)
        mean += p[y] * -g[0] * (np.eye(5)[y] - p)
    assert -value_function(z, right, D)[1][0] == pytest.approx(mean, abs=1e-14)


def test_without_difficulty_it_is_the_mean_reward():
    rng = np.random.default_rng(2)
    z, right = rng.standard_normal((3, 5)), (rng.random((3, 5)) < 0.4).astype(float)
    p = np.exp(log_softmax(z, -1))
    loss, gradient = value_function(z, right, np.full(3, 1e9))
    assert loss == pytest.approx(-(p * right).sum(1).mean())
    assert -gradient == pytest.approx(p * (right - (p * right).sum(1, keepdims=True)) / 3, abs=1e-8)


def test_surer_mistakes_cost_more():
    log_p = np.log(np.array([0.05, 0.2, 0.4]))
    push = mle_loss(log_p, np.zeros(3), np.full(3, 0.5))[1]
    assert push == pytest.approx(np.array([1 / 9, 2 / 3, 4]) / 3)


def test_a_confidence_at_the_difficulty_is_refused():
    with pytest.raises(ValueError, match="difficulty must be above"):
        mle_loss(np.log(np.array([0.5])), np.zeros(1), np.array([0.5]))
    mle_loss(np.log(np.array([0.5])), np.ones(1), np.array([0.5]))
    with pytest.raises(ValueError, match="difficulty must be above"):
        value_function(np.zeros((1, 2)), np.array([[0.0, 1.0]]), np.array([0.4]))
