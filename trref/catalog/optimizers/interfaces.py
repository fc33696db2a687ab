"""Where the examples of update rules come from."""

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["UPDATE"]


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
