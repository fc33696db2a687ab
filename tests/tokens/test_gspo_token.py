"""GSPO-token: by hand, as no gradient of any function, and against GSPO."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.checks import check_gradient
from trref.conformance import identify, verify
from trref.tokens.gspo import gspo, mean_log_ratio
from trref.tokens.gspo_token import gspo_token

WIDE = {"clip_low": 0.2, "clip_high": 0.28}


def _each(seed):
    log_prob, old, _, mask = token_batch(seed, spread=0.2)
    return log_prob, old, np.random.default_rng(seed).standard_normal(mask.shape), mask


def test_by_hand():
    """Ratios 1.5 and 0.96, geometric mean 1.2; advantages 1 and -2: the good token is clipped, the bad one is not."""
    batch = np.log([[1.5, 0.96]]), np.zeros((1, 2)), np.array([[1.0, -2.0]]), np.ones((1, 2))
    loss, gradient = gspo_token(*batch, clip_low=0.1, clip_high=0.1)
    assert loss == pytest.approx(-(1.1 - 2.4) / 2)
    assert np.allclose(gradient, [[0, 1.2]], rtol=1e-9)
    assert np.allclose(gspo(*batch, clip_low=0.1, clip_high=0.1)[1], [[0.6, 0.6]], rtol=1e-9), "GSPO spreads it"


def test_the_value_is_that_of_gspo_and_the_gradient_is_not():
    batch = _each(0)
    ours, other = gspo_token(*batch, **WIDE), gspo(*batch, **WIDE)
    assert ours[0] == pytest.approx(other[0], rel=1e-13)
    assert np.allclose(ours[1].sum(1), other[1].sum(1), rtol=1e-9) and not np.allclose(ours[1], other[1])


def test_ratio_and_probability_have_to_be_held_constant():
    log_prob, old, advantage, mask = _each(1)
    held, rng = {"log_ratio": mean_log_ratio(log_prob, old, mask), "held_log_prob": log_prob}, np.random.default_rng(1)
    gradient = gspo_token(log_prob, old, advantage, mask, **WIDE)[1]

    def loss(x, **constants):
        return gspo_token(x, old, advantage, mask, **WIDE, **constants)[0]

    check_gradient(lambda x: loss(x, **held), log_prob, gradient, rng=rng)
    with pytest.raises(AssertionError):
        check_gradient(loss, log_prob, gradient, rng=rng)


def test_it_is_no_gradient():
    """The derivatives of two coefficients by each other's log-probability differ by s (A_t - A_u) / (B n²)."""
    log_prob, old = np.full((1, 3), -1.0), np.full((1, 3), -1.1)
    A, mask, free = np.array([[1.0, -0.5, 2.0]]), np.ones((1, 3)), {"clip_low": 1e9, "clip_high": 1e9}

    def coefficient(x):
        return -gspo_token(x, old, A, mask, **free)[1][0]

    steps = 1e-5 * np.eye(3)
    slopes = np.array([(coefficient(log_prob + e) - coefficient(log_prob - e)) / 2e-5 for e in steps])
    curl = slopes.T - slopes  # [t, u]: of c_t by u, less of c_u by t
    expected = math.exp(0.1) * (A[0][:, None] - A[0][None]) / 9
    assert np.allclose(curl, expected, atol=1e-9, rtol=1e-9)


def test_the_clip_acts_on_one_sign():
    """Above the interval the bad tokens alone move, below it the good ones."""
    old, A, mask = np.full((1, 4), -1.0), np.array([[1.0, -1.0, 2.0, -2.0]]), np.ones((1, 4))
    above, below = (gspo_token(old + d, old, A, mask)[1][0] for d in (8e-4, -8e-4))
    assert (above[[0, 2]] == 0).all() and (above[[1, 3]] > 0).all()
    assert (below[[1, 3]] == 0).all() and (below[[0, 2]] < 0).all()


def _mine(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
    """Written from the equations, token by token."""
    value, gradient, B = 0.0, np.zeros_like(mask), len(mask)
    for i in range(B):
        n = int(mask[i].sum())
        s = math.exp(((log_prob[i] - old_log_prob[i]) * mask[i]).sum() / n) if n else 1.0
        inside = min(max(s, 1 - clip_low), 1 + clip_high)
        for t in np.flatnonzero(mask[i]):
            A = advantage[i] if advantage.ndim == 1 else advantage[i, t]
            value += min(s * A, inside * A) / (B * n)
            gradient[i, t] = s * A / (B * n) if s * A <= inside * A else 0.0
    return -value, -gradient


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["gspo_token.gspo_token"]
    assert verify("gspo_token.gspo_token", _mine).conforms
    judged = str(verify("gspo.gspo", _mine))
    assert "only with advantages of tokens" in judged and "it computes gspo_token.gspo_token" in judged
