r"""Entropy-SGD: the loss is replaced by the volume of good parameters nearby.

A narrow valley may be deep, but has little room. The *negative local entropy* of a point x weighs the loss f of all
points by how near they are,

.. math::
    :label: entropy-sgd-local-entropy

    -F(x) = -\frac{1}{\beta} \log \int \exp\Big(-\beta \big(f(x') + \frac{\gamma}{2} \|x - x'\|^2\big)\Big)\, dx',

so that wide valleys win over deep ones once the *scope* :math:`1/\sqrt{\beta\gamma}` is wide enough. Its gradient pulls
x to the mean of the local Gibbs distribution, whose density is proportional to the integrand,

.. math::
    :label: entropy-sgd-gradient

    -\nabla F(x) = \gamma\, (x - \langle x' \rangle) = \langle \nabla f(x') \rangle.

On a line the integral is a sum over a grid of nodes around x, whose derivative is the mean slope. For a quadratic
:math:`f(x) = \frac12 x^\top H x - b^\top x` with :math:`M = H + \gamma I` positive definite it is

.. math::
    :label: entropy-sgd-quadratic

    -F(x) = \frac{\gamma}{2} \|x\|^2 - \frac12 (b + \gamma x)^\top M^{-1} (b + \gamma x)
    + \frac{1}{2\beta} \log\det M - \frac{P}{2\beta} \log \frac{2\pi}{\beta}, \qquad
    \langle x' \rangle = M^{-1} (b + \gamma x):

the gradient :math:`Hx - b` times :math:`\gamma / (\lambda_i + \gamma)` along each eigenvector, small where the
curvature :math:`\lambda_i` is large.

For a network the mean is estimated by L steps of Langevin dynamics from :math:`x'_0 = x` with standard normal
:math:`\xi_k`, and an exponential average :math:`\mu_0 = x`,

.. math::
    :label: entropy-sgd-langevin

    x'_{k+1} = x'_k - \eta' \big(\nabla f(x'_k) - \gamma (x - x'_k)\big) + \sqrt{\eta'}\, \varepsilon\, \xi_k, \qquad
    \mu_{k+1} = (1 - \alpha)\, \mu_k + \alpha\, x'_{k+1}.

In the stationary law of these steps :math:`\beta = 2 / \varepsilon^2`, for short steps. The optimiser gets
:math:`x - \mu_L` as its gradient, the factor :math:`\gamma` being left to the rate. One such step costs L gradients.
The scope is narrowed as training goes on, :math:`\gamma_t = \gamma_0 (1 + \gamma_1)^t`.

=====================  ======================
:math:`\beta`          `inverse_temperature`
:math:`\gamma`         `stiffness`
:math:`H, b`           `hessian`, `linear`
:math:`\eta'`          `inner_lr`
:math:`\varepsilon`    `noise_scale`
:math:`\alpha`         `alpha`
=====================  ======================

**Where implementations differ.** The authors' code puts the weight 0.75 on the old mean where the paper has it on the
new point, and scales the noise by :math:`\sqrt{2\eta'}`. With the usual :math:`\varepsilon = 10^{-4}` the temperature
is nearly 0: what is sampled then is hardly smoother than the loss.

**Provenance.** The nested loop and its constants are confirmed in the authors' code (ucla-vision/entropy-sgd),
:math:`\alpha` and the noise in two public implementations written from the paper; the closed forms are derived and
checked here.

Chaudhari, Choromanska, Soatto, LeCun, Baldassi, Borgs, Chayes, Sagun and Zecchina, *Entropy-SGD: Biasing Gradient
Descent Into Wide Valleys*, 2016, arXiv:1611.01838.
"""

import math
from collections.abc import Callable
from typing import Annotated

from trref import validate
from trref.backend import linalg, xp
from trref.signature import (
    Fraction,
    L,
    N,
    NonNegativeFloat,
    P,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


@checked
def negative_local_entropy(
    landscape: Callable,
    x: Real[N],
    *,
    stiffness: PositiveFloat = 1.0,
    inverse_temperature: PositiveFloat = 1.0,
    reach: PositiveFloat = 10.0,
    nodes: Annotated[int, "[2, inf)"] = 401,
) -> tuple[Scalar, Real[N]]:
    """The objective on a line, summed over points, by a grid around each of them.

    Parameters
    ----------
    landscape
        ``landscape(points (N, K, 1)) -> (values (N, K), gradients)``, such as `trref.problems.wells.GaussianWells`.
    x
        Points on the line, or the point.
    stiffness
        How strongly points are tied to x: the scope is its inverse.
    inverse_temperature
        Of the local Gibbs distribution.
    reach
        Half-width of the grid, in standard deviations of the weight around x.
    nodes
        Of the grid.

    Returns
    -------
    value
    gradient
        With respect to `x`.
    """
    scope = 1 / math.sqrt(inverse_temperature * stiffness)
    gap = 2 * reach / (nodes - 1)
    s = gap * xp.arange(nodes, dtype=x.dtype) - reach
    points = x[:, None] + scope * s
    f, slope = _on_the_grid(landscape, points)
    # eq. entropy-sgd-local-entropy
    exponent = -inverse_temperature * f - s * s / 2
    top = exponent.max(1)
    weight = xp.exp(exponent - top[:, None])
    total = weight.sum(1)
    F = (top + xp.log(total) + math.log(gap * scope)) / inverse_temperature

    return -F.sum(), (weight * slope).sum(1) / total  # eq. entropy-sgd-gradient


def _on_the_grid(landscape, points):
    """Values and slopes (N, K) at points (N, K), of a landscape of one dimension."""
    result = landscape(points[..., None])
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError("landscape must return a tuple (values, gradients)")
    shapes = points.shape, (*points.shape, 1)
    for what, array, shape in zip(("values", "gradients"), result, shapes, strict=True):
        validate.array(f"what landscape returns as {what}", array)
        if array.shape != shape or array.dtype != points.dtype:
            raise ValueError(
                f"landscape must return {points.dtype} {what} of shape {tuple(shape)}, "
                f"not {array.dtype} ones of shape {tuple(array.shape)}"
            )
    validate.finite_on_the_host("landscape", *result)
    return result[0], result[1][..., 0]


def _symmetric(x, hessian, linear, stiffness, **_):
    """A matrix that is not symmetric, or not above -stiffness."""

    def definite():
        known = xp.where(xp.isfinite(hessian), hessian, 0)
        return linalg.eigvalsh(known).min() > -stiffness

    def symmetric():
        return abs(hessian - hessian.T).max() <= 1e-5 * abs(hessian).max()

    return [
        (symmetric, "hessian must be symmetric"),
        (definite, "hessian + stiffness must be positive definite"),
    ]


@checked(also=_symmetric)
def negative_local_entropy_quadratic(
    x: Real[P],
    hessian: Real[P, P],
    linear: Real[P],
    *,
    stiffness: PositiveFloat = 1.0,
    inverse_temperature: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[P]]:
    """The objective of a quadratic loss, in closed form.

    Parameters
    ----------
    hessian, linear
        Of the loss.
    """
    P = len(x)
    w, Q = linalg.eigh(hessian)
    w = w + stiffness
    c = Q.T @ (linear + stiffness * x)
    # eq. entropy-sgd-quadratic
    log_det = xp.log(w).sum() - P * math.log(2 * math.pi / inverse_temperature)
    parabola = stiffness * (x * x).sum() - (c * c / w).sum()
    mean = Q @ (c / w)
    value = parabola / 2 + log_det / (2 * inverse_temperature)
    return value, stiffness * (x - mean)


@checked
def langevin_average(
    loss_and_grad: Callable,
    theta: Real[P],
    noise: Real[L, P],
    *,
    stiffness: NonNegativeFloat = 0.03,
    inner_lr: PositiveFloat = 0.1,
    noise_scale: NonNegativeFloat = 1e-4,
    alpha: Fraction = 0.75,
) -> Real[P]:
    """Estimate of the local mean; the distance of theta from it is the gradient.

    Parameters
    ----------
    loss_and_grad
        Or of a fresh batch in every call, as in the paper.
    noise
        Standard normal, a row a step.
    inner_lr
        Step length of the dynamics.
    noise_scale
        How much noise is added.
    alpha
        Weight of the newest point in the average.
    """
    point = mean = theta
    for xi in noise:
        _, g = validate.loss_and_grad(loss_and_grad, point, finite=True)
        # eq. entropy-sgd-langevin
        drift = g - stiffness * (theta - point)
        point = point - inner_lr * drift + math.sqrt(inner_lr) * noise_scale * xi
        mean = (1 - alpha) * mean + alpha * point
    return mean
