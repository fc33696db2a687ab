"""Theorems and limits of the value function's trust region."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.policy.gae_value_trust_region import value_trust_region_step
from trref.problems.policies import ValueNetwork


def _linear(seed, n=30):
    rng = np.random.default_rng(seed)
    V = ValueNetwork((3, 1))
    return V, rng.standard_normal(V.size), rng.standard_normal((n, 3)), 5 * rng.standard_normal(n)


def _divergence(V, phi, states, returns, new):
    change, error = V(new, states) - V(phi, states), V(phi, states) - returns
    return (change**2).mean() / (2 * (error**2).mean())


@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 0.05])
def test_equality_for_a_linear_value_function(epsilon):
    batch = _linear(0)
    result = value_trust_region_step(*batch, delta=epsilon, damping=0.0)
    assert _divergence(*batch, result.theta) == pytest.approx(epsilon, rel=1e-9)


@pytest.mark.parametrize("damping", [0.1, 3.0])
def test_damping_counts_in_the_direction_and_in_the_length(damping):
    """A dense solution: (J'J / N + damping I) s = -g, brought to the damped model's boundary, inside the other."""
    V, theta, states, targets = batch = _linear(0)
    J, error = np.column_stack([states, np.ones(len(states))]), V(theta, states) - targets
    H = (J.T @ J / len(J) + damping * np.eye(J.shape[1])) / (error**2).mean()
    s = -np.linalg.solve(H, 2 * J.T @ error)
    result = value_trust_region_step(*batch, delta=0.01, damping=damping, rtol=1e-12)
    assert np.allclose(result.theta - theta, np.sqrt(0.02 / (s @ H @ s)) * s, rtol=1e-9)
    assert 0.1 * 0.01 < _divergence(*batch, result.theta) < 0.99 * 0.01


@pytest.mark.parametrize("seed", range(3))
def test_slsqp_finds_the_same_step(seed):
    V, phi, states, returns = batch = _linear(seed)
    ours = value_trust_region_step(*batch, delta=0.005, damping=0.0, rtol=1e-12).theta
    exact = minimize(
        lambda x: ((V(x, states) - returns) ** 2).mean(),
        phi,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: 100 * (0.005 - _divergence(*batch, x))},
        options={"ftol": 1e-15, "maxiter": 500},
    ).x
    assert np.allclose(ours, exact, atol=1e-5, rtol=1e-9)


def test_beyond_the_fit_when_the_constraint_is_not_active():
    """The step is always as long as the region allows: a documented property of the scaled step."""
    V, phi, states, returns = batch = _linear(1)
    design = np.column_stack([states, np.ones(len(states))])
    best = np.linalg.lstsq(design, returns, rcond=None)[0]
    far = value_trust_region_step(*batch, delta=4 * _divergence(*batch, best), damping=0.0).theta
    assert np.allclose(far - phi, 2 * (best - phi), rtol=1e-6)
    error = lambda x: ((V(x, states) - returns) ** 2).mean()  # noqa: E731
    assert error(best) < error(far) == pytest.approx(error(phi), rel=1e-6)


def test_a_network_stays_near_the_bound_and_improves():
    rng = np.random.default_rng(2)
    V, states = ValueNetwork((3, 16, 1)), rng.standard_normal((200, 3))
    phi, returns = V.init(rng), np.sin(2 * states[:, 0]) + states[:, 1]
    errors = []
    for _ in range(60):
        errors.append(((V(phi, states) - returns) ** 2).mean())
        new = value_trust_region_step(V, phi, states, returns, delta=0.01).theta
        assert _divergence(V, phi, states, returns, new) < 0.02
        phi = new
    assert errors[-1] < 0.2 * errors[0]


def test_a_perfect_fit_stays():
    V, phi, states, _ = _linear(3)
    result = value_trust_region_step(V, phi, states, V(phi, states))
    assert np.array_equal(result.theta, phi) and not np.shares_memory(result.theta, phi)


@pytest.mark.parametrize(("keyword", "bad"), [("damping", -1.0), ("iterations", 0), ("rtol", 1.0)])
def test_out_of_range(keyword, bad):
    with pytest.raises(ValueError, match=f"{keyword} must lie in"):
        value_trust_region_step(*_linear(0), **{keyword: bad})
