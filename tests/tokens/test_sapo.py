"""SAPO: its gate, where its coefficient is largest, and its bound."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tests.tokens.batches import token_batch
from trref.conformance import identify
from trref.tokens.reinforce import reinforce
from trref.tokens.sapo import sapo


def _one(ratio, A, **hyper):
    d = np.log([[ratio]])
    loss, gradient = sapo(d, 0 * d, np.array([A]), np.ones((1, 1)), **hyper)
    return -loss, -gradient[0, 0]


def test_by_hand():
    """τ = ln 3 and ρ = 2: the sigmoid is 3/4, its slope 3/16; two tokens, one of them on-policy."""
    tau = math.log(3)
    value, coefficient = _one(2.0, 1.0, tau_pos=tau)
    assert value == pytest.approx(3 / tau) and coefficient == pytest.approx(2 * 4 * 3 / 16)
    d = np.log([[2.0, 1.0, 9.0]])
    loss, gradient = sapo(d, 0 * d, np.array([-2.0]), np.array([[1.0, 1.0, 0.0]]), tau_neg=tau)
    assert loss == pytest.approx(2 * (3 / tau + 2 / tau) / 2)
    assert np.allclose(gradient, [[1.5, 1.0, 0.0]], rtol=1e-9)


@pytest.mark.parametrize("tau, at, height", [(1.0, 2.06, 1.57), (1.05, 1.99, 1.54), (5.0, 1.08, 1.04)])
def test_where_the_coefficient_is_largest(tau, at, height):
    best = minimize_scalar(
        lambda r: -_one(r, 1.0, tau_pos=tau)[1], bounds=(0.5, 5), method="bounded", options={"xatol": 1e-9}
    )
    assert best.x == pytest.approx(at, abs=0.01) and -best.fun == pytest.approx(height, abs=0.01)
    assert best.x * tau * math.tanh(tau / 2 * (best.x - 1)) == pytest.approx(1, abs=1e-6)


def test_a_growing_token_is_first_amplified():
    assert _one(3.46, 1.0)[1] > 1 > _one(3.48, 1.0)[1]


@pytest.mark.parametrize("tau_pos, tau_neg", [(1.0, 1.05), (1.0, 1.0)])
def test_bound(tau_pos, tau_neg):
    log_prob, old, advantage, mask = token_batch(0, B=64, spread=3.0)
    fresh = reinforce(old, advantage, mask, aggregation="seq_mean")[1]
    ours = sapo(log_prob, old, advantage, mask, tau_pos=tau_pos, tau_neg=tau_neg)[1]
    assert (abs(ours) <= 1.58 * abs(fresh)).all()


def test_near_the_old_policy():
    """The gate, less its value at 1, is (ρ - 1) - τ²/12 (ρ - 1)³ up to fifth order."""
    tau = 2.0
    for h in (0.1, 0.05):
        rest = _one(1 + h, 1.0, tau_pos=tau)[0] - 2 / tau - (h - tau**2 / 12 * h**3)
        assert abs(rest) < tau**4 / 120 * h**5 * 1.2


def test_an_advantage_of_zero_has_no_temperature():
    log_prob, old, advantage, mask = token_batch(1)
    for tau in (0.5, 3.0):
        loss, gradient = sapo(log_prob, old, 0 * advantage, mask, tau_neg=tau)
        assert loss == 0 and not gradient.any()


def test_far_away_it_is_silent():
    assert _one(math.exp(25), -1.0)[1] == 0 and _one(math.exp(-25), -1.0)[1] == pytest.approx(0, abs=1e-10)


def _mine(log_prob, old_log_prob, advantage, mask, tau_pos=1.0, tau_neg=1.05):
    """Token by token, with hyperbolic functions."""
    B, value, gradient = len(mask), 0.0, np.zeros_like(mask)
    for i, t in zip(*np.nonzero(mask), strict=True):
        A = advantage[i] if advantage.ndim == 1 else advantage[i, t]
        tau, n = (tau_pos if A > 0 else tau_neg), mask[i].sum()
        ratio = math.exp(log_prob[i, t] - old_log_prob[i, t])
        half = tau / 2 * (ratio - 1)
        value += 2 / tau * (1 + math.tanh(half)) * A / (B * n)
        gradient[i, t] = ratio * A / math.cosh(min(half, 300)) ** 2 / (B * n)
    return -value, -gradient


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["sapo.sapo"]
