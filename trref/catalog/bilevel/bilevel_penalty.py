"""What is known of `trref.bilevel.bilevel_penalty`."""

import numpy as np

from trref.backend import xp
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
from trref.catalog import Deviation, Estimator, Interface, Method, Objective, Solver
from trref.problems.bilevel import QuadraticBilevel, quadratic_bilevel


def _example(rng, size):
    """Levels of two lengths; the lower Hessian may be singular."""
    M = int(rng.integers(3, 6))
    drawn = quadratic_bilevel(rng, upper=size, lower=M, rank=M - int(rng.integers(2)))
    problem = QuadraticBilevel(
        drawn.H, drawn.B / 2 / np.sqrt(size), drawn.c, drawn.x_goal, drawn.y_goal
    )
    x, y, z, y0 = rng.standard_normal(size), *rng.standard_normal((3, M))
    return {
        "problem": problem,
        "x": rng.choice((0.3, 3.0)) * x,
        "y": y,
        "z": z,
        "x0": x,
        "y0": y0,
        "active": rng.standard_normal((int(rng.integers(1, 3)), M)),
        "estimate": rng.standard_normal(size),
        "gradient": rng.standard_normal(size),
        "last_gradient": rng.standard_normal(size),
    }


def _edge(H, B, c, x_goal, y_goal, x, y):
    problem = QuadraticBilevel(*map(xp.array, (H, B, c, x_goal, y_goal)))
    x, y = xp.array(x), xp.array(y)
    return {
        "problem": problem,
        "x": x,
        "y": y,
        "z": y - 0.5,
        "x0": x.copy(),
        "y0": y.copy(),
        "active": xp.ones_like(y)[None],
        "estimate": x + 1,
        "gradient": 2 * x,
        "last_gradient": 3 - x,
    }


LEVELS = Interface(
    name="levels",
    example=_example,
    edges={
        "one unknown each": lambda: _edge(
            [[2.0]], [[1.0]], [0.5], [1.0], [-1.0], [3.0], [2.0]
        ),
        "the levels do not meet, the upper one is solved": lambda: _edge(
            [[1.0, 0.0], [0.0, 0.5]],
            [[0.0], [0.0]],
            [1.0, 1.0],
            [1.0],
            [1.0, 2.0],
            [1.0],
            [3.0, -2.0],
        ),
        "no curvature in one direction": lambda: _edge(
            [[1.0, 0.0], [0.0, 0.0]],
            [[1.0, 2.0], [0.0, 0.0]],
            [1.0, 0.0],
            [0.0, 1.0],
            [1.0, 2.0],
            [1.0, -1.0],
            [1.0, 2.0],
        ),
    },
)


def _by_loop(problem, x, y, *, sigma=0.1, steps=20, inner_lr=0.3, bound=None):
    """The error shrinks by the same matrix each step: its power, applied once. In a box, entry by entry."""
    matrix, constant = _linear(problem, x, sigma)
    if bound is not None:
        for _ in range(steps):
            moved = [
                v - inner_lr * s for v, s in zip(y, matrix @ y - constant, strict=True)
            ]
            y = np.array([min(max(v, -bound), bound) for v in moved])
        return y
    power = np.linalg.matrix_power(np.eye(len(y)) - inner_lr * matrix, steps)
    solution = np.linalg.lstsq(matrix, constant, rcond=None)[0]
    return solution + power @ (y - solution)


def _linear(problem, x, sigma):
    """The slope of the penalised lower level is matrix @ y - constant."""
    matrix = problem.H + sigma * np.eye(len(problem.H))
    return matrix, problem.B @ x + problem.c + sigma * problem.y_goal


def _prox(problem, x, y, sigma, rho, bound):
    """A linear system; in a box one entry after another, again and again."""
    matrix, constant = _linear(problem, x, sigma)
    Q, s = np.eye(len(y)) + rho * matrix, y + rho * constant
    if bound is None:
        return np.linalg.solve(Q, s)
    w = np.zeros(len(y))
    for _ in range(300):
        for i in range(len(y)):
            free = (s[i] - Q[i] @ w + Q[i, i] * w[i]) / Q[i, i]
            w[i] = min(max(free, -bound), bound)
    return w


def _proximal(problem, x, y, *, sigma=0.1, rho=0.5, bound=None, **_):
    return np.linalg.norm(y - _prox(problem, x, y, sigma, rho, bound)) / rho


def _mixed(problem, x, y, *, sigma=0.1, rho=0.5, mixing=1.0, bound=None, **_):
    return y + mixing * (_prox(problem, x, y, sigma, rho, bound) - y)


def _on_the_plane(problem, x, y, active):
    """Along the directions that keep the active constraints."""
    _, values, rows = np.linalg.svd(active)
    Z = rows[len(values) :].T
    inner = np.linalg.pinv(Z.T @ problem.H @ Z, rcond=1e-6)
    return x - problem.x_goal + problem.B.T @ (Z @ inner @ Z.T @ (y - problem.y_goal))


def _moving_average(estimate, gradient, last_gradient, *, forget=0.1):
    """A mean of the new gradient and of the old estimate, moved as the gradients of the sample moved."""
    carried = estimate + (gradient - last_gradient)
    return forget * gradient + (1 - forget) * carried


def _implicit(problem, x, y):
    force = np.linalg.lstsq(problem.H, y - problem.y_goal, rcond=1e-6)[0]
    return x - problem.x_goal + problem.B.T @ force


def _rate(problem, x, y):
    residual = y - problem.y_goal
    return residual @ np.linalg.lstsq(problem.H, residual, rcond=1e-6)[0] / 2


def _without_minimum(problem, x, y, z, *, sigma=0.1):
    f, f_x, _ = problem.upper(x, y)
    g, g_x, _ = problem.lower(x, y)
    return f + g / sigma, f_x + g_x / sigma


def _left(y, slope, bound):
    return slope if bound is None else y - xp.clip(y - slope, -bound, bound)


def _certificate(result, problem, x0, y0, *, sigma=0.1, gtol=1e-3, bound=None, **_):
    """Both lower levels are solved, and the outer gradient is small and as reported."""
    x, y, z = result.x, result.y, result.z
    _, gradient = penalty_objective(problem, x, y, z, sigma=sigma)
    lower = problem.lower(x, y)[2] + sigma * problem.upper(x, y)[2]
    lower = _left(y, lower, bound)
    size = float(xp.sqrt(gradient @ gradient))
    return {
        "outer gradient over gtol": size / gtol,
        "penalised lower gradient over its target": float(xp.sqrt(lower @ lower))
        / (sigma * gtol),
        "lower gradient over its target": float(
            xp.sqrt((_left(z, problem.lower(x, z)[2], bound) ** 2).sum())
        )
        / (sigma * gtol),
        "norm misreported, over gtol": abs(size - result.gradient_norms[-1]) / gtol,
    }


def _reported(result, problem, x0, y0, *, sigma=0.1, **_):
    """However early it ends: the norm is that of the levels returned."""
    _, gradient = penalty_objective(problem, result.x, result.y, result.z, sigma=sigma)
    size = float(xp.sqrt(gradient @ gradient))
    return {
        "norm misreported": (
            abs(size - result.gradient_norms[-1]),
            1e-12 * max(result.gradient_norms),
        )
    }


METHOD = Method(
    key="kwon2024penalty",
    provenance={
        "confirmed": (
            "lower",
            "value",
            "gradient",
            "residual",
            "implicit",
            "constrained",
        ),
        "reconstructed": ("gap", "inner", "moreau", "outer", "momentum"),
    },
    functions=(
        Objective(
            f=penalty_objective,
            wrt="x",
            interface=LEVELS,
            settings={"default": {}, "probe": {"sigma": 0.03}},
            deviations=(
                Deviation(
                    "without the lower minimum",
                    _without_minimum,
                    seen_in="penalty loops written by hand; no project is on record",
                    computes="the gradient of the lower level as if its minimum did not move",
                ),
            ),
        ),
        Estimator(
            f=lower_steps,
            interface=LEVELS,
            settings={
                "default": {},
                "no penalty": {"sigma": 0.0},
                "in a box": {"bound": 0.5},
                "probe": {"sigma": 0.3, "steps": 3, "inner_lr": 0.2, "bound": 0.7},
            },
            brute_force=_by_loop,
        ),
        Estimator(
            f=prox_residual,
            interface=LEVELS,
            sizes=(4, 8),
            seeds=(0,),
            tolerance=1e-12,
            settings={
                "default": {},
                "no penalty": {"sigma": 0.0},
                "probe": {
                    "sigma": 0.3,
                    "rho": 0.7,
                    "steps": 150,
                    "inner_lr": 0.35,
                    "bound": 0.7,
                },
            },
            brute_force=_proximal,
        ),
        Estimator(
            f=prox_step,
            interface=LEVELS,
            sizes=(4, 8),
            seeds=(0,),
            tolerance=1e-12,
            settings={
                "default": {},
                "a share": {"mixing": 0.4, "sigma": 0.0},
                "probe": {
                    "sigma": 0.3,
                    "rho": 0.7,
                    "mixing": 0.6,
                    "steps": 150,
                    "inner_lr": 0.35,
                    "bound": 0.7,
                },
            },
            brute_force=_mixed,
        ),
        Estimator(
            f=constrained_hypergradient, interface=LEVELS, brute_force=_on_the_plane
        ),
        Estimator(
            f=momentum_estimate,
            interface=LEVELS,
            settings={"default": {}, "probe": {"forget": 0.3}},
            brute_force=_moving_average,
        ),
        Estimator(f=hypergradient, interface=LEVELS, brute_force=_implicit),
        Estimator(f=gap_rate, interface=LEVELS, brute_force=_rate),
        Solver(
            f=descend,
            interface=LEVELS,
            sizes=(2, 4),
            seeds=(0,),
            settings={
                "default": {},
                "few steps of the lower levels": {"steps": 3, "lr": 0.02, "gtol": 1e-2},
                "probe": {
                    "sigma": 0.3,
                    "lr": 0.15,
                    "inner_lr": 0.25,
                    "steps": 8,
                    "rho": 1.5,
                    "mixing": 0.8,
                    "bound": 1.0,
                    "gtol": 1e-2,
                    "max_iter": 700,
                },
            },
            certificate=_certificate,
            tolerances={
                "outer gradient over gtol": 1.0 + 1e-9,
                "penalised lower gradient over its target": 1.0 + 1e-9,
                "lower gradient over its target": 1.0 + 1e-9,
                "norm misreported, over gtol": 1e-9,
            },
            failures={
                "two steps": lambda: (
                    LEVELS.of(
                        LEVELS.edges["one unknown each"](), ("problem", "x0", "y0")
                    ),
                    {"max_iter": 2},
                ),
                "steps of the lower level that are too long": lambda: (
                    LEVELS.of(
                        LEVELS.edges["one unknown each"](), ("problem", "x0", "y0")
                    ),
                    {"inner_lr": 1.2, "max_iter": 10},
                ),
            },
            remains=_reported,
        ),
    ),
)
