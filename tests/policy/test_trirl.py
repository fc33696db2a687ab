"""Theorems and limits of trirl."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.policy.trirl import (
    discriminator_loss,
    dual,
    function_space_update,
    gaussian_projection,
    irl_objective,
    reward_correction,
    trirl,
    trust_region_soft_update,
)
from trref.problems.mdp import occupancy, random_mdp, soft_values


def _case(seed, states=5):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=states, actions=3, gamma=0.9)
    expert = occupancy(mdp, np.exp(soft_values(mdp, 1.5 * rng.standard_normal((states, 3))).log_action_prob))
    return mdp, expert, rng.standard_normal((states, 3))


def _kl(p, q):
    return float((p * np.log(p / q)).sum())


def test_one_state_by_hand():
    """Rewards (1, 0): V = log(e + 1)/(1 - γ); q ∝ ρ_E e^{-r/β}."""
    mdp, _, _ = _case(0)
    mdp = type(mdp)(np.ones((1, 2, 1)), np.zeros((1, 2)), np.ones(1), 0.5)
    expert, reward = np.array([[0.25, 0.75]]), np.array([[1.0, 0.0]])
    value, gradient = dual(reward, expert, mdp, beta=2.0)
    total = 0.25 * math.exp(-0.5) + 0.75
    assert value == pytest.approx(math.log(math.e + 1) + 2 * math.log(total))
    p = math.e / (math.e + 1)
    assert gradient == pytest.approx(np.array([[p - 0.25 * math.exp(-0.5) / total, 1 - p - 0.75 / total]]))


@pytest.mark.parametrize("seed", range(3))
def test_no_policy_is_above_the_dual_of_any_reward(seed):
    """Weak duality for random policies and rewards, and no gap at the end of a long run."""
    mdp, expert, _ = _case(seed)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        primal = -irl_objective(-rng.exponential(1.0, (5, 3)), expert, mdp)[0]
        assert primal <= dual(2 * rng.standard_normal((5, 3)), expert, mdp)[0]
    found = trirl(expert, mdp, delta=1.0, steps=80)
    value, gradient = irl_objective(found.log_prob, expert, mdp)
    assert -value == pytest.approx(dual(found.reward, expert, mdp)[0], abs=1e-9)
    assert abs(gradient).max() < 3e-5, "the root of the gap that was allowed"


def test_objective_of_one_state_by_hand():
    """ρ = π: the entropy plus β Σ π log(ρ_E/π)."""
    mdp = type(_case(0)[0])(np.ones((1, 2, 1)), np.zeros((1, 2)), np.ones(1), 0.5)
    p, expert = np.array([[0.6, 0.4]]), np.array([[0.25, 0.75]])
    value, _ = irl_objective(np.log(p), expert, mdp, beta=3.0)
    assert -value == pytest.approx(-(p * np.log(p)).sum() - 3 * (p * np.log(p / expert)).sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_step_descends_the_dual(seed):
    """Its slope along the step is -ε β times the symmetric divergence of occupancy and q."""
    mdp, expert, reward = _case(seed)
    _, gradient = dual(reward, expert, mdp, beta=2.0)
    rho = occupancy(mdp, np.exp(soft_values(mdp, reward).log_action_prob))
    q = expert * np.exp(-reward / 2)
    q = q / q.sum()
    step = function_space_update(reward, np.log(expert / rho), share=0.3) - reward
    assert (gradient * step).sum() == pytest.approx(-0.3 * 2.0 * (_kl(rho, q) + _kl(q, rho)))
    assert np.allclose(gradient, rho - q, rtol=0, atol=1e-13)


@pytest.mark.parametrize("delta", [0.001, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_the_correction_theorem(seed, delta):
    """The trust region's policy for the proposed reward is the soft optimum of the smaller step; solved apart."""
    mdp, expert, reward = _case(seed)
    old = soft_values(mdp, reward).log_action_prob
    log_ratio = np.log(expert / occupancy(mdp, np.exp(old)))
    proposed = function_space_update(reward, log_ratio)
    step = trust_region_soft_update(proposed, old, mdp, delta=delta)
    corrected = reward_correction(reward, log_ratio, np.asarray(step.multiplier))
    best = soft_values(mdp, corrected).log_action_prob
    assert step.multiplier > 0.1 and step.divergence == pytest.approx(delta, rel=1e-6)
    assert np.allclose(np.exp(step.log_prob), np.exp(best), rtol=0, atol=1e-9)
    uncorrected = soft_values(mdp, proposed).log_action_prob
    assert np.abs(np.exp(step.log_prob) - np.exp(uncorrected)).max() > 1e-3, "without the correction they part"


def test_a_multiplier_of_each_state_breaks_it():
    mdp, expert, reward = _case(1)
    soft = soft_values(mdp, reward)
    log_ratio = np.log(expert / occupancy(mdp, np.exp(soft.log_action_prob)))
    eta = np.array([0.0, 3.0, 0.5, 20.0, 1.0])[:, None]
    proposed = function_space_update(reward, log_ratio)
    held = soft_values(mdp, (proposed + eta * soft.log_action_prob) / (1 + eta)).log_action_prob
    share = 0.5 / (1 + eta)
    smaller = (1 - share) * reward + share * 2.0 * log_ratio
    assert np.abs(np.exp(held) - np.exp(soft_values(mdp, smaller).log_action_prob)).max() > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_the_region_against_slsqp(seed):
    """The constrained problem as it is stated, in logits, by a general solver."""
    mdp, _, reward = _case(seed, states=3)
    old = soft_values(mdp, 0.5 * reward[::-1]).log_action_prob

    def figures(x):
        log_p = x.reshape(3, 3) - np.log(np.exp(x.reshape(3, 3)).sum(1, keepdims=True))
        rho = occupancy(mdp, np.exp(log_p))
        return (rho * (reward - log_p)).sum(), (rho * (log_p - old)).sum(), log_p

    best = minimize(
        lambda x: -figures(x)[0],
        old.ravel(),
        method="SLSQP",
        constraints=[{"type": "ineq", "fun": lambda x: 0.02 - figures(x)[1]}],
        options={"ftol": 1e-13, "maxiter": 500},
    )
    found = trust_region_soft_update(reward, old, mdp, delta=0.02)
    assert figures(found.log_prob.ravel())[0] == pytest.approx(-best.fun, abs=1e-6)
    assert np.exp(found.log_prob) == pytest.approx(np.exp(figures(best.x)[2]), abs=2e-3)


@pytest.mark.parametrize("seed", range(2))
def test_the_whole_run(seed):
    """The dual falls, reward and policy fit at the end, and it comes to the minimum that BFGS finds."""
    mdp, expert, _ = _case(seed)
    run = trirl(expert, mdp, steps=60)
    assert run.converged and all(b <= a + 1e-12 for a, b in itertools.pairwise(run.duals))
    assert np.allclose(soft_values(mdp, run.reward).log_action_prob, run.log_prob, rtol=0, atol=1e-6)
    best = minimize(
        lambda x: tuple(map(np.ravel, dual(x.reshape(5, 3), expert, mdp))),
        np.zeros(15),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9},
    )
    assert run.duals[-1] == pytest.approx(best.fun, abs=1e-6)
    D = np.log(expert / occupancy(mdp, np.exp(run.log_prob)))
    gap = run.reward - 2.0 * D
    assert np.abs(gap - gap.mean()).max() < 1e-3, "there the reward is the log-ratio, up to a constant"


def test_a_region_that_does_not_bind_is_dual_ascent():
    mdp, _, reward = _case(4)
    old = soft_values(mdp, reward).log_action_prob
    step = trust_region_soft_update(reward, old, mdp, delta=0.5)
    assert step.multiplier == 0 and np.allclose(step.log_prob, old, rtol=0, atol=1e-10)
    again = reward_correction(reward, np.ones((5, 3)), np.zeros(()))
    assert np.array_equal(again, function_space_update(reward, np.ones((5, 3))))


def test_the_discriminator():
    """At its best the logit is the log-ratio: 3 samples of the expert and 1 of the policy at one place."""
    D = np.full(4, math.log(3))
    loss, gradient = discriminator_loss(D, np.array([1.0, 1, 1, 0]))
    assert gradient.sum() == pytest.approx(0, abs=1e-15)
    assert loss == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)


def test_gaussians():
    """Both divergences are at most their radii, exactly where it binds, and nothing moves inside."""
    rng = np.random.default_rng(5)
    old_mean, old_log_std = rng.standard_normal((30, 3)), 0.3 * rng.standard_normal((30, 3))
    mean, log_std = old_mean + 0.4 * rng.standard_normal((30, 3)), old_log_std + 0.2 * rng.standard_normal((30, 3))
    found = gaussian_projection(mean, log_std, old_mean, old_log_std)
    m = (((found.mean - old_mean) / np.exp(old_log_std)) ** 2).sum(1) / 2
    ratio = np.exp(2 * (found.log_std - old_log_std))
    kl = (ratio - 1 - np.log(ratio)).sum(1) / 2
    assert m.max() <= 0.05 + 1e-12 and kl.max() <= 0.005 + 1e-9
    assert m[found.mean_multiplier > 0] == pytest.approx(0.05) and (found.mean_multiplier > 0).any()
    assert kl[found.std_multiplier > 0] == pytest.approx(0.005) and (found.std_multiplier > 0).any()
    still = gaussian_projection(old_mean + 1e-3, old_log_std, old_mean, old_log_std)
    assert np.allclose(still.mean, old_mean + 1e-3, rtol=0, atol=1e-12) and not still.std_multiplier.any()


def test_the_deviation_is_the_dual_minimum():
    """η ε - η log|σ_old| + (1 + η) log|σ̄| has its minimum at the multiplier."""
    one = np.zeros((1, 2))
    log_std = np.array([[0.4, -0.3]])
    found = gaussian_projection(one, log_std, one, one)

    def g(eta):
        variance = (1 + eta) / (eta + np.exp(-2 * log_std))
        return eta * 0.005 + (1 + eta) * (np.log(variance) / 2).sum()

    eta = float(found.std_multiplier[0])
    assert eta > 0 and g(eta) < min(g(eta + 0.01), g(eta - 0.01))


def test_refused():
    mdp, expert, reward = _case(6)
    with pytest.raises(ValueError, match="expert"):
        dual(reward, 0 * expert, mdp)
    with pytest.raises(ValueError, match="delta"):
        trust_region_soft_update(reward, reward, mdp, delta=0.0)
