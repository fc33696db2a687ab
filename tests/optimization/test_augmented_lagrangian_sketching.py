"""Augmented Lagrangian with sketching: eigenvectors, SciPy's solutions, the orders of convergence, and rejections."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

from trref import validate
from trref.optimization.augmented_lagrangian_sketching import als_minimize
from trref.optimization.exact_merit import kkt_residual
from trref.problems.constrained import QuadraticConstraints, WithHessian, on_the_sphere
from trref.problems.convex import Logistic, Quadratic, spd_matrix
from trref.problems.curvature import LogisticHessian, QuadraticHessian


def _logistic(rng, n=6):
    X, y = rng.standard_normal((30, n)), rng.choice([-1.0, 1.0], 30)
    return WithHessian(Logistic(X, y, 0.1), LogisticHessian(X, y, 0.1))


def _planes(rng, n=6, m=2):
    return QuadraticConstraints(
        np.linalg.qr(rng.standard_normal((n, m)))[0].T, rng.standard_normal(m), np.zeros((m, n, n))
    )


def _draws(rng, K, kind):
    return {"exact": None, "rows": rng.integers(0, K, 20_000), "vectors": rng.standard_normal((5000, K))}[kind]


@pytest.mark.parametrize("kind", ["exact", "rows", "vectors"])
def test_convex_by_scipy(kind):
    """Linear constraints and a convex loss have one solution."""
    rng = np.random.default_rng(0)
    objective, constraints = _logistic(rng), _planes(rng)
    found = als_minimize(objective, constraints, np.zeros(6), np.zeros(2), _draws(rng, 8, kind), tol=1e-7)
    equal = {"type": "eq", "fun": lambda x: constraints(x)[0], "jac": lambda x: constraints(x)[1]}
    theirs = minimize(
        lambda x: objective(x)[:2], np.zeros(6), jac=True, method="SLSQP", constraints=[equal], options={"ftol": 1e-15}
    )
    assert found.converged and np.allclose(found.x, theirs.x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["exact", "rows"])
def test_eigenvectors(kind):
    """x·A x/2 on the sphere is stationary at eigenvectors, with minus their eigenvalues for multipliers."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        A = spd_matrix(rng, np.array([-1.0, 0.5, 1.0, 2.0]))
        objective = WithHessian(Quadratic(A, np.zeros(4)), QuadraticHessian(A))
        x0 = rng.standard_normal(4)
        circle = on_the_sphere(np.zeros((0, 4)), np.zeros(0))
        found = als_minimize(objective, circle, x0, np.zeros(1), _draws(rng, 5, kind), tol=1e-8)
        assert found.converged and abs(found.x @ found.x - 1) < 1e-7
        assert np.allclose(A @ found.x, -found.multipliers * found.x, rtol=0, atol=1e-7)


def test_quadratics_under_planes_take_one_step():
    """Newton's direction is exact: the dense saddle point system."""
    rng = np.random.default_rng(1)
    A, b, planes = spd_matrix(rng, np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), rng.standard_normal(6), _planes(rng)
    found = als_minimize(WithHessian(Quadratic(A, b), QuadraticHessian(A)), planes, np.ones(6), np.ones(2))
    dense = np.linalg.solve(np.block([[A, planes.A.T], [planes.A, np.zeros((2, 2))]]), np.r_[b, planes.b])
    assert found.step_lengths == [1.0] and np.allclose(np.r_[found.x, found.multipliers], dense, rtol=1e-9, atol=1e-9)


def test_orders_of_convergence():
    """Quadratic with exact solves; linear, with fewer random steps, where the accuracy is a constant that matters."""
    rng = np.random.default_rng(2)
    objective, circle = _logistic(rng), on_the_sphere(np.zeros((0, 6)), np.zeros(0))
    x0, order = rng.standard_normal(6) / 2, rng.integers(0, 7, 20_000)
    exact = als_minimize(objective, circle, x0, np.zeros(1), tol=1e-9)
    near = [r for r in exact.residuals if 1e-7 < r < 0.03]
    after = exact.residuals[exact.residuals.index(near[0]) + 1 :]
    assert all(new <= 20 * old**2 + 1e-14 for old, new in zip(near, after, strict=False))
    assert exact.step_lengths[-2:] == [1.0, 1.0]
    tight, loose = (
        als_minimize(objective, circle, x0, np.zeros(1), order, tol=1e-9, forcing=forcing) for forcing in (1.0, 1e8)
    )
    assert np.allclose(tight.residuals[:4], exact.residuals[:4], rtol=1e-3, atol=0), "as good as exact"
    assert loose.converged and loose.iterations > tight.iterations
    assert sum(loose.random_steps) < sum(tight.random_steps) / 2
    late = np.array(loose.residuals[-4:])
    assert (late[1:] / late[:-1] > 1e-3).all(), "linear"


def test_many_steps_are_needed_and_counted():
    rng = np.random.default_rng(3)
    objective, planes = _logistic(rng), _planes(rng)
    found = als_minimize(objective, planes, np.zeros(6), np.zeros(2), _draws(rng, 8, "rows"))
    assert all(steps % 8 == 0 and steps > 8 for steps in found.random_steps)
    assert found.inner_iterations >= sum(found.random_steps) and found.iterations == len(found.step_lengths)
    assert kkt_residual(objective, planes, found.x, found.multipliers) == pytest.approx(found.residuals[-1])


def test_no_accuracy_below_rounding():
    """The random steps end where rounding begins, whatever is asked for."""
    rng = np.random.default_rng(6)
    objective, planes = WithHessian(Quadratic(np.eye(6), np.ones(6)), QuadraticHessian(np.eye(6))), _planes(rng)
    found = als_minimize(
        objective, planes, np.zeros(6), np.zeros(2), _draws(rng, 8, "rows"), forcing=1e-14, max_inner=50_000
    )
    assert found.step_lengths == [1.0] and found.random_steps[0] < 10_000 and 0 < found.residuals[-1] < 1e-12


def test_superlinear_where_the_forcing_falls():
    """A step at a time, with a forcing in proportion to the residual: its factors fall."""
    rng = np.random.default_rng(2)
    objective, circle = _logistic(rng), on_the_sphere(np.zeros((0, 6)), np.zeros(0))
    x0, order = rng.standard_normal(6) / 2, rng.integers(0, 7, 20_000)
    start = als_minimize(objective, circle, x0, np.zeros(1), tol=1e-2)
    factors = {}
    for power in (0, 1):
        x, multipliers, residuals = start.x, start.multipliers, [start.residuals[-1]]
        while residuals[-1] > 1e-9:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", validate.ConvergenceWarning)
                forcing = 1e8 * residuals[-1] ** power
                found = als_minimize(
                    objective, circle, x, multipliers, order, forcing=forcing, tol=1e-9, max_iter=1, accuracy=1e-5
                )
            x, multipliers = found.x, found.multipliers
            residuals.append(found.residuals[-1])
        factors[power] = np.array(residuals[1:]) / residuals[:-1]
    assert factors[0].min() > 0.05, "linear"
    assert factors[1][-1] < 0.05 * factors[1][0] and len(factors[1]) < len(factors[0])


def test_dependent_constraints_end_it():
    rng = np.random.default_rng(4)
    planes = QuadraticConstraints(np.ones((2, 6)), np.ones(2), np.zeros((2, 6, 6)))
    with pytest.warns(validate.ConvergenceWarning, match="stopped at a residual"):
        found = als_minimize(_logistic(rng), planes, np.zeros(6), np.zeros(2))
    assert not found.converged and found.iterations == 0


def test_refused():
    rng = np.random.default_rng(5)
    objective, planes = _logistic(rng), _planes(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="sketches must be less than 8"):
            als_minimize(objective, planes, np.zeros(6), np.zeros(2), np.array([8]))
        with pytest.raises(ValueError, match="sketches must have 8 columns"):
            als_minimize(objective, planes, np.zeros(6), np.zeros(2), np.ones((3, 7)))
        with pytest.raises(ValueError, match="sketches must not be 0"):
            als_minimize(objective, planes, np.zeros(6), np.zeros(2), np.zeros((3, 8)))
        with pytest.raises(ValueError, match="at most 6 entries"):
            als_minimize(objective, planes, np.zeros(6), np.zeros(7))
