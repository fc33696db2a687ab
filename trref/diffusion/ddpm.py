r"""DDPM: ancestral sampling, and how much noise a step puts back.

The sampler draws the less noisy state from the Gaussian posterior given an estimate of the data. Its mean is agreed on
(:eq:`score-models-posterior`, and without clipping the same as :math:`(x - (1-a)\hat\varepsilon/\sqrt{1-\bar\alpha_t})/
\sqrt a` with :math:`a = \bar\alpha_t/\bar\alpha_s`), its variance is not. Two constants bound it,

.. math::
    :label: ddpm-variances

    \tilde\beta = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}\,(1 - a) \;\;\text{("small")}, \qquad
    \beta = 1 - a \;\;\text{("large")}:

the first is right for data that are one point, the second for data that are standard normal. A network may take a place
v between their logarithms, nominally from -1 to 1:

.. math::
    :label: ddpm-range

    \log\beta_v = w \log\beta + (1 - w) \log\tilde\beta, \qquad w = \frac{v+1}2 \;\;\text{("range")}.

The step is

.. math::
    :label: ddpm-step

    x_s = \mu(x, \hat x_0) + \beta_v^{1/2} z,

and at the end, :math:`\bar\alpha_s = 1`, it gives :math:`\hat x_0` itself, whatever the variance. The place is learned
by the variational bound with the mean held fixed,

.. math::
    :label: ddpm-variational

    L = \frac1N \sum_{n,d} \mathrm{KL}\big( N(\mu(x, x_0), \tilde\beta) \,\|\, N(\mu(x, \hat x_0), \beta_v) \big)
    = \frac1{2N} \sum_{n,d} \Big( \log\frac{\beta_v}{\tilde\beta}
      + \frac{\tilde\beta + (\mu(x, x_0) - \mu(x, \hat x_0))^2}{\beta_v} - 1 \Big),

whose derivative by :math:`\log\beta_v` is :math:`(1 - (\tilde\beta + \delta^2)/\beta_v)/2N`, with :math:`\delta` the
difference of the means: the best variance of an entry is :math:`\tilde\beta` plus its squared error.

**Where implementations differ.** diffusers clips the estimate of the data to ±1 by default and puts it into the mean;
the first code of DDIM always does, with the larger variance. Where its grid ends at index 1, as that of Stable
Diffusion does, diffusers adds noise to the finished sample. Its range was once between the variances, not between their
logarithms. improved-diffusion takes the bound's mean over entries, in bits.

**Provenance.** Both constants confirmed by the authors' code (hojonathanho/diffusion) and by improved-diffusion; the
range by diffusers and by guided-diffusion; extremes, limits and the gradient derived and checked here.

Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, arXiv:2006.11239; Nichol and Dhariwal, *Improved
Denoising Diffusion Probabilistic Models*, 2021, arXiv:2102.09672.
"""

import math
from typing import Annotated, Literal

from trref.backend import xp
from trref.diffusion.score_models import ddpm_step, denoise
from trref.signature import D, N, OpenFraction, Real, Scalar, checked

Variance = Literal["small", "large", "range"]


def _in_range(v, alpha_bar, next_alpha_bar, **_):
    """A step that is none, or away from the data; a place beyond -2 and 2."""
    if next_alpha_bar <= alpha_bar:
        raise ValueError(f"next_alpha_bar must be above alpha_bar = {alpha_bar}")
    near = lambda: (abs(v) <= 2).all(), "v must lie in [-2, 2]"
    return [near] if v is not None else []


def _complete(v, variance, **levels):
    """A range without a place in it; a step that is none, or away from the data; a place beyond -2 and 2."""
    if variance == "range" and v is None:
        raise ValueError("v must be given where the variance is a range")
    return _in_range(v, **levels)


def _variances(alpha_bar, next_alpha_bar):
    """The smaller variance of a step, and the larger."""
    # eq. ddpm-variances
    large = (next_alpha_bar - alpha_bar) / next_alpha_bar
    return (1 - next_alpha_bar) / (1 - alpha_bar) * large, large


@checked(also=_in_range)
def range_variance(
    v: Real[N, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: OpenFraction = 0.8,
) -> Real[N, D]:
    """Return the variance at a place between the two constants.

    Parameters
    ----------
    v
        -1 for the smaller variance, 1 for the larger; other values are not cut off.
    alpha_bar, next_alpha_bar
        Squared signal level before and after the step, the second above the first.
    """
    small, large = _variances(alpha_bar, next_alpha_bar)
    w = (v + 1) / 2
    # eq. ddpm-range
    return xp.exp(w * math.log(large) + (1 - w) * math.log(small))


@checked(also=_complete)
def ancestral_step(
    x: Real[N, D],
    noise: Real[N, D],
    z: Real[N, D],
    v: Real[N, D] | None = None,
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Annotated[float, "(0, 1]"] = 0.8,
    variance: Variance = "small",
) -> Real[N, D]:
    """Draw the less noisy state.

    Parameters
    ----------
    x
        Where it is.
    noise
        The model's estimate of the noise in `x`.
    z
        Fresh standard normal noise.
    v
        Of use for the variance "range" only.
    variance
        Which variance.
    """
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    x0 = denoise.unchecked(x, noise, alpha_bar=alpha_bar)
    mean = ddpm_step.unchecked(x, x0, 0 * z, **levels)
    if next_alpha_bar == 1:
        return mean
    small, large = _variances(alpha_bar, next_alpha_bar)
    spread = math.sqrt(small if variance == "small" else large)
    if variance == "range" and v is not None:
        spread = xp.sqrt(range_variance.unchecked(v, **levels))
    return mean + spread * z  # eq. ddpm-step


@checked(also=_in_range)
def variance_loss(
    v: Real[N, D],
    x: Real[N, D],
    x0: Real[N, D],
    noise: Real[N, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: OpenFraction = 0.8,
) -> tuple[Scalar, Real[N, D]]:
    """The variational bound of one step as a loss of the variance; the mean is held fixed.

    Parameters
    ----------
    x0
        The data that `x` was made of.
    """
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    small, large = _variances(alpha_bar, next_alpha_bar)
    guess = denoise.unchecked(x, noise, alpha_bar=alpha_bar)
    difference = ddpm_step.unchecked(0 * x, x0 - guess, 0 * x, **levels)
    beta_v = range_variance.unchecked(v, **levels)
    N = len(v)
    share = (small + difference**2) / beta_v
    # eq. ddpm-variational
    loss = (xp.log(beta_v / small) + share - 1).sum() / (2 * N)
    gradient = (1 - share) / (2 * N) * math.log(large / small) / 2
    return loss, gradient
