r"""Noise schedules: levels of signal and noise as ratios, the times that belong to them, and the equation behind.

A forward process mixes data and noise, :math:`x_t = \alpha_t x_0 + \sigma_t\varepsilon`, at noise time :math:`t` from 0
(data) to 1 (noise). Three schedules are in common use (`trref.problems.mixtures` has their levels):

.. math::

    \text{vp:}\; \log\alpha_t = -\tfrac14 t^2(\beta_1 - \beta_0) - \tfrac12 t\beta_0, \;\;
    \sigma_t^2 = 1 - \alpha_t^2, \qquad
    \text{ve:}\; \alpha_t = 1, \;\; \sigma_t = \sigma_{min} \Big(\frac{\sigma_{max}}{\sigma_{min}}\Big)^t, \qquad
    \text{flow:}\; \alpha_t = 1 - t, \;\; \sigma_t = t.

Up to its scale, a noisy point is told by the ratio of signal to noise alone,

.. math::
    :label: noise-schedules-snr

    \lambda_t = \log\frac{\alpha_t^2}{\sigma_t^2},

so that two schedules differ in how long they stay where, and in nothing else: an exact solver that visits the same
:math:`\lambda` under another schedule sees the same points, rescaled. The time of a level is

.. math::
    :label: noise-schedules-time

    \text{vp:}\; t = \frac{2L}{\beta_0/2 + \sqrt{\beta_0^2/4 + (\beta_1 - \beta_0) L}}, \;\;
    L = \tfrac12 \log(1 + e^{-\lambda}), \qquad
    \text{ve:}\; t = \frac{-\lambda/2 - \log\sigma_{min}}{\log\sigma_{max} - \log\sigma_{min}}, \qquad
    \text{flow:}\; t = \frac1{1 + e^{\lambda/2}}.

The first solves :math:`-\log\alpha_t = L` without a difference of nearly equal numbers. The mixing is the solution of
:math:`\mathrm dx = f_t x\,\mathrm dt + g_t\,\mathrm dW` with

.. math::
    :label: noise-schedules-rates

    f_t = \frac{\mathrm d\log\alpha_t}{\mathrm dt}, \qquad
    g_t^2 = \frac{\mathrm d\sigma_t^2}{\mathrm dt} - 2 f_t\sigma_t^2,

which for "vp" is :math:`f = -\beta_t/2` and :math:`g^2 = \beta_t = \beta_0 + t(\beta_1 - \beta_0)`, for "ve"
:math:`f = 0` and :math:`g^2 = 2\sigma_t^2\log(\sigma_{max}/\sigma_{min})`, and for "flow" :math:`f = -1/(1-t)` and
:math:`g^2 = 2t/(1-t)`. The ratio is infinite at the data, and that of "flow" 0 at the noise: these times are refused.

**Where implementations differ.** DPM-Solver and what follows it call :math:`\log(\alpha/\sigma)`, half of this ratio,
:math:`\lambda`. Data time runs the other way: flow matching is often written from noise at 0 to data at 1.

**Provenance.** Standard formulas from memory; rates checked by differentiation, times as inverses.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, *Score-Based Generative Modeling through Stochastic Differential
Equations*, 2020, arXiv:2011.13456; Lipman et al., *Flow Matching for Generative Modeling*, 2022, arXiv:2210.02747.
"""

import math
from typing import Annotated, Literal, NamedTuple

from trref.backend import xp
from trref.signature import N, NonNegative, PositiveFloat, Prob, Real, checked

Schedule = Literal["vp", "ve", "flow"]
Rate = Annotated[float, "[1e-6, 1e6]"]


class Rates(NamedTuple):
    """The rates f and g² of a forward process."""

    drift: Real[N]
    squared_diffusion: NonNegative[N]


def _rising(beta0, beta1, smallest, largest, **_):
    """Rates or noise levels that fall."""
    if beta1 < beta0:
        raise ValueError(f"beta1 must not be below beta0 = {beta0}")
    if largest <= smallest:
        raise ValueError(f"largest must be above smallest = {smallest}")
    return []


def _with_signal(t, schedule, **numbers):
    """Times at which there is no signal; rates or noise levels that fall."""
    signal = lambda: (t < 1).all(), "t must be below 1: there is no signal at 1"
    return _rising(**numbers) + [signal] * (schedule == "flow")


def _with_both(t, schedule, **numbers):
    """Times at which there is no signal, or no noise; rates or noise levels that fall."""
    noise = lambda: (t >= 1e-9).all(), "t must be at least 1e-9: no noise is at 0"
    return _with_signal(t, schedule, **numbers) + [noise] * (schedule != "ve")


@checked(also=_with_both)
def log_snr(
    t: Prob[N],
    *,
    schedule: Schedule = "vp",
    beta0: Rate = 0.1,
    beta1: Rate = 20.0,
    smallest: PositiveFloat = 0.01,
    largest: PositiveFloat = 10.0,
) -> Real[N]:
    """Return the logarithm of the squared ratio of signal to noise.

    Parameters
    ----------
    t
        Noise times.
    schedule
        Which forward process.
    beta0, beta1
        Rates of "vp" at noise times 0 and 1.
    smallest, largest
        Noise levels of "ve" at noise times 0 and 1.
    """
    # eq. noise-schedules-snr
    if schedule == "ve":
        return -2 * (math.log(smallest) + t * math.log(largest / smallest))
    if schedule == "flow":
        return 2 * (xp.log1p(-t) - xp.log(t))
    log_alpha = -(t**2) * (beta1 - beta0) / 4 - t * beta0 / 2
    return 2 * log_alpha - xp.log(-xp.expm1(2 * log_alpha))


@checked(also=_rising)
def time_at(
    log_ratio: Real[N],
    *,
    schedule: Schedule = "vp",
    beta0: Rate = 0.1,
    beta1: Rate = 20.0,
    smallest: PositiveFloat = 0.01,
    largest: PositiveFloat = 10.0,
) -> Real[N]:
    """Return the noise times at which the schedule has these ratios; `log_snr` of them is what was given.

    Parameters
    ----------
    log_ratio
        Logarithms of the squared ratio of signal to noise.

    Returns
    -------
    t
        Outside of [0, 1] where the schedule would reach the ratio before or after its ends.
    """
    # eq. noise-schedules-time
    if schedule == "ve":
        return (-log_ratio / 2 - math.log(smallest)) / math.log(largest / smallest)
    if schedule == "flow":
        return xp.exp(-xp.logaddexp(xp.zeros_like(log_ratio), log_ratio / 2))
    L = xp.logaddexp(xp.zeros_like(log_ratio), -log_ratio) / 2
    return 2 * L / (beta0 / 2 + xp.sqrt(beta0**2 / 4 + (beta1 - beta0) * L))


@checked(also=_with_signal)
def rates(
    t: Prob[N],
    *,
    schedule: Schedule = "vp",
    beta0: Rate = 0.1,
    beta1: Rate = 20.0,
    smallest: PositiveFloat = 0.01,
    largest: PositiveFloat = 10.0,
) -> Rates:
    """Return the rates of the stochastic equation that the noisy data solve.

    Returns
    -------
    rates
        ``drift`` f and ``squared_diffusion`` g².
    """
    # eq. noise-schedules-rates
    if schedule == "ve":
        ratio = largest / smallest
        g2 = 2 * (smallest * ratio**t) ** 2 * math.log(ratio)
        return Rates(xp.zeros_like(t), g2)
    if schedule == "flow":
        return Rates(-1 / (1 - t), 2 * t / (1 - t))
    beta = beta0 + t * (beta1 - beta0)
    return Rates(-beta / 2, beta)
