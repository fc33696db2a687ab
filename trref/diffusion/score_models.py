r"""Denoising diffusion: the DDIM step and its sampler.

Noisy data :math:`x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon` at noise time :math:`t` (0 data,
1 noise) and a model :math:`\hat\varepsilon(x_t, t)` of the noise in it give an estimate of the data,

.. math::
    :label: score-models-denoise

    \hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}},

and a step to the smaller noise time :math:`s` puts back the noise that belongs there, part of it fresh,
:math:`z \sim N(0, I)`:

.. math::
    :label: score-models-ddim

    x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1 - \bar\alpha_s - \tilde\sigma^2}\;\hat\varepsilon + \tilde\sigma z,
    \qquad \tilde\sigma^2 = \eta^2\, \frac{1-\bar\alpha_s}{1-\bar\alpha_t}
    \Big( 1 - \frac{\bar\alpha_t}{\bar\alpha_s} \Big)

:math:`\eta = 0` is the deterministic DDIM, one Euler step of
:math:`\mathrm d(x/\alpha) = \hat\varepsilon\,\mathrm d(\sigma/\alpha)`; :math:`\eta = 1` is DDPM with the posterior
variance. The schedule here is the variance-preserving one with a linear rate
(`trref.problems.mixtures.vp_schedule`). How a model of the noise is learned, and what it can be turned into, is
in :mod:`trref.diffusion.score_matching`.

**Where implementations differ.** DDPM comes with two standard variances; the posterior one is the smaller and visibly
under-dispersed with few steps. The last step should end at :math:`t_{min} > 0` or return :math:`\hat x_0`.

**Provenance.** Confirmed: standard formulas, checked on Gaussian mixtures, whose score is known.

Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, arXiv:2006.11239; Song, Meng and Ermon,
*Denoising Diffusion Implicit Models*, 2020, arXiv:2010.02502.
"""

import math
from collections.abc import Callable

from trref.backend import to_host, xp
from trref.problems.mixtures import vp_schedule
from trref.signature import (
    D,
    Fraction,
    N,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Real,
    Rng,
    checked,
)

__all__ = ["ddim_sample", "ddim_step"]


def _towards_the_data(alpha_bar, next_alpha_bar, **_):
    """A step away from the data."""
    message = f"next_alpha_bar must not be below alpha_bar = {alpha_bar}"
    return [(lambda: next_alpha_bar >= alpha_bar, message)]


@checked(also=_towards_the_data)
def ddim_step(
    x: Real[N, D],
    noise: Real[N, D],
    z: Real[N, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: OpenFraction = 0.8,
    eta: Fraction = 0.0,
) -> Real[N, D]:
    """Take one DDIM step towards the data.

    Parameters
    ----------
    x
        Where it is.
    noise
        The model's estimate of the noise in `x`.
    z
        Fresh standard normal noise; without effect for eta 0.
    alpha_bar, next_alpha_bar
        Squared signal level now and after the step, the second not below the first.
    eta
        0 for DDIM, 1 for DDPM with the posterior variance.
    """
    s = next_alpha_bar
    # eq. score-models-denoise
    x0 = (x - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)
    # eq. score-models-ddim
    variance = eta**2 * (1 - s) / (1 - alpha_bar) * (1 - alpha_bar / s)
    kept = math.sqrt(max(1 - s - variance, 0.0))
    return math.sqrt(s) * x0 + kept * noise + math.sqrt(variance) * z


@checked
def ddim_sample(
    rng: Rng,
    model: Callable,
    *,
    draws: PositiveInt = 1000,
    dims: PositiveInt = 2,
    steps: PositiveInt = 100,
    eta: Fraction = 0.0,
    t_min: OpenFraction = 1e-3,
    beta0: PositiveFloat = 0.1,
    beta1: PositiveFloat = 20.0,
    dtype: str | type = "float64",
) -> Real[N, D]:
    """Sample by DDIM steps on a grid from noise time 1 to t_min that is uniform in the square root of the time.

    Parameters
    ----------
    model
        ``model(x (N, D), t (N,)) -> (N, D)``: the estimated noise.
    steps
        Number of steps.
    t_min
        Where the last step ends.
    beta0, beta1
        Rates of the schedule at noise times 0 and 1.
    """
    times = (xp.linspace(1.0, math.sqrt(t_min), steps + 1) ** 2).astype(dtype)
    alpha, _ = vp_schedule(times, beta0, beta1)
    alpha_bar = to_host(alpha**2).tolist()

    def draw():
        return xp.asarray(rng.standard_normal((draws, dims)), dtype=dtype)

    x = draw()
    for k in range(steps):
        noise = model(x, times[k] + xp.zeros(draws, dtype=dtype))
        now, then = alpha_bar[k], alpha_bar[k + 1]
        x = ddim_step(x, noise, draw(), alpha_bar=now, next_alpha_bar=then, eta=eta)
    return x
