r"""Denoising diffusion: the steps of DDIM and DDPM, and the sampler.

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
variance. A step to :math:`\bar\alpha_s = 1` gives :math:`\hat x_0` itself, whatever :math:`\eta` is.

The same law follows from Bayes' rule without the noise, which is what counts where the estimate of the data has been
changed (clipped, projected, guided) and the noise has not: with :math:`a = \bar\alpha_t/\bar\alpha_s` the state at
:math:`s`, given :math:`x_t` and the data, is Gaussian,

.. math::
    :label: score-models-posterior

    x_s = \frac{\sqrt{\bar\alpha_s}\,(1-a)\,\hat x_0 + \sqrt a\,(1-\bar\alpha_s)\,x_t}{1-\bar\alpha_t}
    + \tilde\beta^{1/2} z, \qquad \tilde\beta = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}\,(1 - a)

The sampler starts from noise at :math:`t_0 = 1` and takes K steps on a grid that is uniform in the square root of the
time,

.. math::
    :label: score-models-grid

    t_k = \Big( 1 - \frac kK \big( 1 - \sqrt{t_{min}} \big) \Big)^2, \qquad k = 0, \dots, K,

and step k leads from :math:`\bar\alpha_{t_k}` to :math:`\bar\alpha_{t_{k+1}}`, with the noise that the model sees at
:math:`t_k`. The schedule is the variance-preserving one with a linear rate (`trref.problems.mixtures.vp_schedule`). How
a model of the noise is learned, and what it can be turned into, is in :mod:`trref.diffusion.score_matching`.

**Where implementations differ.** DDPM comes with two standard variances; the posterior one is the smaller and visibly
under-dispersed with few steps. diffusers clips :math:`\hat x_0` to ±1 by default, and leaves the noise as it is. A
schedule that is read one step late ends too noisy by a step. The last step should end at :math:`t_{min} > 0` or return
:math:`\hat x_0`.

**Provenance.** Confirmed: standard formulas, checked on Gaussian mixtures, whose score is known.

Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, arXiv:2006.11239; Song, Meng and Ermon,
*Denoising Diffusion Implicit Models*, 2020, arXiv:2010.02502.
"""

import math
from collections.abc import Callable
from typing import Annotated

from trref import validate
from trref.backend import to_host, xp
from trref.diffusion.terms import falling_to_the_data, predicted, to_less_noise
from trref.problems.mixtures import vp_schedule
from trref.signature import (
    K1,
    D,
    Decay,
    Fraction,
    K,
    N,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Rng,
    checked,
)


@checked
def denoise(
    x: Real[N, D], noise: Real[N, D], *, alpha_bar: OpenFraction = 0.5
) -> Real[N, D]:
    """Return the estimate of the data that belongs to an estimate of the noise.

    Parameters
    ----------
    x
        The noisy data.
    noise
        The model's estimate of the noise in `x`.
    alpha_bar
        Squared signal level of `x`.
    """
    # eq. score-models-denoise
    return (x - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)


@checked(also=to_less_noise)
def renoise(
    x0: Real[N, D],
    noise: Real[N, D],
    z: Real[N, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Annotated[float, "(0, 1]"] = 0.8,
    eta: Fraction = 0.0,
) -> Real[N, D]:
    """Put the noise of the next level back onto an estimate of the data, which may have been changed before.

    Parameters
    ----------
    x0
        The estimate of the data.
    noise
        The estimate of the noise; what of it is kept depends on eta.
    z
        Fresh standard normal noise; without effect for eta 0.
    alpha_bar, next_alpha_bar
        Squared signal level now and after the step, the second not below the first; 1 gives `x0`.
    eta
        0 for DDIM, 1 for DDPM with the posterior variance.
    """
    s = next_alpha_bar
    # eq. score-models-ddim
    variance = eta**2 * (1 - s) / (1 - alpha_bar) * (s - alpha_bar) / s
    kept = math.sqrt(max(1 - s - variance, 0.0))
    return math.sqrt(s) * x0 + kept * noise + math.sqrt(variance) * z


@checked(also=to_less_noise)
def ddim_step(
    x: Real[N, D],
    noise: Real[N, D],
    z: Real[N, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Annotated[float, "(0, 1]"] = 0.8,
    eta: Fraction = 0.0,
) -> Real[N, D]:
    """Take one DDIM step towards the data: `denoise`, then `renoise`.

    Parameters
    ----------
    x
        Where it is.
    """
    x0 = denoise.unchecked(x, noise, alpha_bar=alpha_bar)
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    return renoise.unchecked(x0, noise, z, **levels, eta=eta)


@checked(also=to_less_noise)
def ddpm_step(
    x: Real[N, D],
    x0: Real[N, D],
    z: Real[N, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Annotated[float, "(0, 1]"] = 0.8,
) -> Real[N, D]:
    """Draw the less noisy state from the posterior, given the noisy one and an estimate of the data.

    Parameters
    ----------
    x
        Where it is.
    """
    t, s = alpha_bar, next_alpha_bar
    lost = (s - t) / s  # 1 - a, without its rounding
    # eq. score-models-posterior
    mean = math.sqrt(s) * lost * x0 + math.sqrt(t / s) * (1 - s) * x
    variance = (1 - s) / (1 - t) * lost
    return mean / (1 - t) + math.sqrt(variance) * z


@checked(also=falling_to_the_data)
def ddim_from_noise(
    model: Callable,
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    alpha_bar: Prob[K1],
    *,
    eta: Fraction = 0.0,
) -> Real[N, D]:
    """Take K DDIM steps from given noise, with given fresh noise, on a given grid.

    Parameters
    ----------
    model
        ``model(x (N, D), t (N,)) -> (N, D)``: the estimated noise at noise time t.
    x
        Noise at the first time.
    z
        Of each step.
    times
        Noise times.
    alpha_bar
        The squared signal level at each time.

    Raises
    ------
    ValueError
        A `model` whose noise has another shape or is not finite.
    """
    levels = to_host(alpha_bar).tolist()
    for k, fresh in enumerate(z):
        noise = predicted(model, x, times[k])
        now, then = levels[k], levels[k + 1]
        x = ddim_step.unchecked(
            x, noise, fresh, alpha_bar=now, next_alpha_bar=then, eta=eta
        )
    validate.require((lambda: xp.isfinite(x).all(), "model must give finite values"))
    return x


@checked
def ddim_sample(
    rng: Rng,
    model: Callable,
    *,
    draws: PositiveInt = 1000,
    dims: PositiveInt = 2,
    steps: PositiveInt = 100,
    eta: Fraction = 0.0,
    t_min: Decay = 1e-3,
    beta0: PositiveFloat = 0.1,
    beta1: PositiveFloat = 20.0,
    dtype: str | type = "float64",
) -> Real[N, D]:
    """Sample by DDIM steps from noise.

    Parameters
    ----------
    t_min
        Where the last step ends; at 0 it gives the estimate of the data.
    beta0, beta1
        Rates of the schedule at noise times 0 and 1.
    """
    # eq. score-models-grid
    times = (xp.linspace(1.0, math.sqrt(t_min), steps + 1) ** 2).astype(dtype)
    alpha, _ = vp_schedule(times, beta0, beta1)
    drawn = rng.standard_normal((steps + 1, draws, dims))
    drawn = xp.asarray(drawn, dtype=dtype)
    return ddim_from_noise.unchecked(
        model, drawn[0], drawn[1:], times, alpha**2, eta=eta
    )
