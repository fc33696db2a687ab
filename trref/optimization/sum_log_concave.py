r"""Sum-log-concave losses: a convexity inequality for losses that are not convex, and descent by it.

A mixture of log-concave functions :math:`p_s = e^{-\ell_s}`, with *partial losses* :math:`\ell_s` that are convex, has
the loss

.. math::
    :label: sum-log-concave-loss

    F(\theta) = -\log \sum_s p_s(\theta) = -\log \sum_s e^{-\ell_s(\theta)},

which is not convex: it may have a valley for each part. Whose valley :math:`\theta` is in says the posterior,

.. math::
    :label: sum-log-concave-posterior

    q(\theta) = \mathrm{softmax}(-\ell(\theta)), \qquad \nabla F(\theta) = \sum_s q_s(\theta) \nabla \ell_s(\theta) .

The same mean with other weights :math:`\mu`, fixed or the posterior at another point :math:`\eta` ("seen from" it), is
the *cross-gradient*

.. math::
    :label: sum-log-concave-cross

    \nabla_\mu F(\theta) = \sum_s \mu_s \nabla \ell_s(\theta),

and with it a tangent inequality holds for all :math:`\theta, \eta` and :math:`\mu`:

.. math::
    :label: sum-log-concave-gap

    F(\eta) - F(\theta) - \nabla_\mu F(\theta)^\top (\eta - \theta) - \mathrm{KL}(\mu \| q(\theta)) +
    \mathrm{KL}(\mu \| q(\eta)) \ge 0 .

At :math:`\mu = q(\eta)` the last term is 0. Behind it is that the loss with the divergence is convex, with the
cross-gradient for its gradient:

.. math::
    :label: sum-log-concave-regularised

    F(\theta) + \mathrm{KL}(\mu \| q(\theta)) = \sum_s \mu_s \ell_s(\theta) + \sum_s \mu_s \log \mu_s .

Descent along the cross-gradient (XGD), for one :math:`\mu` that stays,

.. math::
    :label: sum-log-concave-xgd

    \theta_t = \theta_{t-1} - \gamma_t \nabla_\mu F(\theta_{t-1}), \qquad \gamma_t = \gamma \text{ or }
    \frac\gamma{\sqrt t},

has the guarantee of a convex problem against all :math:`\eta` whose posterior is :math:`\mu`: if the partial losses
have gradients of at most B,

.. math::
    :label: sum-log-concave-rate

    \frac{\sum_t \gamma_t (F(\theta_{t-1}) - F(\eta))}{\sum_t \gamma_t} \le
    \frac{\|\theta_0 - \eta\|^2 + B^2 \sum_t \gamma_t^2}{2 \sum_t \gamma_t} .

What it converges to is the minimum of :math:`\sum_s \mu_s \ell_s`, which need not be a stationary point of F. With
:math:`\mu = q(\theta_{t-1})` anew in each step it is gradient descent, with one part ordinary convex optimisation.
Weights of sums of losses multiply: each sample of a data set has weights of its own.

====================  ==============
:math:`\mu`           `mixture`
:math:`\eta`          `other`
:math:`\gamma`        `lr`
====================  ==============

**Where implementations differ.** No code is known but the author's pictures of tangents, which have one weight.

**Provenance.** Confirmed in the paper, which says of the limit of XGD only what its theorem says; that it is the
minimum of the mixed losses is derived here.

Achab, *Beyond Log-Concavity: Theory and Algorithm for Sum-Log-Concave Optimization*, 2023, arXiv:2309.15298.
"""

from typing import Literal, NamedTuple

from trref import validate
from trref.backend import special, xp
from trref.nn.heads import log_softmax
from trref.problems.protocols import SeparableLoss
from trref.signature import (
    K1,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    S,
    Scalar,
    Simplex,
    checked,
)


class Path(NamedTuple):
    """The points of descent, the start first, and the mean of all but the last, weighted by the steps from them."""

    points: Real[K1, P]
    average: Real[P]


def _loss(losses):
    """F from partial losses."""
    least = losses.min()
    # eq. sum-log-concave-loss
    return least - xp.log(xp.exp(least - losses).sum())


@checked
def slc_loss(partials: SeparableLoss, theta: Real[P]) -> tuple[Scalar, Real[P]]:
    """Minus the log of a sum of log-concave functions.

    Parameters
    ----------
    partials
        With ``each(theta) -> (losses (S,), gradients (S, P))`` of the convex parts, such as those of
        `trref.problems.samples`.
    """
    losses, gradients = validate.each(partials, theta, name="partials")
    return _loss(losses), xp.exp(log_softmax(-losses)) @ gradients


@checked
def posterior(partials: SeparableLoss, theta: Real[P]) -> Simplex[S]:
    """The share of each part of the sum."""
    return xp.exp(
        log_softmax(-validate.each(partials, theta, name="partials")[0])
    )  # eq. sum-log-concave-posterior


@checked
def cross_gradient(
    partials: SeparableLoss, theta: Real[P], mixture: Simplex[S]
) -> Real[P]:
    """The partial gradients at one point, weighted as at another.

    Parameters
    ----------
    mixture
        A weight for each part.
    """
    _, gradients = validate.each(partials, theta, len(mixture), "partials")
    return mixture @ gradients  # eq. sum-log-concave-cross


@checked
def regularised_loss(
    partials: SeparableLoss, theta: Real[P], mixture: Simplex[S]
) -> tuple[Scalar, Real[P]]:
    """The loss and the divergence KL(mixture‖posterior): a convex function.

    Returns
    -------
    loss
    gradient
        With respect to `theta`: the cross-gradient.
    """
    losses, gradients = validate.each(partials, theta, len(mixture), "partials")
    # eq. sum-log-concave-regularised
    value = (mixture * losses).sum() + special.xlogy(mixture, mixture).sum()
    return value, mixture @ gradients


@checked
def convexity_gap(
    partials: SeparableLoss, theta: Real[P], other: Real[P], mixture: Simplex[S]
) -> Scalar:
    """By how much the tangent inequality holds: at least 0.

    Parameters
    ----------
    other
        The point that is compared with the tangent at `theta`.
    """
    S = len(mixture)
    here, gradients = validate.each(partials, theta, S, "partials")
    there, _ = validate.each(partials, other, S, "partials")

    # the difference of the divergences, in which the entropy of the mixture cancels
    # eq. sum-log-concave-gap
    divergences = (mixture * (log_softmax(-here) - log_softmax(-there))).sum()
    tangent = (mixture @ gradients) @ (other - theta)
    return _loss(there) - _loss(here) - tangent + divergences


@checked
def xgd(
    partials: SeparableLoss,
    theta: Real[P],
    mixture: Simplex[S],
    *,
    lr: PositiveFloat,
    steps: PositiveInt = 100,
    schedule: Literal["constant", "root"] = "root",
) -> Path:
    """Descent along the cross-gradient.

    Parameters
    ----------
    lr
        The first step length.
    schedule
        Of the step length: constant, or falling with the root of the step's number.
    """
    points, lengths = [theta], []
    for t in range(1, steps + 1):
        lengths.append(lr / t**0.5 if schedule == "root" else lr)
        # eq. sum-log-concave-xgd
        g = cross_gradient.unchecked(partials, points[-1], mixture)
        points.append(points[-1] - lengths[-1] * g)
    weights = xp.asarray([x / sum(lengths) for x in lengths], dtype=theta.dtype)
    path = xp.stack(points)
    return Path(path, weights @ path[:-1])


@checked
def xgd_bound(
    theta: Real[P],
    other: Real[P],
    *,
    lipschitz: PositiveFloat,
    lr: PositiveFloat,
    steps: PositiveInt = 100,
    schedule: Literal["constant", "root"] = "root",
) -> Scalar:
    """How far the mean loss along the way is above that of a point whose posterior is the mixture, at most.

    Parameters
    ----------
    theta
        The start.
    other
        Such a point.
    lipschitz
        Of the partial losses.
    """
    lengths = [lr / t**0.5 if schedule == "root" else lr for t in range(1, steps + 1)]
    squares = lipschitz**2 * sum(length**2 for length in lengths)
    # eq. sum-log-concave-rate
    return (((theta - other) ** 2).sum() + squares) / (2 * sum(lengths))
