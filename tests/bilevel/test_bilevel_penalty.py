"""The penalty for the lower level: closed forms of quadratics, orders in sigma, and where the error bound fails."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.bilevel.bilevel_penalty import (
    descend,
    gap_rate,
    hypergradient,
    lower_steps,
    penalty_objective,
    prox_residual,
)
from trref.problems.bilevel import RidgePenalties, quadratic_bilevel


def _minimiser(problem, x, sigma):
    """Of the penalised lower level of a quadratic; for sigma = 0 the one nearest to y_goal."""
    if not sigma:
        return problem.solution(x)
    H = problem.H + sigma * np.eye(len(problem.H))
    return np.linalg.solve(H, problem.B @ x + problem.c + sigma * problem.y_goal)


def _penalty(problem, x, sigma):
    return penalty_objective(problem, x, _minimiser(problem, x, sigma), _minimiser(problem, x, 0), sigma=sigma)


def _problem(seed, rank):
    rng = np.random.default_rng(seed)
    return quadratic_bilevel(rng, rank=rank), rng.standard_normal(3)


@pytest.mark.parametrize("rank", [4, 2])
@pytest.mark.parametrize("seed", range(3))
def test_envelope(seed, rank):
    """The gradient with both minimisers held is the slope of the value with both solved anew."""
    problem, x = _problem(seed, rank)
    gradient = _penalty(problem, x, 0.1)[1]
    h = 1e-5
    for i in range(3):
        e = h * np.eye(3)[i]
        slope = (_penalty(problem, x + e, 0.1)[0] - _penalty(problem, x - e, 0.1)[0]) / (2 * h)
        # quadratic in x: central differences have no error but rounding, 1e-16 · 1e3 / (sigma h)
        assert gradient[i] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("rank", [4, 2])
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_are_of_order_sigma(seed, rank):
    problem, x = _problem(seed, rank)
    y = problem.solution(x)
    outer, exact = problem.upper(x, y)[0], hypergradient(problem, x, y)
    assert exact == pytest.approx(problem.hypergradient(x), rel=1e-9)
    sigmas = (1e-2, 1e-3, 1e-4)
    gaps = [(outer - _penalty(problem, x, s)[0]) / s for s in sigmas]
    assert min(gaps) >= 0
    # the next term is O(sigma); eigenvalues of H are at least 1/2
    assert gaps[1] == pytest.approx(gap_rate(problem, x, y), rel=5e-3)
    errors = [np.linalg.norm(_penalty(problem, x, s)[1] - exact) / s for s in sigmas[:2]]
    assert errors[0] == pytest.approx(errors[1], rel=0.05) and errors[1] > 0


def test_value_falls_as_sigma_grows_and_ignores_what_only_x_changes():
    problem, x = _problem(5, 4)
    values = [_penalty(problem, x, s)[0] for s in (1e-3, 1e-2, 0.1, 1, 10)]
    assert values == sorted(values, reverse=True)

    @dataclasses.dataclass(frozen=True)
    class Shifted(type(problem)):
        def lower(self, x, y):
            g, g_x, g_y = super().lower(x, y)
            return g + (x**3).sum(), g_x + 3 * x**2, g_y

    shifted = Shifted(**{f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)})
    for a, b in zip(_penalty(problem, x, 0.1), _penalty(shifted, x, 0.1), strict=True):
        assert a == pytest.approx(b, rel=1e-10)


class _Bilinear:
    """f = x² + y², g = x y for y in [-1, 1]: the lower level is at one end, and jumps at x = 0."""

    def upper(self, x, y):
        return (x * x + y * y).sum(), 2 * x, 2 * y

    def lower(self, x, y):
        return (x * y).sum(), y, x

    def lower_hessian(self, x, y):
        return np.zeros((1, 1))

    def lower_cross(self, x, y):
        return np.eye(1)


@pytest.mark.parametrize("x", [0.01, 0.1, -0.15, 0.5])
def test_without_an_error_bound(x):
    """By a grid over y: x² - x²/4σ² + |x|/σ within 2σ of 0, x² + 1 beyond; far from ψ = x² + 1 near 0."""
    sigma, grid = 0.1, np.linspace(-1, 1, 200_001)
    y = grid[np.argmin(sigma * (x * x + grid**2) + x * grid)]
    value, gradient = penalty_objective(_Bilinear(), np.array([x]), np.array([y]), np.array([-np.sign(x)]), sigma=sigma)
    near = abs(x) <= 2 * sigma
    assert value == pytest.approx(x * x + (abs(x) / sigma - x * x / (4 * sigma**2) if near else 1), abs=1e-8)
    slope = 2 * x + (np.sign(x) / sigma - x / (2 * sigma**2) if near else 0)
    assert gradient[0] == pytest.approx(slope, abs=1e-3)  # the grid's step over sigma
    if abs(x) < sigma / 5:
        assert value < 0.2, "psi is 1 there"


def test_lower_level_of_ridge_by_scipy():
    rng = np.random.default_rng(1)
    shapes = (12, 3), 12, (9, 3), 9
    problem = RidgePenalties(*map(rng.standard_normal, shapes))
    x = np.array([-1.0, 0.5, 0.0])

    def penalised(y):
        (f, _, f_y), (g, _, g_y) = problem.upper(x, y), problem.lower(x, y)
        return 0.2 * f + g, 0.2 * f_y + g_y

    best = minimize(penalised, np.zeros(3), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}).x
    y = lower_steps(problem, x, np.zeros(3), sigma=0.2, steps=500, inner_lr=0.2)
    assert y == pytest.approx(best, abs=1e-7)
    assert prox_residual(problem, x, y, sigma=0.2) < 1e-7
    # implicit gradient against differences of the solved problem
    exact, h = hypergradient(problem, x, problem.solution(x)), 1e-5
    for i in range(3):
        e = h * np.eye(3)[i]
        outer = [problem.upper(x + s * e, problem.solution(x + s * e))[0] for s in (1, -1)]
        assert exact[i] == pytest.approx((outer[0] - outer[1]) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("rank", [4, 2])
def test_residual_bounds_the_distance(rank):
    """Of a quadratic: r = (I + rho H)⁻¹ H (y - y*), so at least mu / (1 + rho mu) times the distance."""
    problem, x = _problem(2, rank)
    rng, rho = np.random.default_rng(0), 0.5
    for sigma in (0.0, 1e-3, 0.1):
        y = problem.solution(x) + problem.H @ rng.standard_normal(4)
        near = _minimiser(problem, x, sigma)
        residual = prox_residual(problem, x, y, sigma=sigma, rho=rho, steps=400)
        # the part in H's null space is that of near, for y_goal decides both
        assert residual >= 0.5 / (1 + rho * 0.5) * np.linalg.norm(y - near) * (1 - 1e-9)


def test_descent_ends_near_the_solution():
    """psi is a quadratic whose minimum a linear system gives; the distance falls with sigma."""
    problem, x0 = _problem(3, 4)
    H = np.array([problem.hypergradient(e) - problem.hypergradient(0 * e) for e in np.eye(3)]).T
    solution = -np.linalg.solve(H, problem.hypergradient(np.zeros(3)))
    distances = []
    for sigma in (0.1, 0.01):
        lr = 0.5 / np.linalg.norm(H, 2)
        found = descend(problem, x0, np.zeros(4), sigma=sigma, lr=lr, steps=60, gtol=1e-4, max_iter=3000)
        assert found.converged
        distances.append(np.linalg.norm(found.x - solution))
    assert distances[1] < 0.2 * distances[0]
