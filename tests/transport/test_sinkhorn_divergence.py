"""The envelope theorem through the solver, and what makes the divergence one."""

import numpy as np
import pytest

from trref.transport.sinkhorn import sinkhorn_log
from trref.transport.sinkhorn_divergence import (
    optimal_cost,
    optimal_cost_of_points,
    sinkhorn_divergence,
    sinkhorn_divergence_gradient,
)
from trref.transport.terms import squared_distances

REG = 1.0


def _clouds(seed, n=7, m=5):
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(1.0, n) + 0.2, rng.exponential(1.0, m) + 0.2
    return rng.standard_normal((n, 2)), rng.standard_normal((m, 2)) + 0.5, a / a.sum(), b / b.sum()


def _optimum(cost, a, b):
    best = sinkhorn_log(cost, a, b, reg=REG, tol=1e-14, max_iter=100000)
    return optimal_cost(best.f, best.g, cost, a, b, reg=REG)


def _slope(function, h=1e-4):
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
@pytest.mark.parametrize("seed", range(3))
def test_envelope_through_the_solver(seed):
    """Differences of the solved problem, potentials and plan free to move, equal the partial derivatives."""
    x, z, a, b = _clouds(seed)
    cost, rng = squared_distances(x, z), np.random.default_rng(seed)
    gradient = _optimum(cost, a, b)[1]
    dC = rng.standard_normal(cost.shape)
    assert _slope(lambda h: _optimum(cost + h * dC, a, b)[0]) == pytest.approx((gradient.cost * dC).sum(), rel=1e-8)
    da, db = (v - v.mean() for v in (rng.standard_normal(7) / 20, rng.standard_normal(5) / 20))
    slope = _slope(lambda h: _optimum(cost, a + h * da, b + h * db)[0])
    assert slope == pytest.approx(gradient.a @ da + gradient.b @ db, rel=1e-8)


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
def test_points_through_the_solver():
    x, z, a, b = _clouds(3)
    best = sinkhorn_log(squared_distances(x, z), a, b, reg=REG, tol=1e-14, max_iter=100000)
    gradient = optimal_cost_of_points(x, z, best.f, best.g, a, b, reg=REG)[1]
    dx, dz = np.random.default_rng(3).standard_normal((2, 7, 2))
    dz = dz[:5]
    slope = _slope(lambda h: _optimum(squared_distances(x + h * dx, z + h * dz), a, b)[0])
    assert slope == pytest.approx((gradient.x * dx).sum() + (gradient.z * dz).sum(), rel=1e-8)


def test_gradient_of_the_divergence_through_the_solver():
    x, z, a, b = _clouds(4)
    gradient = sinkhorn_divergence_gradient(x, z, a, b, reg=REG)
    dx = np.random.default_rng(4).standard_normal(x.shape)
    slope = _slope(lambda h: sinkhorn_divergence(x + h * dx, z, a, b, reg=REG))
    assert slope == pytest.approx((gradient * dx).sum(), rel=1e-8)


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
@pytest.mark.parametrize("seed", range(5))
def test_positive_and_zero_for_equal_clouds(seed):
    x, z, a, b = _clouds(seed)
    assert sinkhorn_divergence(x, z, a, b, reg=REG) > 1e-3
    assert sinkhorn_divergence(x, x, a, a, reg=REG) == pytest.approx(0, abs=1e-13)
    assert np.allclose(sinkhorn_divergence_gradient(x, x, a, a, reg=REG), 0, rtol=0, atol=1e-12)
    order = np.random.default_rng(seed).permutation(7)
    assert sinkhorn_divergence(x, x[order], a, a[order], reg=REG) == pytest.approx(0, abs=1e-12)
    assert sinkhorn_divergence(x, z, a, b, reg=REG) == pytest.approx(sinkhorn_divergence(z, x, b, a, reg=REG), rel=1e-9)


def test_a_shift_costs_its_square():
    """Shifting a cloud by h changes the cost between the clouds by row and column terms only: S is ‖h‖² exactly."""
    x, _, a, _ = _clouds(5)
    h = np.array([0.6, -0.3])
    assert sinkhorn_divergence(x + h, x, a, a, reg=REG) == pytest.approx((h**2).sum(), rel=1e-10)
    assert np.allclose(sinkhorn_divergence_gradient(x + h, x, a, a, reg=REG), 2 * a[:, None] * h, rtol=0, atol=1e-10)


def test_large_regularisation_compares_means():
    """The plans become products, and what is left of the divergence is the squared distance of the means."""
    x, z, a, b = _clouds(6)
    distance = ((a @ x - b @ z) ** 2).sum()
    assert sinkhorn_divergence(x, z, a, b, reg=1e4) == pytest.approx(distance, rel=1e-2)


def test_masses_are_divided_by_their_sums():
    x, z, a, b = _clouds(7)
    exact = sinkhorn_divergence(x, z, a, b, reg=REG)
    assert sinkhorn_divergence(x, z, a * (1 + 4e-6), b * (1 - 3e-6), reg=REG) == pytest.approx(exact, rel=1e-10)
