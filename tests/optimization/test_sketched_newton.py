"""Sketched Newton steps: projections, the rate of uniform rows over all orders, and what the accuracy guarantees."""

import itertools

import numpy as np
import pytest

from trref.optimization.exact_merit import modified_hessian, newton_system
from trref.optimization.sketched_newton import (
    gaussian_steps,
    inner_bounds,
    kaczmarz_rate,
    kaczmarz_steps,
    largest_residual,
    sketch_step,
)


def _saddle(seed, n=4, m=2, shift=0.1):
    """A Newton system, and the matrices in it."""
    rng = np.random.default_rng(seed)
    half, G = rng.standard_normal((n, n)), rng.standard_normal((m, n))
    H = half + half.T
    B = modified_hessian(H, G, shift=shift)
    return newton_system(B, G, rng.standard_normal(n), rng.standard_normal(m)), (B, H, G), rng


def test_by_hand():
    """2 x + y = 1 and x = 4 from 0: (2/5, 1/5), then (4, 1/5); both combined by (1, 1) are 3 x + y = 5."""
    matrix, right = np.array([[2.0, 1.0], [1.0, 0.0]]), np.array([1.0, 4.0])
    points = kaczmarz_steps(matrix, right, np.zeros(2), np.array([0, 1]))
    assert np.allclose(points, [[0, 0], [0.4, 0.2], [4, 0.2]], rtol=1e-12, atol=1e-12)
    assert np.allclose(gaussian_steps(matrix, right, np.zeros(2), np.ones((1, 2)))[1], [1.5, 0.5], rtol=1e-12, atol=0)
    assert np.allclose(sketch_step(matrix, right, np.zeros(2), np.ones((2, 1))), [1.5, 0.5], rtol=1e-12, atol=0)


def test_steps_are_projections():
    """Step and remaining error are orthogonal, and the error never grows."""
    for seed in range(5):
        (matrix, right), _, rng = _saddle(seed)
        solution = np.linalg.solve(matrix, right)
        paths = (
            kaczmarz_steps(matrix, right, np.zeros(6), rng.integers(0, 6, 50)),
            gaussian_steps(matrix, right, np.zeros(6), rng.standard_normal((50, 6))),
        )
        for path in paths:
            errors, steps = path - solution, np.diff(path, axis=0)
            assert abs((errors[1:] * steps).sum(1)).max() < 1e-11 * (solution @ solution)
            assert (np.diff(np.linalg.norm(errors, axis=1)) <= 1e-12 * np.linalg.norm(solution)).all()
        whole = sketch_step(matrix, right, rng.standard_normal(6), np.eye(6))
        assert np.allclose(whole, solution, rtol=1e-7, atol=1e-7)


def test_expected_rate_over_all_orders():
    """The mean of the squared error over all orders of four equations, no sample of them."""
    for seed in range(4):
        (matrix, right), _, _ = _saddle(seed, n=3, m=1)
        solution, rate = np.linalg.solve(matrix, right), kaczmarz_rate(matrix)
        orders = itertools.product(range(4), repeat=4)
        paths = np.array([kaczmarz_steps(matrix, right, np.zeros(4), np.array(order)) for order in orders])
        mean = ((paths - solution) ** 2).sum(2).mean(0)
        assert (mean <= rate ** np.arange(5) * (solution @ solution) * (1 + 1e-12)).all() and rate < 1
    # rows that are orthogonal make an equality of it
    matrix, right = np.diag([1.0, 2.0, 5.0]), np.array([1.0, -2.0, 3.0])
    paths = [kaczmarz_steps(matrix, right, np.zeros(3), np.array(o)) for o in itertools.product(range(3), repeat=2)]
    solution = right / np.diag(matrix)
    mean = ((np.array(paths) - solution) ** 2).sum(2).mean(0)
    assert np.allclose(mean, (2 / 3) ** np.arange(3) * (solution @ solution), rtol=1e-12, atol=0)
    assert kaczmarz_rate(matrix) == pytest.approx(2 / 3)


def test_the_bound_is_one_of_the_inverse():
    """Where the curvature along the constraints is at least the shift, and how far from tight it is."""
    loose = []
    for seed in range(60):
        (matrix, right), (B, H, G), rng = _saddle(seed)
        Z = np.linalg.svd(G)[2][2:]
        if np.linalg.eigvalsh(Z @ B @ Z.T)[0] < 0.1:
            continue
        psi = np.asarray(inner_bounds(B, H, G).psi)
        inverse = np.linalg.norm(np.linalg.inv(matrix), 2)
        loose.append(psi / inverse)
        goal = largest_residual(matrix, right, psi, accuracy=0.2)
        residual = rng.standard_normal(6)
        residual = residual / np.linalg.norm(residual) * goal
        error = np.linalg.norm(np.linalg.solve(matrix, residual))
        exact = np.linalg.norm(np.linalg.solve(matrix, right))
        assert error <= 0.2 * exact, "the direction is that exact, relative to its length"
    assert len(loose) > 20 and min(loose) > 1 and np.median(loose) > 100


def test_refused():
    matrix, right = np.eye(3), np.ones(3)
    with pytest.raises(ValueError, match="order must be less than 3"):
        kaczmarz_steps(matrix, right, right, np.array([3]))
    with pytest.raises(ValueError, match="no row of 0"):
        kaczmarz_rate(np.diag([1.0, 0.0]))
    with pytest.raises(ValueError, match="vectors must combine"):
        gaussian_steps(matrix, right, right, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="independent rows"):
        inner_bounds(matrix, matrix, np.ones((2, 3)))
