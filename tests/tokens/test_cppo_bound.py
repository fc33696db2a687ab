"""Identity, bounds and theorem on all answers of small random policies."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax

from trref.tokens.cppo import position_weight
from trref.tokens.cppo_bound import improvement_penalty, parts_of_the_ratio, residual_bound

V, T = 3, 4
ANSWERS = np.array(list(itertools.product(range(V), repeat=T)))
PREVIOUS = np.concatenate([np.zeros((len(ANSWERS), 1), int), ANSWERS[:, :-1]], axis=1)


def _rows(table):
    """Log-probabilities (M, T, V) before each token of every answer."""
    return log_softmax(table, -1)[np.arange(T), PREVIOUS]


def _all(seed, step):
    """Of all answers: log-probabilities of the tokens under both policies, total variations, rewards in [-1, 1]."""
    rng = np.random.default_rng(seed)
    old = rng.standard_normal((T, V, V))
    rows, old_rows = _rows(old + step * rng.standard_normal(old.shape)), _rows(old)
    taken = [np.take_along_axis(r, ANSWERS[..., None], 2)[..., 0] for r in (rows, old_rows)]
    variation = abs(np.exp(rows) - np.exp(old_rows)).sum(-1) / 2
    return *taken, variation, 2 * rng.random(len(ANSWERS)) - 1


def _parts(log_prob, old_log_prob, reward):
    mu = np.exp(old_log_prob.sum(1))
    parts = parts_of_the_ratio(log_prob, old_log_prob, np.ones_like(log_prob))
    gain = float((np.exp(log_prob.sum(1)) - mu) @ reward)
    return gain, float(mu @ (parts.surrogate * reward)), float(mu @ (parts.residual * reward)), mu


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0.05, 0.5, 2.0])
def test_identity_and_bounds(seed, step):
    log_prob, old, variation, reward = _all(seed, step)
    gain, surrogate, residual, mu = _parts(log_prob, old, reward)
    assert mu.sum() == pytest.approx(1) and gain == pytest.approx(surrogate - residual, abs=1e-14)
    tight, uniform = residual_bound(np.minimum(mu @ variation, 1), variation.max(0))
    assert abs(residual) <= tight <= uniform


@pytest.mark.parametrize("w_min", [1.0, 0.8, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_theorem(w_min, seed):
    """With the thresholds and the budget that the policies just keep, the improvement is at least what it says."""
    log_prob, old, variation, reward = _all(seed, 0.3)
    gain, surrogate, _, mu = _parts(log_prob, old, reward)
    w = position_weight(np.ones((1, T)), w_min=w_min)[0]
    budget = float((np.cumsum(w * (mu @ variation)) / np.cumsum(w))[:-1].max())
    penalty = float(improvement_penalty(w, w * variation.max(0), mean_radius=budget))
    assert surrogate - penalty <= gain < surrogate + penalty


def test_the_residual_is_of_second_order():
    """And the surrogate of first."""
    sizes = [0.02, 0.01]
    parts = [_parts(*(_all(0, step)[i] for i in (0, 1, 3))) for step in sizes]
    assert parts[0][2] / parts[1][2] == pytest.approx(4, rel=0.1)
    assert parts[0][1] / parts[1][1] == pytest.approx(2, rel=0.1)


def test_the_last_token_leaves_no_residual():
    rng = np.random.default_rng(0)
    old = -rng.exponential(1.0, (6, 5))
    log_prob = old.copy()
    log_prob[:, -1] += 1.0
    assert not parts_of_the_ratio(log_prob, old, np.ones_like(old)).residual.any()
    log_prob[:, 0] += 1.0
    e = np.e - 1
    assert parts_of_the_ratio(log_prob, old, np.ones_like(old)).residual == pytest.approx(-(e**2))


@pytest.mark.parametrize("w_min", [0.01, 0.3, 0.8, 1.0])
def test_the_condition_allows_falling_weights(w_min):
    for length in (2, 5, 40):
        w = position_weight(np.ones((1, length)), w_min=w_min)[0]
        improvement_penalty(w, w)
        improvement_penalty(np.ones(length), w)
        improvement_penalty(w[::-1].copy(), w)


def test_but_not_weights_that_fall_faster():
    left = np.arange(6.0, 0.0, -1.0) / 6
    with pytest.raises(ValueError, match="position_weight must not fall faster"):
        improvement_penalty(left**2, left)
