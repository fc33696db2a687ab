"""Where the examples of density functionals come from."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Interface

__all__ = ["DENSITY", "fermi_hole", "points"]


def points(rng, size):
    """Spin densities, gradients at an acute angle, and kinetic energies in the three branches.

    None is so small that a difference of the energy would need a negative square of a gradient.
    """
    n = 10 ** rng.uniform(0, 1.5, (size, 1))
    zeta = rng.uniform(-0.7, 0.7, (size, 1))
    density = n * xp.concatenate([1 + zeta, 1 - zeta], 1) / 2
    unit = 2 * (6 * math.pi**2) ** (1 / 3) * density ** (4 / 3)
    length = 10 ** rng.uniform(-0.3, 0.7, (size, 1)) * unit
    across = rng.uniform(0, 1, size) * length[:, 0] * length[:, 1]
    sigma = xp.stack([length[:, 0] ** 2, across, length[:, 1] ** 2], 1)
    uniform = 0.3 * (6 * math.pi**2) ** (2 / 3) * density ** (5 / 3)
    share = rng.choice((0.3, 1.0, 5.0), (size, 1)) * rng.uniform(0.2, 1.0, (size, 2))
    tau = sigma[:, ::2] / (8 * density) + share * uniform
    return {"density": density, "sigma": sigma, "tau": tau}


def _edge(density, sigma, tau):
    return {
        "density": xp.array([density]),
        "sigma": xp.array([sigma]),
        "tau": xp.array([tau]),
    }


DENSITY = Interface(
    "density",
    example=points,
    edges={
        "one point": lambda: _edge([0.3, 0.17], [0.2, 0.05, 0.1], [0.4, 0.2]),
        "no polarisation": lambda: _edge([0.25] * 2, [0.125] * 3, [0.4] * 2),
        "nearly full polarisation": lambda: _edge(
            [8.0, 0.125], [30.0, 1.0, 0.25], [80.0, 0.5]
        ),
        "less than one orbital's kinetic energy": lambda: _edge(
            [0.3, 0.2], [0.5, 0.1, 0.2], [0.1, 0.05]
        ),
        "much kinetic energy": lambda: _edge([0.1, 0.15], [0.08, 0.0, 0.1], [2.0, 1.5]),
        "dense and nearly uniform": lambda: _edge(
            [40.0, 60.0], [1.0, 0.5, 2.0], [900.0, 1800.0]
        ),
    },
)
"""``f(density, sigma, tau) -> (energy, potential)``: points of a grid."""


def fermi_hole(f):
    """The deviation of libxc: gradients no larger than those of one orbital with the same kinetic energy."""

    def limited(density, sigma, tau):
        own = xp.minimum(sigma[:, ::2], 8 * density * tau)
        mean = own.sum(1) / 2
        across = xp.minimum(xp.maximum(sigma[:, 1], -mean), mean)
        return f(density, xp.stack([own[:, 0], across, own[:, 1]], 1), tau)

    return Deviation(
        "no negative ratio",
        limited,
        seen_in="libxc 7.0, work_mgga_inc.c, where the Fermi hole's curvature is enforced (the default)",
        computes="the functional at sigma taken down to 8 n tau, spin by spin",
        documented=True,
    )
