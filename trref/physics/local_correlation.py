r"""Local correlation: the uniform gas by Perdew and Wang, and the local part for a single orbital.

Both are energies per particle that depend on the density n through :math:`r_s = (4 \pi n/3)^{-1/3}` and on the
polarisation :math:`\zeta = (n_\uparrow - n_\downarrow)/n`. The uniform gas is put together from three fits of one form,
for no polarisation (u), for full polarisation (p) and for the stiffness against it (m):

.. math::
    :label: local-correlation-fit

    G(r_s) = -2 A (1 + a r_s) \ln \Big( 1 + \frac1{q_1} \Big), \qquad q_1 = 2 A \big( b_1 r_s^{1/2} + b_2 r_s + b_3
    r_s^{3/2} + b_4 r_s^2 \big)

.. math::
    :label: local-correlation-uniform

    \varepsilon_1 = \varepsilon_u + F \zeta^4 (\varepsilon_p - \varepsilon_u) - \alpha_m F \frac{1 - \zeta^4}{F''(0)},
    \qquad F(\zeta) = \frac{2 d_x - 2}{2^{4/3} - 2}, \quad F''(0) = \frac8{9 (2^{4/3} - 2)}

with :math:`d_x = \frac12 ((1 + \zeta)^{4/3} + (1 - \zeta)^{4/3})`. A single orbital has another limit, which vanishes
for full polarisation, since one electron does not correlate with itself:

.. math::
    :label: local-correlation-orbital

    \varepsilon_0 = - \frac{b_1}{1 + b_2 \sqrt{r_s} + b_3 r_s}\, G_c, \qquad G_c(\zeta) = \big( 1 - 2.363\, (d_x - 1)
    \big) (1 - \zeta^{12})

The functional of :mod:`trref.physics.r2scan_correlation` has the slope in :math:`r_s` of both in its energy, and so
their second derivatives in its potential: with :math:`q_0 = -2A (1 + a r_s)` and :math:`W = q_1^2 + q_1`,

.. math::
    :label: local-correlation-fit-derivatives

    G' = -2 A a \ln \Big( 1 + \frac1{q_1} \Big) - q_0 \frac{q_1'}W, \qquad G'' = 4 A a \frac{q_1'}W - q_0 \Big(
    \frac{q_1''}W - \frac{q_1'^2 (2 q_1 + 1)}{W^2} \Big)

and for the orbital's, with q the denominator, :math:`b_1 q'/q^2` and :math:`b_1 (q''/q^2 - 2 q'^2/q^3)`. The energies
here are per volume, :math:`n \varepsilon`, summed over points, and their potentials

.. math::
    :label: local-correlation-potential

    \frac{\partial (n \varepsilon)}{\partial n_{\uparrow, \downarrow}} = \varepsilon - \frac{r_s}3 \frac{\partial
    \varepsilon}{\partial r_s} \pm (1 \mp \zeta) \frac{\partial \varepsilon}{\partial \zeta}

in which :math:`1 \mp \zeta` is twice the other spin's share of the density, without a difference. The fit's numbers
:math:`A, a, b_1, \dots` are in the code, as modified by Perdew and Wang's own subroutine (more digits of A); those of
the orbital are :math:`b_1 = 0.0285764, b_2 = 0.0889, b_3 = 0.125541`.

**Where implementations differ.** The first publication of the fit rounds A to 0.031091, 0.015545 and 0.016887; libxc
has both, and r²SCAN takes the one with more digits.

**Provenance.** Confirmed by the first author's code (dftlibs/xcfun) and, with all derivatives, by libxc 7.0, whose
LDA_C_PW_MOD is the first of the two.

Furness et al., *Accurate and Numerically Efficient r2SCAN Meta-Generalized Gradient Approximation*, 2020,
arXiv:2008.03374. The fit: Perdew and Wang, *Accurate and simple analytic representation of the electron-gas correlation
energy*, 1992.
"""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.signature import N, Positive, Real, Scalar, Two, checked

FITS = {
    "u": (0.0310907, 0.21370, 7.5957, 3.5876, 1.6382, 0.49294),
    "p": (0.01554535, 0.20548, 14.1189, 6.1977, 3.3662, 0.62517),
    "m": (0.0168869, 0.11125, 10.357, 3.6231, 0.88026, 0.49671),
}
POLARISED = 2 ** (4 / 3) - 2
STIFFNESS = 8 / (9 * POLARISED)
ORBITAL = (0.0285764, 0.0889, 0.125541)
EXCHANGE_SHARE = 2.363


class Local(NamedTuple):
    """An energy per particle, and its derivatives by the radius (twice) and the polarisation."""

    value: Real[N]
    r: Real[N]
    rr: Real[N]
    z: Real[N]
    rz: Real[N]


class Spin(NamedTuple):
    """1 ± polarisation, without differences; the polarisation, d_x and its derivative."""

    up: Real[N]
    down: Real[N]
    zeta: Real[N]
    d_x: Real[N]
    d_x_z: Real[N]


def spin(density):
    """Radius and polarisation of spin densities."""
    n = density.sum(1)
    up, down = 2 * density[:, 0] / n, 2 * density[:, 1] / n
    d_x = (up ** (4 / 3) + down ** (4 / 3)) / 2
    slope = 2 / 3 * (up ** (1 / 3) - down ** (1 / 3))
    radius = (4 * math.pi * n / 3) ** (-1 / 3)
    return radius, Spin(up, down, (density[:, 0] - density[:, 1]) / n, d_x, slope)


def _fit(r, A, a, b1, b2, b3, b4):
    """One fit with its first and second derivative."""
    s = xp.sqrt(r)
    q0, q1 = -2 * A * (1 + a * r), 2 * A * s * (b1 + s * (b2 + s * (b3 + s * b4)))
    d1 = 2 * A * (b1 / (2 * s) + b2 + 1.5 * b3 * s + 2 * b4 * r)
    d2 = 2 * A * (-b1 / (4 * s * r) + 0.75 * b3 / s + 2 * b4)
    log, W = xp.log1p(1 / q1), q1 * (q1 + 1)
    # eq. local-correlation-fit, local-correlation-fit-derivatives
    value, first = q0 * log, -2 * A * a * log - q0 * d1 / W
    second = 4 * A * a * d1 / W - q0 * (d2 / W - (d1 / W) ** 2 * (2 * q1 + 1))
    return value, first, second


def uniform(r, by):
    """The uniform gas at a radius and a `Spin`."""
    F, F_z = 2 * (by.d_x - 1) / POLARISED, 2 * by.d_x_z / POLARISED
    z3 = by.zeta**3
    z4 = z3 * by.zeta
    # eq. local-correlation-uniform
    shares = (1 - F * z4, F * z4, -F * (1 - z4) / STIFFNESS)
    grown = F_z * z4 + 4 * F * z3
    slopes = (-grown, grown, (grown - F_z) / STIFFNESS)
    u, p, m = (_fit(r, *numbers) for numbers in FITS.values())
    value, first, second = (
        shares[0] * u[k] + shares[1] * p[k] + shares[2] * m[k] for k in range(3)
    )
    by_z, by_rz = (
        slopes[0] * u[k] + slopes[1] * p[k] + slopes[2] * m[k] for k in range(2)
    )
    return Local(value, first, second, by_z, by_rz)


def orbital(r, by):
    """The local part of a single orbital at a radius and a `Spin`; and, without its factor of the polarisation, its
    value and slope, and that factor with its slope."""
    b1, b2, b3 = ORBITAL
    s = xp.sqrt(r)
    q, d1, d2 = 1 + b2 * s + b3 * r, b2 / (2 * s) + b3, -b2 / (4 * s * r)
    value, first = -b1 / q, b1 * d1 / q**2
    second = b1 * (d2 / q**2 - 2 * d1**2 / q**3)
    # eq. local-correlation-orbital
    z2 = by.zeta**2
    powers = 1 + z2 * (1 + z2 * (1 + z2 * (1 + z2 * (1 + z2))))
    reduced, ends = 1 - EXCHANGE_SHARE * (by.d_x - 1), by.up * by.down * powers
    G = reduced * ends
    G_z = -EXCHANGE_SHARE * by.d_x_z * ends - 12 * by.zeta**11 * reduced
    local = Local(value * G, first * G, second * G, value * G_z, first * G_z)
    return local, value, first, G, G_z


def _summed(density, local, r, by):
    """The energy per volume, summed, and its potential."""
    # eq. local-correlation-potential
    common = local.value - r / 3 * local.r
    potential = xp.stack([common + by.down * local.z, common - by.up * local.z], 1)
    return (density.sum(1) * local.value).sum(), potential


def _within(density, **_):
    """Densities below 1e-12 or above 1e6."""
    within = (density >= 1e-12) & (density <= 1e6)
    return [(lambda: within.all(), "density must be between 1e-12 and 1e6")]


@checked(also=_within)
def uniform_correlation(density: Positive[N, Two]) -> tuple[Scalar, Real[N, Two]]:
    """Correlation energy of points that each are a uniform gas, and its potential.

    Parameters
    ----------
    density
        Of spin up and down.
    """
    r, by = spin(density)
    return _summed(density, uniform(r, by), r, by)


@checked(also=_within)
def orbital_correlation(density: Positive[N, Two]) -> tuple[Scalar, Real[N, Two]]:
    """Local part of the correlation energy of a single orbital, and its potential."""
    r, by = spin(density)
    return _summed(density, orbital(r, by)[0], r, by)
