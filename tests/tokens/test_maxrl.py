"""MaxRL: by hand, and what its estimators expect, by enumeration of all groups."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from tests.tokens.groups import expected_gradient
from trref.checks import check_gradient
from trref.conformance import identify
from trref.tokens.maxrl import maxrl_advantage, maxrl_weight, truncated_weight

RIGHT = np.array([1.0, 0, 0, 1.0])
LOGITS = np.array([-1.0, 0.5, 1.0, -0.3])


def test_by_hand():
    """One of four right; all right; none right; a group of one."""
    reward, group = np.array([1.0, 0, 0, 0, 1, 1, 0, 0, 1]), np.array([0, 0, 0, 0, 5, 5, 2, 2, 9])
    assert np.allclose(maxrl_weight(reward, group), [4, 0, 0, 0, 1, 1, 0, 0, 1], rtol=1e-9)
    assert np.allclose(maxrl_advantage(reward, group), [3, -1, -1, -1, 0, 0, 0, 0, 0], rtol=1e-9)
    assert np.allclose(maxrl_advantage(reward, group, eps=0.25)[:4], [1.5, -0.5, -0.5, -0.5], rtol=1e-9)


@pytest.mark.parametrize("G", [2, 3, 4])
def test_what_they_expect(G):
    """The weight's mean is the gradient of order G, that of the centred one of order G - 1."""
    one, p = np.zeros(G, int), softmax(LOGITS) @ RIGHT
    for estimator, order in ((maxrl_weight, G), (maxrl_advantage, G - 1)):
        mean, gradient_of_p = expected_gradient(lambda c, f=estimator: f(RIGHT[c], one), RIGHT, LOGITS, G)
        weight = truncated_weight(np.array([p]), order=order)[0]
        assert np.allclose(mean, weight * gradient_of_p, atol=1e-14, rtol=1e-9), estimator
        assert weight == pytest.approx((1 - (1 - p) ** order) / p)


def test_with_minus_one_for_hopeless_groups_no_order_is_lost():
    G, one = 3, np.zeros(3, int)

    def advantage(chosen):
        return maxrl_advantage(RIGHT[chosen], one) - (RIGHT[chosen].sum() == 0)

    mean, gradient_of_p = expected_gradient(advantage, RIGHT, LOGITS, G)
    p = softmax(LOGITS) @ RIGHT
    assert np.allclose(mean, truncated_weight(np.array([p]), order=G) * gradient_of_p, atol=1e-14, rtol=1e-9)


def test_the_weight_is_a_derivative():
    """Of the truncated series of log p; for many terms it is 1/p."""
    p = np.array([0.1, 0.4, 0.9])
    for order in (1, 2, 5):
        check_gradient(
            lambda x, T=order: -sum(((1 - x) ** k / k).sum() for k in range(1, T + 1)),
            p,
            truncated_weight(p, order=order),
            rng=np.random.default_rng(order),
        )
    assert np.allclose(truncated_weight(p, order=400), 1 / p, rtol=1e-9)
    assert -sum(0.6**k / k for k in range(1, 200)) == pytest.approx(math.log(0.4))


def test_sums_and_bounds():
    rng = np.random.default_rng(0)
    reward, group = (rng.random(40) < 0.3).astype(float), np.repeat(np.arange(5), 8)
    A = maxrl_advantage(reward, group)
    assert np.allclose([A[group == g].sum() for g in range(5)], 0, atol=1e-13, rtol=1e-9)
    assert A.max() <= 7 and A.min() >= -1
    assert (truncated_weight(rng.random(20), order=7) <= 7).all()


def test_rewards_have_to_be_binary():
    with pytest.raises(ValueError, match="reward"):
        maxrl_advantage(np.array([0.5, 1.0]), np.zeros(2, int))


def _mine(reward, group):
    found = []
    for i in range(len(reward)):
        inside = reward[group == group[i]]
        found.append((reward[i] - inside.mean()) / inside.mean() if inside.any() else 0.0)
    return np.array(found)


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["maxrl.maxrl_advantage"]
