"""Examples that methods of `trref.bilevel` share."""

import numpy as np

from trref.backend import xp
from trref.catalog import Interface
from trref.problems.bilevel import BalancedBilevel, CoupledBilevel


def _example(rng, size):
    """Some constraints bind and some do not; points of mixed sizes."""
    goal, limit = float(rng.choice((1.0, 2.0, 2.5))), float(rng.choice((2.0, 3.0)))
    floor = None if rng.integers(2) else 0.4
    x, y, theta = rng.choice((0.5, 3.0)) * rng.standard_normal((3, size))
    z, multiplier = rng.standard_normal((2, size))
    return {
        "problem": CoupledBilevel(goal, limit, floor),
        "x": x,
        "y": y,
        "z": z,
        "theta": theta,
        "multiplier": multiplier,
        "x0": rng.standard_normal(size),
        "y0": rng.standard_normal(size),
        "z0": rng.standard_normal(size),
    }


def _edge(x, y, z, theta, multiplier, *, floor=None, goal=2.0, limit=3.0):
    x, y, z, theta, multiplier = (
        xp.array(np.array(v, dtype=float)) for v in (x, y, z, theta, multiplier)
    )
    return {
        "problem": CoupledBilevel(goal, limit, floor),
        "x": x,
        "y": y,
        "z": z,
        "theta": theta,
        "multiplier": multiplier,
        "x0": x.copy(),
        "y0": y.copy(),
        "z0": z.copy(),
    }


def _balanced():
    drawn = np.random.default_rng(0).standard_normal
    x, y, theta, z, multiplier = drawn(2), drawn(4), drawn(4), drawn(1), drawn(1)
    return {
        "problem": BalancedBilevel(),
        "x": xp.array(x),
        "y": xp.array(y),
        "z": xp.array(z),
        "theta": xp.array(theta),
        "multiplier": xp.array(multiplier),
        "x0": xp.array(x),
        "y0": xp.array(y),
        "z0": xp.array(z),
    }


COUPLED = Interface(
    name="coupled levels",
    example=_example,
    edges={
        "one equality": _balanced,
        "at the solution": lambda: _edge([1.5], [1.5], [1.5], [1.5], [1.5]),
        "at the kink": lambda: _edge([1.0], [2.0], [0.0], [2.0], [0.0]),
        "a constraint that does not bind": lambda: _edge(
            [-1.0, 0.5], [0.0, -2.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]
        ),
        "a constraint far from held": lambda: _edge(
            [4.0, 5.0, 1.0],
            [3.0, -1.0, 6.0],
            [2.0, 9.5, 0.0],
            [5.0, 3.0, 4.0],
            [9.8] * 3,
        ),
        "on the floor": lambda: _edge(
            [0.1, 1.5], [0.0, 1.0], [0.5, 2.0], [0.6, 0.5], [0.0, 2.5], floor=0.8
        ),
        "the upper level's goal is within reach": lambda: _edge(
            [0.0], [0.0], [0.0], [0.0], [0.0], goal=0.0
        ),
    },
)
"""Two levels whose constraints couple them, entry by entry or all at once; floors of the lower level's own in some."""
