"""Cauchy point, dogleg and subspace steps: their decrease, and their order."""

import itertools

import numpy as np
import pytest

from trref.optimization.steihaug import steihaug_toint
from trref.optimization.trust_region_steps import cauchy_point, dogleg, model_value, subspace_step
from trref.optimization.trust_region_subproblem import eigen_step
from trref.problems.convex import DenseOperator, spd_matrix


def _convex(number, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        n = int(rng.integers(2, 9))
        B = spd_matrix(rng, np.exp(rng.uniform(-2, 4, n)))
        yield rng.standard_normal(n), B, float(10 ** rng.uniform(-2, 1))


def _value(step, g, B):
    return float(model_value(g, B, step.p)[0])


def test_cauchy_point_by_hand():
    g, B = np.array([3.0, 4.0]), np.diag([1.0, 2.0])
    assert np.allclose(cauchy_point(g, B, radius=1.0).p, [-0.6, -0.8], rtol=1e-9)  # unconstrained at 125/41 > 1
    assert np.allclose(cauchy_point(g, B, radius=10.0).p, -25 / 41 * g, rtol=1e-9)
    assert np.allclose(cauchy_point(g, -B, radius=10.0).p, [-6, -8], rtol=1e-9)
    assert not cauchy_point(0 * g, B, radius=1.0).p.any()


def test_cauchy_point_is_the_best_along_the_gradient():
    rng = np.random.default_rng(1)
    for _ in range(100):
        A, g, radius = rng.standard_normal((4, 4)), rng.standard_normal(4), float(10 ** rng.uniform(-1, 1))
        B = A + A.T
        t = np.linspace(0, radius / np.linalg.norm(g), 2001)
        along = -t * (g @ g) + t**2 / 2 * (g @ B @ g)
        assert _value(cauchy_point(g, B, radius=radius), g, B) <= along.min() + 1e-12


def test_decrease_of_the_cauchy_point_and_where_the_bound_is_attained():
    rng = np.random.default_rng(2)
    for _ in range(2000):
        n = int(rng.integers(1, 6))
        A, g, radius = rng.standard_normal((n, n)), rng.standard_normal(n), float(10 ** rng.uniform(-2, 2))
        B = A + A.T
        norm = np.linalg.norm(g)
        bound = norm / 2 * min(radius, norm / np.linalg.norm(B, 2))
        assert -_value(cauchy_point(g, B, radius=radius), g, B) >= bound * (1 - 1e-12)
    g, B = np.array([1.0, 0.0]), np.diag([4.0, 1.0])
    assert -_value(cauchy_point(g, B, radius=9.0), g, B) == pytest.approx(1 / 8, rel=1e-14)


def test_order_of_the_steps():
    """Exact, then subspace, then dogleg, then Cauchy, in the model's value; Steihaug between exact and Cauchy."""
    for g, B, radius in _convex(500):
        exact, plane, leg, cauchy = (
            _value(f(g, B, radius=radius), g, B) for f in (eigen_step, subspace_step, dogleg, cauchy_point)
        )
        slack = 1e-12 * abs(exact)
        truncated = _value(steihaug_toint(g, DenseOperator(B), radius=radius), g, B)
        assert exact <= plane + slack and plane <= leg + slack and leg <= cauchy + slack
        assert exact <= truncated + slack and truncated <= cauchy + slack


def test_dogleg_ends():
    for g, B, _ in _convex(100, seed=3):
        newton = -np.linalg.solve(B, g)
        steepest = -(g @ g) / (g @ B @ g) * g
        long, short = 1.1 * np.linalg.norm(newton), 0.5 * np.linalg.norm(steepest)
        assert np.allclose(dogleg(g, B, radius=long).p, newton, rtol=1e-9)
        assert np.allclose(dogleg(g, B, radius=short).p, -short * g / np.linalg.norm(g), rtol=1e-12)
        between = (np.linalg.norm(newton) + np.linalg.norm(steepest)) / 2
        step = dogleg(g, B, radius=between)
        assert np.linalg.norm(step.p) == pytest.approx(between, rel=1e-12)
        along = (step.p - steepest) @ (newton - steepest) / ((newton - steepest) @ (newton - steepest))
        assert 0 <= along <= 1 and np.allclose(step.p, steepest + along * (newton - steepest), rtol=0, atol=1e-9)


def test_along_the_dogleg_path_the_length_grows_and_the_model_falls():
    for g, B, _ in _convex(50, seed=4):
        radii = np.geomspace(1e-3, 1.2 * np.linalg.norm(np.linalg.solve(B, g)), 30)
        steps = [dogleg(g, B, radius=r) for r in radii]
        lengths = [np.linalg.norm(s.p) for s in steps]
        values = [_value(s, g, B) for s in steps]
        assert all(b >= a * (1 - 1e-12) for a, b in itertools.pairwise(lengths))
        assert all(b <= a + 1e-12 * abs(a) for a, b in itertools.pairwise(values))


def test_subspace_step_is_exact_in_two_dimensions_and_lies_in_its_plane():
    rng = np.random.default_rng(5)
    B, g = spd_matrix(rng, np.array([3.0, 0.5])), rng.standard_normal(2)
    assert np.allclose(subspace_step(g, B, radius=0.4).p, eigen_step(g, B, radius=0.4).p, rtol=0, atol=1e-12)
    for g, B, radius in _convex(50, seed=6):
        plane = np.linalg.qr(np.stack([g, np.linalg.solve(B, g)], 1))[0]
        p = subspace_step(g, B, radius=radius).p
        assert np.allclose(plane @ (plane.T @ p), p, rtol=0, atol=1e-9 * radius)


def test_a_rotation_of_the_problem_rotates_the_steps():
    rng = np.random.default_rng(7)
    for g, B, radius in _convex(20, seed=8):
        Q = np.linalg.qr(rng.standard_normal((len(g), len(g))))[0]
        rotated = Q @ B @ Q.T
        rotated = (rotated + rotated.T) / 2
        for f in (cauchy_point, dogleg, subspace_step):
            assert np.allclose(f(Q @ g, rotated, radius=radius).p, Q @ f(g, B, radius=radius).p, rtol=0, atol=1e-10)


@pytest.mark.parametrize("f", [dogleg, subspace_step])
@pytest.mark.parametrize("w", [(1.0, -1.0), (1.0, 0.0), (-1.0, -2.0)])
def test_matrix_must_be_positive_definite(f, w):
    with pytest.raises(ValueError, match="B must be positive definite"):
        f(np.ones(2), np.diag(w), radius=1.0)


@pytest.mark.parametrize("f", [cauchy_point, dogleg, subspace_step])
def test_bad_input(f):
    with pytest.raises(ValueError, match="B must be symmetric"):
        f(np.ones(2), np.array([[1.0, 0.5], [0.0, 1.0]]), radius=1.0)
    with pytest.raises(ValueError, match="radius must lie in"):
        f(np.ones(2), np.eye(2), radius=-1.0)


def test_model_value_sees_the_symmetric_part():
    rng = np.random.default_rng(9)
    g, p, A = rng.standard_normal(4), rng.standard_normal(4), rng.standard_normal((4, 4))
    value, gradient = model_value(g, A, p)
    assert value == pytest.approx(g @ p + p @ A @ p / 2) and np.allclose(gradient, g + (A + A.T) @ p / 2, rtol=1e-9)


def test_values_start_at_zero():
    for g, B, radius in _convex(20, seed=10):
        assert all(f(g, B, radius=radius).values[0] == 0 for f in (cauchy_point, dogleg, subspace_step))
