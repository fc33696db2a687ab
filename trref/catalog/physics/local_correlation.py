"""What is known of `trref.physics.local_correlation`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Method, Objective
from trref.catalog.physics.interfaces import DENSITY
from trref.physics.local_correlation import orbital_correlation, uniform_correlation

ROUNDED = {
    "u": (0.031091, 0.21370, 7.5957, 3.5876, 1.6382, 0.49294),
    "p": (0.015545, 0.20548, 14.1189, 6.1977, 3.3662, 0.62517),
    "m": (0.016887, 0.11125, 10.357, 3.6231, 0.88026, 0.49671),
}


def _fit(r, A, a, *b):
    """One fit and its slope."""
    q = 2 * A * sum(c * r ** ((i + 1) / 2) for i, c in enumerate(b))
    dq = 2 * A * sum((i + 1) / 2 * c * r ** ((i - 1) / 2) for i, c in enumerate(b))
    log = xp.log1p(1 / q)
    return -2 * A * (1 + a * r) * log, -2 * A * a * log + 2 * A * (1 + a * r) * dq / (
        q * q + q
    )


def _rounded(density):
    """The uniform gas from fits with a rounded A, with its potential."""
    n = density.sum(1)
    zeta, r = (density[:, 0] - density[:, 1]) / n, (4 * math.pi * n / 3) ** (-1 / 3)
    up, down = 1 + zeta, 1 - zeta
    F = (up ** (4 / 3) + down ** (4 / 3) - 2) / (2 ** (4 / 3) - 2)
    F_z = 4 / 3 * (up ** (1 / 3) - down ** (1 / 3)) / (2 ** (4 / 3) - 2)
    stiffness = 8 / 9 / (2 ** (4 / 3) - 2)
    (u, u_r), (p, p_r), (m, m_r) = (_fit(r, *ROUNDED[k]) for k in "upm")
    z4 = zeta**4
    e = u + F * z4 * (p - u) - m * F * (1 - z4) / stiffness
    e_r = u_r + F * z4 * (p_r - u_r) - m_r * F * (1 - z4) / stiffness
    grown = F_z * z4 + 4 * F * zeta**3
    e_z = grown * (p - u) - m * (F_z - grown) / stiffness
    common = e - r / 3 * e_r
    return (n * e).sum(), xp.stack([common + down * e_z, common - up * e_z], 1)


REFUSED = {
    "a density next to 0": {"density": 1e-13},
    "a density that is too large": {"density": 1e7},
}


METHOD = Method(
    key="furness2020accurate",
    provenance="confirmed",
    functions=(
        Objective(
            f=uniform_correlation,
            interface=DENSITY,
            wrt="density",
            deviations=(
                Deviation(
                    "A rounded",
                    _rounded,
                    seen_in="libxc, LDA_C_PW, after the first publication of the fit",
                    computes="fits whose A has five digits",
                    documented=True,
                ),
            ),
            refused=REFUSED,
        ),
        Objective(
            f=orbital_correlation,
            interface=DENSITY,
            wrt="density",
            refused=REFUSED,
        ),
    ),
)
