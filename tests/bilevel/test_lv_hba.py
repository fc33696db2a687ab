"""LV-HBA: problems with known solutions, the merit's gradient, and what a box or a weight does."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from trref.bilevel.lv_hba import level_step, lv_hba, merit, saddle_step
from trref.bilevel.prox_lagrangian import saddle_point
from trref.problems.bilevel import BalancedBilevel, CoupledBilevel
from trref.validate import ConvergenceWarning

PROBLEM = CoupledBilevel()
FAST = {"lr": 0.3, "multiplier_lr": 0.5, "inner_lr": 0.3}


def _one(*values):
    return tuple(np.array([v]) for v in values)


def test_numbers_by_hand():
    """x = 1, y = 1.5, z = 0.5, θ = 2, λ = 1, c = 2."""
    x, y, z, theta, multiplier = _one(1.0, 1.5, 0.5, 2.0, 1.0)
    value, d = merit(PROBLEM, x, y, z, theta, multiplier, c=2.0)
    # F = 1/2 + 1/8, f = 1/8, φ = 0 + 1·0 + 1/8 - 1/8
    assert value == 0.625 / 2 + 0.125
    # F_x/c = -1/2, f_x(y) = 1, f_x(θ) = 0; F_y/c = -1/4, f_y = -1/2, (y - θ)/γ = -1/2
    assert (d.x, d.y, d.z) == (-0.5 + 1 - 0 - 1, -0.25 - 0.5 + 0.5, -0.5)
    new = saddle_step(PROBLEM, x, y, z, theta, multiplier, inner_lr=0.5)
    assert new.theta == 2 - 0.5 * (0 + 1 + 0.5) and new.multiplier == 1 + 0.5 * (0 - 0.5)
    moved = level_step(PROBLEM, x, y, z, theta, multiplier, c=2.0, lr=1.0, multiplier_lr=1.0)
    # (1.5, 1.75) is 0.25 outside of x + y <= 3
    assert (moved.x, moved.y, moved.z) == (1.375, 1.625, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_merit_is_that_of_the_value_function(seed):
    """With the saddle point solved anew at each point, its differences are the directions."""
    rng = np.random.default_rng(seed)
    at = [rng.standard_normal(2) for _ in range(3)]

    def solved(x, y, z):
        saddle = saddle_point(PROBLEM, x, y, z, rtol=1e-13, max_iter=5000)
        return merit(PROBLEM, x, y, z, *saddle[:2], c=1.7)

    d, h = solved(*at)[1], 1e-5
    for k, part in enumerate(d):
        for i in range(2):
            plus, minus = ([a.copy() for a in at] for _ in range(2))
            plus[k][i] += h
            minus[k][i] -= h
            assert part[i] == pytest.approx((solved(*plus)[0] - solved(*minus)[0]) / (2 * h), abs=1e-4)


def test_both_parts_of_the_saddle_step_begin_at_the_old_point():
    x, y, z, theta, multiplier = _one(1.0, 1.0, 0.0, 3.0, 0.0)
    new = saddle_step(PROBLEM, x, y, z, theta, multiplier, inner_lr=0.5)
    assert new.theta == 3 - 0.5 * (1 + 2) and new.multiplier == 0.5 * (1 + 3 - 3)


@pytest.mark.parametrize("start", [0.0, 1.2, -2.0])
def test_the_coupled_problem(start):
    """Solution (1.5, 1.5), multiplier 1.5, F = 1/4: also by a search over x with the lower level solved."""
    fit = lv_hba(PROBLEM, *_one(start, 0.0, 0.0), gtol=1e-4, **FAST)

    def outer(x):
        y = minimize_scalar(lambda w: (w - 2 * x) ** 2, bounds=(-20, 3 - x), method="bounded").x
        return ((x - 2) ** 2 + (y - 2) ** 2) / 2

    best = minimize_scalar(outer, bounds=(0, 3), method="bounded", options={"xatol": 1e-8})
    assert best.x == pytest.approx(1.5, abs=1e-3)
    assert fit.converged
    # to gtol over the curvature of F along the solutions, which is 2, times some units
    assert fit.x == pytest.approx([1.5], abs=1e-3) and fit.y == pytest.approx([1.5], abs=1e-3)
    assert fit.z == pytest.approx([1.5], abs=3e-3) and fit.multiplier == pytest.approx([1.5], abs=3e-3)
    assert PROBLEM.upper(fit.x, fit.y)[0] == pytest.approx(0.25, abs=1e-4)
    assert fit.x + fit.y <= 3 + 1e-12


def test_paper_sized_steps_are_slow():
    """After 30,000 steps of 0.01 x is 1.475 and F 0.2506, by a script of its own; here after 3,000 of them, less."""
    with pytest.warns(ConvergenceWarning):
        fit = lv_hba(PROBLEM, *_one(0.0, 0.0, 0.0), lr=0.01, multiplier_lr=0.01, gtol=1e-6, max_iter=3000)
    assert 1.0 < fit.x[0] < 1.45
    assert PROBLEM.lower(fit.x, fit.y)[0] > 0, "feasible, and the lower level not solved yet"


def test_the_goal_within_reach():
    """Where the upper level's goal solves the lower one, both are met, and no constraint binds."""
    fit = lv_hba(CoupledBilevel(goal=0.0), *_one(1.0, -0.5, 1.0), gtol=1e-4, **FAST)
    assert fit.converged
    assert abs(np.concatenate(fit[:5])).max() < 1e-3


@pytest.mark.parametrize("n", [1, 3])
def test_the_balanced_problem(n):
    """Many lower solutions; the best has x = -0.3, a = 0.7, b = -0.4, with multiplier -1: checked by SLSQP first."""
    problem = BalancedBilevel()

    def outer(v):
        return problem.upper(v[:n], np.concatenate([v[:n] + 1, v[n:]]))[0]

    zero = {"type": "eq", "fun": lambda v: v[:n].sum() + (v[:n] + 1).sum() + v[n:].sum()}
    best = minimize(outer, np.zeros(2 * n), constraints=zero, method="SLSQP", options={"ftol": 1e-14}).x
    assert best == pytest.approx([-0.3] * n + [-0.4] * n, abs=1e-5)
    hyper = {"lr": 0.1, "multiplier_lr": 0.1, "inner_lr": 0.1}
    fit = lv_hba(problem, np.zeros(n), np.zeros(2 * n), np.zeros(1), gtol=1e-3, max_iter=8000, **hyper)
    assert fit.converged
    # a penalty of finite weight leaves the lower level unsolved by |dF| / c, here at most 1/c
    found = np.concatenate([fit.x, fit.y[n:]])
    assert found == pytest.approx(best, abs=1 / fit.c) and fit.c > 5
    assert fit.y[:n] == pytest.approx([0.7] * n, abs=1 / fit.c) and fit.z == pytest.approx([-1.0], abs=1 / fit.c)
    assert abs(fit.x.sum() + fit.y.sum()) < 1e-12
    with pytest.warns(ConvergenceWarning):
        early = lv_hba(problem, np.zeros(n), np.zeros(2 * n), np.zeros(1), gtol=1e-6, max_iter=300, **hyper)
    assert abs(fit.x - best[:n]).max() < abs(early.x - best[:n]).max()


def test_a_floor_of_the_lower_level():
    """y is at least 1.8: with x + y <= 3 the solution is x = 1.2, where 2x = 2.4 is cut to 1.8."""
    problem = CoupledBilevel(floor=1.8)
    fit = lv_hba(problem, *_one(0.0, 0.0, 0.0), gtol=1e-3, **FAST)
    assert fit.converged and (fit.y >= 1.8).all() and (fit.theta >= 1.8).all()
    assert fit.x == pytest.approx([1.2], abs=5e-3) and fit.y == pytest.approx([1.8], abs=5e-3)


def test_a_box_that_is_too_small():
    """The multiplier of the solution is 1.5: with 1 as bound the lower level is never solved there."""
    fit = lv_hba(PROBLEM, *_one(0.0, 0.0, 0.0), gtol=1e-3, radius=1.0, **FAST)
    saddle = saddle_point(PROBLEM, fit.x, fit.y, fit.z, radius=1.0)
    assert fit.z == pytest.approx([1.0]) and saddle.multiplier == pytest.approx([1.0])
    assert fit.x[0] < 1.4


def test_too_few_steps():
    with pytest.warns(ConvergenceWarning, match="lv_hba"):
        fit = lv_hba(PROBLEM, *_one(4.0, 3.0, 20.0), max_iter=5)
    assert not fit.converged and fit.iterations == len(fit.residuals) == 5
    assert fit.x + fit.y <= 3 + 1e-12 and fit.z <= 10
