"""What exchange and correlation of r²SCAN share: the grid's densities, the switch, and the regularised ratio."""

import math
from typing import Any, NamedTuple

from trref.backend import xp
from trref.signature import N, Real, Three, Two

__all__ = [
    "DAMPING",
    "ETA",
    "GRADIENT",
    "SWITCHES",
    "UNIFORM",
    "Potential",
    "Switch",
    "densities",
    "ratio",
    "switch_slope",
    "switch_value",
    "total",
]

GRADIENT = 4 * (3 * math.pi**2) ** (2 / 3)
"""p = sigma / (GRADIENT n^(8/3)): the squared reduced gradient."""

UNIFORM = 0.3 * (3 * math.pi**2) ** (2 / 3)
"""tau = UNIFORM n^(5/3) in the uniform gas."""

ETA = 0.001
"""Share of von Weizsäcker's kinetic energy in the regularised ratio."""

DAMPING = 0.361
"""At p of this size the corrections of the gradient expansion end."""


class Potential(NamedTuple):
    """Derivatives of the energy by the spin densities, by their gradients' products and by the kinetic energies."""

    density: Real[N, Two]
    sigma: Real[N, Three]
    tau: Real[N, Two]


class Switch(NamedTuple):
    """Numbers of an interpolation between one orbital (1, at a ratio of 0) and the uniform gas (0, at 1)."""

    below: float
    above: float
    end: float
    polynomial: tuple[float, ...]

    @property
    def slope(self):
        """The polynomial's derivative at 1."""
        return sum(i * c for i, c in enumerate(self.polynomial))


SWITCHES = {
    "exchange": Switch(
        0.667,
        0.8,
        1.24,
        (
            1.0,
            -0.667,
            -0.4445555,
            -0.663086601049,
            1.451297044490,
            -0.887998041597,
            0.234528941479,
            -0.023185843322,
        ),
    ),
    "correlation": Switch(
        0.64,
        1.5,
        0.7,
        (
            1.0,
            -0.64,
            -0.4352,
            -1.535685604549,
            3.061560252175,
            -1.915710236206,
            0.516884468372,
            -0.051848879792,
        ),
    ),
}


def switch_value(alpha, numbers):
    """The switch at any ratio."""
    # eq. r2scan-switch
    middle, f = xp.clip(alpha, 0, 2.5), xp.zeros_like(alpha)
    for c in reversed(numbers.polynomial):
        f = f * middle + c
    low, high = xp.minimum(alpha, 0), xp.maximum(alpha, 2.5)
    below = xp.exp(-numbers.below * low / (1 - low))
    above = -numbers.end * xp.exp(numbers.above / (1 - high))
    return xp.where(alpha < 0, below, xp.where(alpha > 2.5, above, f))


def switch_slope(alpha, numbers):
    """Its derivative."""
    # eq. r2scan-switch-derivative
    middle, df = xp.clip(alpha, 0, 2.5), xp.zeros_like(alpha)
    for i in reversed(range(1, len(numbers.polynomial))):
        df = df * middle + i * numbers.polynomial[i]
    low, high = xp.minimum(alpha, 0), xp.maximum(alpha, 2.5)
    below = -numbers.below * (1 / (1 - low)) ** 2
    above = numbers.above * (1 / (1 - high)) ** 2
    outer = xp.where(alpha < 0, below, above) * switch_value(alpha, numbers)
    return xp.where((alpha < 0) | (alpha > 2.5), outer, df)


def densities(density, sigma, tau, **_):
    """Densities below 1e-12 or above 1e6; gradients that no density has; more than 1e10 of the natural units."""
    within = (density >= 1e-12) & (density <= 1e6)
    n = xp.where(within, density, 1)
    own = sigma[:, ::2]
    half = (own / 2).sum(1) + sigma[:, 1]
    steepest = 1e10 * GRADIENT * n ** (8 / 3)
    return [
        (lambda: within.all(), "density must be between 1e-12 and 1e6"),
        (lambda: (own >= 0).all(), "sigma of one spin must not be negative"),
        (
            lambda: (half >= -1e-6 * (own / 2).sum(1)).all(),
            "sigma must be a square in sum",
        ),
        (
            lambda: (own <= steepest).all() & (2 * half <= steepest.sum(1)).all(),
            "sigma must be at most 1e10 times the natural unit of the density",
        ),
        (
            lambda: (tau <= 1e10 * UNIFORM * n ** (5 / 3)).all(),
            "tau must be at most 1e10 times that of a uniform gas",
        ),
    ]


def total(density, sigma, tau):
    """Of both spins; the square of opposite gradients may be rounded to less than 0."""
    s = xp.maximum(sigma[:, 0] + 2 * sigma[:, 1] + sigma[:, 2], 0)
    return density.sum(1), s, tau.sum(1)


def ratio(n, sigma, tau, share: Any = 1.0):
    """The regularised ratio, and its derivatives by n, sigma, tau, and by `share`, which multiplies the uniform gas's
    part."""
    # eq. r2scan-ratio, r2scan-ratio-derivatives
    weizsaecker, uniform = sigma / (8 * n), UNIFORM * n ** (5 / 3) * share
    D = uniform + ETA * weizsaecker
    alpha = (tau - weizsaecker) / D
    by_n = (weizsaecker / n - alpha * (5 * uniform / 3 - ETA * weizsaecker) / n) / D
    by_sigma = -(1 + ETA * alpha) / (8 * n * D)
    return alpha, by_n, by_sigma, 1 / D, -alpha * uniform / (share * D)
