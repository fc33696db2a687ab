"""Theorems and limits of trust region policy optimisation."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax

from trref.catalog import find
from trref.policy.natural_gradient import fisher_vector_product, natural_step
from trref.policy.ppo import unclipped_surrogate
from trref.policy.trpo import trpo_step, vine_surrogate
from trref.policy.trpo_improvement import expected_return
from trref.problems.mdp import random_mdp
from trref.problems.policies import CategoricalPolicy, GaussianPolicy, LinearSoftmaxPolicy
from trref.validate import ConvergenceWarning

POLICIES = {"categorical": CategoricalPolicy((3, 8, 4)), "Gaussian": GaussianPolicy((3, 8, 2))}


def _batch(policy, seed, n=200, scale=1.0):
    rng = np.random.default_rng(seed)
    theta, states = policy.init(rng), rng.standard_normal((n, 3))
    return policy, theta, states, policy.sample(rng, policy(theta, states)), scale * rng.standard_normal(n)


def _gain_and_divergence(policy, theta, states, actions, advantage, new):
    z_old, z = policy(theta, states), policy(new, states)
    ratio = np.exp(policy.log_prob(z, actions)[0] - policy.log_prob(z_old, actions)[0])
    return np.mean((ratio - 1) * advantage), policy.kl(z_old, z)[0].mean()


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", range(8))
def test_within_the_bound_and_not_worse(name, seed):
    batch = _batch(POLICIES[name], seed, scale=10.0 ** (seed - 4))
    for delta in (1e-4, 0.01, 0.3):
        result = trpo_step(*batch, delta=delta)
        gain, divergence = _gain_and_divergence(*batch, result.theta)
        assert result.converged and 0 < divergence <= delta and gain > 0
        assert divergence == pytest.approx(result.divergences[-1], rel=1e-9)
        assert gain == pytest.approx(result.gains[-1], rel=1e-6)


@pytest.mark.parametrize("name", POLICIES)
def test_the_first_trial_is_the_natural_step(name):
    policy, theta, states, actions, advantage = batch = _batch(POLICIES[name], 1)
    z, cache = policy.forward(theta, states)
    log_prob, d_log_prob = policy.log_prob(z, actions)
    d_loss = unclipped_surrogate(log_prob, log_prob, advantage)[1]
    gradient = policy.vjp(cache, -d_loss[:, None] * d_log_prob)
    fisher = lambda v: fisher_vector_product(policy, theta, v, states, damping=0.1)  # noqa: E731
    step = natural_step(fisher, gradient, delta=1e-6).step
    result = trpo_step(*batch, delta=1e-6)
    halved = (result.theta - theta) * 2 ** (len(result.divergences) - 1)
    assert np.allclose(halved, step, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", POLICIES)
def test_rejection_leaves_the_parameters_bit_identical(name):
    """One trial that overshoots the bound: a step where the quadratic model is far too optimistic."""
    batch = _batch(POLICIES[name], 2)
    with pytest.warns(ConvergenceWarning, match="accepted none of its 1 trials"):
        result = trpo_step(*batch, delta=1.0, damping=0.0, trials=1)
    assert not result.converged and result.divergences[0] > 1
    assert result.theta.tobytes() == batch[1].tobytes() and not np.shares_memory(result.theta, batch[1])


def test_weights_count_as_repetitions():
    policy, theta, states, actions, advantage = _batch(POLICIES["categorical"], 3, n=6)
    times = np.array([1, 3, 1, 2, 1, 4])
    repeated = trpo_step(policy, theta, *(np.repeat(x, times, axis=0) for x in (states, actions, advantage)))
    weighted = trpo_step(policy, theta, states, actions, advantage, times / times.sum())
    assert np.allclose(repeated.theta, weighted.theta, rtol=1e-10)


def test_weights_need_not_sum_to_one():
    """Weights, bound and damping times five are the same problem; the step must not take the matrix for a mean."""
    policy, theta, states, actions, advantage = _batch(POLICIES["categorical"], 3, n=60)
    weight = np.random.default_rng(0).random(60)
    for subsample in (1, 3):
        one, five = (
            trpo_step(policy, theta, states, actions, advantage, c * weight, delta=c, damping=0.1 * c, **options)
            for c, options in ((0.01, {"subsample": subsample}), (0.05, {"subsample": subsample}))
        )
        assert np.allclose(one.theta, five.theta, rtol=1e-9) and len(one.gains) == len(five.gains)


def test_the_paper_s_subsample_of_too_few_states_without_damping():
    """Twelve states, every tenth of them: two cannot carry the gradient of all. The bound holds all the same."""
    result = trpo_step(*_batch(POLICIES["categorical"], 0, n=12), damping=0.0, subsample=10, iterations=40)
    assert result.converged and 0 < result.divergences[-1] <= 0.01 and result.gains[-1] > 0
    assert len(result.divergences) > 1, "the quadratic model of two states is trusted at once"


def _exact_step(batch, delta):
    """The constrained maximum of the surrogate by SciPy; the factor of 100 suits its tolerances."""
    f = lambda x: _gain_and_divergence(*batch, batch[1] + x)  # noqa: E731
    constraint = {"type": "ineq", "fun": lambda x: 100 * (delta - f(x)[1])}
    options = {"ftol": 1e-14, "maxiter": 500}
    return minimize(lambda x: -100 * f(x)[0], 0 * batch[1], method="SLSQP", constraints=constraint, options=options).x


def test_slsqp_agrees_for_a_small_bound():
    """For a table of logits: the same direction as delta goes to 0, up to a constant in each state."""
    rng = np.random.default_rng(4)
    policy, theta = LinearSoftmaxPolicy(3, 3), rng.standard_normal(9)
    states, actions = np.repeat(np.eye(3), 3, axis=0), np.tile(np.arange(3), 3)
    batch = (policy, theta, states, actions, rng.standard_normal(9))
    angles = []
    for delta in (1e-2, 1e-4):
        ours = trpo_step(*batch, delta=delta, damping=1e-8, iterations=30).theta - theta
        a, b = (x.reshape(3, 3) - x.reshape(3, 3).mean(1, keepdims=True) for x in (_exact_step(batch, delta), ours))
        angles.append((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert angles[0] > 0.99 and angles[1] > 0.9999 and angles[1] > angles[0]


def exact_batch(mdp, logits):
    """Every state and action once, weighted with its true probability: expectations become exact."""
    S, A = logits.shape
    policy = softmax(logits, axis=1)
    _, advantage, visits, _ = mdp(policy)
    weight = (visits[:, None] * policy / visits.sum()).ravel()
    return np.repeat(np.eye(S), A, axis=0), np.tile(np.arange(A), S), advantage.ravel(), weight


@pytest.mark.parametrize("seed", range(3))
def test_exact_tabular_run_never_falls_and_reaches_the_optimum(seed):
    rng = np.random.default_rng(seed)
    mdp, table = random_mdp(rng, states=12, actions=4, gamma=0.9), LinearSoftmaxPolicy(12, 4)
    logits = np.zeros((12, 4))
    returns = [-expected_return(logits, mdp)[0]]
    for _ in range(40):
        step = trpo_step(table, logits.ravel(), *exact_batch(mdp, logits), delta=0.01, damping=1e-4, iterations=60)
        logits = step.theta.reshape(12, 4)
        returns.append(-expected_return(logits, mdp)[0])
    V = np.zeros(12)
    for _ in range(2000):
        V = (mdp.reward + 0.9 * mdp.transition @ V).max(1)
    optimum = mdp.start @ V
    assert min(np.diff(returns)) >= -1e-12 * abs(optimum)
    assert optimum - returns[-1] < 1e-8 * (optimum - returns[0])


def test_the_surrogate_on_sampled_actions_is_ppo_without_clipping():
    policy, theta, states, actions, advantage = batch = _batch(POLICIES["categorical"], 5)
    result = trpo_step(*batch)
    old = policy.log_prob(policy(theta, states), actions)[0]
    new = policy.log_prob(policy(result.theta, states), actions)[0]
    before, after = (unclipped_surrogate(x, old, advantage)[0] for x in (old, new))
    assert result.gains[-1] == pytest.approx(before - after, rel=1e-10)


def test_public_variants_leave_the_trust_region():
    variants = {d.name: d.f for d in find("trpo.trpo_step").deviations}
    worst = dict.fromkeys(variants, 0.0)
    for seed in range(20):
        batch = _batch(POLICIES["categorical"], seed, n=30)
        for name, f in variants.items():
            worst[name] = max(worst[name], _gain_and_divergence(*batch, f(*batch, delta=0.5, damping=1e-3)[0])[1])
    assert all(w > 0.5 for w in worst.values()), worst
    assert worst["one and a half times the bound"] <= 0.75


def test_vine_by_hand():
    """Ratios 2 and 1 for Q = 3 and 0: (2·3 + 0)/3 = 2; the sum over all actions: 0.6·3."""
    log_prob, behavior, q = np.log([[0.6, 0.4]]), np.log([[0.3, 0.4]]), np.array([[3.0, 0.0]])
    assert vine_surrogate(log_prob, behavior, q)[0] == pytest.approx(-2.0)
    assert vine_surrogate(log_prob, behavior, q, estimator="all actions")[0] == pytest.approx(-1.8)


def test_the_normalised_vine_needs_no_baseline():
    rng = np.random.default_rng(6)
    log_prob, behavior, q = (rng.standard_normal((5, 3)) for _ in range(3))
    (loss, gradient), (shifted, same) = (vine_surrogate(log_prob, behavior, q + c) for c in (0.0, 100.0))
    assert shifted == pytest.approx(loss - 100) and np.allclose(gradient, same, atol=1e-12, rtol=1e-9)
    assert np.allclose(gradient.sum(1), 0, atol=1e-15, rtol=1e-9)


@pytest.mark.parametrize(
    ("keyword", "bad"), [("delta", 0.0), ("damping", -1.0), ("subsample", 0), ("shrink", 1.0), ("trials", 0)]
)
def test_out_of_range(keyword, bad):
    with pytest.raises(ValueError, match=f"{keyword} must lie in"):
        trpo_step(*_batch(POLICIES["categorical"], 0, n=5), **{keyword: bad})


def test_unknown_actions():
    policy, theta, states, actions, advantage = _batch(POLICIES["categorical"], 0, n=5)
    with pytest.raises(ValueError, match="actions must hold integers below 4"):
        trpo_step(policy, theta, states, actions + 4, advantage)
