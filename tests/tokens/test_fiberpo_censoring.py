"""The theorem of aggregational policy censoring, against linear programming."""

import numpy as np
import pytest
from scipy.optimize import linprog, minimize_scalar

from trref.tokens.fiberpo_censoring import apc, penalised_radius, trpo_radius, tv_trpo_sample


def _problem(seed, centred=True):
    rng = np.random.default_rng(seed)
    state = np.repeat(np.arange(3), rng.integers(2, 7, 3))
    A = rng.standard_normal(len(state))
    if centred:
        for s in range(3):
            A[state == s] -= A[state == s].mean()
    return rng, A, state, float(rng.choice((0.05, 0.2, 0.35)))


def _linprog(A, state, radius):
    """Maximise sum A r with r = 1 + p - q, the budget and the sum of each state."""
    n, states = len(A), np.unique(state)
    rows = np.array([(state == s).astype(float) for s in states])
    counts = rows.sum(1)
    return linprog(
        np.concatenate([-A, A]),
        A_ub=np.concatenate([np.hstack([rows, rows]), np.hstack([-np.eye(n), np.eye(n)])]),
        b_ub=np.concatenate([counts * radius, np.ones(n)]),
        A_eq=np.hstack([rows, -rows]),
        b_eq=np.zeros(len(states)),
    )


def _value(ratio, A, state, radius):
    return -float(apc(ratio, A, state, radius=radius)[0])


def _recentred(ratio, state):
    means = np.array([ratio[state == s].mean() for s in range(3)])
    return ratio - means[state] + 1


# ---- the constrained problem


@pytest.mark.parametrize("seed", range(20))
def test_the_solution_is_that_of_linear_programming(seed):
    rng, A, state, radius = _problem(seed, centred=False)
    radius *= float(rng.choice((1, 4)))  # with large budgets ratios reach 0
    ours, oracle = tv_trpo_sample(A, state, radius=radius), _linprog(A, state, radius)
    assert A @ ours == pytest.approx(A.sum() - oracle.fun, abs=1e-9)
    assert ours.min() >= 0
    for s in range(3):
        deviation = ours[state == s] - 1
        assert abs(deviation.sum()) < 1e-12 and abs(deviation).mean() <= radius + 1e-12


def test_the_gain_of_a_small_budget():
    A, state = np.array([0.3, -1.0, 2.0, 0.1]), np.zeros(4, int)
    ratio = tv_trpo_sample(A, state, radius=0.1)
    assert np.allclose(ratio, [1, 0.8, 1.2, 1], rtol=1e-9)
    assert (A @ (ratio - 1)) / 4 == pytest.approx(0.1 * (2.0 + 1.0) / 2)


def test_ratios_do_not_become_negative():
    ratio = tv_trpo_sample(np.array([0.3, -1.0, 2.0, 0.1]), np.zeros(4, int), radius=0.7)
    assert np.allclose(ratio, [1, 0, 2.4, 0.6], rtol=1e-9)
    assert np.allclose(
        tv_trpo_sample(np.array([0.3, -1.0, 2.0, 0.1]), np.zeros(4, int), radius=9.0), [0, 0, 4, 0], rtol=1e-9
    )


# ---- the theorem


@pytest.mark.parametrize("seed", range(40))
def test_apc_is_largest_at_the_constrained_solution(seed):
    """Against random ratios inside and far outside the budget that keep the sums: 200 problems in all."""
    for number in range(5):
        rng, A, state, radius = _problem(1000 + 40 * number + seed)
        best = _value(tv_trpo_sample(A, state, radius=radius), A, state, radius)
        assert best == pytest.approx((A.sum() - _linprog(A, state, radius).fun) / len(A), abs=1e-9)
        for scale in (0.1, 1.0, 4.0):
            for _ in range(20):
                ratio = _recentred(1 + scale * radius * rng.standard_normal(len(A)), state)
                if ratio.min() >= 0:
                    assert _value(ratio, A, state, radius) <= best + 1e-12


def test_without_the_sum_it_can_be_beaten():
    """Raise the right sample and lower none: the budget goes twice as far."""
    A, state = np.array([1.0, -0.5, -0.5]), np.zeros(3, int)
    best = _value(tv_trpo_sample(A, state, radius=0.1), A, state, 0.1)
    assert best == pytest.approx(0.1 * 1.5 / 2)
    assert _value(np.array([1.3, 1.0, 1.0]), A, state, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(10))
def test_clipping_retracts(seed):
    """Clipped and re-centred deviations of a point outside the budget are inside it."""
    rng, A, state, radius = _problem(seed)
    ratio = _recentred(1 + 1.5 * radius * rng.standard_normal(len(A)), state)
    for s in range(3):
        u = ratio[state == s] - 1
        if abs(u).mean() > radius:
            B = np.maximum(len(u) * radius - (abs(u).sum() - abs(u)), 0)
            clipped = np.clip(u, -B, B)
            assert abs(clipped - clipped.mean()).mean() < radius


# ---- regimes and limits


def test_regimes_by_hand():
    """Four samples, budget 1: deviations .4, .2, .1, .1 pass at radius = .25; at .15 the first rolls back alone."""
    u, A, state = np.array([0.4, -0.2, -0.1, 0.1]), np.array([1.0, -1.0, 0.5, -0.5]), np.zeros(4, int)
    loss, gradient = apc(1 + u, A, state, radius=0.25)
    assert loss == pytest.approx(-(A @ (1 + u)) / 4) and np.allclose(gradient, -A / 4, rtol=1e-9)
    loss, gradient = apc(1 + u, A, state, radius=0.15)
    B = 0.6 - 0.4
    assert loss == pytest.approx(-(B * A[0] + A.sum()) / 4)
    assert np.allclose(gradient, -np.array([0, 1, 1, -1]) / 4, rtol=1e-9), (
        "to give the first one room, the others go back"
    )
    assert not apc(1 + 3 * u, A, state, radius=0.05)[1].any()


def test_states_do_not_touch_each_other():
    rng, A, state, radius = _problem(7)
    ratio = np.exp(0.3 * rng.standard_normal(len(A)))
    before = apc(ratio, A, state, radius=radius)[1]
    ratio[0] = 1.7
    assert np.array_equal(before[state > 0], apc(ratio, A, state, radius=radius)[1][state > 0])


def test_one_sample_a_state_is_a_clip_without_minimum():
    rng = np.random.default_rng(8)
    ratio, A, state = np.exp(0.3 * rng.standard_normal(30)), rng.standard_normal(30), rng.permutation(30)
    loss, gradient = apc(ratio, A, state, radius=0.2)
    assert loss == pytest.approx(-(np.clip(ratio, 0.8, 1.2) * A).mean(), rel=1e-13)
    assert np.allclose(gradient, -A * (abs(ratio - 1) < 0.2) / 30, rtol=1e-9)
    assert (tv_trpo_sample(A, state, radius=0.2) == 1).all(), "the sum constraint leaves no freedom"


# ---- the radius


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99])
def test_the_radius_maximises_the_penalised_form(discount):
    _, A, state, _ = _problem(9)
    M = np.mean([np.ptp(A[state == s]) / 2 for s in range(3)])
    cost = 4 * discount / (1 - discount) * abs(A).max()
    best = minimize_scalar(lambda d: -(d * M - cost * d * d), bounds=(0, 1), options={"xatol": 1e-12}).x
    ours = float(penalised_radius(A, state, discount=discount))
    assert ours == pytest.approx(best, rel=1e-5) and 0 < ours <= trpo_radius(discount)


def test_the_radius_vanishes():
    assert trpo_radius(0.99) == pytest.approx(0.01 / 7.92) and trpo_radius(1.0) == 0
    values = [trpo_radius(1 - 10.0**-k) * 10**k for k in (3, 4, 5)]
    assert values == pytest.approx([1 / 8] * 3, rel=2e-3), "linearly in 1 - discount"
    _, A, state, _ = _problem(10)
    opposite = np.where(np.arange(len(A)) % 2 == 0, 1.0, -1.0)
    assert penalised_radius(opposite, state, discount=0.9) == pytest.approx(trpo_radius(0.9)), "the bound is attained"
