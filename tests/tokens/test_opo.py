"""OPO: by hand, what its advantages sum to, and its bias by enumeration of all groups."""

import numpy as np
import pytest
from scipy.special import softmax

from tests.tokens.groups import expected_gradient
from trref.conformance import identify
from trref.tokens.opo import opo_advantage


def _mask(lengths):
    return (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(float)


def test_by_hand():
    """Rewards 1, 0 of lengths 1 and 3: the baseline is 1/4; without the answer itself 0 and 1."""
    reward, group, mask = np.array([1.0, 0.0, 5.0]), np.array([0, 0, 3]), _mask([1, 3, 2])
    assert np.allclose(opo_advantage(reward, group, mask), [0.75, -0.25, 0], rtol=1e-9)
    assert np.allclose(opo_advantage(reward, group, mask, baseline="leave_one_out"), [1, -1, 0], rtol=1e-9)


def test_weighted_by_lengths_they_sum_to_zero():
    rng = np.random.default_rng(0)
    reward, group, lengths = rng.standard_normal(12), np.repeat([0, 1, 2], 4), rng.integers(1, 9, 12)
    total = lengths * opo_advantage(reward, group, _mask(lengths))
    assert np.allclose([total[group == g].sum() for g in range(3)], 0, atol=1e-13, rtol=1e-9)


def test_equal_rewards_and_missing_tokens_give_exactly_zero():
    mask = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    for baseline in ("all", "leave_one_out"):
        assert not opo_advantage(np.full(3, 0.1), np.zeros(3, int), mask, baseline=baseline).any()
        alone = opo_advantage(np.array([1.0, 0.0]), np.zeros(2, int), mask[:2], baseline=baseline)
        assert alone[0] == 0 and (alone[1] == -1)


@pytest.mark.parametrize("seed", range(3))
def test_only_without_the_answer_itself_is_it_unbiased(seed):
    rng = np.random.default_rng(seed)
    reward, logits, lengths = rng.standard_normal(4), rng.standard_normal(4), np.array([1, 3, 9, 20])

    def advantage(baseline):
        return lambda c: opo_advantage(reward[c], np.zeros(3, int), _mask(lengths[c]), baseline=baseline)

    mean, true = expected_gradient(advantage("leave_one_out"), reward, logits, 3)
    assert np.allclose(mean, true, atol=1e-14, rtol=1e-9)
    mean, _ = expected_gradient(advantage("all"), reward, logits, 3)
    size, cosine = np.linalg.norm(mean) / np.linalg.norm(true), mean @ true
    cosine /= np.linalg.norm(mean) * np.linalg.norm(true)
    assert size < 0.95 and cosine < 0.9999, "it shrinks and turns"


def test_the_best_constant_baseline():
    """E[r ‖S‖²] / E[‖S‖²] minimises the trace of the covariance of (r - b) S."""
    rng = np.random.default_rng(1)
    p, reward = softmax(rng.standard_normal(5)), rng.standard_normal(5)
    score = np.eye(5) - p
    squares = (score**2).sum(1)

    def variance(b):
        each = (reward - b)[:, None] * score
        return p @ (each**2).sum(1) - ((p @ each) ** 2).sum()

    best = (p @ (reward * squares)) / (p @ squares)
    assert variance(best) < min(variance(best + 0.01), variance(best - 0.01))
    # squared scores in the place of lengths: with all answers in their shares, OPO's baseline is the best one
    counts = np.array([3, 1, 2])
    rows = np.repeat(np.arange(3), counts)
    lengths = np.array([2, 5, 9])
    A = opo_advantage(reward[rows], np.zeros(6, int), _mask(lengths[rows]))
    weight = counts * lengths
    assert np.allclose(reward[rows] - A, (weight @ reward[:3]) / weight.sum(), rtol=1e-9)


def _mine(reward, group, mask):
    found = np.zeros(len(reward))
    for g in np.unique(group):
        rows, lengths = group == g, mask[group == g].sum(1)
        if lengths.sum() > 0:
            found[rows] = reward[rows] - (lengths @ reward[rows]) / lengths.sum()
    return found


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["opo.opo_advantage"]
