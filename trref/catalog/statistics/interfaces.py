"""Losses that are fitted with a penalty."""

import numpy as np

from trref.backend import xp
from trref.catalog import Interface
from trref.problems.convex import Quadratic, logistic, spd_matrix


def _example(rng, size):
    """A quadratic of curvatures from 1/4 to 1, or a logistic loss of a smoothness below 1, and half of the entries."""
    if rng.integers(2):
        eigenvalues = np.linspace(0.25, 1.0, size)
        A, x = spd_matrix(rng, eigenvalues), rng.standard_normal(size)
        loss = Quadratic(A, A @ x)
    else:
        drawn = logistic(rng, points=20, dims=size, l2=0.2)
        scale = np.sqrt(3 / np.linalg.eigvalsh(drawn.X.T @ drawn.X / 20)[-1])
        loss = type(drawn)(drawn.X * scale, drawn.y, 0.2)
    point = rng.choice((0.1, 3.0)) * rng.standard_normal(size)
    return {
        "loss_and_grad": loss,
        "x0": point,
        "theta": point,
        "penalized": (np.arange(size) != 0).astype(float),
    }


def _quadratic(A, b, x0, penalized=None):
    def make():
        mask = None if penalized is None else xp.array(penalized)
        loss = Quadratic(xp.array(A), xp.array(b))
        given = {"loss_and_grad": loss, "x0": xp.array(x0), "theta": xp.array(x0)}
        return {**given, "penalized": mask}

    return make


PENALISED = Interface(
    "penalised losses",
    example=_example,
    edges={
        "one unknown": _quadratic([[0.75]], [3.0], [0.5]),
        "from zero": _quadratic([[0.8, 0.15], [0.15, 0.7]], [2.0, -0.04], [0.0, 0.0]),
        "nothing bears the penalty": _quadratic(
            [[0.5, 0.25], [0.25, 0.5]], [1.0, 2.0], [4.0, 4.0], [0.0, 0.0]
        ),
        "a flat valley": _quadratic(
            [[0.55, 0.25, 0.125], [0.25, 0.25, 0.125], [0.125, 0.125, 0.15]],
            [1.0, 0.5, -0.25],
            [3.0, -3.0, 1.0],
        ),
        "at the solution": _quadratic([[1.0]], [0.0625], [0.0], [1.0]),
    },
)
