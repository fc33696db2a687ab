r"""Correlation of r²SCAN: an energy for one orbital, one for slowly varying densities, and the switch between them.

The energy is :math:`E_c = n\, \varepsilon_c` per volume, with

.. math::
    :label: r2scan-correlation-energy

    \varepsilon_c = \varepsilon_1 + f(\bar\alpha)\, (\varepsilon_0 - \varepsilon_1), \qquad \bar\alpha = \frac{\tau -
    \tau_W}{\tau_U d_s + \eta \tau_W}

and the switch of :mod:`trref.physics.r2scan`. Unlike exchange it takes both spins together: n, :math:`\sigma`,
:math:`\tau` and the reduced gradient p are those of the whole density; :math:`r_s`, :math:`\zeta`, the local energies
:math:`\varepsilon_0^L = \varepsilon_0^U G_c` and :math:`\varepsilon_1^L` are those of
:mod:`trref.physics.local_correlation`; and with the powers

.. math::
    :label: r2scan-correlation-spin

    \phi = \frac{(1 + \zeta)^{2/3} + (1 - \zeta)^{2/3}}2, \qquad d_s = \frac{(1 + \zeta)^{5/3} + (1 - \zeta)^{5/3}}2

one orbital has

.. math::
    :label: r2scan-correlation-orbital

    \varepsilon_0 = \big( \varepsilon_0^U + b_1 \ln( 1 + w_0 (1 - g_0) ) \big)\, G_c, \qquad w_0 =
    e^{-\varepsilon_0^U/b_1} - 1, \quad g_0 = (1 + 4 \chi p)^{-1/4}

and a slowly varying density

.. math::
    :label: r2scan-correlation-gradient

    \varepsilon_1 = \varepsilon_1^L + \gamma \phi^3 \ln( 1 + w_1 (1 - g_1) ), \qquad w_1 = e^{-\varepsilon_1^L / \gamma
    \phi^3} - 1, \quad g_1 = (1 + 4 (y - \Delta y))^{-1/4}

.. math::
    :label: r2scan-correlation-expansion

    y = \frac{\beta t^2}{\gamma w_1}, \qquad \beta = \beta_0 \frac{1 + 0.1\, r_s}{1 + 0.1778\, r_s}, \qquad t^2 =
    \frac\pi4 \Big( \frac{9\pi}4 \Big)^{1/3} \frac p{r_s \phi^2}

What the switch adds to the gradient expansion of second order is taken back by

.. math::
    :label: r2scan-correlation-correction

    \Delta y = \frac{f'(1)}{27 \gamma d_s \phi^3 w_1}\, B\, p\, e^{-p^2/d^4}, \qquad B = 20 r_s \Big( \frac{\partial
    \varepsilon_0^L}{\partial r_s} - \frac{\partial \varepsilon_1^L}{\partial r_s} \Big) - 45 \eta\, (\varepsilon_0^L -
    \varepsilon_1^L)

whose slopes in :math:`r_s` bring second derivatives of the local energies into the potential. As a function of
:math:`(r_s, \zeta, p, \bar\alpha)`, with a prime for any of the first three,

.. math::
    :label: r2scan-correlation-derivatives

    \Big( b \ln(1 + w (1 - g)) \Big)' = b' \ln(\cdot) + b\, \frac{w' (1 - g) - w g'}{1 + w (1 - g)}, \qquad g_1' =
    -(1 + 4 (y - \Delta y))^{-5/4} (y' - \Delta y'), \quad y' = y \big( \ln \beta t^2/w_1 \big)'

and the potential is, with :math:`P = \varepsilon_c + n ( -\frac{r_s}{3n} \partial_r \varepsilon_c - \frac{8p}{3n}
\partial_p \varepsilon_c + \bar\alpha_n \partial_{\bar\alpha} \varepsilon_c )` and :math:`Q = \partial_\zeta
\varepsilon_c + \bar\alpha_\zeta \partial_{\bar\alpha} \varepsilon_c`,

.. math::
    :label: r2scan-correlation-potential

    \frac{\partial E_c}{\partial n_{\uparrow,\downarrow}} = P \pm (1 \mp \zeta)\, Q, \qquad \frac{\partial E_c}{\partial
    \sigma_{\uparrow\uparrow}} = \frac{\partial E_c}{\partial \sigma_{\downarrow\downarrow}} = \frac12 \frac{\partial
    E_c}{\partial \sigma_{\uparrow\downarrow}} = n \big( p_\sigma \partial_p + \bar\alpha_\sigma
    \partial_{\bar\alpha} \big) \varepsilon_c, \qquad \frac{\partial E_c}{\partial \tau_{\uparrow,\downarrow}} = n
    \bar\alpha_\tau \partial_{\bar\alpha} \varepsilon_c .

The numbers are :math:`\chi = 0.128025852626`, :math:`\beta_0 = 0.066724550603`, :math:`\gamma = (1 - \ln 2)/\pi^2`,
:math:`d = 0.361` and :math:`\eta = 0.001`. At low density :math:`w_1` is tiny, and is never formed as a difference. A
fully polarised density of one orbital has no correlation. An empty spin channel has no potential: densities are at
least 1e-12.

=================  ==========
:math:`\beta_0`    ``beta``
=================  ==========

**Where implementations differ.** xcfun takes :math:`\beta_0 = 0.066725` and :math:`\gamma = 0.031090690869655`, which
changes energies by 6e-7 of their size. libxc, unless it is built without, first takes :math:`\sigma` of each spin down
to :math:`8 n \tau`.

**Provenance.** Confirmed: every formula by the first author's code (dftlibs/xcfun, SCAN_like_eps.hpp), the constants
and all derivatives on 10,000 points by libxc 7.0.

Furness et al., *Accurate and Numerically Efficient r2SCAN Meta-Generalized Gradient Approximation*, 2020,
arXiv:2008.03374.
"""

import math
from typing import Annotated

from trref.backend import xp
from trref.physics.local_correlation import ORBITAL, orbital, spin, uniform
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
    total,
)
from trref.signature import N, Positive, Real, Scalar, Three, Two, checked

CHI = 0.12802585262625815
BETA = 0.06672455060314922
GAMMA = (1 - math.log(2)) / math.pi**2
GRADIENT_T = math.pi / 4 * (9 * math.pi / 4) ** (1 / 3)

Constant = Annotated[float, "[0.01, 0.2]"]


@checked(also=densities)
def correlation(
    density: Positive[N, Two],
    sigma: Real[N, Three],
    tau: Positive[N, Two],
    *,
    beta: Constant = BETA,
    gamma: Constant = GAMMA,
) -> tuple[Scalar, Potential]:
    """Correlation energy, summed over points, and its potential.

    Parameters
    ----------
    density
        Of spin up and down.
    sigma
        Products of their gradients: up-up, up-down, down-down.
    tau
        Kinetic energies: half the squared gradients of the orbitals, summed.
    beta, gamma
        Constants of the gradient expansion and of the high-density limit.
    """
    per_point, potential = correlation_parts(density, sigma, tau, beta, gamma)
    return per_point.sum(), potential


def correlation_parts(density, sigma, tau, beta=BETA, gamma=GAMMA):
    """Energy per volume at each point, and the potential; unchecked."""
    n, s, t = total(density, sigma, tau)
    r, by = spin(density)
    p_s = 1 / (GRADIENT * n ** (8 / 3))
    p = s * p_s
    # eq. r2scan-correlation-spin
    phi = (by.up ** (2 / 3) + by.down ** (2 / 3)) / 2
    phi_z = (by.up ** (-1 / 3) - by.down ** (-1 / 3)) / 3
    d_s = (by.up ** (5 / 3) + by.down ** (5 / 3)) / 2
    d_s_z = 5 / 6 * (by.up ** (2 / 3) - by.down ** (2 / 3))
    alpha, alpha_n, alpha_s, alpha_t, alpha_share = ratio(n, s, t, d_s)

    local0, local1 = orbital(r, by), uniform(r, by)
    zero = _orbital(local0, p)
    one = _gradient((r, p, (phi, phi_z), (d_s, d_s_z)), local0[0], local1, beta, gamma)
    # eq. r2scan-correlation-energy
    f = switch_value(alpha, SWITCHES["correlation"])
    e, by_r, by_z, by_p = (b + f * (a - b) for a, b in zip(zero, one, strict=True))
    by_alpha = switch_slope(alpha, SWITCHES["correlation"]) * (zero[0] - one[0])

    # eq. r2scan-correlation-potential
    P = e - r / 3 * by_r - 8 / 3 * p * by_p + n * alpha_n * by_alpha
    Q = by_z + alpha_share * d_s_z * by_alpha
    by_sigma = n * (p_s * by_p + alpha_s * by_alpha)
    by_tau = n * alpha_t * by_alpha
    potential = Potential(
        xp.stack([P + by.down * Q, P - by.up * Q], 1),
        xp.stack([by_sigma, 2 * by_sigma, by_sigma], 1),
        xp.stack([by_tau, by_tau], 1),
    )
    return n * e, potential


def _orbital(local, p):
    """The energy of one orbital, with its derivatives by the radius, the polarisation and p."""
    _, value, slope, G, G_z = local
    b1 = ORBITAL[0]
    # eq. r2scan-correlation-orbital
    w, w_r = xp.expm1(-value / b1), -xp.exp(-value / b1) * slope / b1
    rest = -xp.expm1(-xp.log1p(4 * CHI * p) / 4)
    e, inside = value + b1 * xp.log1p(w * rest), 1 + w * rest
    by_r = slope + b1 * w_r * rest / inside
    by_p = b1 * w * CHI * (1 + 4 * CHI * p) ** -1.25 / inside
    return e * G, by_r * G, e * G_z, by_p * G


def _gradient(point, zero, one, beta, gamma):
    """The energy of a slowly varying density, with its derivatives by the radius, the polarisation and p."""
    r, p, (phi, phi_z), (d_s, d_s_z) = point
    slope = SWITCHES["correlation"].slope
    scale = gamma * phi**3
    log_scale_z = 3 * phi_z / phi
    power = one.value / scale
    power_r, power_z = one.r / scale, one.z / scale - power * log_scale_z
    # eq. r2scan-correlation-gradient, r2scan-correlation-derivatives
    w, grown = xp.expm1(-power), xp.exp(-power)
    w_r, w_z = -grown * power_r, -grown * power_z

    # eq. r2scan-correlation-expansion
    b = beta * (1 + 0.1 * r) / (1 + 0.1778 * r)
    per_p = b * GRADIENT_T / (gamma * w * r * phi**2)
    log_y_r = 0.1 / (1 + 0.1 * r) - 0.1778 / (1 + 0.1778 * r) - 1 / r - w_r / w
    log_y_z = -2 * phi_z / phi - w_z / w

    # eq. r2scan-correlation-correction
    apart, apart_r = zero.value - one.value, zero.r - one.r
    B = 20 * r * apart_r - 45 * ETA * apart
    B_r = 20 * r * (zero.rr - one.rr) + (20 - 45 * ETA) * apart_r
    B_z = 20 * r * (zero.rz - one.rz) - 45 * ETA * (zero.z - one.z)
    K = slope / (27 * scale * d_s * w)
    damped = xp.exp(-(p**2) / DAMPING**4)
    off = K * damped * B
    off_r = K * damped * (B_r - B * w_r / w)
    off_z = K * damped * (B_z - B * (w_z / w + log_scale_z + d_s_z / d_s))
    off_p = off * (1 - 2 * p**2 / DAMPING**4)

    z = p * (per_p - off)
    outer = (1 + 4 * z) ** -1.25
    rest = -xp.expm1(-xp.log1p(4 * z) / 4)
    inside, log = 1 + w * rest, xp.log1p(w * rest)
    by_r = (
        one.r
        + scale * (w_r * rest + w * outer * p * (per_p * log_y_r - off_r)) / inside
    )
    by_z = (
        one.z
        + log_scale_z * scale * log
        + scale * (w_z * rest + w * outer * p * (per_p * log_y_z - off_z)) / inside
    )
    by_p = scale * w * outer * (per_p - off_p) / inside
    return one.value + scale * log, by_r, by_z, by_p
