"""What is known of `trref.optimization.trust_region_minimize`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Method, Solver
from trref.optimization.trust_region_minimize import STEPS, trust_region_minimize
from trref.problems.convex import Logistic, Quadratic, Rosenbrock, spd_matrix, spectrum
from trref.problems.curvature import (
    LogisticHessian,
    QuadraticHessian,
    RosenbrockHessian,
)


def _certificate(result, loss_and_grad, hessian, x0, *, gtol=1e-6, **_):
    """The gradient at the solution, what is reported of it and of the value there, and that no accepted step raised
    the value beyond rounding. Two solutions may differ by gtol in the gradient's norm and by its square in the value.
    """
    value, gradient = loss_and_grad(result.x)
    norm, values = math.sqrt(float(gradient @ gradient)), result.values
    rises = [(b - a) / max(abs(a), 1.0) for a, b in itertools.pairwise(values)]
    return {
        "gradient norm over gtol": norm / gtol,
        "error of the reported norm, over gtol": abs(norm - result.gradient_norms[-1])
        / gtol,
        "error of the reported value": abs(float(value) - values[-1])
        / max(1.0, *map(abs, values)),
        "largest rise of the value": max(rises, default=0.0),
    }


def _example(rng, size):
    """A quadratic whose curvature the model takes for smaller than it is, or a logistic loss."""
    x0 = rng.choice((0.1, 1.0, 5.0)) * rng.standard_normal(size)
    if rng.random() < 0.5:
        A = spd_matrix(rng, rng.choice((1.0, 10.0)) * spectrum(size, 10.0))
        model = QuadraticHessian(rng.choice((0.6, 0.4)) * A)
        return {
            "loss_and_grad": Quadratic(A, rng.standard_normal(size)),
            "hessian": model,
            "x0": x0,
        }
    X, y = (
        rng.standard_normal((20, size)),
        xp.where(xp.asarray(rng.random(20)) < 0.5, -1.0, 1.0),
    )
    return {
        "loss_and_grad": Logistic(X, y, 0.1),
        "hessian": LogisticHessian(X, y, 0.1),
        "x0": x0,
    }


def _edge(A, b, x0, share=1.0):
    """A quadratic, and a model with a share of its curvature."""
    return {
        "loss_and_grad": Quadratic(xp.array(A), xp.array(b)),
        "hessian": QuadraticHessian(share * xp.array(A)),
        "x0": xp.array(x0),
    }


def _valley():
    return {
        "loss_and_grad": Rosenbrock(),
        "hessian": RosenbrockHessian(),
        "x0": xp.array([-1.2, 1.0]),
    }


def _logistic():
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((30, 4)), xp.where(rng.random(30) < 0.5, -1.0, 1.0)
    return {
        "loss_and_grad": Logistic(X, y, 0.1),
        "hessian": LogisticHessian(X, y, 0.1),
        "x0": xp.zeros(4),
    }


def _better_than_the_start(result, loss_and_grad, hessian, x0, *, gtol=1e-6, **_):
    """No step taken raised the value, and what is reported of the last point is true of it."""
    figures = _certificate(result, loss_and_grad, hessian, x0, gtol=gtol)
    return {
        name: (figures[name], bound)
        for name, bound in TOLERANCES.items()
        if "rise" in name or "value" in name
    } | {"fall of the value": (result.values[-1] - result.values[0], 0.0)}


TOLERANCES = {
    "gradient norm over gtol": 1 + 1e-9,
    "error of the reported norm, over gtol": 1 + 1e-9,
    "error of the reported value": 1e-6,
    "largest rise of the value": 1e-13,
}

METHOD = Method(
    key="conn2000trust",
    provenance="confirmed",
    functions=(
        Solver(
            f=trust_region_minimize,
            example=_example,
            edges={
                "start at the minimum": lambda: _edge(
                    [[2.0, 0.0], [0.0, 1.0]], [2.0, 3.0], [1.0, 3.0]
                ),
                "one unknown": lambda: _edge([[2.5]], [-1.0], [7.0]),
                "far away": lambda: _edge(
                    [[2.0, 1.0], [1.0, 2.0]], [1.0, 0.0], [300.0, -200.0]
                ),
                "too little curvature, a ratio of 0.3": lambda: _edge(
                    [[2.0]], [4.0], [2.5], share=1 / 1.7
                ),
                "half of the curvature, a ratio of 0": lambda: _edge(
                    [[2.0]], [4.0], [2.5], share=0.5
                ),
                "a decrease that rounding hides": lambda: _edge(
                    [[1.0]], [1e6], [1e6 + 1e-3]
                ),
                "a rise that rounding hides": lambda: _edge(
                    [[1.0]], [1e6], [1e6 + 1e-3], share=0.3
                ),
            },
            settings={
                "default": {},
                **{
                    name: {"step": name}
                    for name in STEPS
                    if name not in ("exact", "cauchy")
                },
                "cauchy": {"step": "cauchy", "max_iter": 5000},
                "probe": {
                    "step": "steihaug",
                    "radius": 0.3,
                    "max_radius": 50.0,
                    "accept_ratio": 0.05,
                    "gtol": 1e-4,
                    "max_iter": 900,
                },
            },
            failures={
                "steps along the gradient": lambda: (
                    _valley(),
                    {"step": "cauchy", "max_iter": 30},
                ),
                "a target below rounding": lambda: (_logistic(), {"gtol": 1e-30}),
            },
            refused={
                f"an indefinite Hessian, {step}": lambda step=step: (
                    _edge([[1.0, 0.0], [0.0, -1.0]], [1.0, 1.0], [0.3, 0.2]),
                    {"step": step},
                )
                for step in ("dogleg", "subspace")
            },
            remains=_better_than_the_start,
            certificate=_certificate,
            tolerances=TOLERANCES,
        ),
    ),
)
