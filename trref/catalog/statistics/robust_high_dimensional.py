"""What is known of `trref.statistics.robust_high_dimensional`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method
from trref.problems.convex import spd_matrix
from trref.statistics.robust_high_dimensional import (
    escort,
    maximal_log_density,
    tsallis_entropy,
)


def _cells(rng, size):
    volume = rng.choice((0.1, 2.0), size) * (0.5 + rng.random(size))
    density = rng.random(size) * (np.arange(size) != 1)
    return {"density": density / (volume * density).sum(), "volume": volume}


CELLS = Interface(
    "cells",
    example=_cells,
    edges={
        "one cell": lambda: {"density": xp.array([4.0]), "volume": xp.array([0.25])},
        "even": lambda: {"density": xp.full(4, 0.5), "volume": xp.full(4, 0.5)},
        "a cell alone": lambda: {
            "density": xp.array([0.0, 0.5, 0.0]),
            "volume": xp.array([1.0, 2.0, 3.0]),
        },
    },
)


def _by_definition(density, volume, *, q=1.2):
    pairs = list(zip(density.tolist(), volume.tolist(), strict=True))
    if q == 1:
        return xp.asarray(math.fsum(-v * f * math.log(f) for f, v in pairs if f > 0))
    return xp.asarray(math.fsum(v * (f - f**q) for f, v in pairs) / (q - 1))


def _powers(density, volume, *, q=1.2):
    powers = [f**q for f in density.tolist()]
    whole = math.fsum(v * p for v, p in zip(volume.tolist(), powers, strict=True))
    return xp.array([p / whole for p in powers])


def _points(rng, size):
    k = int(rng.integers(1, 4))
    values = rng.choice((0.2, 5.0)) * (1 + rng.random(k))
    return {
        "x": 3 * rng.standard_normal((size, k)),
        "covariance": spd_matrix(rng, values),
    }


def _student(x, covariance, *, q=1.2):
    k = len(covariance)
    nu = 2 / (q - 1) - k
    scale = np.asarray(covariance) * (nu - 2) / nu
    constant = math.lgamma((nu + k) / 2) - math.lgamma(nu / 2)
    constant -= k / 2 * math.log(nu * math.pi) + np.linalg.slogdet(scale)[1] / 2
    distances = [row @ np.linalg.solve(scale, row) for row in x]
    return xp.array([constant - (nu + k) / 2 * math.log1p(d / nu) for d in distances])


def _matrix(*rows):
    return lambda: ({"x": xp.ones((1, 2)), "covariance": xp.array(rows)}, {})


INDICES = {
    "default": {},
    "shannon": {"q": 1.0},
    "below 1": {"q": 0.7},
    "probe": {"q": 1.6},
}

INTEGRAL_OF_2 = {
    "an integral of 2": {"density": lambda density: 2 * density},
}


METHOD = Method(
    key="yang2025contributions",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=tsallis_entropy,
            interface=CELLS,
            settings=INDICES,
            brute_force=_by_definition,
            refused=INTEGRAL_OF_2,
        ),
        Estimator(
            f=escort,
            interface=CELLS,
            settings=INDICES,
            brute_force=_powers,
            refused=INTEGRAL_OF_2,
        ),
        Estimator(
            f=maximal_log_density,
            example=_points,
            edges={
                "at the mean": lambda: {
                    "x": xp.zeros((1, 2)),
                    "covariance": xp.array([[2.0, 0.5], [0.5, 1.0]]),
                },
                "far out": lambda: {
                    "x": xp.array([[1e4], [-30.0]]),
                    "covariance": xp.array([[0.25]]),
                },
            },
            settings={
                "default": {},
                "nearly normal": {"q": 1.01},
                "probe": {"q": 1.3},
            },
            refused={
                "no covariance": lambda: (
                    {"x": xp.ones((1, 2)), "covariance": xp.eye(2)},
                    {"q": 1.5},
                ),
                "not symmetric": _matrix([1.0, 0.5], [0.0, 1.0]),
                "not definite": _matrix([1.0, 2.0], [2.0, 1.0]),
            },
            brute_force=_student,
        ),
    ),
)
