r"""Exchange of r²SCAN: one factor on the uniform gas's exchange, between one orbital and a slowly varying density.

Spins do not interact by exchange, so that the energy is that of two unpolarised densities,

.. math::
    :label: r2scan-exchange-spins

    E_x = \frac12 \big( e_x[2 n_\uparrow, 4 \sigma_{\uparrow\uparrow}, 2 \tau_\uparrow] + e_x[2 n_\downarrow, 4
    \sigma_{\downarrow\downarrow}, 2 \tau_\downarrow] \big)

each with an enhancement factor F on the exchange of the uniform gas:

.. math::
    :label: r2scan-exchange-energy

    e_x[n, \sigma, \tau] = - \frac34 \Big( \frac3\pi \Big)^{1/3} n^{4/3}\, F(p, \bar\alpha), \qquad p =
    \frac\sigma{4 (3 \pi^2)^{2/3} n^{8/3}}

With the regularised ratio :math:`\bar\alpha` and the switch f of :mod:`trref.physics.r2scan`,

.. math::
    :label: r2scan-exchange-factor

    F = \big( h_1 + f(\bar\alpha)\, (h_0 - h_1) \big)\, g, \qquad h_0 = 1.174, \qquad h_1 = 1 + k_1 - \frac{k_1}{1 +
    y/k_1}, \qquad g = 1 - e^{-a_1 p^{-1/4}}

.. math::
    :label: r2scan-exchange-expansion

    y = p \Big( \frac{10}{81} + C_\eta C_2\, e^{-p^2/d^4} \Big), \qquad C_\eta = \frac{20}{27} + \frac53 \eta, \qquad
    C_2 = - f'(1)\, (1 - h_0)

The second part of y takes back what the switch adds to the gradient expansion of second order. The derivatives are

.. math::
    :label: r2scan-exchange-factor-derivatives

    F_p = \frac{(1 - f)\, g}{(1 + y/k_1)^2} \Big( \frac{10}{81} + C_\eta C_2\, e^{-p^2/d^4} \big( 1 - 2 p^2/d^4 \big)
    \Big) - \big( h_1 + f (h_0 - h_1) \big) \frac{a_1}4\, p^{-5/4} e^{-a_1 p^{-1/4}}, \qquad F_{\bar\alpha} = f' (h_0 -
    h_1)\, g

and through :math:`p_n = -\frac{8p}{3n}`, :math:`p_\sigma` and those of :math:`\bar\alpha` the potential of one spin is

.. math::
    :label: r2scan-exchange-potential

    \frac{\partial E_x}{\partial n_\uparrow} = \frac43 \frac{e_x}n + u (F_p\, p_n + F_{\bar\alpha} \bar\alpha_n),
    \qquad \frac{\partial E_x}{\partial \sigma_{\uparrow\uparrow}} = 2 u (F_p\, p_\sigma + F_{\bar\alpha}
    \bar\alpha_\sigma), \qquad \frac{\partial E_x}{\partial \tau_\uparrow} = u F_{\bar\alpha} \bar\alpha_\tau

with :math:`u = e_x / F`, all at the doubled arguments; :math:`\sigma_{\uparrow\downarrow}` plays no part. The numbers
are :math:`k_1 = 0.065`, :math:`a_1 = 4.9479`, :math:`d = 0.361`, :math:`\eta = 0.001`. F is never above 1.174, and 1 in
the uniform gas. Where p is 0, the second part of :math:`F_p` is 0.

**Where implementations differ.** libxc, unless it is built without, first takes :math:`\sigma` of each spin down to
:math:`8 n \tau`, so that :math:`\bar\alpha` is not negative; the equations have a branch of the switch for that.

**Provenance.** Confirmed: every formula and constant by the first author's code (dftlibs/xcfun, SCAN_like_eps.hpp), and
all derivatives on 10,000 points by libxc 7.0.

Furness et al., *Accurate and Numerically Efficient r2SCAN Meta-Generalized Gradient Approximation*, 2020,
arXiv:2008.03374.
"""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.physics.terms import (
    DAMPING,
    ETA,
    GRADIENT,
    SWITCHES,
    Potential,
    densities,
    ratio,
    switch_slope,
    switch_value,
)
from trref.signature import (
    N,
    NonNegative,
    Positive,
    Real,
    Scalar,
    Three,
    Two,
    checked,
)

H0, K1, A1 = 1.174, 0.065, 4.9479
SECOND_ORDER = 10 / 81
SLATER = -0.75 * (3 / math.pi) ** (1 / 3)


class Enhancement(NamedTuple):
    """A factor on the exchange of the uniform gas, and its derivatives."""

    factor: Real[N]
    p: Real[N]
    alpha: Real[N]


def _fit_for_powers(p, **_):
    """Reduced gradients beyond 1e10."""
    return [(lambda: (p <= 1e10).all(), "p must be at most 1e10")]


@checked(also=_fit_for_powers)
def enhancement(p: NonNegative[N], alpha: Real[N]) -> Enhancement:
    """Enhancement factor of exchange.

    Parameters
    ----------
    p
        Squared reduced gradient.
    alpha
        Regularised ratio of kinetic energies.
    """
    f = switch_value(alpha, SWITCHES["exchange"])
    df = switch_slope(alpha, SWITCHES["exchange"])
    correction = -(20 / 27 + 5 / 3 * ETA) * SWITCHES["exchange"].slope * (1 - H0)
    damped = correction * xp.exp(-(p**2) / DAMPING**4)
    # eq. r2scan-exchange-expansion
    y = p * (SECOND_ORDER + damped)
    dy = SECOND_ORDER + damped * (1 - 2 * p**2 / DAMPING**4)

    # eq. r2scan-exchange-factor
    h1 = 1 + K1 * (y / K1) / (1 + y / K1)
    root = xp.maximum(p, 1e-30) ** -0.25
    decay = xp.exp(-A1 * root)
    g = -xp.expm1(-A1 * root)
    mixed = h1 + f * (H0 - h1)

    # eq. r2scan-exchange-factor-derivatives
    by_p = (1 - f) * g * dy / (1 + y / K1) ** 2 - mixed * A1 / 4 * root**5 * decay
    return Enhancement(mixed * g, by_p, df * (H0 - h1) * g)


@checked(also=densities)
def exchange(
    density: Positive[N, Two], sigma: Real[N, Three], tau: Positive[N, Two]
) -> tuple[Scalar, Potential]:
    """Exchange energy, summed over points, and its potential.

    Parameters
    ----------
    density
        Of spin up and down.
    sigma
        Products of their gradients: up-up, up-down, down-down.
    tau
        Kinetic energies: half the squared gradients of the orbitals, summed.
    """
    per_point, potential = exchange_parts(density, sigma, tau)
    return per_point.sum(), potential


def exchange_parts(density, sigma, tau):
    """Energy per volume at each point, and the potential; unchecked."""
    n, s, t = 2 * density, 4 * sigma[:, ::2], 2 * tau
    alpha, alpha_n, alpha_s, alpha_t, _ = ratio(n, s, t)
    p_s = 1 / (GRADIENT * n ** (8 / 3))
    p = s * p_s
    F, F_p, F_alpha = enhancement.unchecked(p, alpha)
    uniform = SLATER * n ** (4 / 3)
    # eq. r2scan-exchange-energy, r2scan-exchange-spins
    energy = (uniform * F).sum(1) / 2

    # eq. r2scan-exchange-potential
    by_n = uniform * (4 / 3 * F / n - 8 / 3 * F_p * p / n + F_alpha * alpha_n)
    by_s = 2 * uniform * (F_p * p_s + F_alpha * alpha_s)
    by_tau = uniform * F_alpha * alpha_t
    by_sigma = xp.stack([by_s[:, 0], xp.zeros_like(by_s[:, 0]), by_s[:, 1]], 1)
    return energy, Potential(by_n, by_sigma, by_tau)
