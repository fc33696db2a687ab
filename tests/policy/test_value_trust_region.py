"""Theorems and limits of the value function's trust region."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.policy.value_trust_region import value_trust_region_step
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
    result = value_trust_region_step(*batch, epsilon=epsilon, damping=0.0)
    assert _divergence(*batch, result.phi) == pytest.approx(epsilon, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_slsqp_finds_the_same_step(seed):
    V, phi, states, returns = batch = _linear(seed)
    ours = value_trust_region_step(*batch, epsilon=0.005, damping=0.0, rtol=1e-12).phi
    exact = minimize(
        lambda x: ((V(x, states) - returns) ** 2).mean(),
        phi,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: 100 * (0.005 - _divergence(*batch, x))},
        options={"ftol": 1e-15, "maxiter": 500},
    ).x
    assert np.allclose(ours, exact, atol=1e-5)


def test_beyond_the_fit_when_the_constraint_is_not_active():
    """The step is always as long as the region allows: a documented property of the scaled step."""
    V, phi, states, returns = batch = _linear(1)
    design = np.column_stack([states, np.ones(len(states))])
    best = np.linalg.lstsq(design, returns, rcond=None)[0]
    far = value_trust_region_step(*batch, epsilon=4 * _divergence(*batch, best), damping=0.0).phi
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
        new = value_trust_region_step(V, phi, states, returns, epsilon=0.01).phi
        assert _divergence(V, phi, states, returns, new) < 0.02
        phi = new
    assert errors[-1] < 0.2 * errors[0]


def test_a_perfect_fit_stays():
    V, phi, states, _ = _linear(3)
    result = value_trust_region_step(V, phi, states, V(phi, states))
    assert np.array_equal(result.phi, phi) and not np.shares_memory(result.phi, phi)


@pytest.mark.parametrize(("keyword", "bad"), [("damping", -1.0), ("iterations", 0), ("rtol", 1.0)])
def test_out_of_range(keyword, bad):
    with pytest.raises(ValueError, match=f"{keyword} must lie in"):
        value_trust_region_step(*_linear(0), **{keyword: bad})
