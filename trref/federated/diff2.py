r"""DIFF2: private gradients from private differences of gradients.

To be differentially private, gradient descent adds noise to the mean of clipped gradients,

.. math::
    :label: diff2-clip

    \operatorname{clip}_C(v) = v\, \min(1, C / \|v\|),

.. math::
    :label: diff2-mean

    \frac1n \sum_{i=1}^n \operatorname{clip}_{C_1}(\nabla \ell_i(\theta)) + \sigma_1 \xi, \qquad
    \sigma_1 = z_1 \frac{2 C_1}{n}, \qquad \xi \sim N(0, I),

in proportion to how much one sample that is replaced by another can change it. That is much, and the same in each
round. The *difference* of gradients at two points changes little if the points are near. So noise is needed only in
proportion to the step, whose length is known to everybody:

.. math::
    :label: diff2-difference

    \frac1n \sum_i \operatorname{clip}_{C_r}\big(\nabla \ell_i(\theta_r) - \nabla \ell_i(\theta_{r-1})\big) +
    \sigma_r \xi, \qquad C_r = C_2 \|\theta_r - \theta_{r-1}\|, \quad \sigma_r = z_2 \frac{2 C_r}{n}.

If :math:`C_2` is at least the gradients' Lipschitz constant nothing is clipped. The estimate starts anew every T rounds
and is carried on by differences in between; descent follows it:

.. math::
    :label: diff2-estimate

    v_r = \begin{cases} \text{private mean at } \theta_r & T \mid r \\
    v_{r-1} + \text{private difference} & \text{else,} \end{cases} \qquad
    \theta_{r+1} = \theta_r - \eta\, v_r

On a path with steps :math:`s_r`, if nothing is clipped, its squared error in d dimensions is on average

.. math::
    :label: diff2-error

    \mathbb E \|v_r - \nabla f(\theta_r)\|^2 = d\, \Big(\frac{2 C_1 z_1}{n}\Big)^2 +
    d\, \Big(\frac{2 C_2 z_2}{n}\Big)^2 \sum_{j \text{ since the restart}} s_j^2.

With :math:`T = 1` this is private gradient descent.

**The budget.** Of :math:`K_1` means and :math:`K_2` differences, all Gaussian, the Rényi divergence of order
:math:`\alpha` is :math:`\rho\alpha` with

.. math::
    :label: diff2-budget

    \rho = \frac{K_1}{2 z_1^2} + \frac{K_2}{2 z_2^2}, \qquad
    z_1 = \sqrt{\frac{K_1}{2 \rho f}}, \quad z_2 = \sqrt{\frac{K_2}{2 \rho (1 - f)}}

if a share f is spent on means. At the best order that gives :math:`(\varepsilon, \delta)`-privacy with

.. math::
    :label: diff2-epsilon

    \varepsilon = \min_\alpha\; \rho\alpha + \frac{\log (1/\delta)}{\alpha - 1}
    = \rho + 2 \sqrt{\rho \log (1/\delta)},

and the other way round

.. math::
    :label: diff2-rho

    \rho = \big( \sqrt{\log (1/\delta) + \varepsilon} - \sqrt{\log (1/\delta)} \big)^2.

Neighbours here are data sets in which one sample is replaced by another; where one is added or left out the noise is
half of that. All samples count in each round, so nothing is gained by sampling. With P clients, who have n / P samples
each, the server averages their means and adds the noise once: it sees the clean ones.

The noise feeds back: where :math:`\eta C_2 z_2 \sqrt d / n` is not small, noise makes steps, steps make noise, and the
iterates run away. Restart more often then, or take shorter steps.

**Where implementations differ.** The authors' code fixes the order
:math:`\alpha = 1 + \lceil 2 \log(1/\delta) / \varepsilon \rceil` and spends :math:`\varepsilon / 2` on divergence, with
0.8 of it for means:

.. math::
    :label: diff2-code

    z_1 = \sqrt{\frac{u\, \alpha K_1}{\varepsilon}}, \qquad
    z_2 = \sqrt{\frac{u}{u - 1}\, \frac{\alpha K_2}{\varepsilon}}, \qquad u = 1.25,

where it has R differences for R rounds, whatever the restarts. That is 1 to 4 % more noise than by the best order.

**Provenance.** Estimator, clipping, restarts and the code's noise are confirmed in the authors' code; the conversion is
standard; the error's closed form is derived and checked here.

Murata and Suzuki, *DIFF2: Differential Private Optimization via Gradient Differences for Nonconvex Distributed
Learning*, 2023, arXiv:2302.03884.
"""

import math
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import xp
from trref.problems.protocols import SeparableLoss
from trref.signature import (
    T1,
    N,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    P,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    T,
    checked,
)


class Multipliers(NamedTuple):
    """Standard deviations of the noise, in units of what one sample can change."""

    mean: Positive[N]
    difference: Positive[N]


class Path(NamedTuple):
    """Where descent goes, and by which estimates."""

    points: Real[T1, P]
    estimates: Real[T, P]


@checked
def clip(v: Real[N, P], *, bound: PositiveFloat) -> Real[N, P]:
    """Vectors, shortened to a bound.

    Parameters
    ----------
    v
        One a row.
    bound
        The longest that is left as it is.
    """
    return _factor(v, bound) * v  # eq. diff2-clip


def _factor(v, bound):
    return bound / xp.maximum(xp.sqrt((v * v).sum(1, keepdims=True)), bound)


@checked
def clip_vjp(
    v: Real[N, P], cotangent: Real[N, P], *, bound: PositiveFloat
) -> Real[N, P]:
    """The derivative of ``sum(cotangent * clip(v))``.

    Parameters
    ----------
    cotangent
        Of the result.
    """
    factor = _factor(v, bound)
    square = xp.maximum((v * v).sum(1, keepdims=True), bound**2)
    along = (v * cotangent).sum(1, keepdims=True) / square
    return factor * (cotangent - xp.where(factor < 1, along * v, 0))


@checked
def private_mean(
    gradients: Real[N, P],
    noise: Real[P],
    *,
    bound: PositiveFloat,
    multiplier: NonNegativeFloat,
) -> Real[P]:
    """The mean of clipped gradients, with noise.

    Parameters
    ----------
    gradients
        Of single samples, one a row.
    noise
        Standard normal.
    bound
        To which each is clipped.
    multiplier
        Of the noise, in units of what replacing one sample can change.
    """
    most = 2 * bound / len(gradients)
    # eq. diff2-mean
    return clip.unchecked(gradients, bound=bound).mean(0) + multiplier * most * noise


@checked
def private_difference(
    gradients: Real[N, P],
    gradients_before: Real[N, P],
    move: Real[P],
    noise: Real[P],
    *,
    smoothness: PositiveFloat,
    multiplier: NonNegativeFloat,
) -> Real[P]:
    """The mean of clipped differences of gradients, with noise in proportion to the step.

    Parameters
    ----------
    gradients_before
        Of the same samples, before the step.
    move
        The step.
    smoothness
        Differences are clipped to this times the step's length.
    """
    bound = smoothness * xp.sqrt((move * move).sum())
    change = gradients - gradients_before
    size = xp.sqrt((change * change).sum(1, keepdims=True))
    kept = xp.where(size > bound, bound / xp.where(size > 0, size, 1), 1) * change
    # eq. diff2-difference
    return kept.mean(0) + multiplier * 2 * bound / len(change) * noise


@checked
def descent(
    samples: SeparableLoss,
    theta: Real[P],
    noise: Real[T, P],
    *,
    lr: PositiveFloat,
    restart: PositiveInt,
    bound: PositiveFloat,
    smoothness: PositiveFloat,
    multiplier: NonNegativeFloat,
    difference_multiplier: NonNegativeFloat,
) -> Path:
    """Descend along the estimates.

    Parameters
    ----------
    samples
        With ``each(theta)``, such as those of `trref.problems.samples`.
    noise
        Standard normal, of each round.
    restart
        Rounds between two means.
    bound
        To which gradients are clipped.
    smoothness
        Differences are clipped to this times the step's length.
    multiplier, difference_multiplier
        Of the noise of means, and of differences.
    """
    points, estimates, seen = [theta], [], []
    for r, xi in enumerate(noise):
        seen.append(validate.each(samples, points[-1])[1])
        # eq. diff2-estimate
        if r % restart == 0:
            v = private_mean.unchecked(seen[-1], xi, bound=bound, multiplier=multiplier)
        else:
            v = estimates[-1] + private_difference.unchecked(
                seen[-1],
                seen[-2],
                points[-1] - points[-2],
                xi,
                smoothness=smoothness,
                multiplier=difference_multiplier,
            )
        estimates.append(v)
        points.append(points[-1] - lr * v)
    return Path(xp.stack(points), xp.stack(estimates))


@checked
def estimator_error(
    moves: NonNegative[T],
    *,
    dims: PositiveInt,
    count: PositiveInt,
    restart: PositiveInt,
    bound: PositiveFloat,
    smoothness: PositiveFloat,
    multiplier: NonNegativeFloat,
    difference_multiplier: NonNegativeFloat,
) -> NonNegative[T]:
    """The mean squared error of the estimate in each round of a path, if nothing is clipped.

    Parameters
    ----------
    moves
        Length of the step before each round; the first is of no effect.
    dims
        Entries of a gradient.
    count
        Samples.
    """
    means = dims * (2 * bound * multiplier / count) ** 2
    each = dims * (2 * smoothness * difference_multiplier / count) ** 2
    # eq. diff2-error
    total = xp.cumsum(moves**2)
    start = xp.arange(len(moves)) // restart * restart
    return means + each * (total - xp.take(total, start))


@checked
def epsilon_of(rho: NonNegative[N], *, delta: OpenFraction) -> NonNegative[N]:
    """How private a budget is.

    Parameters
    ----------
    rho
        Budgets: Rényi divergences over their order.
    delta
        Probability with which privacy may fail.
    """
    return rho + 2 * xp.sqrt(rho * math.log(1 / delta))  # eq. diff2-epsilon


@checked
def rho_of(epsilon: NonNegative[N], *, delta: OpenFraction) -> NonNegative[N]:
    """The budget for a privacy.

    Parameters
    ----------
    epsilon
        The log of how much likelier any outcome may be.
    """
    log = math.log(1 / delta)
    # as a quotient, in which nothing cancels
    # eq. diff2-rho
    return (epsilon / (xp.sqrt(log + epsilon) + math.sqrt(log))) ** 2


@checked
def noise_multipliers(
    rho: Positive[N],
    *,
    restarts: PositiveInt,
    differences: PositiveInt,
    share: OpenFraction = 0.5,
) -> Multipliers:
    """How much noise a budget asks for.

    Parameters
    ----------
    restarts, differences
        How many means and differences there will be.
    share
        Of the budget, for the means.
    """
    # eq. diff2-budget
    return Multipliers(
        xp.sqrt(restarts / (2 * rho * share)),
        xp.sqrt(differences / (2 * rho * (1 - share))),
    )


@checked
def code_multipliers(
    epsilon: Positive[N],
    *,
    delta: OpenFraction,
    restarts: PositiveInt,
    rounds: PositiveInt,
    u: Annotated[float, "(1, inf)"] = 1.25,
) -> Multipliers:
    """The same by the authors' code.

    Parameters
    ----------
    rounds
        All of them: as many differences are paid for.
    u
        One over the share for the means.
    """
    # eq. diff2-code
    order = 1 + xp.ceil(2 * math.log(1 / delta) / epsilon)
    return Multipliers(
        xp.sqrt(u * order * restarts / epsilon),
        xp.sqrt(u / (u - 1) * order * rounds / epsilon),
    )
