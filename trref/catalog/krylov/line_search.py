"""What is known of `trref.krylov.line_search`."""

import math

from trref.backend import xp
from trref.catalog import Method, Solver
from trref.krylov.line_search import strong_wolfe
from trref.krylov.terms import norm
from trref.problems.convex import Logistic, Quadratic, Rosenbrock, spd_matrix, spectrum


def _certificate(
    result, loss_and_grad, x, direction, *, first_step=1.0, c1=1e-4, c2=0.1, max_iter=40
):
    """Both conditions at the point, relative to the slope; the first one up to rounding. The point is on the line."""
    value, gradient = loss_and_grad(x)
    new_value, new_gradient = loss_and_grad(result.x)
    slope, new_slope = float(gradient @ direction), float(new_gradient @ direction)
    step = float((result.x - x) @ direction) / float(direction @ direction)
    excess = (
        float(new_value) - float(value) - c1 * step * slope - 1e-14 * abs(float(value))
    )
    return {
        "excess of the value": excess / abs(slope * step) if step > 0 else math.inf,
        "slope over its bound": abs(new_slope) / (c2 * abs(slope)),
        "distance from the line": norm(result.x - x - step * direction)
        / (norm(x) + norm(result.x)),
    }


def _example(rng, size):
    kind = rng.integers(3) if size > 1 else 0
    x = rng.standard_normal(size)
    if kind == 0:
        loss = Quadratic(
            spd_matrix(rng, spectrum(size, 10.0)), rng.standard_normal(size)
        )
    elif kind == 1:
        loss = Logistic(
            rng.standard_normal((20, size)),
            xp.where(xp.asarray(rng.random(20)) < 0.5, -1.0, 1.0),
            0.01,
        )
    else:
        loss = Rosenbrock()
    return {
        "loss_and_grad": loss,
        "x": x,
        "direction": -rng.choice((0.01, 1.0, 20.0)) * loss(x)[1],
    }


def _along_a_line(A, b, x, direction):
    return {
        "loss_and_grad": Quadratic(xp.array(A), xp.array(b)),
        "x": xp.array(x),
        "direction": xp.array(direction),
    }


def _decreases(result, loss_and_grad, x, direction, *, c1=1e-4, **_):
    """However the search ends, its point is on the line, meets the first condition, and is reported as it is."""
    value, gradient = loss_and_grad(x)
    new_value, new_gradient = loss_and_grad(result.x)
    slope = float(gradient @ direction)
    rounding = 1e-14 * abs(float(value))
    return {
        "excess of the value": (
            float(new_value) - float(value) - c1 * result.step * slope,
            rounding,
        ),
        "value misreported": (abs(float(new_value) - result.value), rounding),
        "gradient misreported": (float(abs(new_gradient - result.gradient).max()), 0.0),
        "distance from the line": (
            norm(result.x - x - result.step * direction),
            1e-12 * (norm(x) + norm(result.x)),
        ),
    }


def _refused(direction, **hyper):
    return _along_a_line([[2.0]], [4.0], [3.0], [direction]), hyper


METHOD = Method(
    key="nocedal2006numerical",
    provenance="confirmed",
    functions=(
        Solver(
            f=strong_wolfe,
            prescribed=False,
            example=_example,
            edges={
                "the first step is exact": lambda: _along_a_line(
                    [[2.0]], [4.0], [3.0], [-1.0]
                ),
                "beyond the minimum": lambda: _along_a_line(
                    [[2.0]], [4.0], [3.0], [-1.5]
                ),
                "far too short": lambda: _along_a_line([[2.0]], [4.0], [3.0], [-1e-6]),
                "far too long": lambda: _along_a_line([[2.0]], [4.0], [3.0], [-1e6]),
                "one coordinate only": lambda: _along_a_line(
                    [[2.0, 0.5], [0.5, 1.0]], [1.0, 0.0], [3.0, 1.0], [-1.0, 0.0]
                ),
            },
            settings={
                "default": {},
                "for quasi-Newton": {"c2": 0.9},
                "a large decrease": {"c1": 0.45, "c2": 0.9},
                "nearly exact": {"c2": 1e-3},
                "nearly exact, from afar": {"c2": 1e-3, "first_step": 40.0},
                "probe": {"first_step": 0.3, "c1": 0.01, "c2": 0.4, "max_iter": 30},
            },
            certificate=_certificate,
            failures={
                "one trial, far too short": lambda: (
                    _along_a_line([[2.0]], [4.0], [3.0], [-1e-6]),
                    {"max_iter": 1},
                ),
                "two trials, far too long": lambda: (
                    _along_a_line([[2.0]], [4.0], [3.0], [-1e6]),
                    {"max_iter": 2},
                ),
                "two trials in two dimensions, nearly exact": lambda: (
                    _along_a_line(
                        [[2.0, 0.5], [0.5, 1.0]], [1.0, 0.0], [3.0, 1.0], [-50.0, 0.0]
                    ),
                    {"max_iter": 2, "c2": 1e-3},
                ),
            },
            remains=_decreases,
            refused={
                "a direction of ascent": lambda: _refused(1.0),
                "no direction": lambda: _refused(0.0),
                "constants in the wrong order": lambda: _refused(-1.0, c1=0.3, c2=0.2),
                "a loss that is not finite": lambda: (
                    _along_a_line([[math.nan]], [4.0], [3.0], [-1.0]),
                    {},
                ),
            },
            tolerances={
                "excess of the value": 1e-9,
                "slope over its bound": 1 + 1e-9,
                "distance from the line": 1e-12,
            },
        ),
    ),
)
