"""Where the examples of update rules come from."""

import math

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["MATRIX_UPDATE", "UPDATE"]


def _sequence(params, gradients):
    return {"params": params, "gradients": gradients}


def _example(rng, size, steps=6):
    shapes = [(size, 3), (size,)]
    scale = rng.choice((0.05, 0.4, 1.5))
    drift = [rng.standard_normal(s) for s in shapes]
    return _sequence(
        [rng.standard_normal(s) for s in shapes],
        [
            [scale * (d + rng.standard_normal(d.shape)) for d in drift]
            for _ in range(steps)
        ],
    )


def _many_shapes():
    def waves(k):
        return [
            xp.cos(k + xp.arange(math.prod(shape), dtype=float)).reshape(shape)
            for shape in ((1,), (1, 4), (2, 3, 2))
        ]

    return _sequence(waves(0), [waves(1), waves(2), waves(5)])


UPDATE = Interface(
    "update_rule",
    example=_example,
    edges={
        "zero gradients": lambda: _sequence(
            [xp.array([1.0, -2.0])], [[xp.zeros(2)]] * 3
        ),
        "a gradient that vanishes": lambda: _sequence(
            [xp.array([1.0])], [[xp.array([2.0])], [xp.zeros(1)]] * 2
        ),
        "tiny and huge": lambda: _sequence(
            [xp.array([1.0, 1.0])], [[xp.array([1e-12, 1e12])]] * 3
        ),
        "alternating signs": lambda: _sequence(
            [xp.array([0.5])], [[xp.array([1.0])], [xp.array([-1.0])]] * 3
        ),
    },
)


def _matrices(rng, size, steps=6):
    shapes = [(size, 3), (3, size), (4, 4)]
    scale = rng.choice((0.05, 1.5))
    return _sequence(
        [rng.standard_normal(s) for s in shapes],
        [[scale * rng.standard_normal(s) for s in shapes] for _ in range(steps)],
    )


def _one_matrix(rows):
    return _sequence([xp.ones_like(xp.array(rows))], [[xp.array(rows)]] * 3)


MATRIX_UPDATE = Interface(
    "matrix_update",
    example=_matrices,
    edges={
        "zero gradients": lambda: _one_matrix([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        "rank one": lambda: _one_matrix([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0]]),
        "a scaled rotation": lambda: _one_matrix([[30.0, 40.0], [-40.0, 30.0]]),
        "one column": lambda: _one_matrix([[3.0], [-4.0]]),
        "one parameter": lambda: _one_matrix([[-0.5]]),
        "a vector and a kernel": _many_shapes,
    },
)
