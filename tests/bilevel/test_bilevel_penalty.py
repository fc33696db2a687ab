"""The penalty for the lower level: closed forms of quadratics, orders in sigma, and where the error bound fails."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.bilevel.bilevel_penalty import (
    constrained_hypergradient,
    descend,
    gap_rate,
    hypergradient,
    lower_steps,
    momentum_estimate,
    penalty_objective,
    prox_residual,
    prox_step,
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


def _on_the_plane(problem, x, sigma, active, level):
    """Minimiser of the penalised lower level where ``active @ y = level``; of several the one nearest to y_goal.

    By coordinates u of the plane: ``y = start + Z u``.
    """
    start, Z = np.linalg.pinv(active) @ level, np.linalg.svd(active)[2][len(active) :].T
    H = problem.H + sigma * np.eye(4)
    inner = Z.T @ H @ Z
    inverse = np.linalg.pinv(inner, rcond=1e-9)
    u = inverse @ Z.T @ (problem.B @ x + problem.c + sigma * problem.y_goal - H @ start)
    free = np.eye(len(inner)) - inverse @ inner
    return start + Z @ (u + free @ Z.T @ (problem.y_goal - start))


@pytest.mark.parametrize("rank", [4, 2])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_under_an_active_constraint(seed, rank):
    """One linear constraint of the lower level: differences of the outer loss at its solutions of least upper loss.

    And the gradient of the penalty, with both minimisers on the plane, tends to it with sigma.
    """
    problem, x = _problem(seed, rank)
    active, level = np.random.default_rng(10 + seed).standard_normal((1, 4)), np.array([0.3])

    def solution(x):
        return _on_the_plane(problem, x, 0.0, active, level)

    exact, h = constrained_hypergradient(problem, x, solution(x), active), 1e-4
    for i in range(3):
        e = h * np.eye(3)[i]
        up, down = (problem.upper(x + s * e, solution(x + s * e))[0] for s in (1, -1))
        # the loss is quadratic in x: no error but rounding over h
        assert exact[i] == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-6)
    errors = []
    for sigma in (1e-2, 1e-3):
        y = _on_the_plane(problem, x, sigma, active, level)
        gradient = penalty_objective(problem, x, y, solution(x), sigma=sigma)[1]
        errors.append(np.linalg.norm(gradient - exact))
    assert errors[1] < errors[0] / 5


def test_without_constraints_on_a_direction_it_is_the_free_gradient():
    """A constraint along a direction that the solution never moves in, nor the upper level wants."""
    problem, x = _problem(0, 4)
    problem = dataclasses.replace(
        problem, H=np.eye(4), B=np.diag([1.0, 1, 1, 0])[:, :3], y_goal=np.array([1.0, 2, 3, 0])
    )
    problem = dataclasses.replace(problem, c=np.zeros(4))
    y = problem.solution(x)
    free, bound = hypergradient(problem, x, y), constrained_hypergradient(problem, x, y, np.eye(4)[3:])
    assert bound == pytest.approx(free, abs=1e-12)


@pytest.mark.parametrize("rank", [4, 2])
def test_solutions_move_no_farther_than_the_error_bound_says(rank):
    """mu = 1/2 of the curved part: |y1 - y2| <= (|B| |x1 - x2| + L_f |s1 - s2|) / mu, L_f the slope of f there."""
    problem, _ = _problem(4, rank)
    rng = np.random.default_rng(0)
    for _ in range(30):
        (x1, x2), (s1, s2) = rng.standard_normal((2, 3)), rng.uniform(1e-3, 0.2, 2)
        y1, y2 = _minimiser(problem, x1, s1), _minimiser(problem, x2, s2)
        slope = np.linalg.norm(problem.H @ np.linalg.pinv(problem.H) @ (y2 - problem.y_goal))
        bound = (np.linalg.norm(problem.B, 2) * np.linalg.norm(x1 - x2) + slope * abs(s1 - s2)) / 0.5
        assert np.linalg.norm(y1 - y2) <= bound * (1 + 1e-9)


def test_a_box():
    """Steps, proximal steps and the loops stay in it; the residual is 0 exactly at the solution on its boundary."""
    problem, x = _problem(6, 4)
    y = lower_steps(problem, x, np.zeros(4), sigma=0.1, steps=2000, bound=0.5)
    assert abs(y).max() == 0.5 and prox_residual(problem, x, y, bound=0.5) < 1e-9

    def penalised(w):
        (f, _, f_y), (g, _, g_y) = problem.upper(x, w), problem.lower(x, w)
        return 0.1 * f + g, 0.1 * f_y + g_y

    best = minimize(penalised, np.zeros(4), jac=True, method="L-BFGS-B", bounds=[(-0.5, 0.5)] * 4).x
    assert y == pytest.approx(best, abs=1e-4)
    assert prox_residual(problem, x, y) > 0.01, "without the box it is no solution"
    found = descend(problem, x, np.zeros(4), bound=0.5, lr=0.05, max_iter=3000)
    assert found.converged and abs(found.y).max() <= 0.5 and abs(found.z).max() <= 0.5


def test_smoothed_and_single_loops_end_where_the_double_loop_does():
    problem, x0 = _problem(3, 4)
    options = {"sigma": 0.1, "lr": 0.02, "gtol": 1e-4, "max_iter": 20_000}
    double = descend(problem, x0, np.zeros(4), steps=60, **options)
    single = descend(problem, x0, np.zeros(4), steps=1, **options)
    smoothed = descend(problem, x0, np.zeros(4), steps=20, rho=2.0, inner_lr=0.2, **options)
    for found in (double, single, smoothed):
        assert found.converged
        assert found.x == pytest.approx(double.x, abs=2e-3)


def test_a_share_of_a_proximal_step():
    """H = 2, no force: the proximal point of y for rho = 1/2 is y / 2."""
    problem = quadratic_bilevel(np.random.default_rng(0), upper=1, lower=1)
    problem = dataclasses.replace(problem, H=np.array([[2.0]]), B=np.zeros((1, 1)), c=np.zeros(1))
    x, y = np.zeros(1), np.array([4.0])
    assert prox_step(problem, x, y, sigma=0.0) == pytest.approx([2.0])
    assert prox_step(problem, x, y, sigma=0.0, mixing=0.25) == pytest.approx([3.5])
    assert prox_residual(problem, x, y, sigma=0.0) == pytest.approx(4.0)


def test_common_samples_and_momentum():
    """Noise of a sample is divided by sigma, unless y and z see the same; and the corrected average has less of it."""
    problem, x = _problem(1, 4)
    rng, sigma = np.random.default_rng(0), 0.01
    y, z = _minimiser(problem, x, sigma), _minimiser(problem, x, 0)

    def sampled(noise_y, noise_z, x=x):
        """The gradient with B of a sample at each of y and z: the noise of g_x = -Bᵀ y is that of B."""
        exact = penalty_objective(problem, x, y, z, sigma=sigma)[1]
        return exact - (noise_y.T @ y - noise_z.T @ z) / sigma

    noise = 0.1 * rng.standard_normal((2, 400, 4, 3))
    apart = np.array([sampled(a, b) for a, b in zip(*noise, strict=True)])
    common = np.array([sampled(a, a) for a in noise[0]])
    # the same sample leaves the noise times (y - z) / sigma
    assert common.std(0).max() < apart.std(0).max() / 10
    # at a point that moves slowly: exact gradient 2 x, noise of a sample the same at both points
    point, estimate, errors, plain = np.ones(3), 2 * np.ones(3), [], []
    for noise in rng.standard_normal((2000, 3)):
        last, point = point, 0.999 * point
        gradient = 2 * point + noise
        estimate = momentum_estimate(estimate, gradient, 2 * last + noise, forget=0.05)
        errors.append(estimate - 2 * point)
        plain.append(noise)
    # stationary variance eta / (2 - eta) of the noise, exactly, since the correction is exact here
    assert np.std(errors) == pytest.approx(np.sqrt(0.05 / 1.95), rel=0.15)
    assert (momentum_estimate(estimate, gradient, last, forget=1.0) == gradient).all()
