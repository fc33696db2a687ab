r"""SmoothGrad: the mean gradient of many noisy copies of an input.

How much a score S, such as the logit of a class, changes with each pixel is its gradient. That of a network with kinks
jumps from one side of a kink to the other, and a network has many of them: the map shows where kinks happen to lie. The
mean over n copies with noise,

.. math::
    :label: smoothgrad-mean

    \hat M(x) = \frac1n \sum_{i=1}^n \nabla S(x + \sigma \epsilon_i), \qquad \epsilon_i \sim \mathcal N(0, I),

does not depend on any of them. The noise is measured by the range of the input, with a share :math:`\lambda`:

.. math::
    :label: smoothgrad-noise

    \sigma = \lambda\, \big(\max_j x_j - \min_j x_j\big)

Two relatives use the same copies: the mean of the squares, entry by entry, and the variance (VarGrad),

.. math::
    :label: smoothgrad-squared

    \hat M_2(x) = \frac1n \sum_{i=1}^n \big(\nabla S(x + \sigma \epsilon_i)\big)^2

.. math::
    :label: smoothgrad-variance

    \hat V(x) = \frac1n \sum_{i=1}^n \big(\nabla S(x + \sigma \epsilon_i) - \hat M(x)\big)^2
    = \hat M_2(x) - \hat M(x)^2,

which is 0 for a linear score.

The expectation of :math:`\hat M` is the gradient of a smooth function, the score with its input blurred,
:math:`\tilde S(x) = \mathbb E\, S(x + \sigma \epsilon)`. For one hidden layer,
:math:`S(x) = \sum_j w_j \max(u_j^\top x + b_j, 0)`, both are known: with :math:`a_j = u_j^\top x + b_j`,
:math:`s_j = \sigma \|u_j\|` and the normal law's distribution :math:`\Phi` and density :math:`\varphi`,

.. math::
    :label: smoothgrad-blurred

    \tilde S(x) = \sum_j w_j \Big(a_j\, \Phi\big(\tfrac{a_j}{s_j}\big) + s_j\, \varphi\big(\tfrac{a_j}{s_j}\big)\Big)

.. math::
    :label: smoothgrad-blurred-gradient

    \nabla \tilde S(x) = \sum_j w_j\, \Phi\big(\tfrac{a_j}{s_j}\big)\, u_j

Every kink has become a slope. Where :math:`u_j = 0`, the unit is the constant :math:`\max(b_j, 0)`.

=====================  ===========================
:math:`\lambda`        `level`
:math:`n`              the length R of `noise`
:math:`\nabla S`       by `score_and_grad`
=====================  ===========================

**Where implementations differ.** The authors' library squares the gradients before it takes the mean, unless it is told
``magnitude=False``: that is :math:`\hat M_2`. Captum takes :math:`\sigma` itself, the same for all inputs, 1 if nothing
is said.

**Provenance.** The mean, the noise and its default 0.15 are confirmed in the authors' library, the squares there and in
Captum, the variance in Captum; the blurred score is standard, derived and checked here.

Smilkov, Thorat, Kim, Viégas and Wattenberg, *SmoothGrad: removing noise by adding noise*, 2017, arXiv:1706.03825.
"""

import math
from collections.abc import Callable

from trref import validate
from trref.backend import special, xp
from trref.signature import (
    D,
    H,
    N,
    NonNegativeFloat,
    PositiveFloat,
    R,
    Real,
    Scalar,
    checked,
)


@checked
def smooth_gradient(
    score_and_grad: Callable,
    x: Real[N, D],
    noise: Real[R, N, D],
    *,
    level: NonNegativeFloat = 0.15,
) -> Real[N, D]:
    """The mean gradient of noisy copies.

    Parameters
    ----------
    score_and_grad
        ``score_and_grad(x) -> (values (N,), gradients (N, D))``, what is to be explained in each row, such as
        `trref.problems.rows.RowScore`.
    x
        Inputs, one a row.
    noise
        R draws from the standard normal law for each entry of x.
    level
        The noise, as a share of each input's range; 0.1 to 0.2 in the paper.
    """
    return _maps(score_and_grad, x, noise, level).mean(0)  # eq. smoothgrad-mean


def _maps(score_and_grad, x, noise, level):
    """The gradients (R, N, D) at the copies."""
    # eq. smoothgrad-noise
    sigma = level * (x.max(1, keepdims=True) - x.min(1, keepdims=True))

    return xp.stack([validate.rows(score_and_grad, x + sigma * e)[1] for e in noise])


@checked
def squared_gradient(
    score_and_grad: Callable,
    x: Real[N, D],
    noise: Real[R, N, D],
    *,
    level: NonNegativeFloat = 0.15,
) -> Real[N, D]:
    """The mean of the squared gradients of noisy copies."""
    maps = _maps(score_and_grad, x, noise, level)
    return (maps**2).mean(0)  # eq. smoothgrad-squared


@checked
def gradient_variance(
    score_and_grad: Callable,
    x: Real[N, D],
    noise: Real[R, N, D],
    *,
    level: NonNegativeFloat = 0.15,
) -> Real[N, D]:
    """The variance of the gradients of noisy copies (VarGrad)."""
    maps = _maps(score_and_grad, x, noise, level)
    # eq. smoothgrad-variance
    moved = maps - maps[0]  # exactly 0 where all are equal
    return ((moved - moved.mean(0)) ** 2).mean(0)


@checked
def blurred_score(
    U: Real[H, D],
    b: Real[H],
    w: Real[H],
    x: Real[D],
    *,
    sigma: PositiveFloat = 0.15,
) -> tuple[Scalar, Real[D]]:
    """The score of one hidden layer with its input blurred, and its gradient, of which SmoothGrad is an estimate.

    Parameters
    ----------
    U
        Weights of the H hidden units, one a row.
    b
        Their biases.
    w
        How much of each the score has.
    x
        One input.
    sigma
        Standard deviation of the noise.

    Returns
    -------
    score
    gradient
        With respect to `x`.
    """
    a, s = U @ x + b, sigma * xp.sqrt((U**2).sum(1))
    z = a / xp.where(s > 0, s, 1)  # where s is 0 the unit is a constant
    share = xp.where(s > 0, (1 + special.erf(z / math.sqrt(2))) / 2, a > 0)
    density = xp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    value = (a * share + s * density) @ w  # eq. smoothgrad-blurred
    return value, (share * w) @ U  # eq. smoothgrad-blurred-gradient
