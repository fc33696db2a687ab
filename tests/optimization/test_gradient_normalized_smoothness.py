"""Gradient-normalized smoothness: closed forms, the lemma behind the search, bounds of classes, and convergence."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from trref import validate
from trref.optimization.gradient_normalized_smoothness import (
    combined_smoothness,
    gns_minimize,
    regularized_step,
    required_decrease,
    smoothness,
)
from trref.problems.convex import Quadratic
from trref.problems.curvature import QuadraticHessian
from trref.problems.residuals import Curvature, LogSumExp, PowerResiduals

FEW = {"radii": 4, "steps": 30}


def _smooth_maximum(seed, rows=30, mu=0.7):
    rng = np.random.default_rng(seed)
    return LogSumExp(rng.standard_normal((rows, 5)), rng.standard_normal(rows), mu), rng


def _directions(rng, n=5, count=12):
    return rng.standard_normal((count, n))


def test_by_hand():
    """g = (3, 4), gamma = 5: the multiplier is 1, and H = diag(1, 3) gives (-3/2, -1)."""
    g, H = np.array([3.0, 4.0]), np.diag([1.0, 3.0])
    assert np.allclose(regularized_step(g, H, gamma=5.0), [-1.5, -1])
    # in the norm 4 h² the dual norm is 5/2, gamma = 5/2 makes the multiplier 1 and the matrix H + 4
    assert np.allclose(regularized_step(g, H, 4 * np.eye(2), gamma=2.5), [-3 / 5, -4 / 7])
    assert required_decrease(g, np.array([0.0, 2.0]), gamma=5.0) == pytest.approx(4 / 8)
    assert combined_smoothness(np.array([2.0]), np.array([2.0])) == pytest.approx(1)


def test_steps_are_no_longer_than_gamma():
    rng = np.random.default_rng(0)
    for _ in range(100):
        half, root = rng.standard_normal((5, 3)), rng.standard_normal((5, 5))
        g, H, B = rng.standard_normal(5), half @ half.T, root @ root.T + np.eye(5)
        gamma = 10 ** rng.uniform(-3, 3)
        h = regularized_step(g, H, B, gamma=gamma)
        assert np.sqrt(h @ B @ h) <= gamma * (1 + 1e-9)
        flat = regularized_step(g, 0 * H, gamma=gamma)
        assert np.allclose(flat, -gamma * g / np.linalg.norm(g)), "no curvature: normalised gradient descent"


def test_closed_forms_of_quadratics():
    """The error is ‖(A - H) h‖, so gamma is ‖g‖ over the largest of it along the directions looked at."""
    A, H = np.diag([4.0, 1.0, 0.5]), np.diag([1.0, 1.0, 0.0])
    x = np.array([1.0, 2.0, -2.0])
    norm = np.linalg.norm(A @ x)
    found = smoothness(Quadratic(A, np.zeros(3)), x, H, np.eye(3), steps=60)
    assert found == pytest.approx(norm / 3, rel=1e-9)
    assert smoothness(Quadratic(A, np.zeros(3)), x, A, np.eye(3)) == 1e6, "exact: no bound"
    # in another norm: (A - H) e_1 = 3 e_1, of dual norm 3 / 2 for a step of length 2
    B = np.diag([4.0, 1.0, 1.0])
    dual = np.sqrt(4 + 4 + 1)
    assert np.sqrt(A @ x @ np.linalg.solve(B, A @ x)) == pytest.approx(dual)
    found = smoothness(Quadratic(A, np.zeros(3)), x, H, np.eye(3)[:1], B, steps=60)
    assert found == pytest.approx(dual / (1.5 / 2))


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton", "none"])
def test_every_shorter_step_has_its_decrease(kind):
    """The lemma: for all gamma up to the smoothness the decrease is at least what is asked for."""
    for seed in range(8):
        problem, rng = _smooth_maximum(seed)
        x = 2 * rng.standard_normal(5)
        value, g = problem(x)
        H = Curvature(problem, kind)(x)
        # sampling sees no more than the worst direction: a part of it is safe, and the step's own one is looked at
        largest = float(smoothness(problem, x, H, np.r_[_directions(rng), g[None]], **FEW))
        for share in (0.9, 0.5, 0.1, 0.01):
            h = regularized_step(g, H, gamma=share * largest)
            new, new_g = problem(x + h)
            assert value - new >= required_decrease(g, new_g, gamma=share * largest) - 1e-13 * abs(value)


def test_bounds_of_classes():
    """L-smooth with no curvature: at least ‖g‖/L; exact Hessian of Lipschitz constant M: at least √(2 ‖g‖ / M)."""
    for seed in range(8):
        problem, rng = _smooth_maximum(seed)
        x = rng.standard_normal(5)
        norm, directions = np.linalg.norm(problem(x)[1]), _directions(rng)
        top = np.linalg.norm(problem.A, axis=1).max()
        none = smoothness(problem, x, np.zeros((5, 5)), directions, **FEW)
        assert none >= norm / (top**2 / problem.mu) * (1 - 1e-9)
        exact = smoothness(problem, x, problem.hessian(x), directions, **FEW)
        # the third derivative is a third central moment over mu², at most (2 top)³ over mu²
        assert exact >= np.sqrt(2 * norm * problem.mu**2 / (2 * top) ** 3)
        # two curvatures
        gap = np.linalg.norm(problem.gauss_newton(x) - problem.hessian(x), 2)
        bound = combined_smoothness(np.array([float(exact)]), np.array([norm / gap]))
        assert smoothness(problem, x, problem.gauss_newton(x), directions, **FEW) >= bound[0] * (1 - 1e-9)


def _minimum(problem, x0):
    return minimize(problem, x0, jac=True, hess=lambda x: problem.hessian(x), method="trust-exact", tol=1e-12)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_minimum_by_scipy(kind):
    for seed in range(3):
        problem, rng = _smooth_maximum(seed)
        x0 = 5 * rng.standard_normal(5)
        found = gns_minimize(problem, Curvature(problem, kind), x0, gtol=1e-9)
        assert found.converged and np.allclose(found.x, _minimum(problem, x0).x, rtol=0, atol=1e-5)
        assert (np.diff(found.values) <= 1e-14 * abs(found.values[0])).all()


def test_exact_on_a_quadratic_is_superlinear():
    """Each step is taken, gamma doubles, and the gradient falls by λ / (λ + 1) where the least curvature is 1."""
    rng = np.random.default_rng(5)
    half = rng.standard_normal((4, 4))
    A = half @ half.T + np.eye(4)
    found = gns_minimize(Quadratic(A, np.ones(4)), QuadraticHessian(A), 10 * rng.standard_normal(4), gtol=1e-10)
    assert found.iterations == len(found.gammas) and np.allclose(np.diff(np.log2(found.gammas)), 1)
    norms = np.array(found.gradient_norms)
    ratios, damping = norms[1:] / norms[:-1], norms[:-1] / found.gammas
    # the last gradients are near rounding, 1e-16 times values of the start's size
    assert (ratios[:-1] <= damping[:-1] / (damping[:-1] + 1) * (1 + 1e-6)).all() and ratios[-1] < 1e-4


def test_accepted_lengths_keep_to_the_bound():
    """Half of ‖g‖/L or the first gamma, whichever is less: a longer one is refused only above the smoothness."""
    problem, rng = _smooth_maximum(6)
    constant = np.linalg.norm(problem.A, axis=1).max() ** 2 / problem.mu
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", validate.ConvergenceWarning)
        found = gns_minimize(problem, Curvature(problem, "none"), rng.standard_normal(5), max_iter=200, gtol=1e-5)
    bounds = np.array(found.gradient_norms[: len(found.gammas)]) / constant / 2
    assert (np.array(found.gammas) >= np.minimum(bounds, 1) * (1 - 1e-9)).all()


@pytest.mark.parametrize("p", [2.0, 3.0, 4.0])
def test_not_convex(p):
    """Rosenbrock's residuals from the usual start: a zero of the residuals."""
    problem = PowerResiduals(p)
    found = gns_minimize(problem, Curvature(problem), np.array([-1.2, 1.0]), gtol=1e-9)
    # near the zero ‖u‖^(p-1) is the gradient's size, up to the smallest singular value of the Jacobian, 1/10 here
    assert found.converged and problem(found.x)[0] < 1e-7


@dataclasses.dataclass(frozen=True)
class _Cliff:
    """A quadratic that is not finite beyond 1."""

    edge: Any = 1.0

    def __call__(self, x):
        return np.where(abs(x).max() > self.edge, np.nan, x @ x / 2), x.copy()


def test_steps_into_nowhere_are_refused():
    found = gns_minimize(_Cliff(), QuadraticHessian(0.05 * np.eye(2)), np.array([0.9, -0.2]), gamma=10.0)
    assert found.converged and found.iterations > len(found.gammas)


def test_refused():
    with pytest.raises(ValueError, match="curvature must give positive semi-definite"):
        gns_minimize(Quadratic(-np.eye(2), np.zeros(2)), QuadraticHessian(-np.eye(2)), np.ones(2), gamma=100.0)
    with pytest.raises(ValueError, match="norm_matrix must be positive definite"):
        required_decrease(np.ones(2), np.ones(2), np.diag([1.0, 0.0]), gamma=1.0)
    with pytest.raises(ValueError, match="g must not be 0"):
        required_decrease(np.zeros(2), np.ones(2), gamma=1.0)
    with pytest.raises(ValueError, match="directions must not be 0"):
        smoothness(Quadratic(np.eye(2), np.zeros(2)), np.ones(2), np.eye(2), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="low must be less than high"):
        smoothness(Quadratic(np.eye(2), np.zeros(2)), np.ones(2), np.eye(2), np.eye(2), low=2.0, high=1.0)
