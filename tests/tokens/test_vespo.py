"""VESPO: its kernel, where it is largest, and what it is the gradient of."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from tests.tokens.batches import token_batch
from trref.conformance import identify
from trref.tokens.vespo import gamma_weight, vespo


def _kernel(W, sign, **hyper):
    d = np.log([[W]])
    return float(gamma_weight(d, 0 * d, np.array([sign]), np.ones((1, 1)), **hyper)[0, 0])


def test_by_hand():
    """Token ratios 2, 1/2 and 3, so W = 3; the second answer has W = 1/4, the third has no tokens."""
    d = np.log([[2.0, 0.5, 3.0], [0.25, 9.0, 9.0], [5.0, 5.0, 5.0]])
    mask = np.array([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])
    A, old = np.array([2.0, -1.0, 1.0]), np.full((3, 3), -3.0)
    loss, gradient = vespo(old + d, old, A, mask)
    good, bad = 9 * math.exp(-6), 0.25**3 * math.exp(1.5)
    expected = -np.array([[2 * good] * 3, [-bad, 0, 0], [0, 0, 0]]) / 4
    assert np.allclose(gradient, expected, rtol=1e-12, atol=0)
    assert loss == pytest.approx((expected * (old + d)).sum(), rel=1e-12)


@pytest.mark.parametrize(("sign", "k", "rate"), [(1.0, 2.0, 3.0), (-1.0, 3.0, 2.0)])
def test_where_the_kernel_is_largest(sign, k, rate):
    top, height = k / rate, (k / rate) ** k * math.exp(rate - k)
    assert _kernel(top, sign) == pytest.approx(height, rel=1e-13) and _kernel(1.0, sign) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    assert all(_kernel(top * math.exp(step), sign) < height for step in rng.uniform(-3, 3, 40))


def test_the_numbers_of_the_page():
    assert _kernel(2 / 3, 1.0) == pytest.approx(1.21, abs=0.005) and _kernel(1.5, -1.0) == pytest.approx(
        1.24, abs=0.005
    )
    assert _kernel(2.0, 1.0) == pytest.approx(0.20, abs=0.005) and _kernel(2.0, -1.0) == pytest.approx(1.08, abs=0.005)


@pytest.mark.parametrize("W", [0.4, 1.0, 2.5])
def test_it_is_the_gradient_of_an_incomplete_gamma_function(W):
    """d f / d log W = φ(W), by differences of the integral of φ(u) / u."""

    def f(end):
        return quad(lambda u: u * math.exp(3 * (1 - u)), 0, end, epsabs=1e-13)[0]

    h = 1e-4
    slope = (f(W * math.exp(h)) - f(W * math.exp(-h))) / (2 * h)
    assert slope == pytest.approx(_kernel(W, 1.0), rel=1e-6)


def test_coefficients_are_bounded_for_either_sign():
    log_prob, old, advantage, mask = token_batch(0, B=64, spread=3.0)
    gradient = vespo(log_prob, old, advantage, mask)[1]
    assert (abs(gradient) * mask.sum() <= 1.2416 * abs(advantage)[:, None]).all()


def test_each_token_has_the_constants_of_its_own_sign():
    d, mask = np.log([[2.0, 1.0]]), np.ones((1, 2))
    weight = gamma_weight(d, 0 * d, np.array([[1.0, -1.0]]), mask)
    assert weight[0] == pytest.approx([_kernel(2.0, 1.0), _kernel(2.0, -1.0)], rel=1e-14)


def test_the_mean_ratio_of_importance_weights_is_one():
    """With k = 1 and λ = 0 an answer's expected weight under the old policy is 1: exact sum over all answers."""
    rng = np.random.default_rng(1)
    old, new = (np.log(rng.dirichlet(np.ones(3), 2)) for _ in range(2))
    plain = {"k_pos": 1.0, "lambda_pos": 0.0}
    pairs = [(a, b) for a in range(3) for b in range(3)]
    log_old = np.array([[old[0, a], old[1, b]] for a, b in pairs])
    log_new = np.array([[new[0, a], new[1, b]] for a, b in pairs])
    weight = gamma_weight(log_new, log_old, np.ones(9), np.ones((9, 2)), **plain)[:, 0]
    assert (np.exp(log_old.sum(1)) * weight).sum() == pytest.approx(1.0, rel=1e-12)


def _mine(log_prob, old_log_prob, advantage, mask, k_pos=2.0, lambda_pos=3.0, k_neg=3.0, lambda_neg=2.0):
    """Answer by answer, with a product of ratios."""
    gradient = np.zeros_like(mask)
    for i in range(len(mask)):
        tokens = np.flatnonzero(mask[i])
        W = min(math.prod(math.exp(log_prob[i, t] - old_log_prob[i, t]) for t in tokens), math.exp(20))
        for t in tokens:
            A = advantage[i] if advantage.ndim == 1 else advantage[i, t]
            k, rate = (k_pos, lambda_pos) if A >= 0 else (k_neg, lambda_neg)
            gradient[i, t] = -(W**k) * math.exp(rate - rate * W) * A / mask.sum()
    return (gradient * log_prob).sum(), gradient


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["vespo.vespo"]
