r"""A temperature as the multiplier of a trust region: it rises until a policy's divergence equals its budget.

A policy that follows a critic :math:`Q` at the temperature :math:`\lambda` tends to the base law tilted by it,
:math:`p_\lambda = p_0\, e^{Q/\lambda} / Z`. How far that is depends on the critic's scale, and where the critic errs a
low temperature goes far. TRQAM (:mod:`trref.diffusion.trqam`) fixes the distance instead. By Girsanov's theorem the
divergence of the policy's noisy paths from the base's is a sum over their steps, which is read off the velocities,

.. math::
    :label: trust-region-temperature-path-kl

    \hat D = \frac1{HN} \sum_n \sum_k \frac{2 \delta_k}{g_k^2}\, \|v_{kn} - v_{base,kn}\|^2,

where a step is :math:`\delta_k` long and has the squared noise :math:`g_k^2` of :eq:`trqam-rate`, and an action chunk
holds H actions. The estimate is cut, averaged, and moves the temperature within a bracket:

.. math::
    :label: trust-region-temperature-average

    \bar D' = (1 - \rho)\, \bar D + \rho \min(\hat D,\, c\,\epsilon)

.. math::
    :label: trust-region-temperature-step

    \lambda' = \mathrm{clip}\big( \lambda + \eta\, (\bar D' - \epsilon),\; \lambda_{min},\; \lambda_{max} \big) .

At the optimum this is projected gradient descent. With M points of weights :math:`w` in the place of :math:`p_0` and
:math:`Z = \sum_m w_m e^{Q_m/\lambda}`, the divergence :math:`\mathrm{KL}(p_\lambda \| p_0)` is

.. math::
    :label: trust-region-temperature-tilted

    \mathrm{KL}(\lambda) = \frac{E_{p_\lambda}[Q]}{\lambda} - \log Z, \qquad
    \frac{d\,\mathrm{KL}}{d\lambda} = -\frac{\mathrm{Var}_{p_\lambda}(Q)}{\lambda^3} \le 0,

and the dual function of "the greatest mean of Q within a divergence of :math:`\epsilon`"

.. math::
    :label: trust-region-temperature-dual

    \mathcal D(\lambda) = \lambda \epsilon + \lambda \log Z(\lambda)

is convex, with the slope

.. math::
    :label: trust-region-temperature-gradient

    \mathcal D'(\lambda) = \epsilon - \mathrm{KL}(\lambda) .

For a Gaussian base :math:`N(m, s^2)` and :math:`Q = bx` the optimum is :math:`N(m + b s^2/\lambda, s^2)`, at a
divergence of :math:`b^2 s^2/(2\lambda^2)`.

=========================================  ====================
:math:`\epsilon`                           `budget`
:math:`\bar D`                             `average`
:math:`\hat D`                             `kl`
:math:`\eta, \rho`                         `lr, rate`
:math:`c`                                  `largest`
:math:`\lambda_{min}, \lambda_{max}`       `lowest, highest`
:math:`H`                                  `horizon`
=========================================  ====================

The sum of :eq:`trust-region-temperature-path-kl` weighs steps by their lengths, the loss of TRQAM does not. Where the
critic is constant the divergence is 0 at all temperatures. Divergences are those of paths; they equal those of samples
where the control is optimal, because the start is then forgotten, and are above them elsewhere.

**Where implementations differ.** The authors' code (yonghdong/trqam) starts the average at 0 and the temperature at 1,
so that the temperature first falls whatever the divergence is; what its loss uses is three times the number that moves.

**Provenance.** The estimate, its average and the step with all their defaults confirmed in the authors' released agent.
The paper's theorem was not read: the tilted law's divergence, its slope and the dual are derived and checked.

Dong et al., *Trust Region Q Adjoint Matching*, 2026, arXiv:2605.27079.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.diffusion.terms import falling_times
from trref.diffusion.trqam import memoryless_rate
from trref.signature import (
    K1,
    D,
    Fraction,
    K,
    M,
    N,
    NonNegative,
    Positive,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    Simplex,
    checked,
)

COLDEST = 1e-3
"""The lowest temperature of a tilted law, for a critic of any scale near 1."""


@checked(also=falling_times)
def path_kl(
    velocity: Real[K, N, D],
    base_velocity: Real[K, N, D],
    times: Prob[K1],
    *,
    horizon: PositiveInt = 1,
) -> Scalar:
    """Estimate the divergence of the policy's paths from the base's.

    Parameters
    ----------
    velocity, base_velocity
        Of policy and base, at the beginning of each step of the policy's paths.
    times
        Noise times of the path, from noise to data: 1 noise, 0 data.
    horizon
        How many actions a sample holds.
    """
    N = velocity.shape[1]
    rate = memoryless_rate.unchecked(times[:-1], times[1:])
    # eq. trust-region-temperature-path-kl
    weight = 2 * (times[:-1] - times[1:]) / rate
    squares = ((velocity - base_velocity) ** 2).sum((1, 2))
    return (weight * squares).sum() / (horizon * N)


class Dual(NamedTuple):
    """The next temperatures, and the averaged divergences that moved them."""

    temperature: Positive[N]
    average: NonNegative[N]


def _a_bracket(lowest, highest, **_):
    """Ends of the bracket in the wrong order."""
    if lowest > highest:
        raise ValueError(f"lowest must not be above highest = {highest}")
    return []


@checked(also=_a_bracket)
def dual_update(
    temperature: Positive[N],
    average: NonNegative[N],
    kl: NonNegative[N],
    *,
    budget: PositiveFloat = 1.0,
    lr: PositiveFloat = 0.01,
    rate: Fraction = 0.1,
    largest: PositiveFloat = 2.0,
    lowest: PositiveFloat = 0.01,
    highest: PositiveFloat = 100.0,
) -> Dual:
    """Move the temperature of each of N policies.

    Parameters
    ----------
    temperature
        Of each policy; start with 1.
    average
        The last averages; start with 0.
    kl
        The new estimates.
    budget
        The divergence that is wanted.
    rate
        Weight of the new estimate in the average.
    largest
        Where an estimate is cut, in budgets.
    lowest, highest
        The bracket of the temperature.
    """
    # eq. trust-region-temperature-average
    average = (1 - rate) * average + rate * xp.minimum(kl, largest * budget)
    # eq. trust-region-temperature-step
    moved = temperature + lr * (average - budget)
    return Dual(xp.clip(moved, lowest, highest), average)


class Tilted(NamedTuple):
    """Divergence of the tilted law from the base, and its derivative by the temperature."""

    kl: Scalar
    slope: Scalar


def _warm(temperature, **_):
    """A temperature below 0.001."""
    return [
        (lambda: temperature >= COLDEST, f"temperature must be at least {COLDEST:g}")
    ]


def _tilt(temperature, value, weight):
    """The critic's maximum, its excess over that, the logarithm of what this is worth, and the tilted law."""
    seen = xp.where(weight > 0, value, value.min())
    top = seen.max()
    p = weight * xp.exp((seen - top) / temperature)
    Z = p.sum()
    return top, seen - top, xp.log(Z), p / Z


@checked(also=_warm)
def tilted_kl(temperature: Scalar, value: Real[M], weight: Simplex[M]) -> Tilted:
    """Return how far the optimum at a temperature is from the base.

    Parameters
    ----------
    temperature
        Not below 0.001.
    value
        Of the critic, at the points of a base law.
    weight
        The law's probabilities.
    """
    _, excess, log_Z, p = _tilt(temperature, value, weight)
    mean = (p * excess).sum()
    variance = (p * (excess - mean) ** 2).sum()
    # eq. trust-region-temperature-tilted
    return Tilted(mean / temperature - log_Z, -variance / temperature**3)


@checked(also=_warm)
def dual_function(
    temperature: Scalar,
    value: Real[M],
    weight: Simplex[M],
    *,
    budget: PositiveFloat = 1.0,
) -> tuple[Scalar, Scalar]:
    """Upper bound on the mean of the critic within the budget; its minimum is that mean."""
    top, excess, log_Z, p = _tilt(temperature, value, weight)
    # eq. trust-region-temperature-dual
    bound = top + temperature * (budget + log_Z)
    # eq. trust-region-temperature-gradient
    slope = budget + log_Z - (p * excess).sum() / temperature
    return bound, slope
