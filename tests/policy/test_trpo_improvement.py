"""Theorems of monotonic policy improvement, on random decision processes."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from trref.policy.trpo_improvement import (
    expected_return,
    lower_bound,
    performance_difference,
    surrogate_return,
    theoretical_policy_iteration,
)
from trref.problems.mdp import TabularMDP, random_mdp


def _case(seed, spread=0.5):
    rng = np.random.default_rng(seed)
    S, A = rng.integers(2, 7), rng.integers(2, 5)
    mdp = random_mdp(rng, states=S, actions=A, gamma=rng.choice((0.3, 0.8, 0.95)))
    old = rng.standard_normal((S, A))
    return old + spread * rng.standard_normal((S, A)), old, mdp


def test_one_state_by_hand():
    """Rewards 1 and 0, discount 1/2, probability 3/4 of the first: the return is 0.75 · 2, the advantages ±."""
    mdp = TabularMDP(np.ones((1, 2, 1)), np.array([[1.0, 0.0]]), np.ones(1), 0.5)
    logits = np.log([[0.75, 0.25]])
    loss, gradient = expected_return(logits, mdp)
    assert loss == pytest.approx(-1.5)
    assert gradient == pytest.approx(-2 * np.array([[0.75 * 0.25, -0.25 * 0.75]]))
    # to probability 1/2: the surrogate is exact, for the visits do not change; TV = 1/4, epsilon = 3/4, C = 6
    assert surrogate_return(np.zeros((1, 2)), logits, mdp)[0] == pytest.approx(-1.0)
    assert lower_bound(np.zeros((1, 2)), logits, mdp, divergence="tv") == pytest.approx(1 - 6 / 16)


@pytest.mark.parametrize("seed", range(20))
def test_performance_difference_is_exact(seed):
    new, old, mdp = _case(seed, spread=3.0)
    assert performance_difference(new, old, mdp) == pytest.approx(-expected_return(new, mdp)[0], rel=1e-11, abs=1e-11)


def test_bounds_hold_on_three_hundred_processes():
    for seed in range(300):
        new, old, mdp = _case(seed, spread=(0.01, 0.3, 3.0)[seed % 3])
        actual = -expected_return(new, mdp)[0]
        tv, kl = (lower_bound(new, old, mdp, divergence=d) for d in ("tv", "kl"))
        assert kl <= tv + 1e-12 and tv <= actual + 1e-10


def test_without_its_penalty_the_surrogate_is_no_bound():
    violated = sum(-surrogate_return(*_case(s))[0] > -expected_return(_case(s)[0], _case(s)[2])[0] for s in range(50))
    assert violated > 5


def test_mixtures_obey_the_older_bound():
    """(1 - a) pi + a pi': the constant is 2 epsilon gamma / (1 - gamma)², with epsilon = max |E_{pi'} A|."""
    for seed in range(50):
        other, old, mdp = _case(seed, spread=3.0)
        p, q = softmax(old, 1), softmax(other, 1)
        epsilon = abs((q * mdp(p).advantage).sum(1)).max()
        for a in (0.01, 0.2, 0.7):
            mixture = np.log((1 - a) * p + a * q)
            bound = -surrogate_return(mixture, old, mdp)[0] - 2 * epsilon * mdp.gamma / (1 - mdp.gamma) ** 2 * a * a
            assert -expected_return(mixture, mdp)[0] >= bound - 1e-10


@pytest.mark.parametrize("seed", range(5))
def test_surrogate_and_return_part_at_second_order(seed):
    _, old, mdp = _case(seed)
    direction = np.random.default_rng(seed).standard_normal(old.shape)
    gaps = [
        abs(surrogate_return(old + h * direction, old, mdp)[0] - expected_return(old + h * direction, mdp)[0])
        for h in (1e-2, 1e-3)
    ]
    assert 1.8 < math.log10(gaps[0] / gaps[1]) < 2.2, "they agree to first order, and not to second"


@pytest.mark.parametrize("seed", range(10))
def test_algorithm_one_never_falls(seed):
    _, old, mdp = _case(seed)
    result = theoretical_policy_iteration(old, mdp, iterations=20)
    assert result.converged and min(np.diff(result.returns)) > 0
    assert all(b <= r for b, r in zip(result.bounds, result.returns[1:], strict=True))
    assert all(b > r for b, r in zip(result.bounds, result.returns[:-1], strict=True)), "each bound is an improvement"


@pytest.mark.parametrize("gamma", [0.2, 0.5])
def test_algorithm_one_maximises_the_bound(gamma):
    """SciPy finds no better policy, and the divergence is the same in every state."""
    rng = np.random.default_rng(1)
    mdp = random_mdp(rng, states=3, actions=3, gamma=gamma)
    old = rng.standard_normal((3, 3))
    result = theoretical_policy_iteration(old, mdp)
    p, log_p = softmax(old, 1), log_softmax(old, 1)
    kl = (p * (log_p - result.logits)).sum(1)
    assert np.allclose(kl, kl[0], rtol=1e-6) and kl[0] > 1e-4
    _, A, visits, start = mdp(p)
    C = 4 * abs(A).max() * gamma / (1 - gamma) ** 2

    def divergences(x):
        return (p * (log_p - log_softmax(x[:9].reshape(3, 3), 1))).sum(1)

    def objective(x):
        return -(start + (visits[:, None] * softmax(x[:9].reshape(3, 3), 1) * A).sum() - C * x[9])

    best = minimize(
        objective,
        np.append(old.ravel(), 0.01),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: x[9] - divergences(x)},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert result.bounds[0] >= -best.fun - 1e-9
    assert result.bounds[0] == pytest.approx(-best.fun, abs=1e-6)


def test_a_reward_that_no_action_changes():
    _, old, mdp = _case(3)
    flat = TabularMDP(mdp.transition, np.ones_like(mdp.reward), mdp.start, mdp.gamma)
    assert abs(expected_return(old, flat)[1]).max() < 1e-12
    result = theoretical_policy_iteration(old, flat, iterations=3)
    assert result.returns == pytest.approx([1 / (1 - mdp.gamma)] * 4)


def test_visits_are_those_of_a_simulation():
    _, old, mdp = _case(4)
    policy = softmax(old, 1)
    P, state, visits = np.einsum("sa,sat->st", policy, mdp.transition), mdp.start, 0.0
    for t in range(1000):
        visits, state = visits + mdp.gamma**t * state, state @ P
    assert np.allclose(mdp(policy).visits, visits, rtol=1e-10)


def test_wrong_shapes_are_named():
    _, old, mdp = _case(5)
    with pytest.raises(ValueError, match="action_prob must have shape"):
        expected_return(old[:, :1], mdp)
    with pytest.raises(ValueError, match="gamma must lie in"):
        TabularMDP(mdp.transition, mdp.reward, mdp.start, 1.0)
