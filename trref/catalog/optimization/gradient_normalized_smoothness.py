"""What is known of `trref.optimization.gradient_normalized_smoothness`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Solver
from trref.optimization.gradient_normalized_smoothness import (
    combined_smoothness,
    gns_minimize,
    regularized_step,
    required_decrease,
    smoothness,
)
from trref.problems.convex import Quadratic, spd_matrix
from trref.problems.curvature import QuadraticHessian
from trref.problems.residuals import Curvature, LogSumExp, PowerResiduals, SampleMean
from trref.problems.samples import LogisticSamples

# ---- one step


def _semidefinite(rng, size):
    rank = int(rng.integers(0, size + 1))
    half = rng.standard_normal((size, rank))
    return half @ half.T / max(size, 1)


def _norm(rng, size):
    if rng.random() < 0.4:
        return None
    return spd_matrix(rng, rng.choice((0.5, 1.0, 3.0), size))


def _step_example(rng, size):
    scale = rng.choice((0.1, 1.0, 20.0))
    return {
        "g": scale * rng.standard_normal(size),
        "new_g": rng.choice((0.01, 1.0)) * scale * rng.standard_normal(size),
        "H": rng.choice((0.1, 10.0)) * _semidefinite(rng, size),
        "norm_matrix": _norm(rng, size),
    }


def _step_edge(g, H, norm_matrix=None):
    B = None if norm_matrix is None else xp.array(norm_matrix)
    g = xp.array(g)
    return {"g": g, "new_g": 0.5 * g[::-1].copy(), "H": xp.array(H), "norm_matrix": B}


STEP = Interface(
    "newton_step",
    example=_step_example,
    edges={
        "no curvature": lambda: _step_edge([3.0, -4.0], [[0.0, 0.0], [0.0, 0.0]]),
        "no curvature, another norm": lambda: _step_edge(
            [3.0, -4.0], [[0.0, 0.0], [0.0, 0.0]], [[2.0, 1.0], [1.0, 3.0]]
        ),
        "rank one": lambda: _step_edge([1.0, 1.0], [[4.0, -4.0], [-4.0, 4.0]]),
        "one unknown": lambda: _step_edge([-0.5], [[2.0]], [[4.0]]),
        "tiny": lambda: _step_edge([3e-12, -4e-12], [[1.0, 0.0], [0.0, 2.0]]),
    },
)
AT_REST = {
    "at rest": lambda: {
        "g": xp.zeros(2),
        "H": xp.array([[1.0, 0.0], [0.0, 0.0]]),
        "norm_matrix": None,
    }
}


def _root(norm_matrix, n):
    """B^(-1/2) on the host."""
    if norm_matrix is None:
        return np.eye(n)
    values, vectors = np.linalg.eigh(norm_matrix)
    return (vectors / np.sqrt(values)) @ vectors.T


def _in_coordinates(g, H, norm_matrix=None, *, gamma):
    """In coordinates in which B is the identity and H is diagonal."""
    C = _root(norm_matrix, len(g))
    values, vectors = np.linalg.eigh(C @ H @ C)
    c = vectors.T @ (C @ g)
    norm = math.sqrt(float(c @ c))
    return -C @ (vectors @ (c / (values + norm / gamma))) if norm else 0 * g


def _decrease(g, new_g, norm_matrix=None, *, gamma):
    C = _root(norm_matrix, len(g))
    before, after = (math.sqrt(float((C @ v) @ (C @ v))) for v in (g, new_g))
    return gamma / 8 * after**2 / before


def _plus_eps(g, H, norm_matrix=None, *, gamma):
    return regularized_step(g, H, norm_matrix, gamma=gamma + 1e-8)


PLUS_EPS = Deviation(
    "gamma + 1e-8",
    _plus_eps,
    seen_in="epfml/grad-norm-smooth src/methods.py, grad_norm_smooth: lambda_k = g_k_norm / (gamma_k + eps)",
    computes="a regularisation that stays finite for gamma = 0: steps may be longer than gamma by 1e-8",
)

# ---- the smoothness itself


def _smooth_example(rng, size):
    n = int(rng.integers(2, 5))
    A = rng.standard_normal((size, n))
    problem = (
        LogSumExp(A, rng.standard_normal(size), float(rng.choice((0.5, 2.0)))),
        SampleMean(LogisticSamples(A, rng.choice([-1.0, 1.0], size), 0.1)),
    )[int(rng.integers(0, 2))]
    x = rng.standard_normal(n)
    return {
        "loss_and_grad": problem,
        "x": x,
        "H": rng.choice((0.0, 1.0)) * problem.gauss_newton(x),
        "directions": rng.standard_normal((3, n)),
        "norm_matrix": _norm(rng, n),
    }


def _quadratic(A, x, H, directions):
    return lambda: {
        "loss_and_grad": Quadratic(xp.array(A), xp.zeros(len(x))),
        "x": xp.array(x),
        "H": xp.array(H),
        "directions": xp.array(directions),
        "norm_matrix": None,
    }


TWO = [[2.0, 0.0], [0.0, 1.0]]
SMOOTH_EDGES = {
    "exact": _quadratic(TWO, [1.0, 2.0], TWO, [[1.0, 0.5], [0.0, 1.0]]),
    "no curvature": _quadratic(
        TWO, [1.5, 4.0], [[0.0] * 2] * 2, [[3.0, 0.0], [0.0, 1.0]]
    ),
    "one unknown": _quadratic([[3.0]], [1.0], [[2.0]], [[-2.0]]),
    "much too large": _quadratic(
        TWO, [1e-3, 0.0], [[1e5, 0.0], [0.0, 1e5]], [[1.0, 0.0]]
    ),
}


def _by_bisection(
    loss_and_grad,
    x,
    H,
    directions,
    norm_matrix=None,
    *,
    low=1e-6,
    high=1e6,
    radii=8,
    steps=40,
):
    C = _root(norm_matrix, len(x))
    B = np.eye(len(x)) if norm_matrix is None else norm_matrix
    g = loss_and_grad(x)[1]
    norm = np.linalg.norm(C @ g)

    def ratio(gamma):
        found = []
        for d in directions:
            d = d / math.sqrt(float(d @ B @ d))
            for k in range(1, radii + 1):
                h = gamma * k / radii * d
                error = loss_and_grad(x + h)[1] - g - H @ h
                found.append(np.linalg.norm(C @ error) / math.sqrt(float(h @ B @ h)))
        return max(found) * gamma / norm

    if ratio(low) > 1:
        return low
    if ratio(high) <= 1:
        return high
    a, b = math.log(low), math.log(high)
    for _ in range(steps):
        a, b = (
            ((a + b) / 2, b) if ratio(math.exp((a + b) / 2)) <= 1 else (a, (a + b) / 2)
        )
    return math.exp(a)


# ---- the method


def _example(rng, size):
    """A smooth maximum, a logistic loss with Fisher matrices or exact ones, or Rosenbrock's residuals."""
    n = int(rng.integers(2, 5))
    A, kind = rng.standard_normal((size, n)), int(rng.integers(0, 3))
    if kind == 0:
        problem = LogSumExp(xp.concatenate([A, -A]), rng.standard_normal(2 * size), 1.0)
        curvature = Curvature(
            problem, ("hessian", "gauss_newton")[int(rng.integers(0, 2))]
        )
    elif kind == 1:
        labels = rng.choice([-1.0, 1.0], size)
        problem = SampleMean(LogisticSamples(A, labels, 0.1))
        curvature = Curvature(problem, ("hessian", "fisher")[int(rng.integers(0, 2))])
    else:
        problem = PowerResiduals(float(rng.choice((2.0, 3.0))), 3.0)
        curvature = Curvature(problem, "gauss_newton")
    return {
        "loss_and_grad": problem,
        "curvature": curvature,
        "x0": 0.5 * rng.standard_normal(n) + (2.0 if kind == 0 else 0.0),
        "norm_matrix": _norm(rng, n),
    }


def _case(problem, kind, x0, norm_matrix=None):
    B = None if norm_matrix is None else xp.array(norm_matrix)
    return {
        "loss_and_grad": problem,
        "curvature": Curvature(problem, kind),
        "x0": xp.array(x0),
        "norm_matrix": B,
    }


def _far_from_0():
    """A value near -5e11."""
    return {
        "loss_and_grad": Quadratic(xp.array([[1.0]]), xp.array([1e6])),
        "curvature": QuadraticHessian(xp.array([[1.0]])),
        "x0": xp.array([1e6 + 1e-3]),
        "norm_matrix": None,
    }


def _uneven():
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((30, 4)), rng.choice([-1.0, 1.0], 30)
    return SampleMean(LogisticSamples(X, y, 0.1))


def _certificate(
    result, loss_and_grad, curvature, x0, norm_matrix=None, *, gtol=1e-6, **_
):
    """A small gradient, what is reported of it and of the value, and of each step: its length and its decrease."""
    C = _root(norm_matrix, len(x0))
    value, gradient = loss_and_grad(result.x)
    norm, values, norms = (
        np.linalg.norm(C @ gradient),
        result.values,
        result.gradient_norms,
    )
    pairs = zip(
        itertools.pairwise(values),
        itertools.pairwise(norms),
        result.gammas,
        strict=True,
    )
    lacking = [
        gamma / 8 * after**2 / before - (old - new) - 1e-14 * abs(old)
        for (old, new), (before, after), gamma in pairs
    ]
    return {
        "gradient norm over gtol": norm / gtol,
        "error of the reported norm, over gtol": abs(norm - norms[-1]) / gtol,
        "error of the reported value": abs(float(value) - values[-1])
        / max(1.0, *map(abs, values)),
        "decrease that is lacking": max(lacking, default=0.0)
        / max(1.0, abs(values[0])),
        "steps beyond those tried": len(result.gammas) - result.iterations,
    }


TOLERANCES = {
    "gradient norm over gtol": 1 + 1e-9,
    "error of the reported norm, over gtol": 1 + 1e-9,
    "error of the reported value": 1e-6,
    "decrease that is lacking": 1e-14,
    "steps beyond those tried": 0,
}


def _so_far(result, loss_and_grad, curvature, x0, norm_matrix=None, *, gtol=1e-6, **_):
    figures = _certificate(result, loss_and_grad, curvature, x0, norm_matrix, gtol=gtol)
    kept = ("value", "lacking", "tried")
    return {n: (figures[n], TOLERANCES[n]) for n in figures if n.endswith(kept)}


METHOD = Method(
    key="semenov2025gradient",
    provenance="confirmed",
    functions=(
        Estimator(
            f=regularized_step,
            interface=STEP,
            edges={
                **{
                    n: lambda make=make: {
                        k: v for k, v in make().items() if k != "new_g"
                    }
                    for n, make in STEP.edges.items()
                },
                **AT_REST,
            },
            settings={
                "default": {"gamma": 1.0},
                "short": {"gamma": 0.01},
                "probe": {"gamma": 3.7},
            },
            refused={
                "negative curvature": lambda: (
                    {
                        "g": xp.array([1.0]),
                        "H": xp.array([[-2.0]]),
                        "norm_matrix": None,
                    },
                    {"gamma": 1.0},
                ),
                "a norm matrix that is not definite": lambda: (
                    {
                        "g": xp.array([1.0]),
                        "H": xp.array([[2.0]]),
                        "norm_matrix": xp.array([[0.0]]),
                    },
                    {"gamma": 1.0},
                ),
                "a curvature that is not symmetric": lambda: (
                    {
                        "g": xp.ones(2),
                        "H": xp.array([[1.0, 1.0], [0.0, 1.0]]),
                        "norm_matrix": None,
                    },
                    {"gamma": 1.0},
                ),
            },
            deviations=(PLUS_EPS,),
            brute_force=_in_coordinates,
        ),
        Estimator(
            f=required_decrease,
            interface=STEP,
            settings={"default": {"gamma": 1.0}, "probe": {"gamma": 3.7}},
            brute_force=_decrease,
            refused={
                "a gradient of 0": {"g": 0},
            },
        ),
        Estimator(
            f=smoothness,
            example=_smooth_example,
            edges=SMOOTH_EDGES,
            sizes=(4, 8, 16),
            settings={
                "default": {},
                "probe": {"low": 1e-3, "high": 1e3, "radii": 3, "steps": 25},
            },
            brute_force=_by_bisection,
            refused={
                "directions of 0": {"directions": 0},
                "an empty range": {"low": 2.0, "high": 1.0},
            },
        ),
        Estimator(
            f=combined_smoothness,
            example=lambda rng, size: {
                "gamma": rng.exponential(1.0, size) + 0.01,
                "distance": rng.exponential(3.0, size) + 0.01,
            },
            edges={
                "one": lambda: {"gamma": xp.array([2.0]), "distance": xp.array([2.0])}
            },
            brute_force=lambda gamma, distance: gamma * distance / (gamma + distance),
        ),
        Solver(
            f=gns_minimize,
            example=_example,
            sizes=(4, 8, 16),
            edges={
                "start at the minimum": lambda: _case(
                    PowerResiduals(), "gauss_newton", [1.0, 1.0]
                ),
                "exact, quadratic": lambda: _case(
                    SampleMean(LogisticSamples(xp.eye(2), xp.array([1.0, -1.0]), 0.5)),
                    "hessian",
                    [3.0, -2.0],
                ),
                "no curvature": lambda: _case(
                    SampleMean(LogisticSamples(xp.eye(2), xp.array([1.0, -1.0]), 0.5)),
                    "none",
                    [3.0, 2.0],
                    [[2.0, 0.5], [0.5, 1.0]],
                ),
                "one unknown": lambda: _case(
                    LogSumExp(xp.array([[1.0], [-2.0]]), xp.array([0.0, 1.0])),
                    "gauss_newton",
                    [20.0],
                ),
                "a decrease that rounding hides": lambda: _far_from_0(),
            },
            settings={
                "default": {},
                "a long first step": {"gamma": 1e4},
                "probe": {"gamma": 0.03, "gtol": 1e-4, "max_iter": 700},
            },
            certificate=_certificate,
            tolerances=TOLERANCES,
            failures={
                "three trials": lambda: (
                    _case(PowerResiduals(4.0), "gauss_newton", [-1.2, 1.0]),
                    {"max_iter": 3},
                ),
                "a target below rounding": lambda: (
                    _case(_uneven(), "hessian", [2.0, -1.0, 0.5, 1.0]),
                    {"gtol": 1e-40, "max_iter": 400},
                ),
            },
            refused={
                "negative curvature": lambda: (
                    {
                        "loss_and_grad": Quadratic(-xp.eye(2), xp.zeros(2)),
                        "curvature": QuadraticHessian(-xp.eye(2)),
                        "x0": xp.ones(2),
                        "norm_matrix": None,
                    },
                    {"gamma": 1e3},
                )
            },
            remains=_so_far,
        ),
    ),
)
