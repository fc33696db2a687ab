"""What is known of `trref.physics.r2scan_exchange`."""

import cmath
import math

from trref.backend import xp
from trref.catalog import Estimator, Method, Objective
from trref.catalog.physics.interfaces import DENSITY, fermi_hole
from trref.physics.r2scan_exchange import Enhancement, enhancement, exchange

C = (1.0, -0.667, -0.4445555, -0.663086601049, 1.451297044490, -0.887998041597)
C += (0.234528941479, -0.023185843322)


def factor(p, alpha):
    """F at one point, real or complex."""
    if alpha.real < 0:
        f = cmath.exp(-0.667 * alpha / (1 - alpha))
    elif alpha.real <= 2.5:
        f = sum(c * alpha**i for i, c in enumerate(C))
    else:
        f = -1.24 * cmath.exp(0.8 / (1 - alpha))
    slope = math.fsum(i * c for i, c in enumerate(C))
    c2 = -slope * (1 - 1.174)
    y = p * (10 / 81 + (20 / 27 + 0.005 / 3) * c2 * cmath.exp(-(p**2) / 0.361**4))
    h1 = 1 + 0.065 - 0.065 / (1 + y / 0.065)
    g = 1 - cmath.exp(-4.9479 / p**0.25) if p else 1.0
    return (h1 + f * (1.174 - h1)) * g


def _factors(p, alpha):
    """Derivatives by steps along the imaginary axis."""
    rows = [
        (
            factor(x, a).real,
            factor(x + 1e-100j, a).imag / 1e-100,
            factor(x, a + 1e-100j).imag / 1e-100,
        )
        for x, a in zip(p.tolist(), alpha.tolist(), strict=True)
    ]
    return Enhancement(*xp.array(rows).T)


METHOD = Method(
    key="furness2020accurate",
    provenance="confirmed",
    functions=(
        Estimator(
            f=enhancement,
            brute_force=_factors,
            example=lambda rng, size: {
                "p": 10 ** rng.uniform(-3, 2, size),
                "alpha": rng.choice((0.5, 2.0, 8.0)) * rng.uniform(-0.2, 1, size),
            },
            edges={
                "the uniform gas": lambda: {"p": xp.zeros(1), "alpha": xp.ones(1)},
                "one orbital, hardly varying": lambda: {
                    "p": xp.array([1e-9, 0.5]),
                    "alpha": xp.zeros(2),
                },
                "between the branches": lambda: {
                    "p": xp.array([0.1, 0.2, 3e6, 0.3]),
                    "alpha": xp.array([2.5, -0.25, 40.0, 3.125]),
                },
            },
            refused={
                "a gradient that is too large": {"p": 1e11},
            },
        ),
        Objective(
            f=exchange,
            interface=DENSITY,
            wrt=("density", "sigma", "tau"),
            deviations=(fermi_hole(exchange),),
            refused={
                "a density next to 0": {"density": 1e-13},
                "a negative sigma": {"sigma": -1.0},
                "gradients that no density has": {
                    "sigma": lambda sigma: 0 * sigma + [1.0, -9.0, 1.0]
                },
                "a sigma that is too large": {"sigma": 1e40},
                "a tau that is too large": {"tau": 1e40},
            },
        ),
    ),
)
