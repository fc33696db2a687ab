"""Theorems and limits of spo."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.policy.ppo import clipped_surrogate, unclipped_surrogate
from trref.policy.spo import penalised_surrogate, return_bound, tabular_optimum
from trref.policy.trpo_improvement import expected_return, lower_bound
from trref.problems.mdp import random_mdp


def _softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _at(ratio, A, **hyper):
    """Loss and derivative of one sample."""
    return penalised_surrogate(np.log([ratio]) - 1, np.array([-1.0]), np.array([float(A)]), **hyper)


def test_numbers_by_hand():
    """Ratio 1.5, advantage 2, radius 0.2: 3 - 2/0.4 * 0.25 = 1.75; derivative 1.5 (2 - 10 * 0.5) = -4.5."""
    loss, gradient = _at(1.5, 2)
    assert loss == pytest.approx(-1.75) and gradient == pytest.approx([4.5])


@pytest.mark.parametrize("A", [-3.0, -0.1, 0.4, 2.0])
@pytest.mark.parametrize("radius", [0.1, 0.35])
def test_the_top_of_a_term(radius, A):
    """At 1 + ε sign A its value is A + ε|A|/2; on a grid there is no higher one, and the term is concave."""
    top = 1 + radius * math.copysign(1, A)
    loss, gradient = _at(top, A, radius=radius)
    assert -loss == pytest.approx(A + radius / 2 * abs(A)) and gradient == pytest.approx([0.0], abs=1e-12)
    values = np.array([-_at(r, A, radius=radius)[0] for r in np.linspace(0.2, 2.5, 231)])
    assert (values <= -loss + 1e-12).all() and (np.diff(values, 2) < 0).all()


def test_it_brings_back_what_ppo_lets_go():
    """A ratio of 2 with a positive advantage: PPO is flat there, SPO pulls back."""
    new, old, A = np.log([2.0]) - 1, np.array([-1.0]), np.array([1.0])
    assert clipped_surrogate(new, old, A)[1] == 0 and penalised_surrogate(new, old, A)[1] > 0


def test_at_the_old_policy_it_is_the_policy_gradient():
    rng = np.random.default_rng(0)
    old, A = -rng.exponential(1.0, 9), rng.standard_normal(9)
    assert np.array_equal(penalised_surrogate(old, old, A)[1], unclipped_surrogate(old, old, A)[1])


def test_without_a_radius_it_is_the_surrogate_and_the_scale_of_advantages_does_not_matter():
    rng = np.random.default_rng(1)
    old, A = -rng.exponential(1.0, 9), rng.standard_normal(9)
    new = old + 0.3 * rng.standard_normal(9)
    assert penalised_surrogate(new, old, A, radius=1e12)[0] == pytest.approx(float(unclipped_surrogate(new, old, A)[0]))
    ours, scaled = (penalised_surrogate(new, old, c * A)[1] for c in (1, 7))
    assert np.allclose(scaled, 7 * ours, rtol=1e-9, atol=1e-12)


def test_a_constant_weight_would_be_chi_square():
    """E_old (r - 1)² is χ²(new‖old)."""
    rng = np.random.default_rng(2)
    p, q = _softmax(rng.standard_normal((2, 6)))
    assert (q * (p / q - 1) ** 2).sum() == pytest.approx(((p - q) ** 2 / q).sum())


@pytest.mark.parametrize("seed", range(20))
def test_no_return_falls_below_the_bound(seed):
    """Exactly, on random processes, for policies near and far; and by the same symbols it is tight at the old one."""
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=5, actions=3, gamma=float(rng.choice([0.5, 0.9, 0.99])))
    old = rng.standard_normal((5, 3))
    new = old + rng.choice([0.05, 0.5, 2.0]) * rng.standard_normal((5, 3))
    bound = return_bound(new, old, mdp)
    assert bound <= -expected_return(new, mdp)[0] + 1e-10
    assert return_bound(old, old, mdp) == pytest.approx(-float(expected_return(old, mdp)[0]))
    assert bound >= lower_bound(new, old, mdp, divergence="kl") - 1e-9, "it is no looser than TRPO's"


def test_half_the_radius_bounds_the_variation():
    p = _softmax(np.random.default_rng(3).standard_normal((1, 6)))
    r = tabular_optimum(np.log(p), np.random.default_rng(4).standard_normal((1, 6)), radius=0.2)
    far = abs(r - 1).max()
    assert 0.5 * (p * abs(r - 1)).sum() <= far / 2 + 1e-12


def _gain(r, p, A, radius):
    return (p * (r * A - abs(A) / (2 * radius) * (r - 1) ** 2)).sum()


@pytest.mark.parametrize("radius", [0.2, 0.9, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_against_slsqp(seed, radius):
    rng = np.random.default_rng(seed)
    old, A = rng.standard_normal((1, 5)), rng.standard_normal((1, 5))
    p, r = _softmax(old)[0], tabular_optimum(old, A, radius=radius)[0]
    best = minimize(
        lambda x: -_gain(x, p, A[0], radius),
        np.ones(5),
        method="SLSQP",
        bounds=[(0, None)] * 5,
        constraints=[{"type": "eq", "fun": lambda x: p @ x - 1}],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert p @ r == pytest.approx(1) and (r >= 0).all()
    assert _gain(r, p, A[0], radius) >= -best.fun - 1e-9 and r == pytest.approx(best.x, abs=1e-4)


def test_the_optimum_in_closed_form():
    """Where no ratio is 0: μ is Σ p sign A over Σ p / |A|."""
    old, A = np.array([[0.3, -0.2, 0.5]]), np.array([[1.0, -2.0, 0.5]])
    p = _softmax(old)
    mu = (p * np.sign(A)).sum() / (p / abs(A)).sum()
    assert np.allclose(tabular_optimum(old, A), 1 + 0.2 * (np.sign(A) - mu / abs(A)), rtol=1e-12, atol=1e-13)


def test_gradient_ascent_ends_there():
    """On the logits, with the exact mean over the actions of one state: each action is a sample, weighed by its p."""
    old, A = np.array([0.3, -0.2, 0.5]), np.array([1.0, -2.0, 0.5])
    p, z = _softmax(old), old
    for _ in range(6000):
        q = _softmax(z)
        _, d = penalised_surrogate(np.log(q), np.log(p), A)
        z = z - 0.5 * (3 * p * d) @ (np.eye(3) - q)
    assert _softmax(z) / p == pytest.approx(tabular_optimum(old[None], A[None])[0], abs=1e-8)


def test_actions_without_an_advantage_share_what_is_left():
    old = np.log([[0.5, 0.3, 0.2]])
    r = tabular_optimum(old, np.array([[1.0, 0.0, 0.0]]))[0]
    assert r == pytest.approx([1.2, 0.8, 0.8])
    assert tabular_optimum(old, np.zeros((1, 3))) == pytest.approx(np.ones((1, 3)))
    r = tabular_optimum(np.log([[0.9, 0.01, 0.09]]), np.array([[1.0, 0.0, -1.0]]))[0]
    assert r[1] == 0 and np.array([0.9, 0.01, 0.09]) @ r == pytest.approx(1), "nothing is left for the second"


def test_refused():
    with pytest.raises(ValueError, match="radius"):
        _at(1.0, 1.0, radius=0.0)
    with pytest.raises(ValueError, match="advantage"):
        tabular_optimum(np.zeros((1, 3)), np.zeros((1, 2)))
