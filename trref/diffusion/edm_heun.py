r"""EDM: Heun's rule on a grid that is dense at small noise, with a little churn.

Write the noisy data as :math:`x = x_0 + \sigma\varepsilon`. With a denoiser D the flow is
:math:`\mathrm dx/\mathrm d\sigma = (x - D(x; \sigma))/\sigma`. Its levels are equally far apart in a root of the noise,

.. math::
    :label: edm-heun-levels

    \sigma(p) = \big( \sigma_{max}^{1/\rho} + p\,(\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho}) \big)^\rho,
    \qquad p = 0, \tfrac1{K-1}, \dots, 1,

followed by 0: :math:`\rho = 1` is a linear grid, large :math:`\rho` a geometric one. Sampling begins at
:math:`\sigma_0 \varepsilon`. A step from :math:`\sigma` to :math:`\sigma'` may first add noise ("churn"), by which
errors of earlier steps are forgotten,

.. math::
    :label: edm-heun-churn

    \gamma = \min\Big( \frac{S_{churn}}K, \sqrt2 - 1 \Big) \text{ if } S_{min} \le \sigma \le S_{max}, \text{ else } 0,
    \qquad \hat\sigma = (1 + \gamma)\,\sigma, \qquad \hat x = x + \sqrt{\hat\sigma^2 - \sigma^2}\; S_{noise}\, z.

From there it goes by Euler's rule,

.. math::
    :label: edm-heun-euler

    d = \frac{\hat x - D(\hat x; \hat\sigma)}{\hat\sigma}, \qquad x' = \hat x + (\sigma' - \hat\sigma)\, d,

and with Heun's takes the mean with the slope at the end, unless that is at the data:

.. math::
    :label: edm-heun-heun

    d' = \frac{x' - D(x'; \sigma')}{\sigma'}, \qquad x \leftarrow \hat x + (\sigma' - \hat\sigma)\, \frac{d + d'}2.

The last step, to 0, gives :math:`D(\hat x; \hat\sigma)` itself. The denoiser is a network F whose input, target and
output have unit variance for data of deviation :math:`\sigma_d`:

.. math::
    :label: edm-heun-precondition

    D = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}\, x + \frac{\sigma\sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}\,
    F\Big( \frac x{\sqrt{\sigma^2 + \sigma_d^2}} \Big).

Models see noise times, here of the schedule "ve" of :mod:`trref.diffusion.noise_schedules`, which go beyond 1 where the
level is above its largest.

**Where implementations differ.** diffusers' Euler scheduler adds the churn after the model was asked, so that the noise
of one point is used at another; its Heun scheduler has no churn. A proposed port of the churn took the larger of the
two numbers for the smaller, and so churned by 0.414 at every step.

**Provenance.** All equations and defaults confirmed by the authors' code (NVlabs/edm) and by k-diffusion, which agree;
orders, marginals and limits checked here on mixtures with exact denoisers.

Karras, Aittala, Aila and Laine, *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022,
arXiv:2206.00364.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal

from trref import validate
from trref.backend import to_host, xp
from trref.diffusion.noise_schedules import time_at
from trref.diffusion.terms import predicted
from trref.signature import (
    K1,
    D,
    K,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    Prob,
    Real,
    checked,
)

Level = Annotated[float, "[1e-6, 1e6]"]


def _wide(smallest, largest, **_):
    """Levels in the wrong order."""
    if largest < smallest:
        raise ValueError(f"largest must not be below smallest = {smallest}")
    return []


@checked(also=_wide)
def karras_levels(
    position: Prob[N],
    *,
    smallest: Level = 0.002,
    largest: Level = 80.0,
    rho: Annotated[float, "[1, 100]"] = 7.0,
) -> Real[N]:
    """Return the noise levels of the grid.

    Parameters
    ----------
    position
        0 for the largest level, 1 for the smallest; K levels are at equal distances.
    smallest, largest
        Noise levels at the ends.
    rho
        Which root is divided into equal parts.
    """
    high, low = largest ** (1 / rho), smallest ** (1 / rho)
    return (high + position * (low - high)) ** rho  # eq. edm-heun-levels


@checked
def precondition(
    x: Real[N, D],
    output: Real[N, D],
    *,
    sigma: PositiveFloat = 0.8,
    data_deviation: PositiveFloat = 0.5,
) -> Real[N, D]:
    """Return the denoised data that belong to a network's output.

    Parameters
    ----------
    x
        Noisy data.
    output
        Of the network, at `network_input`.
    sigma
        The noise level.
    data_deviation
        Standard deviation of the data.
    """
    total = sigma**2 + data_deviation**2
    kept, share = data_deviation**2 / total, sigma * data_deviation / math.sqrt(total)
    return kept * x + share * output  # eq. edm-heun-precondition


@checked
def network_input(
    x: Real[N, D],
    *,
    sigma: PositiveFloat = 0.8,
    data_deviation: PositiveFloat = 0.5,
) -> Real[N, D]:
    """Return what the network sees of noisy data: of unit variance, where the data have their deviation."""
    # eq. edm-heun-precondition
    return x / math.sqrt(sigma**2 + data_deviation**2)


def _falling(levels, **_):
    """Levels that rise, or that are 0 before the end."""
    return [
        (lambda: (levels[1:] <= levels[:-1]).all(), "levels must not rise"),
        (lambda: levels[-2] > 0, "levels must be positive before the end"),
    ]


@checked(also=_falling)
def churned_path(
    model: Callable,
    x: Real[N, D],
    z: Real[K, N, D],
    levels: NonNegative[K1],
    *,
    churn: NonNegativeFloat = 0.0,
    churn_min: NonNegativeFloat = 0.0,
    churn_max: NonNegativeFloat = 1e15,
    noise_scale: NonNegativeFloat = 1.0,
    rule: Literal["euler", "heun"] = "heun",
) -> Real[N, D]:
    """Take K steps from noise towards the data, on a given grid and with given fresh noise.

    Parameters
    ----------
    model
        ``model(x (N, D), t (N,)) -> (N, D)``: the denoised data at noise times of the schedule "ve", such as
        ``trref.problems.mixtures.MixtureDenoiser(mixture, "ve")``.
    x
        Noise at the first level.
    z
        Fresh standard normal noise of each step; without effect for a churn of 0.
    levels
        Noise levels, from large to small; 0 is the data.
    churn
        How much noise is added and removed over all steps.
    churn_min, churn_max
        Noise levels between which it is.
    noise_scale
        Standard deviation of the fresh noise.
    rule
        With ``"heun"`` the model is called twice a step.

    Raises
    ------
    ValueError
        A `model` whose result has another shape or is not finite.
    """
    grid = to_host(levels).tolist()

    def slope(x, sigma):
        log_ratio = xp.zeros_like(x[0, 0]) - 2 * math.log(sigma)
        t = time_at.unchecked(log_ratio, schedule="ve")
        return (x - predicted(model, x, t)) / sigma

    for k, fresh in enumerate(z):
        sigma, then = grid[k], grid[k + 1]
        # eq. edm-heun-churn
        gamma = min(churn / len(z), math.sqrt(2) - 1)
        gamma = gamma if churn_min <= sigma <= churn_max else 0.0
        higher = (1 + gamma) * sigma
        x = x + math.sqrt(higher**2 - sigma**2) * noise_scale * fresh

        # eq. edm-heun-euler
        d = slope(x, higher)
        end = x + (then - higher) * d

        if rule == "heun" and then > 0:
            # eq. edm-heun-heun
            end = x + (then - higher) * (d + slope(end, then)) / 2
        x = end
    validate.require((lambda: xp.isfinite(x).all(), "model must give finite values"))
    return x
