"""What is known of `trref.optimization.sketched_newton`."""

import numpy as np

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, Transform
from trref.catalog.optimization.exact_merit import MATRICES
from trref.optimization.sketched_newton import (
    gaussian_steps,
    inner_bounds,
    kaczmarz_rate,
    kaczmarz_steps,
    largest_residual,
    sketch_step,
)


def _system(rng, size):
    T, D = int(rng.integers(2, 8)), int(rng.integers(1, min(size, 3) + 1))
    half = rng.standard_normal((size, size)) / size**0.5
    return {
        "matrix": rng.choice((0.1, 1.0, 10.0)) * (half + half.T + xp.eye(size)),
        "right": rng.standard_normal(size),
        "delta": rng.choice((0.0, 1.0)) * rng.standard_normal(size),
        "sketch": rng.standard_normal((size, D)),
        "order": rng.integers(0, size, T),
        "vectors": rng.standard_normal((T, size)),
        "psi": xp.array(float(rng.choice((20.0, 500.0)))),
    }


def _edge(matrix, right, delta, order, sketch):
    matrix, order = xp.array(matrix), xp.array(order)
    K = len(matrix)
    return {
        "matrix": matrix,
        "right": xp.array(right),
        "delta": xp.array(delta),
        "sketch": xp.array(sketch),
        "order": order,
        "vectors": 2.0 * xp.eye(K)[order] + xp.ones(K),
        "psi": xp.array(300.0),
    }


SADDLE = [[2.0, 0.0, 1.0], [0.0, 3.0, -1.0], [1.0, -1.0, 0.0]]
SYSTEM = Interface(
    "linear_system",
    example=_system,
    edges={
        "a saddle": lambda: _edge(
            SADDLE, [1.0, 2.0, 3.0], [0.0] * 3, [2, 0, 1, 2], [[1.0], [0.0], [2.0]]
        ),
        "solved": lambda: _edge(
            SADDLE, [3.0, 2.0, 0.0], [1.0, 1.0, 1.0], [0, 1, 2], [[1.0], [3.0], [2.0]]
        ),
        "the same equation again": lambda: _edge(
            SADDLE, [1.0, 0.0, -1.0], [1.0, 2.0, 0.5], [1, 1], [[0.0], [2.0], [0.0]]
        ),
        "equal combinations": lambda: _edge(
            SADDLE,
            [1.0, 2.0, 1.0],
            [0.0, 1.0, 0.0],
            [0],
            [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]],
        ),
        "all equations": lambda: _edge(
            [[2.0, 1.0], [1.0, 0.0]], [1.0, 4.0], [1.0, 1.0], [1, 0], [[1, 0.5], [0, 2]]
        ),
        "not symmetric": lambda: _edge(
            [[2.0, -1.0], [0.5, 3.0]], [1.0, 4.0], [1.0, 1.0], [1, 0, 1], [[1.0], [0.5]]
        ),
        "one equation": lambda: _edge([[-4.0]], [2.0], [3.0], [0], [[0.5]]),
    },
)


def _nearest(matrix, right, delta, sketch):
    """By least squares: the shortest way to where the combined equations hold."""
    rows = sketch.T @ matrix
    missing = sketch.T @ right - rows @ delta
    return delta + np.linalg.lstsq(rows, missing, rcond=1e-8)[0]


def _met(result, matrix, right, delta, sketch):
    return abs(sketch.T @ (matrix @ result - right)).max() / abs(right).max()


def _by_vectors(matrix, right, delta, vectors):
    points = [delta]
    for s in vectors:
        points.append(_nearest(matrix, right, points[-1], s[:, None]))
    return np.stack(points)


def _by_equations(matrix, right, delta, order):
    return _by_vectors(matrix, right, delta, np.eye(len(right))[order])


def _of_unit_vectors(inputs):
    """the vectors are those of the equations drawn"""
    unit = xp.eye(len(inputs["right"]), dtype=inputs["right"].dtype)
    given = {name: inputs[name] for name in ("matrix", "right", "delta")}
    return inputs, {**given, "vectors": unit[inputs["order"]]}


def _rate(matrix):
    rows = np.stack([row / np.linalg.norm(row) for row in matrix])
    return 1 - np.linalg.eigvalsh(rows @ rows.T)[0] / len(rows)


def _bounds(curvature, hessian, jacobian, *, shift=0.1):
    least = np.linalg.svd(jacobian, compute_uv=False)[-1] ** 2
    psi = 20 * max(np.linalg.norm(curvature) ** 2, 1) / min(least, 1) / min(shift, 1)
    return psi, max(np.linalg.norm(jacobian), np.linalg.norm(hessian), 1)


def _residual(matrix, right, psi, *, accuracy=0.1, forcing=1.0):
    share = forcing * accuracy * np.linalg.norm(right)
    return share / np.linalg.norm(matrix) / float(psi)


METHOD = Method(
    key="hong2023constrained",
    provenance={
        "confirmed": ("sketch", "kaczmarz", "gaussian", "bounds", "accuracy"),
        "reconstructed": ("rate",),
    },
    functions=(
        Transform(
            f=sketch_step,
            wrt="delta",
            interface=SYSTEM,
            idempotent=True,
            feasible=_met,
        ),
        Estimator(
            f=kaczmarz_steps,
            interface=SYSTEM,
            limits=(
                Limit("sketched_newton.gaussian_steps", {}, where=_of_unit_vectors),
            ),
            brute_force=_by_equations,
            refused={
                "an equation that there is not": {"order": 99},
                "an equation of zeros": {"matrix": 0},
            },
        ),
        Estimator(
            f=gaussian_steps,
            interface=SYSTEM,
            brute_force=_by_vectors,
            refused={
                "vectors that combine nothing": {"vectors": 0},
            },
        ),
        Estimator(
            f=kaczmarz_rate,
            interface=SYSTEM,
            brute_force=_rate,
            refused={
                "equations without unknowns": {"matrix": 0},
            },
        ),
        Estimator(
            f=inner_bounds,
            interface=MATRICES,
            settings={
                "default": {},
                "shifted by much": {"shift": 2.0},
                "probe": {"shift": 0.4},
            },
            sizes=(2, 5, 12),
            brute_force=_bounds,
            refused={"dependent rows": {"jacobian": 0}},
        ),
        Estimator(
            f=largest_residual,
            interface=SYSTEM,
            settings={"default": {}, "probe": {"accuracy": 0.03, "forcing": 2.5}},
            brute_force=_residual,
        ),
    ),
)
