"""Where the examples of samplers and of guidance come from."""

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["STEP"]


def _step_example(rng, size):
    D = int(rng.integers(1, 5))
    names = ("x", "noise", "z", "x0")
    return {name: rng.standard_normal((size, D)) for name in names}


def _rows(x, noise, z, x0):
    return {"x": x, "noise": noise, "z": z, "x0": x0}


def _opposed():
    rows = xp.array([[1.0, -2.0], [0.5, 0.0]])
    return _rows(rows, -rows, 10 * rows, 0.25 * rows)


def _one_row():
    rows = xp.cos(xp.arange(64.0).reshape(4, 1, 16) ** 2)
    return _rows(*rows)


STEP = Interface(
    "step",
    example=_step_example,
    edges={
        "noise against the signal": _opposed,
        "one row of sixteen numbers": _one_row,
        "nothing at all": lambda: _rows(*xp.zeros((4, 3, 2))),
    },
)
"""Noisy points x (N, D), the noise estimated in them, fresh noise z, and an estimate x0 of the data that need not
belong to the noise."""
