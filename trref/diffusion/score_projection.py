r"""Score projection: how the gradient of a distance of scores is had without the gradient of a score.

Noisy samples of a generator are :math:`x_t = \alpha x_0 + \sigma\varepsilon` with :math:`x_0 = g_\theta(z)`, and
:math:`s_\theta` is the score of their law. For any function u,

.. math::

    E\Big[ u(x_t)^\top \Big( s_\theta(x_t) + \frac{x_t - \alpha x_0}{\sigma^2} \Big) \Big] = 0,

because the score is the conditional mean of :math:`-(x_t - \alpha x_0)/\sigma^2`. Differentiated by :math:`\theta` with
:math:`u = d'(y)`, :math:`y = s_\theta - s_{ref}`, it says what :mod:`trref.diffusion.diff_instruct_star` rests on. Here
both sides are computed to many digits, for generators :math:`x_0 = m + s z` on a line, whose score is known,

.. math::
    :label: score-projection-score

    s_\theta(x) = -\frac{x - \alpha m}{v}, \qquad v = \alpha^2 s^2 + \sigma^2,

and a reference of equal Gaussians. The distance on samples of a law that is held constant,
:math:`d(y) = \sqrt{y^2 + c^2} - c`, has a gradient through the score alone:

.. math::
    :label: score-projection-frozen

    F = E_{\mathrm{sg}[p]}\, d(y), \qquad \nabla F = E\big[ d'(y)\, \nabla_\theta s_\theta(x_t) \big] .

By the identity that is the gradient of another mean, whose scores are constant and whose samples move:

.. math::
    :label: score-projection-projected

    \nabla F = \nabla_\theta E_{z, \varepsilon}\Big[ -d'(y_t)^\top \Big( \mathrm{sg}[s_\theta](x_t) + \frac{x_t - \alpha
    x_0}{\sigma^2} \Big) \Big] = -E\Big[ \big( d''(y)\, y'(x_t)\, r + d'(y)\, s_\theta'(x_t) \big)\, \alpha\,
    \nabla_\theta x_0 \Big]

with the bracket's second factor :math:`r`. Where the law moves, too, there is one more term:

.. math::
    :label: score-projection-moving

    \nabla E_{p_\theta} d(y) = \nabla F + E\big[ d'(y)\, y'(x_t)\, \nabla_\theta x_t \big] .

======================  ==========================
:math:`m, s`            `mean, scale`
:math:`c`               `huber`
the law held constant   `law_mean, law_scale`
======================  ==========================

Means are sums over equally spaced noise within ±10, which for such smooth functions is right to many digits.

**Where implementations differ.** A trainer that holds the noisy samples constant where the scores are evaluated gets
the gradient of neither. For squared distances SiD's parameter a is 1 for the law held constant, 1/2 for the moving one.

**Provenance.** Confirmed in a later paper that states and proves all three (its theorem 1 and equations 15 and 18); the
closed forms on a line are derived here.

Luo et al., *Diff-Instruct\*: Towards Human-Preferred One-step Text-to-image Generative Models*, 2024, arXiv:2410.20898.
"""

import math
from typing import Annotated, NamedTuple

from trref.backend import xp
from trref.signature import (
    K,
    N,
    Positive,
    Real,
    Scalar,
    checked,
)

Level = Annotated[float, "[1e-3, 1e3]"]
REACH, NODES = 10.0, 1001  # of the noise in both directions, and how many


class GeneratorGradient(NamedTuple):
    """Derivatives with respect to mean and scale."""

    mean: Real[N]
    scale: Real[N]


def _noise(like):
    """Equally spaced noise and its weights."""
    z = xp.linspace(-REACH, REACH, NODES).astype(like.dtype)
    weight = xp.exp(-z * z / 2)
    return z, weight / weight.sum()


def _shares(x, ref_means, ref_std, alpha, sigma):
    """Of each Gaussian in the noised reference, and its score."""
    v = alpha**2 * ref_std**2 + sigma**2
    away = (alpha * ref_means - x[..., None]) / v
    log_share = -(away * away) * v / 2
    share = xp.exp(log_share - log_share.max(-1, keepdims=True))
    return share / share.sum(-1, keepdims=True), away


def _ref_score(x, ref_means, ref_std, alpha, sigma):
    """Score of the noised reference."""
    share, away = _shares(x, ref_means, ref_std, alpha, sigma)
    return (share * away).sum(-1)


def _ref_slope(x, ref_means, ref_std, alpha, sigma):
    """Derivative of that score."""
    share, away = _shares(x, ref_means, ref_std, alpha, sigma)
    score = (share * away).sum(-1, keepdims=True)
    spread = (share * (away - score) ** 2).sum(-1)
    return spread - 1 / (alpha**2 * ref_std**2 + sigma**2)


def _distance(y, huber):
    """The distance of two scores."""
    return y * y / (xp.sqrt(y * y + huber * huber) + huber)


def _slope(y, huber):
    """Its first derivative."""
    return y / xp.sqrt(y * y + huber * huber)


def _curvature(y, huber):
    """Its second derivative."""
    n = xp.sqrt(y * y + huber * huber)
    return (huber / n) ** 2 / n


def _spread(values):
    """A column for each generator."""
    return values[:, None]


@checked
def frozen_distance(
    mean: Real[N],
    scale: Positive[N],
    ref_means: Real[K],
    *,
    ref_std: Level = 0.5,
    alpha: Level = 0.8,
    sigma: Level = 0.6,
    huber: Level = 0.5,
    law_mean: Real[N] | None = None,
    law_scale: Positive[N] | None = None,
) -> tuple[Scalar, GeneratorGradient]:
    """Sum over generators of the mean distance of scores, on samples of a law that is held constant.

    Parameters
    ----------
    mean, scale
        Of each generator's samples.
    ref_means
        Of the Gaussians of the reference.
    ref_std
        Their deviation.
    alpha, sigma
        Levels of signal and noise.
    huber
        Where the distance turns from a square into a length.
    law_mean, law_scale
        Of the generator that samples; the same if None.
    """
    sampled = _spread(mean if law_mean is None else law_mean)
    width = _spread(scale if law_scale is None else law_scale)
    z, weight = _noise(mean)
    x = alpha * sampled + xp.sqrt(alpha**2 * width**2 + sigma**2) * z
    # eq. score-projection-score
    m, s = _spread(mean), _spread(scale)
    v = alpha**2 * s**2 + sigma**2
    away = (x - alpha * m) / v
    y = -away - _ref_score(x, ref_means, ref_std, alpha, sigma)
    slope = _slope(y, huber)
    # eq. score-projection-frozen
    by_mean = (slope * alpha / v) @ weight
    by_scale = (slope * away * 2 * alpha**2 * s / v) @ weight
    return (_distance(y, huber) @ weight).sum(), GeneratorGradient(by_mean, by_scale)


@checked
def moving_distance(
    mean: Real[N],
    scale: Positive[N],
    ref_means: Real[K],
    *,
    ref_std: Level = 0.5,
    alpha: Level = 0.8,
    sigma: Level = 0.6,
    huber: Level = 0.5,
) -> tuple[Scalar, GeneratorGradient]:
    """Sum over generators of the mean distance of scores, on samples of their own law."""
    value, frozen = frozen_distance.unchecked(
        mean,
        scale,
        ref_means,
        ref_std=ref_std,
        alpha=alpha,
        sigma=sigma,
        huber=huber,
    )
    z, weight = _noise(mean)
    m, s = _spread(mean), _spread(scale)
    root = xp.sqrt(alpha**2 * s**2 + sigma**2)
    x = alpha * m + root * z
    ref = _ref_score(x, ref_means, ref_std, alpha, sigma)
    d_ref = _ref_slope(x, ref_means, ref_std, alpha, sigma)
    slope = _slope(-z / root - ref, huber)
    # eq. score-projection-moving
    moved = slope * (-1 / root**2 - d_ref)
    by_mean = (moved * alpha) @ weight
    by_scale = (moved * alpha**2 * s / root * z) @ weight
    return value, GeneratorGradient(frozen.mean + by_mean, frozen.scale + by_scale)


@checked
def projected_gradient(
    mean: Real[N],
    scale: Positive[N],
    ref_means: Real[K],
    *,
    ref_std: Level = 0.5,
    alpha: Level = 0.8,
    sigma: Level = 0.6,
    huber: Level = 0.5,
) -> GeneratorGradient:
    """Gradient of the distance on a law held constant, without a derivative of the score by the parameters."""
    noise, weight = _noise(mean)
    m, s = _spread(mean), _spread(scale)
    v = alpha**2 * s**2 + sigma**2
    x = alpha * m + xp.sqrt(v) * noise
    # given x the generator's noise is Gaussian, and what follows a polynomial in it: three values are exact
    expected, deviation = alpha * s * (x - alpha * m) / v, sigma / xp.sqrt(v)
    z = [expected + place * deviation for place in (-math.sqrt(3), 0.0, math.sqrt(3))]
    own = -(x - alpha * m) / v
    ref = _ref_score(x, ref_means, ref_std, alpha, sigma)
    d_ref = _ref_slope(x, ref_means, ref_std, alpha, sigma)
    slope, curvature = _slope(own - ref, huber), _curvature(own - ref, huber)
    by_mean, by_scale = xp.zeros_like(x), xp.zeros_like(x)
    for share, each in zip((1 / 6, 2 / 3, 1 / 6), z, strict=True):
        r = own + (x - alpha * (m + s * each)) / sigma**2
        # eq. score-projection-projected
        pulled = -(curvature * (-1 / v - d_ref) * r - slope / v) * alpha
        by_mean = by_mean + share * pulled
        by_scale = by_scale + share * pulled * each
    return GeneratorGradient(by_mean @ weight, by_scale @ weight)
