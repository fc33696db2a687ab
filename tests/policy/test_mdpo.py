"""Theorems and limits of mdpo."""

import math

import numpy as np
import pytest
from scipy import special
from scipy.optimize import minimize

from trref.policy.mdpo import (
    gaussian_objective,
    mdpo_objective,
    mirror_step,
    off_policy_loss,
    off_policy_solution,
    schedule,
    value_target,
)
from trref.problems.mdp import optimal_policy, random_mdp
from trref.problems.rewards import QuadraticReward


def _kl(p, q):
    return special.rel_entr(p, q).sum(-1)


def test_numbers_by_hand():
    """Two actions of 1/2, now 3/4 and 1/4; the first was taken, with advantage 2: 3 - KL = 3 - log 2 + H."""
    new, old = np.log([[0.75, 0.25]]), np.zeros((1, 2))
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    loss, gradient = mdpo_objective(new, old, np.array([0]), np.array([2.0]), lr=0.5)
    assert loss == pytest.approx(-(3 - 2 * kl))
    slope = 3 * np.array([0.25, -0.25]) - 2 * np.array([0.75, 0.25]) * (np.log([1.5, 0.5]) - kl)
    assert gradient[0] == pytest.approx(-slope)


def test_the_gaussian_by_hand():
    """N(0.5, 2²) from N(0, 1): the slopes of the divergence are 0.5 and 3."""
    one = np.ones((1, 1))
    args = (0.5 * one, math.log(2) * one, 0 * one, 0 * one, 1.5 * one)
    loss, gradient = gaussian_objective(*args, np.array([0.0]))
    assert loss == pytest.approx(-math.log(2) + (4 + 0.25 - 1) / 2)
    assert gradient.mean == pytest.approx(0.5 * one) and gradient.log_std == pytest.approx(3 * one)


@pytest.mark.parametrize("lr", [0.1, 1.0, 5.0])
def test_the_mirror_step_against_slsqp(lr):
    """The subproblem itself on the simplex, and SciPy's softmax."""
    rng = np.random.default_rng(0)
    z, A = rng.standard_normal((1, 4)), rng.standard_normal((1, 4))
    p, old = np.exp(mirror_step(z, A, lr=lr))[0], special.softmax(z)[0]
    best = minimize(
        lambda x: -(x @ A[0]) + _kl(x, old) / lr,
        old,
        method="SLSQP",
        bounds=[(1e-10, 1)] * 4,
        constraints=[{"type": "eq", "fun": lambda x: x.sum() - 1}],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert p == pytest.approx(best.x, abs=1e-5)
    assert p == pytest.approx(special.softmax(np.log(old) + lr * A[0]), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_return_falls(seed):
    """For any step length."""
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=6, actions=3)
    log_p = special.log_softmax(rng.standard_normal((6, 3)), axis=1)
    for lr in (0.1, 1.0, 10.0, 0.5):
        before = mdp(np.exp(log_p))
        following = mirror_step(log_p, before.advantage, lr=lr)
        assert mdp(np.exp(following)).expected_return >= before.expected_return - 1e-12
        log_p = following


@pytest.mark.parametrize("lr", [0.3, 3.0])
@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_the_gap_to_the_best_falls_as_one_over_k(gamma, lr):
    """From uniform actions, by Agarwal, Kakade, Lee and Mahajan, 2021: log A / (t k (1-γ)) + range / (k (1-γ)²)."""
    mdp = random_mdp(np.random.default_rng(8), states=5, actions=3, gamma=gamma)
    best, log_p = mdp(optimal_policy(mdp)).expected_return, np.full((5, 3), -math.log(3))
    spread = mdp.reward.max() - mdp.reward.min()
    for k in range(1, 41):
        log_p = mirror_step(log_p, mdp(np.exp(log_p)).advantage, lr=lr)
        bound = (math.log(3) / lr + spread / (1 - gamma)) / (k * (1 - gamma))
        assert best - mdp(np.exp(log_p)).expected_return <= bound


def test_the_step_is_the_natural_gradients():
    """With the Fisher matrix of each state, weighed by its visits as the gradient is: F⁺ g is A up to constants."""
    mdp = random_mdp(np.random.default_rng(9), states=4, actions=3)
    z = np.random.default_rng(10).standard_normal((4, 3))
    p = special.softmax(z, 1)
    found = mdp(p)
    natural = [
        np.linalg.pinv(visits * (np.diag(q) - np.outer(q, q))) @ (visits * q * A)
        for visits, q, A in zip(found.visits, p, found.advantage, strict=True)
    ]
    stepped = special.log_softmax(z + 0.7 * np.array(natural), 1)
    assert mirror_step(z, found.advantage, lr=0.7) == pytest.approx(stepped, abs=1e-10)


@pytest.mark.parametrize("lr", [0.2, 3.0])
def test_many_steps_on_the_subproblem_end_at_the_exact_one(lr):
    """Every action of one state is a sample, weighed by how often the old policy takes it."""
    rng = np.random.default_rng(1)
    old, A = rng.standard_normal((1, 4)), rng.standard_normal(4)
    p, z, actions = special.softmax(old)[0], old, np.arange(4)
    for _ in range(8000):
        _, d = mdpo_objective(np.repeat(z, 4, 0), np.repeat(old, 4, 0), actions, 4 * p * A, lr=lr)
        z = z - 0.3 * min(lr, 1.0) * d.sum(0)
    assert special.softmax(z)[0] == pytest.approx(np.exp(mirror_step(old, A[None], lr=lr))[0], abs=5e-6)


def test_the_first_step_does_not_feel_the_divergence():
    """And the second does."""
    rng = np.random.default_rng(2)
    old, actions, A = rng.standard_normal((5, 3)), rng.integers(0, 3, 5), rng.standard_normal(5)
    first = [mdpo_objective(old, old, actions, A, lr=lr)[1] for lr in (0.01, 100.0)]
    assert np.allclose(*first, rtol=1e-10, atol=1e-13)
    second = [mdpo_objective(old - first[0], old, actions, A, lr=lr)[1] for lr in (0.01, 100.0)]
    assert abs(second[0] - second[1]).max() > 0.1


def test_the_direction_of_the_divergence():
    """SciPy's, the new policy first."""
    rng = np.random.default_rng(3)
    z, old = rng.standard_normal((2, 4, 3))
    loss, _ = mdpo_objective(z, old, np.zeros(4, dtype=int), np.zeros(4), lr=0.5)
    assert loss == pytest.approx(2 * _kl(special.softmax(z, 1), special.softmax(old, 1)).mean())


@pytest.mark.parametrize(("c", "lam"), [(1.0, 0.2), (0.5, 0.5), (2.0, 0.0)])
def test_the_off_policy_minimum(c, lam):
    """Σ π [c log π + (λ - c) log π_k - Q] on the simplex, by a general solver."""
    rng = np.random.default_rng(4)
    z, Q = rng.standard_normal((1, 4)), rng.standard_normal((1, 4))
    old = special.softmax(z)[0]
    p = np.exp(off_policy_solution(z, Q, kl_weight=c, temperature=lam))[0]
    best = minimize(
        lambda x: (x * (c * np.log(x) + (lam - c) * np.log(old) - Q[0])).sum(),
        np.full(4, 0.25),
        method="SLSQP",
        bounds=[(1e-10, 1)] * 4,
        constraints=[{"type": "eq", "fun": lambda x: x.sum() - 1}],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert p == pytest.approx(best.x, abs=1e-5)
    if c == lam:
        assert p == pytest.approx(special.softmax(Q[0] / lam)), "SAC's, whatever the old policy"


def test_a_quadratic_critic_has_a_gaussian_optimum():
    """Q = -s (a - g)²: the best Gaussian has precision (c - λ)/(c σ_k²) + 2 s/c and the weighted mean."""
    rng, c, lam, s, goal = np.random.default_rng(5), 1.0, 0.2, 0.7, 1.5
    old_mean, old_log_std, N = 0.25, math.log(0.8), 40_000
    z = rng.standard_normal((N // 2, 1))
    z = np.concatenate([z, -z]) / np.sqrt((z**2).mean())
    held, pull = (c - lam) / c / 0.8**2, 2 * s / c
    mean, log_std = (held * old_mean + pull * goal) / (held + pull), -math.log(held + pull) / 2
    one = np.ones((N, 1))
    _, gradient = off_policy_loss(
        mean * one, log_std * one, old_mean * one, old_log_std * one, z, QuadraticReward(np.array([goal]), s)
    )
    assert gradient.mean.sum() == pytest.approx(0, abs=1e-10)
    assert gradient.log_std.sum() == pytest.approx(0, abs=1e-10)


def test_off_policy_gradients_by_differences():
    rng = np.random.default_rng(6)
    inputs = list(0.5 * rng.standard_normal((5, 3, 2)))
    critic = QuadraticReward(np.array([0.3, -0.2]))
    _, gradient = off_policy_loss(*inputs, critic)
    for k, slope in enumerate(gradient):
        for at in np.ndindex(3, 2):
            values = []
            for e in (1e-6, -1e-6):
                moved = [x.copy() for x in inputs]
                moved[k][at] += e
                values.append(off_policy_loss(*moved, critic)[0])
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope[at], abs=1e-8)


def test_the_target_of_values_is_the_soft_value():
    """At π ∝ exp(Q/λ) it is λ log Σ exp(Q/λ), whatever the action; of two critics the smaller one counts."""
    Q, lam = np.random.default_rng(7).standard_normal((1, 4)), 0.3
    log_p = off_policy_solution(np.zeros((1, 4)), Q, kl_weight=lam, temperature=lam)[0]
    found = value_target(np.stack([Q[0], Q[0] + [0.0, 1.0, 0.0, 2.0]]), log_p, temperature=lam)
    assert found == pytest.approx(np.full(4, lam * special.logsumexp(Q / lam)), rel=1e-12)


def test_the_schedule():
    assert schedule(np.array([0.0, 30.0, 60.0]), steps=60) == pytest.approx(np.array([1.0, 0.5, 0.0]))


def test_refused():
    z = np.zeros((2, 3))
    with pytest.raises(ValueError, match="lr"):
        mirror_step(z, z, lr=0.0)
    with pytest.raises(ValueError, match="actions"):
        mdpo_objective(z, z, np.array([0, 3]), np.zeros(2))
    with pytest.raises(ValueError, match="log-probabilities"):
        mdpo_objective(z, z + np.array([0.0, 0.0, 40.0]), np.array([0, 1]), np.zeros(2))
