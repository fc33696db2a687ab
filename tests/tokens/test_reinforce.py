"""The policy gradient by hand, and by enumeration of all answers of a small policy."""

import itertools
import math

import numpy as np
import pytest

from trref.checks import check_gradient
from trref.tokens.grpo import group_advantage
from trref.tokens.reinforce import reinforce

V, END = 3, 0  # an answer is one token, the end, or a second one after it
ANSWERS = [(END,), *itertools.product((1, 2), range(V))]
REWARD = np.array([0.3, 1.0, 0.0, 2.0, 0.5, 1.5, -0.4])


def _log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def _tokens(theta):
    """Log-probabilities of the tokens of each answer (7, 2), their mask, and their gradient (7, 2, P)."""
    rows = theta.reshape(V, V)  # of the first token; of the second one after 1, after 2
    log_prob, mask, slope = np.zeros((7, 2)), np.zeros((7, 2)), np.zeros((7, 2, V, V))
    for i, answer in enumerate(ANSWERS):
        for t, (row, token) in enumerate(zip((0, answer[0]), answer, strict=False)):
            log_p = _log_softmax(rows[row])
            log_prob[i, t], mask[i, t] = log_p[token], 1.0
            slope[i, t, row] = np.eye(V)[token] - np.exp(log_p)
    return log_prob, mask, slope.reshape(7, 2, -1)


def _mean_reward(theta, reward=REWARD):
    log_prob, mask, _ = _tokens(theta)
    return float(np.exp((mask * log_prob).sum(1)) @ reward)


def _estimates(theta, size, baseline, **hyper):
    """The probability of every batch of answers to one prompt, and the gradient that REINFORCE ascends on it."""
    log_prob, mask, slope = _tokens(theta)
    p = np.exp((mask * log_prob).sum(1))
    batches = [list(batch) for batch in itertools.product(range(7), repeat=size)]
    gradients = []
    for batch in batches:
        advantage = baseline(REWARD[batch])
        _, g = reinforce(log_prob[batch], advantage, mask[batch], **hyper)
        gradients.append(-np.einsum("bt,btp->p", g, slope[batch]))
    return np.array([math.prod(p[batch]) for batch in batches]), np.array(gradients)


def _ascends(value, gradient):
    check_gradient(value, THETA, gradient, rng=np.random.default_rng(1))


def _one_group(**hyper):
    return lambda reward: group_advantage(reward, np.zeros(len(reward), int), std="none", **hyper)


BASELINES = {"none": lambda reward: reward, "a constant": lambda reward: reward - 0.7}
UNBIASED = {**BASELINES, "the other answers": _one_group(baseline="leave_one_out")}
THETA = 0.8 * np.random.default_rng(0).standard_normal(V * V)

BY_HAND = {
    "sum": ({}, 2.75, [[-1, -1], [0.5, 0]]),
    "sum over 4": ({"max_length": 4}, 0.6875, [[-0.25, -0.25], [0.125, 0]]),
    "mean over answers": ({"aggregation": "seq_mean"}, 1.25, [[-0.5, -0.5], [0.5, 0]]),
    "mean over tokens": ({"aggregation": "token_mean"}, 5.5 / 3, [[-2 / 3, -2 / 3], [1 / 3, 0]]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    """Advantages 2 and -1; log-probabilities -1, -2 and -0.5."""
    hyper, loss, gradient = BY_HAND[name]
    batch = np.array([[-1.0, -2.0], [-0.5, -9.0]]), np.array([2.0, -1.0]), np.array([[1.0, 1.0], [1.0, 0.0]])
    result = reinforce(*batch, **hyper)
    assert result[0] == pytest.approx(loss) and np.allclose(result[1], gradient, rtol=1e-15)


@pytest.mark.parametrize("name", UNBIASED)
def test_the_mean_is_the_gradient_of_the_mean_reward(name):
    p, gradients = _estimates(THETA, 2, UNBIASED[name])
    assert p.sum() == pytest.approx(1)
    _ascends(_mean_reward, p @ gradients)


@pytest.mark.parametrize("size", [2, 3])
def test_a_baseline_that_counts_the_answer_itself_is_a_factor(size):
    p, gradients = _estimates(THETA, size, _one_group())
    _ascends(lambda theta: (1 - 1 / size) * _mean_reward(theta), p @ gradients)


def test_the_mean_over_tokens_favours_short_answers():
    """It ascends the mean of reward over length, whose gradient points elsewhere."""
    length = _tokens(THETA)[1].sum(1)
    p, gradients = _estimates(THETA, 1, BASELINES["none"], aggregation="seq_mean")
    mean = p @ gradients
    _ascends(lambda theta: _mean_reward(theta, REWARD / length), mean)
    p, gradients = _estimates(THETA, 1, BASELINES["none"])
    wanted = p @ gradients
    assert mean @ wanted < 0.97 * np.linalg.norm(mean) * np.linalg.norm(wanted)


def test_a_baseline_lowers_the_variance():
    """By how much is a parabola in a constant baseline, lowest at the mean of reward, weighted by squared scores."""

    def variance(baseline, size=1):
        p, gradients = _estimates(THETA, size, baseline)
        return float(p @ ((gradients - p @ gradients) ** 2).sum(1))

    p, score = _estimates(THETA, 1, np.ones_like)
    squares = p * (score**2).sum(1)
    best = (squares @ REWARD) / squares.sum()
    mean = float(p @ REWARD)
    for b in (0.0, mean, 2.0):
        excess = variance(lambda r, b=b: r - b) - variance(lambda r: r - best)
        assert excess == pytest.approx(squares.sum() * (b - best) ** 2, rel=1e-9)
    assert variance(lambda r: r - mean) < 0.7 * variance(BASELINES["none"])
    leave_one_out, none = variance(UNBIASED["the other answers"], 3), variance(BASELINES["none"], 3)
    assert leave_one_out < 0.85 * none, "three answers to a prompt are enough for a useful baseline"


@pytest.mark.parametrize("name", ["group_token_mean", "sum"])
def test_unknown_averages(name):
    with pytest.raises(ValueError, match="aggregation must be one of"):
        reinforce(-np.ones((2, 2)), np.ones(2), np.ones((2, 2)), aggregation=name)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf])
def test_the_constant_must_be_positive(bad):
    with pytest.raises(ValueError, match="max_length must lie in"):
        reinforce(-np.ones((2, 2)), np.ones(2), np.ones((2, 2)), max_length=bad)
