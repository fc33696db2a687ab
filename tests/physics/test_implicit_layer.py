"""Implicit layer: solving again, the worked case of the stationary form, and where the root form is right and wrong."""

import numpy as np
import pytest

from trref.catalog.physics.equations import small_equation
from trref.physics.implicit_layer import constrained_loss, implicit_gradient, root_gradient, settled
from trref.problems.pde import PolynomialEquation

RNG = np.random.default_rng(0)
A = np.eye(6) + 0.3 * RNG.standard_normal((6, 6))
CUBIC = PolynomialEquation(A, np.zeros((6, 6)), -0.1 * np.eye(6), RNG.standard_normal(6))
BASIS, START, ALL = RNG.standard_normal((6, 2)), 0.2 * RNG.standard_normal(2), np.ones(6)


def test_the_gradient_by_solving_again():
    rows = np.array([1.0, 1, 0, 1, 1, 0])

    def loss(B):
        return constrained_loss(CUBIC, B, START, rows, ridge=0.01)[0]

    _, gradient = constrained_loss(CUBIC, BASIS, START, rows, ridge=0.01)
    h = 1e-5
    for i, j in np.ndindex(6, 2):
        moved = h * (np.arange(12).reshape(6, 2) == 2 * i + j)
        assert (loss(BASIS + moved) - loss(BASIS - moved)) / (2 * h) == pytest.approx(
            gradient[i, j], rel=1e-6, abs=1e-7
        )


def test_the_worked_case():
    """R = A u - u³/10 + s: the formula with K = A - 3 u²/10, written out with dense matrices."""
    w, out, ridge = settled(CUBIC, BASIS, START, ALL, 0.1, 20, 4), RNG.standard_normal(6), 0.1
    u = BASIS @ w
    r = A @ u - 0.1 * u**3 + CUBIC.source
    K = A - 0.3 * np.diag(u**2)
    inner = K.T @ K - 0.6 * np.diag(u * r)
    adjoint = np.linalg.solve(BASIS.T @ inner @ BASIS + ridge**2 * np.eye(2), BASIS.T @ out)
    v = BASIS @ adjoint
    wanted = np.outer(out, w) - np.outer(K.T @ r, adjoint) - np.outer(inner @ v, w)
    assert implicit_gradient(CUBIC, BASIS, w, out, ALL, ridge=ridge) == pytest.approx(wanted, rel=1e-10)
    root = np.linalg.solve(BASIS.T @ K.T @ K @ BASIS + ridge**2 * np.eye(2), BASIS.T @ out)
    wanted = np.outer(out - K.T @ K @ BASIS @ root, w)
    assert root_gradient(CUBIC, BASIS, w, out, ALL, ridge=ridge) == pytest.approx(wanted, rel=1e-10)


def test_with_a_residual_the_root_form_is_another_gradient():
    w, out = settled(CUBIC, BASIS, START, ALL, 0.01, 20, 4), np.ones(6)
    exact = implicit_gradient(CUBIC, BASIS, w, out, ALL, ridge=0.01)
    root = root_gradient(CUBIC, BASIS, w, out, ALL, ridge=0.01)
    assert np.linalg.norm(CUBIC.residual(BASIS @ w)) > 0.3
    assert abs(exact - root).max() > 0.1 * abs(exact).max()


def test_as_many_functions_as_points():
    """The equation is solved exactly, by whatever basis: the values do not depend on it."""
    square = RNG.standard_normal((6, 6))
    w = settled(CUBIC, square, np.zeros(6), ALL, 1e-6, 60, 6)
    assert abs(CUBIC.residual(square @ w)).max() < 1e-9
    out = RNG.standard_normal(6)
    assert abs(implicit_gradient(CUBIC, square, w, out, ALL, ridge=1e-6)).max() < 1e-6 * abs(np.outer(out, w)).max()


def test_the_envelope():
    """The loss is what the solve minimises, up to the ridge: only the direct part of the gradient is left."""
    loss, gradient = constrained_loss(CUBIC, BASIS, START, ALL, ridge=1e-6, steps=30)
    w = settled(CUBIC, BASIS, START, ALL, 1e-6, 30, 3)
    residual = CUBIC.residual(BASIS @ w)
    direct = np.outer(CUBIC.vjp(BASIS @ w, residual), w)
    assert loss == pytest.approx((residual**2).sum() / 2, rel=1e-12)
    assert gradient == pytest.approx(direct, rel=1e-7, abs=1e-8)


def test_rows_must_be_the_equations():
    equation = small_equation(np.random.default_rng(1), 5, 0.1)
    with pytest.raises(ValueError, match=r"equation.residual must return an array of shape \(5,\)"):
        constrained_loss(equation, np.ones((5, 1)), np.zeros(1), np.ones(5))
    with pytest.raises(ValueError, match="weights must be at most 1e4"):
        implicit_gradient(equation, np.ones((5, 1)), 1e5 * np.ones(1), np.ones(5), np.ones(7))
