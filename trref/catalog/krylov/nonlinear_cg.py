"""What is known of `trref.krylov.nonlinear_cg`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Method, Solver
from trref.krylov.nonlinear_cg import RULES, direction_parameter, nonlinear_cg
from trref.krylov.terms import norm
from trref.problems.convex import Quadratic, Rosenbrock, logistic, spd_matrix, spectrum


def brute_force_parameter(gradient, previous_gradient, direction, *, rule="HZ"):
    """The same quotients from sums over coordinates."""
    g, p, d = gradient.tolist(), previous_gradient.tolist(), direction.tolist()
    y = [a - b for a, b in zip(g, p, strict=True)]
    dot = lambda a, b: sum(u * v for u, v in zip(a, b, strict=True))  # noqa: E731
    numerator = dot(g, g) if rule in ("FR", "DY") else dot(g, y)
    denominator = dot(p, p) if rule in ("FR", "PR", "PR+") else dot(d, y)
    if rule == "HZ":
        numerator = dot(
            [a - 2 * b * dot(y, y) / denominator for a, b in zip(y, d, strict=True)], g
        )
        floor = -1 / (dot(d, d) ** 0.5 * min(0.01, dot(p, p) ** 0.5))
        return max(numerator / denominator, floor)
    return (
        max(0.0, numerator / denominator)
        if rule.endswith("+")
        else numerator / denominator
    )


def parameter_example(rng, size):
    """A step along which the slope grew: the gradients of a convex quadratic."""
    A = spd_matrix(rng, spectrum(size, 10.0))
    previous, direction = (
        rng.choice((0.05, 1.0, 20.0)) * rng.standard_normal(size),
        rng.standard_normal(size),
    )
    gradient = previous + rng.choice((0.1, 1.0)) * A @ direction
    return {"gradient": gradient, "previous_gradient": previous, "direction": direction}


def example(rng, size):
    kind = rng.integers(2)
    if kind == 0:
        loss = Quadratic(
            spd_matrix(rng, spectrum(size, 10.0)), rng.standard_normal(size)
        )
    else:
        loss = logistic(rng, points=20, dims=size, l2=0.1)
    return {
        "loss_and_grad": loss,
        "x0": rng.choice((0.1, 1.0, 5.0)) * rng.standard_normal(size),
    }


def _quadratic(A, b, x0):
    return {"loss_and_grad": Quadratic(xp.array(A), xp.array(b)), "x0": xp.array(x0)}


PARAMETER_EDGES = {
    "a gradient orthogonal to the one before": lambda: {
        "gradient": xp.array([0.0, 1.0]),
        "previous_gradient": xp.array([1.0, 0.0]),
        "direction": xp.array([-1.0, 0.0]),
    },
    "the truncation of HZ": lambda: {
        "gradient": xp.array([30.0, -1.0]),
        "previous_gradient": xp.array([-1.0, 1.0]),
        "direction": xp.array([1.0, 10.0]),
    },
}


EDGES = {
    "start at the minimum": lambda: _quadratic(
        [[2.0, 0.0], [0.0, 1.0]], [2.0, 3.0], [1.0, 3.0]
    ),
    "one unknown": lambda: _quadratic([[2.5]], [-1.0], [7.0]),
    "a curved valley": lambda: {
        "loss_and_grad": Rosenbrock(),
        "x0": xp.array([-1.2, 1.0]),
    },
}


def _certificate(result, loss_and_grad, x0, *, gtol=1e-6, **_):
    """The gradient at the solution, what is reported of it and of the value there, and that every direction descended.

    Two solutions may differ by gtol in the gradient's norm and by its square in the value.
    """
    value, gradient = loss_and_grad(result.x)
    return {
        "gradient norm over gtol": norm(gradient) / gtol,
        "error of the reported norm, over gtol": abs(
            norm(gradient) - result.gradient_norms[-1]
        )
        / gtol,
        "error of the reported value": abs(float(value) - result.values[-1])
        / max(1.0, *map(abs, result.values)),
        "steepest ascent among the directions": max(result.slopes, default=0.0),
    }


def _descends(result, loss_and_grad, x0, **_):
    """However early it ends: no value rises, every direction descends, and value and norm are reported as they are."""
    value, gradient = loss_and_grad(result.x)
    rounding = 1e-14 * max(map(abs, result.values))
    rises = [b - a for a, b in zip(result.values, result.values[1:], strict=False)]
    return {
        "rise of the value": (max(rises, default=0.0), 4 * rounding),
        "steepest ascent among the directions": (max(result.slopes, default=0.0), 0.0),
        "value misreported": (abs(float(value) - result.values[-1]), rounding),
        "norm misreported": (
            abs(norm(gradient) - result.gradient_norms[-1]),
            1e-14 * norm(gradient),
        ),
    }


METHOD = Method(
    key="hager2005new",
    provenance="confirmed",
    functions=(
        Estimator(
            f=direction_parameter,
            example=parameter_example,
            edges=PARAMETER_EDGES,
            settings={
                "default": {},
                **{rule: {"rule": rule} for rule in RULES[:-1]},
                "probe": {"rule": "PR"},
            },
            refused={
                "no gradient before": lambda: (
                    {
                        **PARAMETER_EDGES["the truncation of HZ"](),
                        "previous_gradient": xp.zeros(2),
                    },
                    {"rule": "FR"},
                ),
                "a slope that falls": lambda: (
                    {
                        **PARAMETER_EDGES["the truncation of HZ"](),
                        "direction": xp.array([-1.0, 0.0]),
                    },
                    {"rule": "DY"},
                ),
            },
            brute_force=brute_force_parameter,
        ),
        Solver(
            f=nonlinear_cg,
            prescribed=False,
            example=example,
            edges=EDGES,
            settings={
                "default": {},
                **{rule: {"rule": rule} for rule in RULES[:-1]},
                "probe": {
                    "rule": "PR+",
                    "gtol": 1e-4,
                    "c1": 1e-3,
                    "c2": 0.3,
                    "restart": 5,
                    "max_iter": 900,
                },
            },
            certificate=_certificate,
            failures={
                "two iterations in a curved valley": lambda: (
                    EDGES["a curved valley"](),
                    {"max_iter": 2},
                ),
                "a gradient below rounding is asked for": lambda: (
                    {**EDGES["a curved valley"](), "x0": xp.array([3.0, -2.0])},
                    {"gtol": 1e-30, "max_iter": 60},
                ),
            },
            remains=_descends,
            refused={
                "a loss that is not finite": lambda: (
                    _quadratic([[math.nan]], [1.0], [2.0]),
                    {},
                ),
                "constants in the wrong order": lambda: (
                    EDGES["one unknown"](),
                    {"c1": 0.3, "c2": 0.2},
                ),
            },
            tolerances={
                "gradient norm over gtol": 1 + 1e-9,
                "error of the reported norm, over gtol": 1 + 1e-9,
                "error of the reported value": 1e-6,
                "steepest ascent among the directions": 0.0,
            },
        ),
    ),
)
