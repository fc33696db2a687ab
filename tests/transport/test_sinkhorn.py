"""Theorems and limits of Sinkhorn's algorithm."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog

from trref.transport.sinkhorn import round_to_feasible, sinkhorn_log, sinkhorn_scaling
from trref.transport.terms import squared_distances
from trref.validate import ConvergenceWarning

SOLVERS = pytest.mark.parametrize("solve", [sinkhorn_log, sinkhorn_scaling])


def _problem(seed, n=20, m=30):
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(1.0, n) + 0.1, rng.exponential(1.0, m) + 0.1
    return rng.random((n, m)), a / a.sum(), b / b.sum()


def _plain(cost, a, b, reg, sweeps):
    """Sinkhorn as in the textbook, one row and one column at a time."""
    K, v = np.exp(-cost / reg), np.ones(len(b))
    for _ in range(sweeps):
        u = np.array([a[i] / sum(K[i, j] * v[j] for j in range(len(b))) for i in range(len(a))])
        v = np.array([b[j] / sum(K[i, j] * u[i] for i in range(len(a))) for j in range(len(b))])
    return u[:, None] * K * v


def test_sweeps_by_loops():
    cost, a, b = _problem(0, 5, 7)
    with pytest.warns(ConvergenceWarning, match="after 3 iterations"):
        result = sinkhorn_log(cost, a, b, reg=0.1, tol=1e-15, max_iter=3)
    plain = _plain(cost, a, b, 0.1, 3)
    assert np.allclose(result.plan, plain, rtol=1e-12)
    assert result.marginal_errors[-1] == pytest.approx(abs(plain.sum(1) - a).sum(), rel=1e-10)
    reduced = cost - cost.min(1, keepdims=True)
    reduced = reduced - reduced.min(0)
    with pytest.warns(ConvergenceWarning):
        scaled = sinkhorn_scaling(cost, a, b, reg=0.1, tol=1e-15, max_iter=3)
    assert np.allclose(scaled.plan, _plain(reduced, a, b, 0.1, 3), rtol=1e-12)
    assert not np.allclose(scaled.plan, plain, rtol=1e-6), "the start matters before convergence"


@pytest.mark.parametrize("reg", [1.0, 0.1, 0.02])
def test_both_forms_agree(reg):
    problem = _problem(1)
    first, second = (solve(*problem, reg=reg, tol=1e-12) for solve in (sinkhorn_log, sinkhorn_scaling))
    assert np.allclose(first.plan, second.plan, rtol=0, atol=1e-12)
    shift = first.f[0] - second.f[0]
    assert np.allclose(first.f - shift, second.f, rtol=0, atol=1e-8) and np.allclose(
        first.g + shift, second.g, rtol=0, atol=1e-8
    )


@SOLVERS
def test_large_regularisation_gives_the_product(solve):
    cost, a, b = _problem(2)
    plan = solve(cost, a, b, reg=1e4).plan
    assert np.allclose(plan, np.outer(a, b), rtol=2e-4) and not np.allclose(plan, np.outer(a, b), rtol=1e-6)


@SOLVERS
@pytest.mark.parametrize("reg", [0.1, 0.03])
def test_small_regularisation_gives_the_assignment(solve, reg):
    """The cost exceeds the best one by at most reg (log n + log m), by the range of the entropy."""
    n = 8
    cost, uniform = np.random.default_rng(3).random((n, n)), np.full(n, 1 / n)
    best = cost[linear_sum_assignment(cost)].sum() / n
    plan = solve(cost, uniform, uniform, reg=reg, tol=1e-7).plan
    found = (cost * round_to_feasible(plan, uniform, uniform)).sum()
    assert best - 1e-13 <= found <= best + reg * 2 * math.log(n)
    assert found > best, "but with entropy it does exceed it"


def test_linear_program():
    cost, a, b = _problem(4, 6, 9)
    rows = np.kron(np.eye(6), np.ones(9))
    columns = np.kron(np.ones(6), np.eye(9))
    best = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b])).fun
    for reg in (0.05, 0.01):
        found = (cost * sinkhorn_scaling(cost, a, b, reg=reg, tol=1e-10, max_iter=50000).plan).sum()
        assert best - 1e-9 <= found <= best + reg * (math.log(6) + math.log(9))


def test_one_dimension_sorts():
    """For a convex cost on a line the best plan matches sorted points."""
    rng = np.random.default_rng(5)
    x, z = rng.standard_normal((12, 1)), rng.standard_normal((12, 1))
    uniform = np.full(12, 1 / 12)
    best = ((np.sort(x, 0) - np.sort(z, 0)) ** 2).mean()
    cost = squared_distances(x, z)
    plan = sinkhorn_scaling(cost, uniform, uniform, reg=0.05, tol=1e-5, max_iter=20000).plan
    found = (cost * round_to_feasible(plan, uniform, uniform)).sum()
    assert best - 1e-13 <= found <= best + 0.05 * 2 * math.log(12)


@SOLVERS
def test_row_and_column_costs_change_nothing(solve):
    cost, a, b = _problem(6)
    rng = np.random.default_rng(6)
    u, v = rng.standard_normal(len(a)), rng.standard_normal(len(b))
    first = solve(cost, a, b, reg=0.1, tol=1e-13).plan
    assert np.allclose(solve(cost + u[:, None] + v, a, b, reg=0.1, tol=1e-12).plan, first, rtol=0, atol=1e-12)


@SOLVERS
def test_transposed_problem(solve):
    cost, a, b = _problem(7)
    there, back = solve(cost, a, b, reg=0.1, tol=1e-13).plan, solve(cost.T.copy(), b, a, reg=0.1, tol=1e-13).plan
    assert np.allclose(there, back.T, rtol=0, atol=1e-13)


@SOLVERS
def test_marginal_error_never_grows(solve):
    errors = solve(*_problem(8), reg=0.03, tol=1e-11).marginal_errors
    assert all(later <= earlier * (1 + 1e-9) + 1e-13 for earlier, later in itertools.pairwise(errors))


@pytest.mark.parametrize("reg", [0.5, 0.2, 0.1])
def test_rate_in_the_metric_of_hilbert(reg):
    """Each sweep contracts the potentials by tanh² of a quarter of the oscillation of the cost, over reg."""
    cost, a, b = _problem(9, 6, 7)
    oscillation = max(
        (cost[i, j] + cost[k, l] - cost[i, l] - cost[k, j])
        for i in range(6) for k in range(6) for j in range(7) for l in range(7)
    )  # fmt: skip
    rate = math.tanh(oscillation / (4 * reg)) ** 2
    exact = sinkhorn_log(cost, a, b, reg=reg, tol=1e-14).f
    distance = []
    for sweeps in range(1, 6):
        with pytest.warns(ConvergenceWarning):
            e = sinkhorn_log(cost, a, b, reg=reg, tol=1e-16, max_iter=sweeps).f - exact
        distance.append(e.max() - e.min())
    for earlier, later in itertools.pairwise(distance):
        assert later <= rate * earlier * (1 + 1e-6) + 1e-13


def test_scaling_form_survives_where_the_kernel_underflows():
    cost, a, b = _problem(10, 30, 30)
    reg = 1 / 3000
    assert (np.exp(-(cost + 1) / reg) == 0).all(), "the textbook's form would divide by zero"
    with pytest.warns(ConvergenceWarning):
        scaled = sinkhorn_scaling(cost + 1, a, b, reg=reg, tol=1e-9, max_iter=3000)
    assert np.isfinite(scaled.plan).all() and scaled.marginal_errors[-1] < scaled.marginal_errors[0] / 10
    assert abs(scaled.plan.sum(0) - b).sum() < 1e-12, "the columns are exact after each sweep"


@SOLVERS
def test_rounding_ends_the_iteration(solve):
    with pytest.warns(ConvergenceWarning, match="above 1e-30"):
        result = solve(*_problem(11), reg=0.1, tol=1e-30)
    assert not result.converged and result.iterations < 1000 and result.marginal_errors[-1] < 1e-13


def test_the_plan_is_that_of_the_potentials_where_the_kernel_is_clipped():
    """Routes 1000 times reg away from the plan must not come back as u and v grow: their entries stay next to 0."""
    cost = np.array([[7.0, 0.0, 100.0], [0.0, 7.0, 7.0], [100.0, 100.0, 0.0]])
    a, b = np.array([0.4, 0.3, 0.3]), np.array([0.4, 0.2, 0.4])
    for solve in (sinkhorn_log, sinkhorn_scaling):
        result = solve(cost, a, b, reg=0.1)
        exact = np.exp(np.maximum((result.f[:, None] + result.g - cost) / 0.1 - 1, -700))
        assert result.converged and np.allclose(result.plan, exact, rtol=1e-10, atol=1e-100)


@SOLVERS
def test_masses_are_divided_by_their_sums(solve):
    cost, a, b = _problem(13)
    exact, scaled = solve(cost, a, b, reg=0.1), solve(cost, a * (1 + 4e-6), b * (1 - 3e-6), reg=0.1)
    assert scaled.converged and np.allclose(scaled.plan, exact.plan, rtol=1e-9)


def test_rounding_divides_masses_by_their_sums():
    _, a, b = _problem(13)
    rounded = round_to_feasible(np.outer(b[:20], b), a * (1 + 4e-6), b * (1 - 3e-6))
    assert np.allclose(rounded.sum(1), a, rtol=1e-13) and np.allclose(rounded.sum(0), b, rtol=1e-13)


@pytest.mark.parametrize("noise", [1e-8, 0.1, 3.0])
def test_rounding_is_feasible_and_near(noise):
    rng = np.random.default_rng(12)
    _, a, b = _problem(12)
    plan = np.outer(a, b) * np.exp(noise * rng.standard_normal((20, 30)))
    rounded = round_to_feasible(plan, a, b)
    assert (rounded >= 0).all()
    assert np.allclose(rounded.sum(1), a, rtol=1e-13) and np.allclose(rounded.sum(0), b, rtol=1e-13)
    error = abs(plan.sum(1) - a).sum() + abs(plan.sum(0) - b).sum()
    assert abs(rounded - plan).sum() <= 2 * error


def test_rounding_by_hand():
    """Rows (0.6, 0.4) and (0.2, 0.2): the first is halved, the columns are light, and the rest is an outer product."""
    plan = np.array([[0.6, 0.4], [0.2, 0.2]])
    rounded = round_to_feasible(plan, np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    assert np.allclose(rounded, [[0.3, 0.2], [0.2, 0.3]], rtol=1e-14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": np.array([0.5, 0.6])}, "a must sum to 1"),
        ({"b": np.array([0.0, 1.0])}, "b must be positive"),
        ({"b": np.array([1e-200, 1.0])}, "b must be at least 1e-100"),
        ({"cost": np.array([[1e9, 0.0], [0.0, 0.0]])}, "cost must be at most 6.7e\\+07 times reg"),
        ({"cost": np.zeros((3, 2))}, "a must have shape"),
        ({"reg": 0.0}, "reg must lie in"),
        ({"tol": 0.0}, "tol must lie in"),
        ({"max_iter": 0}, "max_iter must lie in"),
    ],
)
@SOLVERS
def test_bad_input(solve, change, message):
    good = {"cost": np.zeros((2, 2)), "a": np.array([0.5, 0.5]), "b": np.array([0.25, 0.75]), "reg": 1.0}
    with pytest.raises(ValueError, match=message):
        solve(**{**good, **change})
