r"""Schedules by refinement: the best weights of a bound on the last iterate.

The last point of (sub)gradient descent, not the average, is what people use. A bound on it has a free weight
:math:`w_t` a step, and the step sizes follow from the weights:

.. math::
    :label: schedule-refinement-steps

    \eta_t = \frac{w_t\, w_{t+1:T}}{w_{1:T}}, \qquad w_{a:b} = \sum_{p=a}^b w_p, \qquad \eta_T = 0 ,

.. math::
    :label: schedule-refinement-bound

    f(x_T) - f(u) \le \frac{1}{2\, w_{1:T}} \Bigl( D^2 + \sum_{t=1}^T w_t^2 \|g_t\|^2 \Bigr), \qquad D = \|x_1 - u\| ,

for convex f, any u and :math:`x_{t+1} = x_t - \eta_t g_t`. It comes from what holds for any learner with steps
:math:`\Delta_t = z_{t+1} - z_t`,

.. math::
    :label: schedule-refinement-learner

    f(x_T) - f(u) \le \frac{1}{w_{1:T}} \sum_t w_t \langle g_t, z_t - u \rangle, \qquad
    x_{t+1} = x_t + \frac{w_{t+1:T}}{w_{1:T}}\, \Delta_t ,

for gradient descent with :math:`\Delta_t = -w_t g_t`. Equal weights give exactly linear decay,
:math:`\eta_t \propto 1 - t/T`. The derivative of the bound

.. math::
    :label: schedule-refinement-gradient

    \frac{\partial}{\partial w_s} = \frac{w_s \|g_s\|^2}{w_{1:T}} - \frac{D^2 + \sum_t w_t^2 \|g_t\|^2}{2\, w_{1:T}^2}

vanishes at

.. math::
    :label: schedule-refinement-weights

    w_t = \frac{D\, \|g_t\|^{-2}}{\sqrt{\sum_p \|g_p\|^{-2}}}, \qquad
    \text{with the bound } \frac{D}{\sqrt{\sum_p \|g_p\|^{-2}}}.

**Refinement:** run once, smooth the norms :math:`G_t` of the gradients, and take for the shape of the next schedule

.. math::
    :label: schedule-refinement-shape

    w_t = G_t^{-q}, \qquad s_t = \frac{w_t\, w_{t+1:T}}{\max_p w_p\, w_{p+1:T}} ,

with q = 2 and Euclidean norms for SGD, q = 1 and the sum of absolute values for rules like Adam. Norms that fall at
first give a warm-up, norms that grow at the end a faster decay. They are smoothed by medians over a window of

.. math::
    :label: schedule-refinement-smooth

    k = 2 \Bigl\lfloor \frac{\tau T}{2} \Bigr\rfloor + 1 \text{ steps},

with the norms mirrored at the last one behind the end, and the first norm before the start.

The usual schedules, to compare with, at the step :math:`t = 0, …, T - 1`: constant, linear :math:`1 - t/T`, cosine
:math:`\frac12 (1 + \cos \pi t / T)`, and :math:`1/(t + 1)` and :math:`1/\sqrt{t + 1}`, each after a linear warm-up over
the first :math:`T_0` steps:

.. math::
    :label: schedule-refinement-usual

    s_t \leftarrow s_t\, \min\Bigl\{ 1, \frac{t + 1}{T_0} \Bigr\} .

The last step has the length 0: nothing needs the gradient there. A schedule of one step is 1.

===================  ====================================
:math:`w`            `weights`
:math:`G, \|g_t\|`   `norms`
:math:`D`            `distance`
:math:`q`            `power`
:math:`\tau`         `window`
:math:`T_0`          `warmup`
===================  ====================================

**Where implementations differ.** The authors' function divides the products by the sum of the weights, not by their
largest: the same shape, at another base rate.

**Provenance.** Shape, weights and medians with their padding are confirmed in the authors' code
(facebookresearch/adaptive_scheduling), steps and the general bound by the full text of a later paper of the group, the
bound for gradient descent and the best weights derived here, and checked. What is done at the start of the medians is
the code's "nearest".

Defazio, Cutkosky, Mehta and Mishchenko, *When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement*,
2023, arXiv:2310.07831.
"""

import math
from typing import Annotated, Literal

from trref.backend import xp
from trref.signature import (
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    T,
    checked,
)


def _tails(weights):
    """The sums of the weights after each step."""
    sums = xp.cumsum(weights[::-1])[::-1]
    return xp.concatenate([sums[1:], xp.zeros_like(sums[:1])]), sums[0]


@checked
def stepsizes_from_weights(weights: Positive[T]) -> NonNegative[T]:
    """The step sizes whose last iterate has the bound.

    Parameters
    ----------
    weights
        Of the steps.
    """
    after, total = _tails(weights)
    return weights * after / total  # eq. schedule-refinement-steps


@checked
def learner_steps(weights: Positive[T]) -> NonNegative[T]:
    """The share of a learner's own step that is taken, for any learner.

    Parameters
    ----------
    weights
        With which the learner weighs its losses.
    """
    after, total = _tails(weights)
    return after / total  # eq. schedule-refinement-learner


@checked
def last_iterate_bound(
    weights: Positive[T], norms: NonNegative[T], *, distance: PositiveFloat = 1.0
) -> tuple[Scalar, Real[T]]:
    """The bound on the last iterate of gradient descent.

    Parameters
    ----------
    norms
        Of the gradients.
    distance
        From the start to the point to compare with.
    """
    total, square = weights.sum(), distance**2 + ((weights * norms) ** 2).sum()
    # eq. schedule-refinement-bound, schedule-refinement-gradient
    bound = square / (2 * total)
    return bound, (weights * norms * norms - bound) / total


@checked
def optimal_weights(
    norms: Positive[T], *, distance: PositiveFloat = 1.0
) -> Positive[T]:
    """The weights with the smallest bound."""
    inverse = (norms.min() / norms) ** 2
    # eq. schedule-refinement-weights
    return distance * inverse / xp.sqrt(inverse.sum()) / norms.min()


@checked
def smooth_norms(
    norms: NonNegative[T], *, window: Annotated[float, "[0, 1]"] = 0.1
) -> NonNegative[T]:
    """Medians of the norms over a moving window.

    Parameters
    ----------
    window
        Its width, as a share of the steps.
    """
    T = len(norms)
    # eq. schedule-refinement-smooth
    half = math.floor(window * T / 2)
    places = xp.arange(T)[:, None] + xp.arange(-half, half + 1)
    # behind the end T - 2, T - 3, …; at most half a window, and so never behind the start
    places = xp.where(places < T, places, 2 * (T - 1) - places)
    places = xp.maximum(places, 0)
    return xp.sort(norms[places], axis=1)[:, half]


@checked
def refined_schedule(
    norms: Positive[T], *, power: PositiveFloat = 2.0
) -> NonNegative[T]:
    """The shape of the next schedule, its largest entry 1.

    Parameters
    ----------
    norms
        Of the gradients, smoothed.
    power
        2 for SGD, 1 for rules like Adam.
    """
    weights = (norms.min() / norms) ** power
    products = weights * _tails(weights)[0]
    largest = products.max()
    # eq. schedule-refinement-shape
    return xp.where(largest > 0, products / xp.where(largest > 0, largest, 1), 1)


@checked
def usual_schedule(
    times: NonNegative[T],
    *,
    total: PositiveInt,
    kind: Literal["constant", "linear", "cosine", "inverse", "root"] = "linear",
    warmup: NonNegativeInt = 0,
) -> NonNegative[T]:
    """The schedules to compare with.

    Parameters
    ----------
    times
        Steps before each, from 0.
    total
        How many steps there are.
    kind
        The decay; the last two are one over the step and over its root.
    warmup
        Steps of the linear rise.
    """
    if kind == "constant":
        shape = xp.ones_like(times)
    elif kind == "linear":
        shape = xp.maximum(1 - times / total, 0)
    elif kind == "cosine":
        shape = (1 + xp.cos(math.pi * xp.minimum(times / total, 1))) / 2
    else:
        shape = (times + 1) ** (-1.0 if kind == "inverse" else -0.5)
    # eq. schedule-refinement-usual
    return shape * xp.minimum((times + 1) / max(warmup, 1), 1)
