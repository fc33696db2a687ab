"""The exact augmented Lagrangian: by hand, by differences, exact where the classical one is not, and its directions."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.catalog.optimization.exact_merit import OBJECTIVE_HESSIAN, constrained
from trref.optimization.exact_merit import exact_merit, kkt_residual, modified_hessian, newton_system
from trref.optimization.terms import lagrangian
from trref.problems.constrained import WithHessian, on_the_sphere
from trref.problems.convex import Logistic, Quadratic
from trref.problems.curvature import LogisticHessian, QuadraticHessian


def _task(seed, n=5):
    """A logistic loss on the sphere, and in a plane."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((20, n)), rng.choice([-1.0, 1.0], 20)
    objective = WithHessian(Logistic(X, y), LogisticHessian(X, y))
    return objective, on_the_sphere(rng.standard_normal((1, n)), np.full(1, 0.3)), rng


def _solved(objective, constraints, x0):
    """By SLSQP, with multipliers by least squares."""
    equal = {"type": "eq", "fun": lambda x: constraints(x)[0], "jac": lambda x: constraints(x)[1]}
    found = minimize(
        lambda x: objective(x)[:2], x0, jac=True, method="SLSQP", constraints=[equal], options={"ftol": 1e-14}
    )
    assert found.success
    return found.x, np.linalg.lstsq(constraints(found.x)[1].T, -objective(found.x)[1], rcond=None)[0]


def test_by_hand():
    """x²/2 under x²/2 = 1/2, at x = 2 with the multiplier 1: the gradient is 4, the curvature 2, the constraint 3/2."""
    objective = WithHessian(Quadratic(np.eye(1), np.zeros(1)), QuadraticHessian(np.eye(1)))
    circle, x, multipliers = on_the_sphere(np.zeros((0, 1)), np.zeros(0)), np.array([2.0]), np.ones(1)
    assert kkt_residual(objective, circle, x, multipliers) == pytest.approx(np.hypot(4, 1.5))
    value, gradient = exact_merit(objective, circle, x, multipliers)
    assert value == pytest.approx(2 + 1.5 + 1.5**2 / 2 + 0.05 * 16)
    expected = [4 + 0.1 * 2 * 4 + 2 * 1.5, 1.5 + 0.1 * 2 * 4]
    assert np.allclose([gradient.x[0], gradient.multipliers[0]], expected, rtol=1e-12, atol=0)


def test_the_objectives_hessian_is_another_gradient():
    """By central differences of the value; curved constraints show it."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        problem = constrained(rng, 4, 2)
        x, multipliers, v = rng.standard_normal(4), rng.standard_normal(2), rng.standard_normal(4)
        step = 1e-6 * v
        slope = (
            exact_merit(*problem, x + step, multipliers)[0] - exact_merit(*problem, x - step, multipliers)[0]
        ) / 2e-6
        ours, theirs = (f(*problem, x, multipliers)[1].x for f in (exact_merit, OBJECTIVE_HESSIAN.f))
        assert ours @ v == pytest.approx(slope, rel=1e-6, abs=1e-7)
        assert np.linalg.norm(ours - theirs) > 1e-2 * np.linalg.norm(ours)


def test_stationary_at_solutions_for_all_penalties():
    for seed in range(3):
        objective, constraints, rng = _task(seed)
        x, multipliers = _solved(objective, constraints, rng.standard_normal(5))
        assert kkt_residual(objective, constraints, x, multipliers) < 1e-5
        for weights in ((0.0, 0.0), (1.0, 0.1), (100.0, 5.0)):
            how = dict(zip(("constraint_weight", "gradient_weight"), weights, strict=True))
            gradient = exact_merit(objective, constraints, x, multipliers, **how)[1]
            assert np.linalg.norm(np.r_[gradient]) < 1e-5 * (1 + sum(weights)) * 20


def test_exact_with_finite_penalties():
    """A minimum in x and the multipliers together solves the problem; the classical one has no minimum in both."""
    for seed in range(3):
        objective, constraints, rng = _task(seed)
        # λ·c is balanced from below where the product of the weights exceeds 1 over the least eigenvalue of G·Gᵀ
        how = {"constraint_weight": 1000.0, "gradient_weight": 0.05}

        def merit(z, how=how, problem=(objective, constraints)):
            value, gradient = exact_merit(*problem, z[:5], z[5:], **how)
            return value, np.r_[gradient]

        solution = np.r_[_solved(objective, constraints, rng.standard_normal(5))]
        start = solution + 0.1 * rng.standard_normal(7)  # where constraints depend, it has no lower bound
        found = minimize(merit, start, jac=True, method="BFGS", options={"gtol": 1e-9})
        assert kkt_residual(objective, constraints, found.x[:5], found.x[5:]) < 1e-5
        assert np.allclose(found.x, solution, atol=1e-4, rtol=1e-4)
        x = 2 * found.x[:5]
        far = [exact_merit(objective, constraints, x, -w * constraints(x)[0], gradient_weight=0.0)[0] for w in (1, 9)]
        assert far[1] < far[0] - 1, "linear in the multipliers"


def test_least_in_the_multipliers_is_fletchers_function():
    """What the page says of the product of the weights: below it, a multiplier undoes the penalty of c."""
    for seed in range(3):
        objective, constraints, rng = _task(seed)
        x, weights = rng.standard_normal(5), {"constraint_weight": 3.0, "gradient_weight": 0.2}
        f, slope, _ = objective(x)
        c, G, _ = constraints(x)
        inverse, fitted = np.linalg.inv(G @ G.T), -np.linalg.lstsq(G.T, slope, rcond=None)[0]
        least = fitted - inverse @ c / 0.2
        value, gradient = exact_merit(objective, constraints, x, least, **weights)
        assert np.allclose(gradient.multipliers, 0, rtol=0, atol=1e-10)
        along = slope + G.T @ fitted
        fletcher = f + fitted @ c + 0.1 * along @ along + c @ (3 * np.eye(2) - inverse / 0.2) @ c / 2
        assert value == pytest.approx(fletcher, rel=1e-10, abs=1e-10)


def test_newtons_direction_descends_for_the_right_penalties():
    """At forty points: always for a large and a small weight, and often not for the contrary."""
    right, wrong = 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        problem = constrained(rng, 4, 2)
        x, multipliers = rng.standard_normal(4), rng.standard_normal(2)
        at = lagrangian(*problem, x, multipliers)
        B = modified_hessian(at.hessian, at.jacobian)
        direction = np.linalg.solve(*newton_system(B, at.jacobian, at.gradient, at.c))
        residual = kkt_residual(*problem, x, multipliers)
        for weights in ((1e7, 1e-7), (1e-3, 1.0)):
            how = dict(zip(("constraint_weight", "gradient_weight"), weights, strict=True))
            slope = np.r_[exact_merit(*problem, x, multipliers, **how)[1]] @ direction
            enough = slope <= -weights[1] / 2 * residual**2
            right, wrong = right + (enough and weights[0] > 1), wrong + (not enough and weights[0] < 1)
    assert right == 40 and wrong > 5


def test_refused():
    objective, constraints, _ = _task(0)
    x, multipliers = np.ones(5), np.ones(2)
    with pytest.raises(TypeError, match="objective must return a tuple"):
        kkt_residual(lambda x: x, constraints, x, multipliers)
    with pytest.raises(ValueError, match="constraints must return an array of shape"):
        exact_merit(objective, constraints, x, np.ones(3))
    with pytest.raises(ValueError, match="objective must return finite values"):
        exact_merit(lambda x: (np.nan, x, np.eye(5)), constraints, x, multipliers)
    with pytest.raises(TypeError, match="constraints returns float32"):
        kkt_residual(objective, lambda x: tuple(a.astype("f4") for a in constraints(x)), x, multipliers)
    with pytest.raises(ValueError, match="no more rows than columns"):
        modified_hessian(np.eye(2), np.ones((3, 2)))
    with pytest.raises(ValueError, match="x must have shape"):
        constraints(np.ones(4))
