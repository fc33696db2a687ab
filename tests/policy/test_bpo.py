"""Theorems and limits of bpo."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, linprog, minimize

from trref.policy.bpo import (
    asymmetric_solution,
    bounded_ratio_solution,
    bpo_loss,
    gbpo,
    group_target,
    improvement,
    median_value_loss,
    regulariser,
    soft_asymmetric_solution,
    soft_median,
    soft_target,
)
from trref.policy.ppo import clipped_surrogate
from trref.policy.trpo_improvement import expected_return
from trref.problems.mdp import optimal_policy, random_mdp


def _softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _state(seed, K=5):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((1, K)), rng.standard_normal((1, K))


def test_numbers_by_hand():
    """Four equal actions, ε = 0.3: the better two gain. With three, the middle one stays."""
    ratio = bounded_ratio_solution(np.zeros((1, 4)), np.array([[1.0, 4.0, 3.0, 2.0]]))
    assert ratio == pytest.approx(np.array([[0.7, 1.3, 1.3, 0.7]]))
    ratio = bounded_ratio_solution(np.zeros((1, 3)), np.array([[1.0, 2.0, 3.0]]))
    assert ratio == pytest.approx(np.array([[0.7, 1.0, 1.3]]))
    loss, gradient = bpo_loss(np.log([1.2]), np.zeros(1), np.array([-2.0]), np.array([0.7]))
    assert loss == pytest.approx(1.0) and gradient == pytest.approx([2.4])


@pytest.mark.parametrize(("low", "high"), [(0.7, 1.3), (0.0, 2.0), (0.4, 3.5), (0.9, 1.05)])
@pytest.mark.parametrize("seed", range(3))
def test_solutions_against_linprog(seed, low, high):
    """The linear program itself: the same gain, bounds and total exactly."""
    z, Q = _state(seed)
    p = _softmax(z)[0]
    ratio = asymmetric_solution(z, Q, lowest=low, highest=high)[0]
    best = linprog(-p * Q[0], A_eq=p[None], b_eq=[1], bounds=[(low, high)] * 5)
    assert p @ ratio == pytest.approx(1, abs=1e-14) and ratio.min() >= low - 1e-14 and ratio.max() <= high + 1e-14
    assert (p * Q[0]) @ ratio == pytest.approx(-best.fun, abs=1e-12)
    if (low, high) == (0.7, 1.3):
        assert np.allclose(bounded_ratio_solution(z, Q)[0], ratio, rtol=1e-12, atol=1e-13)


def test_a_lowest_ratio_of_0_keeps_the_elite():
    ratio = asymmetric_solution(np.zeros((1, 10)), np.arange(10.0)[None], highest=5.0)
    assert ratio == pytest.approx(5.0 * (np.arange(10) >= 8)[None])


@pytest.mark.parametrize("seed", range(10))
def test_the_improvement_is_exact_and_the_return_never_falls(seed):
    """Against the return of the policy itself, over several steps."""
    mdp = random_mdp(np.random.default_rng(seed), states=5, actions=4)
    log_p = np.zeros((5, 4))
    before = -expected_return(log_p, mdp)[0]
    for _ in range(5):
        promised = improvement(log_p, mdp, radius=0.4)
        p = _softmax(log_p)
        value, advantage, *_ = mdp(p)
        log_p = np.log(p * bounded_ratio_solution(log_p, advantage + value[:, None], radius=0.4))
        after = -expected_return(log_p, mdp)[0]
        assert promised == pytest.approx(float(after), abs=1e-12) and after >= before - 1e-12
        before = after
    assert before <= mdp(optimal_policy(mdp)).expected_return + 1e-9


def test_inside_the_interval_the_gradient_is_ppos():
    rng = np.random.default_rng(0)
    old, A = -rng.exponential(1.0, 30), rng.standard_normal(30)
    new = old + np.log(rng.uniform(0.75, 1.25, 30))
    target = 1 + 0.3 * np.sign(A)
    assert np.allclose(
        bpo_loss(new, old, A, target)[1], clipped_surrogate(new, old, A, clip=0.3)[1], rtol=1e-12, atol=1e-13
    )
    wrong_side = old - 1.0 * np.sign(A)
    assert np.allclose(
        bpo_loss(wrong_side, old, A, target)[1],
        clipped_surrogate(wrong_side, old, A, clip=0.3)[1],
        rtol=1e-12,
        atol=1e-13,
    ), "there PPO has a gradient, too"
    beyond = old + 1.0 * np.sign(A)
    assert not clipped_surrogate(beyond, old, A, clip=0.3)[1].any() and bpo_loss(beyond, old, A, target)[1].all()


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_soft_target_against_slsqp(seed, temperature):
    """max E[ρ A - λ H(ρ)] with E ρ = 1, with the soft median as threshold."""
    z, Q = _state(seed)
    p, Q = _softmax(z)[0], Q[0]
    mu = soft_median(z, Q[None], temperature=temperature)[0]
    assert mu == pytest.approx(
        brentq(lambda m: (p / (1 + np.exp((m - Q) / temperature))).sum() - 0.5, Q.min() - 1, Q.max() + 1), abs=1e-9
    )
    target = soft_target(Q, np.full(5, mu), temperature=temperature)
    assert p @ target == pytest.approx(1, abs=1e-12)
    A = Q - p @ Q

    def value(rho):
        return (p * (rho * A - temperature * regulariser(np.clip(rho, 0.7, 1.3)))).sum()

    best = minimize(
        lambda r: -value(r),
        np.ones(5),
        method="SLSQP",
        bounds=[(0.7, 1.3)] * 5,
        constraints=[{"type": "eq", "fun": lambda r: p @ r - 1}],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert value(target) >= -best.fun - 1e-9 and target == pytest.approx(best.x, abs=2e-3)
    share = (target - 0.7) / 0.6
    assert (p * target) @ A == pytest.approx(0.3 * (p * (2 * share - 1)) @ (Q - mu))


@pytest.mark.parametrize(("low", "high"), [(0.0, 2.0), (0.4, 3.5), (0.9, 1.05)])
def test_the_soft_elite_against_slsqp(low, high):
    """max E[ρ A - λ H'(ρ)] with E ρ = 1, H' least at 1; the temperature is one at which the bounds are not reached."""
    z, Q = _state(4)
    p, Q, temperature = _softmax(z)[0], Q[0], 0.4
    ratio = soft_asymmetric_solution(z, Q[None], lowest=low, highest=high, temperature=temperature)[0]

    def value(rho):
        inner = (rho - low) * np.log((rho - low) / (1 - low)) + (high - rho) * np.log((high - rho) / (high - 1))
        return (p * (rho * (Q - p @ Q) - temperature * inner)).sum()

    best = minimize(
        lambda r: -value(r),
        np.ones(5),
        method="SLSQP",
        bounds=[(low + 1e-9, high - 1e-9)] * 5,
        constraints=[{"type": "eq", "fun": lambda r: p @ r - 1}],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert p @ ratio == pytest.approx(1, abs=1e-12) and low < ratio.min() and ratio.max() < high
    assert value(ratio) >= -best.fun - 1e-9 and ratio == pytest.approx(best.x, abs=1e-3)


def test_the_soft_elite_becomes_the_elite_and_the_soft_median():
    """Cold it is the solution between the bounds, and between even ones the soft target at the soft median."""
    z, Q = _state(5)
    cold = soft_asymmetric_solution(z, Q, lowest=0.4, highest=3.5, temperature=1e-4)
    assert cold == pytest.approx(asymmetric_solution(z, Q, lowest=0.4, highest=3.5), abs=1e-9)
    even = soft_asymmetric_solution(z, Q, lowest=0.7, highest=1.3, temperature=0.5)[0]
    threshold = np.full(5, soft_median(z, Q, temperature=0.5)[0])
    assert even == pytest.approx(soft_target(Q[0], threshold, temperature=0.5), abs=1e-12)


def test_the_regulariser_is_finite_on_the_bounds_and_least_at_1():
    """2 ε log 2ε there, 2 ε log ε at 1: no barrier."""
    values = regulariser(np.array([0.7, 1.0, 1.3]))
    assert values == pytest.approx([0.6 * math.log(0.6), 0.6 * math.log(0.3), 0.6 * math.log(0.6)])
    grid = regulariser(np.linspace(0.7, 1.3, 201))
    assert grid.argmin() == 100 and (np.diff(grid, 2) > 0).all()


def test_a_cold_median_is_the_median():
    z, Q = np.log([[0.2, 0.2, 0.35, 0.25]]), np.array([[3.0, -1.0, 0.5, 1.0]])
    assert soft_median(z, Q, temperature=1e-4)[0] == pytest.approx(0.5, abs=1e-3)
    weights = bounded_ratio_solution(z, Q)
    assert weights == pytest.approx(np.array([[1.3, 0.7, 1 - 0.3 + 0.6 * (0.05 / 0.35), 1.3]]))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_of_the_median_is_least_there(temperature):
    rng = np.random.default_rng(1)
    q = rng.exponential(1.0, (1, 400))
    mu = soft_median(np.zeros((1, 400)), q, temperature=temperature)[0]
    slope = median_value_loss(np.full(400, mu), q[0], temperature=temperature)[1]
    assert slope.sum() == pytest.approx(0, abs=1e-10)
    values = [median_value_loss(np.full(400, mu + d), q[0], temperature=temperature)[0] for d in (-0.1, 0.0, 0.1)]
    assert values[1] < min(values[0], values[2])
    cosh = np.log(2 * np.cosh((q[0] - mu) / (2 * temperature))).mean() * temperature
    assert values[1] == pytest.approx(cosh)


def test_a_warm_threshold_is_biased_where_q_is_skewed():
    """Trained at temperature 1, as the authors' code has it, and used at 0.001."""
    q = np.random.default_rng(2).exponential(0.5, (1, 2001))
    z = np.zeros((1, 2001))
    cold, warm = (soft_median(z, q, temperature=t)[0] for t in (0.001, 1.0))
    assert cold == pytest.approx(np.median(q), abs=0.01) and warm > cold + 0.05


def test_groups_by_hand():
    """Rewards 0, 0, 1 in a group: median 0, so the majority stays at 1 and the minority is moved."""
    reward, group = np.array([0.0, 0.0, 1.0]), np.array([5, 5, 5])
    target = group_target(reward, group)
    scale = np.sqrt(1 / 3) + 1e-6
    top = 1 - 0.2 + 0.4 / (1 + math.exp(-1 / scale))
    assert target == pytest.approx([1.0, 1.0, top])
    new, mask = np.log([[1.1], [1.1], [1.1]]), np.ones((3, 1))
    loss, gradient = gbpo(new, np.zeros((3, 1)), reward, group, mask)
    sizes = np.array([1 / 3, 1 / 3, 2 / 3]) / scale
    assert loss == pytest.approx((sizes * abs(1.1 - target)).sum() / 3)
    assert gradient[:, 0] == pytest.approx(sizes * np.sign(1.1 - target) * 1.1 / 3)


def test_one_token_each_is_the_loss_of_samples():
    rng = np.random.default_rng(3)
    reward, group = rng.standard_normal(8), np.repeat([0, 1], 4)
    old = -rng.exponential(1.0, (8, 1))
    new = old + 0.3 * rng.standard_normal((8, 1))
    A = np.concatenate([(r - r.mean()) / (r.std(ddof=1) + 1e-6) for r in (reward[:4], reward[4:])])
    ours = gbpo(new, old, reward, group, np.ones((8, 1)))
    theirs = bpo_loss(new[:, 0], old[:, 0], A, group_target(reward, group))
    assert ours[0] == pytest.approx(float(theirs[0])) and np.allclose(ours[1][:, 0], theirs[1], rtol=1e-12, atol=1e-13)


def test_uneven_bounds_with_the_median_do_not_keep_the_mean():
    """Symmetric rewards: the mean target is 1 + (0.5 - 0.1)/2, which no distribution has."""
    reward, group = np.array([-1.0, 1.0]), np.zeros(2, dtype=int)
    assert group_target(reward, group, clip_low=0.1, clip_high=0.5).mean() == pytest.approx(1.2)
    assert group_target(reward, group).mean() == pytest.approx(1.0)


def test_alone_or_nothing():
    one = group_target(np.array([2.0]), np.array([0]))
    assert one == pytest.approx([0.8 + 0.4 / (1 + math.exp(-2 / (1 + 1e-6)))])
    loss, gradient = gbpo(np.zeros((2, 3)), np.zeros((2, 3)), np.ones(2), np.zeros(2, dtype=int), np.zeros((2, 3)))
    assert loss == 0 and not gradient.any()
    loss, gradient = gbpo(np.zeros((2, 3)), np.zeros((2, 3)) - 1, np.ones(2), np.zeros(2, dtype=int), np.ones((2, 3)))
    assert loss == 0 and not gradient.any(), "equal rewards weigh nothing"


def test_refused():
    z, Q = _state(0)
    with pytest.raises(ValueError, match="radius"):
        bounded_ratio_solution(z, Q, radius=1.0)
    with pytest.raises(ValueError, match="highest"):
        asymmetric_solution(z, Q, highest=1.0)
    with pytest.raises(ValueError, match="temperature"):
        soft_median(z, Q, temperature=0.0)
