"""Differential equations and their adjoint, random graphs, problems of two levels."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.optimize import minimize

from tests.problems.agreement import same_on_strict
from trref.checks import check_gradient
from trref.problems import bilevel, dags
from trref.problems.ode import LinearField, LotkaVolterra, rk4, rk4_vjp


def _rng(seed=0):
    return np.random.default_rng(seed)


# ---- differential equations


def test_fourth_order():
    """A linear field in closed form: halving the step divides the error by 16."""
    A, y0 = _rng(1).standard_normal((3, 3)), _rng(2).standard_normal((2, 3))
    exact = y0 @ expm(A).T
    errors = []
    for steps in (16, 32, 64):
        path = rk4(LinearField(3), y0, A.ravel(), np.linspace(0, 1, steps + 1).tolist())
        errors.append(abs(path[-1] - exact).max())
    assert path.shape == (65, 2, 3) and np.array_equal(path[0], y0)
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.25) and errors[1] / errors[2] == pytest.approx(16, rel=0.2)


def test_predator_and_prey_by_scipy():
    theta, y0, times = np.array([1.0, 1.0, 1.0, 1.0]), np.array([1.0, 2.0]), np.linspace(0, 10, 401).tolist()
    field = LotkaVolterra()
    path = rk4(field, y0, theta, times)
    exact = solve_ivp(field, (0, 10), y0, args=(theta,), t_eval=times, rtol=1e-10, atol=1e-12).y.T
    assert np.allclose(path, exact, atol=1e-5, rtol=1e-9)
    kept = path.sum(1) - np.log(path).sum(1)  # constant along the orbit for these parameters
    assert np.allclose(kept, kept[0], atol=1e-6, rtol=1e-9)
    back = rk4(field, path[-1], theta, times[::-1])
    assert np.allclose(back[-1], y0, atol=1e-5, rtol=1e-9)


@pytest.mark.parametrize("kind", ["linear", "predator"])
def test_adjoint_is_the_derivative_of_the_discrete_solution(kind):
    rng = _rng(3)
    field = LinearField(2) if kind == "linear" else LotkaVolterra()
    theta, y0 = rng.uniform(0.3, 1.2, 4), rng.uniform(0.5, 2, (3, 2))
    times = [0.0, 0.3, 0.5, 1.1]
    c = rng.standard_normal((4, 3, 2))
    d_y, d_theta = rk4_vjp(field, y0, theta, times, c)
    check_gradient(lambda y: (c * rk4(field, y, theta, times)).sum(), y0, d_y, rng=rng)
    check_gradient(lambda w: (c * rk4(field, y0, w, times)).sum(), theta, d_theta, rng=rng)
    v, (dy, dw) = rng.standard_normal((3, 2)), field.vjp(0.0, y0, theta, c[0])
    check_gradient(lambda y: (c[0] * field(0.0, y, theta)).sum(), y0, dy, rng=rng)
    check_gradient(lambda w: (c[0] * field(0.0, y0, w)).sum(), theta, dw, rng=rng)
    same_on_strict(lambda y, w, c: (rk4(field, y, w, times), rk4_vjp(field, y, w, times, c)), y0, theta, c)
    with pytest.raises(ValueError, match="theta must have a last axis of length 4"):
        field(0.0, v, theta[:3])


class Swinging:
    """``theta cos(t) y``, whose solution is ``y exp(theta sin(t))``: a field that depends on time."""

    def __call__(self, t, y, theta):
        return theta * np.cos(t) * y

    def vjp(self, t, y, theta, cotangent):
        return theta * np.cos(t) * cotangent, np.array([(np.cos(t) * y * cotangent).sum()])


def test_time_and_its_adjoint():
    y0, theta, times = np.array([[1.5]]), np.array([0.8]), np.linspace(0.5, 2.0, 31).tolist()
    path = rk4(Swinging(), y0, theta, times)
    assert np.allclose(path[:, 0, 0], 1.5 * np.exp(0.8 * (np.sin(times) - np.sin(0.5))), atol=1e-7, rtol=1e-9)
    c = _rng(13).standard_normal(path.shape)
    d_y, d_theta = rk4_vjp(Swinging(), y0, theta, times, c)
    check_gradient(lambda y: (c * rk4(Swinging(), y, theta, times)).sum(), y0, d_y, rng=_rng(14))
    check_gradient(lambda w: (c * rk4(Swinging(), y0, w, times)).sum(), theta, d_theta, rng=_rng(15))


# ---- graphs


def test_random_dags():
    rng = _rng(4)
    W = dags.erdos_renyi_dag(rng, 8, 12)
    assert (W != 0).sum() == 12 and not np.linalg.matrix_power(W, 8).any(), "no walk as long as there are nodes"
    sizes = abs(W[W != 0])
    assert sizes.min() >= 0.5 and sizes.max() <= 2 and (W < 0).any() and (W > 0).any()
    sizes = abs(dags.erdos_renyi_dag(rng, 8, 28, low=1.0, high=4.0))
    assert sizes[sizes > 0].min() >= 1 and 2 < sizes.max() <= 4
    with pytest.raises(ValueError, match="edges must lie between 0 and 3"):
        dags.erdos_renyi_dag(rng, 3, 4)


def test_data_have_the_law_of_the_equations():
    W, scale = dags.erdos_renyi_dag(_rng(5), 4, 5, high=1.0), np.array([0.5, 1.0, 2.0, 1.5])
    X = dags.sample_sem(_rng(6), W, 200_000, scale=scale)
    residual = X - X @ W
    assert np.allclose(np.cov(residual.T), np.diag(scale**2), atol=0.03, rtol=1e-9)
    one = dags.sample_sem(_rng(7), W, 1)[0]
    z, x = _rng(7).standard_normal(4), np.zeros(4)
    for _ in range(4):
        x = W.T @ x + z
    assert np.allclose(one, x, rtol=1e-9)


def test_distance_of_graphs():
    A = np.array([[0, 1.0, 0], [0, 0, 2.0], [0, 0, 0]])
    assert dags.shd(A, A) == 0 and dags.shd(A, A.T) == 2 and dags.shd(A, 0 * A) == 2
    assert dags.shd(A, np.array([[0, 5.0, 1.0], [0, 0, 0], [0, 3.0, 0]])) == 2, "one more, one reversed"


def test_cycles_are_cut_at_their_smallest_edges():
    W = np.array([[0, 1.0, 0], [0, 0, 0.8], [0.3, 0, 0]])
    assert np.array_equal(dags.make_acyclic(W) != 0, np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]))
    assert not dags.make_acyclic(np.array([[0, 0.5], [-0.5, 0]])).any(), "edges of one size go together"
    tree = dags.erdos_renyi_dag(_rng(8), 6, 9)
    assert np.array_equal(dags.make_acyclic(tree), tree)


# ---- two levels


def _problem(kind):
    rng = _rng(9)
    if kind == "coupled":
        return bilevel.CoupledBilevel(), np.array([0.7, 1.4]), np.array([1.0, 0.5])
    if kind == "ridge":
        A, w = rng.standard_normal((12, 3)), rng.standard_normal(3)
        data = (A[:7], A[:7] @ w + rng.standard_normal(7), A[7:], A[7:] @ w + rng.standard_normal(5))
        return bilevel.RidgePenalties(*data), rng.standard_normal(3), rng.standard_normal(3)
    problem = bilevel.quadratic_bilevel(rng, rank=4 if kind == "quadratic" else 2)
    return problem, rng.standard_normal(3), rng.standard_normal(4)


KINDS = ("quadratic", "singular", "coupled", "ridge")


@pytest.mark.parametrize("kind", KINDS)
def test_both_levels_against_differences(kind):
    problem, x, y = _problem(kind)
    for level in (problem.upper, problem.lower):
        _, d_x, d_y = level(x, y)
        check_gradient(lambda x, f=level: f(x, y)[0], x, d_x, rng=_rng(10))
        check_gradient(lambda y, f=level: f(x, y)[0], y, d_y, rng=_rng(11))
    if hasattr(problem, "lower_hessian"):
        h = 1e-6
        rows = [(problem.lower(x, y + h * e)[2] - problem.lower(x, y - h * e)[2]) / (2 * h) for e in np.eye(len(y))]
        assert np.allclose(problem.lower_hessian(x, y), rows, atol=1e-8, rtol=1e-9)
        rows = [(problem.lower(x + h * e, y)[2] - problem.lower(x - h * e, y)[2]) / (2 * h) for e in np.eye(len(x))]
        assert np.allclose(problem.lower_cross(x, y), rows, atol=1e-8, rtol=1e-9)
    same_on_strict(lambda p, x, y: (p.upper(x, y), p.lower(x, y), p.project(x, y)), problem, x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_solutions_minimise_the_lower_level(kind):
    problem, x, _ = _problem(kind)
    y = problem.solution(x)
    bounds = {"constraints": {"type": "ineq", "fun": lambda y: -problem.constraints(x, y)[0]}}
    found = minimize(
        lambda y: problem.lower(x, y)[0],
        np.zeros_like(y),
        jac=lambda y: problem.lower(x, y)[2],
        method="SLSQP" if kind == "coupled" else "BFGS",
        options={"ftol": 1e-14} if kind == "coupled" else {"gtol": 1e-9},
        **(bounds if kind == "coupled" else {}),
    )
    assert problem.lower(x, y)[0] == pytest.approx(found.fun, abs=1e-9)
    if kind != "singular":
        assert np.allclose(y, found.x, atol=1e-5, rtol=1e-9)
    else:  # of all solutions the nearest to the goal
        null = np.eye(4) - np.linalg.pinv(problem.H) @ problem.H
        assert np.linalg.matrix_rank(null) == 2 and np.allclose(null @ (y - problem.y_goal), 0, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", ["quadratic", "singular"])
def test_hypergradient(kind):
    problem, x, _ = _problem(kind)
    check_gradient(lambda x: problem.upper(x, problem.solution(x))[0], x, problem.hypergradient(x), rng=_rng(12))
    same_on_strict(lambda p, x: (p.lower_hessian(x, x), p.lower_cross(x, x)), problem, x)


def test_eigenvalues_of_the_lower_level():
    H = bilevel.quadratic_bilevel(_rng(16), lower=200, rank=150).H
    values = np.linalg.eigvalsh(H)
    assert (
        np.allclose(values[:50], 0, atol=1e-12, rtol=1e-9) and 0.5 <= values[50] < 0.6 and 1.9 < values[-1] <= 2 + 1e-12
    )


def test_the_coupled_problem_has_its_known_solution():
    problem = bilevel.CoupledBilevel()
    grid = np.linspace(0, 3, 3001)[:, None]
    values = [problem.upper(x, problem.solution(x))[0] for x in grid]
    assert grid[np.argmin(values), 0] == pytest.approx(1.5) and min(values) == pytest.approx(0.25)
    x = np.array([1.5])
    _, _, slope = problem.lower(x, x)
    values, J_x, J_y = problem.constraints(x, x)
    assert slope + 1.5 * J_y[0] == pytest.approx(0) and values == pytest.approx(0), "multiplier 1.5"
    # the nearest allowed pair, by SciPy
    pair = np.array([2.5, 1.7])
    found = minimize(
        lambda z: ((z - pair) ** 2).sum(), [0, 0], constraints={"type": "ineq", "fun": lambda z: 3 - z.sum()}
    ).x
    assert np.allclose(np.concatenate(problem.project(pair[:1], pair[1:])), found, atol=1e-6, rtol=1e-9)
    assert J_x.shape == (1, 1)
    inside = problem.project(np.array([1.0]), np.array([1.5]))
    assert inside == (1.0, 1.5), "what is allowed stays"
