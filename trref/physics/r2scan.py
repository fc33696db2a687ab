r"""r²SCAN: exchange and correlation from density, gradient and kinetic energy, with a switch that is smooth.

SCAN tells a bond from a metal by a ratio of kinetic energies, and interpolates between an energy for one orbital (ratio
0) and one for slowly varying densities (ratio 1) by a switch that is flat at 1 and steep beside it: integration grids
must be dense, and potentials have ripples. rSCAN made switch and ratio smooth, and lost exact conditions; r²SCAN keeps
the smooth switch and gets these back. The ratio is

.. math::
    :label: r2scan-ratio

    \bar\alpha = \frac{\tau - \tau_W}{\tau_U + \eta \tau_W}, \qquad \tau_W = \frac\sigma{8 n}, \qquad \tau_U =
    \frac3{10} (3 \pi^2)^{2/3} n^{5/3}, \qquad \eta = 0.001

of the kinetic energies :math:`\tau`, of a single orbital (W) and of a uniform gas (U), with :math:`\sigma = |\nabla
n|^2`. With D for the denominator its derivatives are

.. math::
    :label: r2scan-ratio-derivatives

    \bar\alpha_\tau = \frac1D, \qquad \bar\alpha_\sigma = - \frac{1 + \eta \bar\alpha}{8 n D}, \qquad \bar\alpha_n =
    \frac1{n D} \Big( \tau_W - \bar\alpha \big( \tfrac53 \tau_U - \eta \tau_W \big) \Big) .

The switch has three branches, with numbers of its own for exchange and for correlation:

.. math::
    :label: r2scan-switch

    f(\bar\alpha) = \begin{cases} e^{-c_1 \bar\alpha / (1 - \bar\alpha)} & \bar\alpha < 0 \\ \sum_{i=0}^7 c^{(i)}
    \bar\alpha^i & 0 \le \bar\alpha \le 2.5 \\ -d\, e^{c_2 / (1 - \bar\alpha)} & \bar\alpha > 2.5 \end{cases}

.. math::
    :label: r2scan-switch-derivative

    f'(\bar\alpha) = - \frac{c_1 f}{(1 - \bar\alpha)^2}, \qquad \sum_{i=1}^7 i\, c^{(i)} \bar\alpha^{i-1}, \qquad
    \frac{c_2 f}{(1 - \bar\alpha)^2}

Value and slope fit together at 0 and 2.5 to about 1e-9, as far as the published digits go. The functional is the sum

.. math::
    :label: r2scan-sum

    E_{xc} = E_x + E_c

of :mod:`trref.physics.r2scan_exchange` and :mod:`trref.physics.r2scan_correlation`, in Hartree atomic units, per
volume: an integral over space weighs each point by its share of the grid. The potential is the derivative of a point's
energy by its densities, gradients' products and kinetic energies.

**Where implementations differ.** xcfun takes :math:`\beta_0 = 0.066725` and :math:`\gamma = 0.031090690869655` in
correlation. libxc, unless it is built without, first takes :math:`\sigma` of each spin down to :math:`8 n \tau`; its
energies are per particle.

**Provenance.** Confirmed: every formula and constant by the first author's code (dftlibs/xcfun, SCAN_like_eps.hpp), the
constants and all derivatives on 10,000 points by libxc 7.0.

Furness et al., *Accurate and Numerically Efficient r2SCAN Meta-Generalized Gradient Approximation*, 2020,
arXiv:2008.03374.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.physics.r2scan_correlation import correlation_parts
from trref.physics.r2scan_exchange import exchange_parts
from trref.physics.terms import (
    SWITCHES,
    Potential,
    densities,
    ratio,
    switch_slope,
    switch_value,
)
from trref.signature import N, NonNegative, Positive, Real, Scalar, Three, Two, checked


@checked
def switch(
    alpha: Real[N], *, kind: Literal["exchange", "correlation"] = "exchange"
) -> Real[N]:
    """Switch between the energy of one orbital (1) and that of slowly varying densities (0).

    Parameters
    ----------
    alpha
        Regularised ratio of kinetic energies.
    kind
        Whose numbers.
    """
    return switch_value(alpha, SWITCHES[kind])  # eq. r2scan-switch


@checked
def switch_derivative(
    alpha: Real[N], *, kind: Literal["exchange", "correlation"] = "exchange"
) -> Real[N]:
    """Derivative of `switch`."""
    # eq. r2scan-switch-derivative
    return switch_slope(alpha, SWITCHES[kind])


class Ratio(NamedTuple):
    """The regularised ratio of kinetic energies, and its derivatives."""

    alpha: Real[N]
    density: Real[N]
    sigma: Real[N]
    tau: Real[N]


def _unpolarised(density, sigma, tau, **_):
    """Densities below 1e-12 or above 1e6; more than 1e10 of the natural units."""
    parts = [a[:, None] / 2 for a in (density, sigma, tau)]
    n, s, t = (
        xp.concatenate([a] * k, 1) for a, k in zip(parts, (2, 3, 2), strict=True)
    )
    return densities(n, s / 2, t)


@checked(also=_unpolarised)
def regularised_ratio(
    density: Positive[N], sigma: NonNegative[N], tau: Positive[N]
) -> Ratio:
    """Ratio of the kinetic energy beyond a single orbital's to that of a uniform gas, without polarisation.

    Parameters
    ----------
    density
        Of both spins.
    sigma
        Its squared gradient.
    tau
        Kinetic energy.
    """
    # eq. r2scan-ratio, r2scan-ratio-derivatives
    return Ratio(*ratio(density, sigma, tau)[:4])


class EnergyDensity(NamedTuple):
    """Energies per volume at each point."""

    exchange: Real[N]
    correlation: Real[N]


@checked(also=densities)
def energy_density(
    density: Positive[N, Two], sigma: Real[N, Three], tau: Positive[N, Two]
) -> EnergyDensity:
    """Exchange and correlation at each point.

    Parameters
    ----------
    density
        Of spin up and down.
    sigma
        Products of their gradients: up-up, up-down, down-down.
    tau
        Kinetic energies: half the squared gradients of the orbitals, summed.
    """
    x, _ = exchange_parts(density, sigma, tau)
    c, _ = correlation_parts(density, sigma, tau)
    return EnergyDensity(x, c)


@checked(also=densities)
def r2scan(
    density: Positive[N, Two], sigma: Real[N, Three], tau: Positive[N, Two]
) -> tuple[Scalar, Potential]:
    """Exchange-correlation energy, summed over points, and its potential."""
    x, by_x = exchange_parts(density, sigma, tau)
    c, by_c = correlation_parts(density, sigma, tau)
    # eq. r2scan-sum
    both = Potential(*(a + b for a, b in zip(by_x, by_c, strict=True)))
    return (x + c).sum(), both
