"""Levenberg and Marquardt: scipy's solver, a linear equation by least squares, and a start from which nothing leads."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from trref.catalog.physics.equations import small_equation
from trref.physics.levenberg_marquardt import damped_step, levenberg_marquardt, stacked
from trref.problems.pde import PolynomialEquation, reaction_diffusion, sorption
from trref.validate import ConvergenceWarning


@pytest.mark.parametrize("seed", range(4))
def test_against_scipy(seed):
    rng = np.random.default_rng(seed)
    equation, basis = small_equation(rng, 12, 0.2), rng.standard_normal((12, 3))
    w0 = 0.2 * rng.standard_normal(3)
    found = levenberg_marquardt(equation, basis, w0, ridge=0.1, rtol=1e-10)

    def residual(w):
        return np.append(equation.residual(basis @ w), 0.1 * w)

    theirs = least_squares(residual, w0, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert found.converged
    assert np.linalg.norm(residual(found.weights)) <= np.linalg.norm(theirs.fun) * (1 + 1e-9)
    assert found.weights == pytest.approx(theirs.x, rel=1e-5, abs=1e-6)
    assert (np.diff(found.norms) <= 1e-12 * found.norms[0]).all()


def test_a_linear_equation_takes_one_undamped_step():
    rng = np.random.default_rng(5)
    equation, basis = small_equation(rng, 9, 0.0), rng.standard_normal((9, 4))
    R, J = stacked(equation, basis, np.zeros(4), 0.01)
    wanted = np.linalg.lstsq(J, -R, rcond=None)[0]
    assert damped_step(R, J, 0.0) == pytest.approx(wanted, rel=1e-9)
    assert levenberg_marquardt(equation, basis, np.zeros(4), ridge=0.01).weights == pytest.approx(wanted, rel=1e-5)


def test_the_start_matters():
    """u = u³ has the solutions 0, 1 and -1, and none is left."""
    eye = np.eye(3)
    equation = PolynomialEquation(eye, 0 * eye, -eye, np.zeros(3))
    basis = np.ones((3, 1))
    for start, end in ((0.0, 0.0), (0.9, 1.0), (-0.9, -1.0)):
        found = levenberg_marquardt(equation, basis, np.array([start]), ridge=1e-6)
        assert found.weights[0] == pytest.approx(end, abs=1e-6)
    assert levenberg_marquardt(equation, basis, np.zeros(1), ridge=1e-6).iterations == 0


@pytest.mark.parametrize("which", ["reaction and diffusion", "sorption"])
def test_derivatives_of_the_equations(which):
    rng = np.random.default_rng(6)
    equation = (reaction_diffusion(6, 5) if which[0] == "r" else sorption(6, 5))[0]
    M = 30
    u, V, h = rng.uniform(0.2, 0.9, M), rng.standard_normal((M, 2)), 1e-6
    r = rng.standard_normal(len(equation.residual(u)))
    slope = np.stack([equation.residual(u + h * v) - equation.residual(u - h * v) for v in V.T], 1) / (2 * h)
    size = abs(slope).max()
    assert np.allclose(equation.jvp(u, V), slope, rtol=1e-6, atol=1e-7 * size)
    assert np.allclose(equation.jvp(u, V[:, 0]), equation.jvp(u, V)[:, 0], rtol=1e-13, atol=1e-13 * size)
    assert r @ equation.jvp(u, V[:, 0]) == pytest.approx(equation.vjp(u, r) @ V[:, 0], rel=1e-10)
    curved = np.stack([equation.vjp(u + h * v, r) - equation.vjp(u - h * v, r) for v in V.T], 1) / (2 * h)
    assert np.allclose(equation.curvature(u, r, V), curved, rtol=1e-5, atol=1e-6 * abs(curved).max())


def test_sorption_has_its_borders():
    equation, x, t = sorption(8, 5)
    u = 0.3 + 0.1 * x
    rows = equation.residual(u)[-(2 * 5 + 8) :]
    assert rows[:5] == pytest.approx(np.full(5, 0.3 - 1), rel=1e-12), "u is 1 at the left"
    assert rows[5:10] == pytest.approx(np.full(5, 0.4 - 5e-4 * 0.1), rel=1e-9), "u = D u_x at the right"
    assert rows[10:] == pytest.approx(u[:8], rel=1e-12), "and 0 at first"
    assert t[-1] == 100


def test_what_is_refused():
    equation = small_equation(np.random.default_rng(7), 4, 0.1)
    with pytest.raises(ValueError, match="basis must be at most 1e4"):
        levenberg_marquardt(equation, 1e5 * np.ones((4, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="the values must have shape"):
        levenberg_marquardt(equation, np.ones((3, 2)), np.zeros(2))
    with pytest.warns(ConvergenceWarning, match="levenberg_marquardt: after 1 steps"):
        assert not levenberg_marquardt(equation, np.ones((4, 1)), np.zeros(1), max_iter=1, rtol=1e-12).converged
