"""Sinkhorn-Newton-Sparse on assignments: convergence, limits, the theorem on sparsity, and a forced failure."""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from trref.transport import sinkhorn_newton_sparse as module
from trref.transport.entropic_dual import dual_value
from trref.transport.sinkhorn import sinkhorn_log, sinkhorn_scaling
from trref.transport.sinkhorn_newton_sparse import augmented_potential, sinkhorn_newton_sparse
from trref.transport.sinkhorn_newton_sparse_hessian import NewtonDirection
from trref.validate import ConvergenceWarning


def _assignment(seed, n):
    return np.random.default_rng(seed).random((n, n)), np.full(n, 1 / n), np.full(n, 1 / n)


def _quietly(solve, *problem, **hyper):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return solve(*problem, **hyper)


@pytest.mark.parametrize("n", [200, 500])
def test_random_assignment(n):
    """The headline: 1e-12 within 60 iterations, where Sinkhorn is nowhere near after two thousand sweeps."""
    problem = _assignment(0, n)
    ours = sinkhorn_newton_sparse(*problem, reg=1 / 1200, tol=1e-12)
    sweeps = _quietly(sinkhorn_scaling, *problem, reg=1 / 1200, tol=1e-12, max_iter=2000)
    assert ours.converged and ours.marginal_errors[-1] <= 1e-12 and ours.iterations <= 60
    assert sweeps.marginal_errors[-1] > 1e-6
    assert abs(ours.plan.sum(1) - 1 / n).sum() + abs(ours.plan.sum(0) - 1 / n).sum() <= 1e-12
    best = problem[0][linear_sum_assignment(problem[0])].sum() / n
    assert best <= (ours.plan * problem[0]).sum() <= best + 2 * math.log(n) / 1200


def test_same_plan_as_sinkhorn():
    rng = np.random.default_rng(1)
    a, b = rng.exponential(1.0, 30) + 0.1, rng.exponential(1.0, 40) + 0.1
    problem = rng.random((30, 40)), a / a.sum(), b / b.sum()
    ours = sinkhorn_newton_sparse(*problem, reg=0.02, tol=1e-13)
    theirs = sinkhorn_log(*problem, reg=0.02, tol=1e-13, max_iter=100000)
    assert np.allclose(ours.plan, theirs.plan, rtol=0, atol=1e-13)
    shift = ours.f[0] - theirs.f[0]
    assert np.allclose(ours.f - shift, theirs.f, rtol=0, atol=1e-10) and np.allclose(
        ours.g + shift, theirs.g, rtol=0, atol=1e-10
    )


def test_before_the_newton_steps_it_is_sinkhorn():
    problem = _assignment(2, 50)
    ours = _quietly(sinkhorn_newton_sparse, *problem, reg=0.005, tol=1e-12, max_iter=20)
    theirs = _quietly(sinkhorn_scaling, *problem, reg=0.005, tol=1e-12, max_iter=20)
    assert np.array_equal(ours.plan, theirs.plan) and ours.marginal_errors == theirs.marginal_errors
    assert ours.step_sizes == [] and ours.inner_iterations == 0


@pytest.mark.parametrize("seed", range(4))
def test_exact_newton_doubles_the_digits(seed):
    """With all entries, each error is at most a few times the square of the one before, down to rounding."""
    options = {"tol": 1e-13, "keep": 1.0, "cg_rtol": 1e-10, "n_sinkhorn": 1}
    errors = sinkhorn_newton_sparse(*_assignment(seed, 30), reg=0.05, **options).marginal_errors
    assert len(errors) <= 6 and errors[0] > 0.1
    assert all(later <= 4 * earlier**2 + 1e-13 for earlier, later in itertools.pairwise(errors))


def test_the_share_matters():
    """A share of 2/n on the plan converges linearly; 8/n in far fewer steps."""
    problem = _assignment(4, 200)
    steps = {}
    for share in (2, 8):
        steps[share] = len(sinkhorn_newton_sparse(*problem, reg=1 / 600, keep=share / 200, tol=1e-10).step_sizes)
    assert 2 * steps[8] < steps[2]


def test_the_default_share_is_eight_entries_a_row():
    rng = np.random.default_rng(12)
    problem = rng.random((30, 40)), np.full(30, 1 / 30), np.full(40, 1 / 40)
    plans = [
        _quietly(sinkhorn_newton_sparse, *problem, reg=0.02, max_iter=21, keep=r).plan for r in (None, 8 / 30, 0.3)
    ]
    assert np.array_equal(plans[0], plans[1]) and not np.allclose(plans[0], plans[2], rtol=1e-6)


def test_the_dual_ascends_at_every_step():
    problem, values = _assignment(5, 100), []
    for iterations in range(20, 36):
        found = _quietly(sinkhorn_newton_sparse, *problem, reg=1 / 500, tol=1e-8, max_iter=iterations)
        values.append(-dual_value(found.f, found.g, *problem, reg=1 / 500)[0])
        if found.converged:
            break
    assert len(values) > 4 and (np.diff(values) > 0).all()


def test_shifted_costs_change_nothing():
    cost, a, b = _assignment(6, 40)
    rng = np.random.default_rng(6)
    first = sinkhorn_newton_sparse(cost, a, b, reg=0.004, tol=1e-12)
    second = sinkhorn_newton_sparse(cost + rng.random((40, 1)) + rng.random(40), a, b, reg=0.004, tol=1e-12)
    assert np.allclose(first.plan, second.plan, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_theorem_on_sparsity(seed):
    """Mass off the best permutation is at most 6 n² exp(-gap / reg), gap the cost between best and second best."""
    n = 5
    cost, a, b = _assignment([7, seed], n)
    permutations = list(itertools.permutations(range(n)))
    values = np.array([cost[range(n), p].sum() / n for p in permutations])
    best, second = np.partition(values, 1)[:2]
    gap = second - best
    eta = 3 * (1 + 2 * math.log(n)) / gap
    plan = sinkhorn_newton_sparse(cost, a, b, reg=1 / eta, tol=1e-12, keep=1.0, levels=4).plan
    on_best = plan[range(n), permutations[values.argmin()]].sum()
    assert 0 <= 1 - on_best + 1e-12 <= 6 * n**2 * math.exp(-eta * gap)


@pytest.mark.parametrize("bad", ["nan", "descent", "huge"])
def test_a_failed_newton_step_falls_back_to_sweeps(monkeypatch, bad):
    """Whatever the linear solver returns, the iteration goes on as Sinkhorn's."""

    def broken(kept, a, b, rows, columns, rtol):
        df, dg = {
            "nan": (math.nan * a, b),
            "descent": (rows - a, columns - b),
            "huge": (1e6 * (a - rows), 1e6 * (b - columns)),
        }[bad]
        return NewtonDirection(df, dg, [1.0], 0, False)

    monkeypatch.setattr(module, "solve_reduced", broken)
    problem = _assignment(8, 30)
    result = sinkhorn_newton_sparse(*problem, reg=0.02, tol=1e-10, max_iter=3000)
    assert result.converged and 0.0 in result.step_sizes
    assert np.allclose(result.plan, sinkhorn_log(*problem, reg=0.02, tol=1e-11).plan, rtol=0, atol=1e-10)
    if bad != "huge":
        assert set(result.step_sizes) == {0.0}


def test_counts_are_reported():
    result = sinkhorn_newton_sparse(*_assignment(9, 80), reg=1 / 400, n_sinkhorn=15)
    assert result.iterations == len(result.marginal_errors) == 15 + len(result.step_sizes)
    assert len(result.cg_iterations) == len(result.step_sizes) and min(result.cg_iterations) >= 1
    assert result.inner_iterations == sum(result.cg_iterations)


def test_smooth_densities_need_another_share():
    """Where the paper's budget does not help: a smooth cost on a line."""
    s = np.linspace(0, 1, 100)
    a, b = np.exp(-((s - 0.3) ** 2) / 0.02), np.exp(-((s - 0.6) ** 2) / 0.03)
    problem = (s[:, None] - s) ** 2, (a + 1e-3) / (a + 1e-3).sum(), (b + 1e-3) / (b + 1e-3).sum()
    few = _quietly(sinkhorn_newton_sparse, *problem, reg=1 / 300, tol=1e-9, keep=0.02, max_iter=60)
    many = _quietly(sinkhorn_newton_sparse, *problem, reg=1 / 300, tol=1e-9, keep=0.4, max_iter=60)
    assert many.converged and not few.converged


def test_augmented_potential_has_one_maximum():
    cost, a, b = _assignment(10, 6)
    best = sinkhorn_log(cost, a, b, reg=0.1, tol=1e-13)
    shift = (best.g.sum() - best.f.sum()) / 12
    centred = augmented_potential(best.f + shift, best.g - shift, cost, a, b, reg=0.1)
    assert np.allclose(centred[1].f, 0, rtol=0, atol=1e-12) and np.allclose(centred[1].g, 0, rtol=0, atol=1e-12)
    for s in (-0.3, 0.2):
        moved = augmented_potential(best.f + shift + s, best.g - shift - s, cost, a, b, reg=0.1)
        assert moved[0] - centred[0] == pytest.approx((12 * s) ** 2 / 2)


OUT_OF_RANGE = [
    {"keep": 1.5},
    {"keep": -0.1},
    {"cg_rtol": 0.0},
    {"cg_rtol": 1.0},
    {"n_sinkhorn": 0},
    {"levels": -1},
    {"levels": 21},
]


@pytest.mark.parametrize("bad", OUT_OF_RANGE)
def test_settings_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        sinkhorn_newton_sparse(*_assignment(11, 4), reg=0.1, **bad)
