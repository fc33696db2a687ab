r"""Averages of weights: train with the last ones, evaluate with a mean of the recent ones.

Noise in the gradients makes the weights wander around a minimum. Their moving average wanders less, and costs one line.
With :math:`\theta_t` the weights after step :math:`t` and :math:`d_t` the decay of that step,

.. math::
    :label: weight-ema-update

    \bar\theta_t = d_t\, \bar\theta_{t-1} + (1 - d_t)\, \theta_t .

It begins as a copy of the first weights, :math:`\bar\theta_1 = \theta_1` whatever :math:`d_1` is (give the weights
before training as the first row to begin there), or at zero. The weights of an average from zero sum to less than 1,
by which it can be divided:

.. math::
    :label: weight-ema-debiased

    \bar\theta_0 = 0, \qquad \hat\theta_t = \bar\theta_t \Big/ \Bigl(1 - \prod_{s \le t} d_s\Bigr) .

A long memory keeps bad first weights for long, so decays begin small. TensorFlow's warm-up, after :math:`n` updates:

.. math::
    :label: weight-ema-tensorflow

    d = \min\Bigl( d_{\max}, \frac{1 + n}{10 + n} \Bigr)

and that of a power, which with :math:`\gamma = p = 1` and :math:`n = 0, 1, \dots` makes the plain mean of all weights:

.. math::
    :label: weight-ema-power

    d = \min\bigl( d_{\max},\; 1 - (1 + n/\gamma)^{-p} \bigr) .

A half-life can be given in images :math:`h`, with :math:`B` in a batch, and be at most a share :math:`\rho` of the
:math:`N` images that were seen; before the first image the decay is 0:

.. math::
    :label: weight-ema-half-life

    d = 2^{-B / \min(h,\, \rho N)} .

A constant decay has these numbers: the updates that it reaches back, those until a weight has halved, and the distance
in steps by which the average trails behind a steady drift,

.. math::
    :label: weight-ema-memory

    \frac{1}{1 - d}, \qquad \frac{\ln 2}{-\ln d}, \qquad \frac{d}{1 - d} ;

one update in the place of :math:`k` has the decay

.. math::
    :label: weight-ema-rescaled

    d' = d^k ,

as a batch of :math:`k` times the size needs; and of the variance of weights that wander with the correlation
:math:`a` from step to step it leaves, in the long run,

.. math::
    :label: weight-ema-variance

    \frac{1 - d}{1 + d} \cdot \frac{1 + a d}{1 - a d} .

With :math:`d = 0` the average is the last weights, and with :math:`d = 1` it never moves. Buffers that are statistics
of the weights, such as those of batch normalisation, are not averaged but computed anew.

====================  ===============
:math:`d_{\max}`      `decay`
:math:`n`             `updates`
:math:`p`             `power`
:math:`N, B`          `images, batch`
:math:`h, \rho`       `half_life, ramp`
:math:`k`             `factor`
:math:`a`             `correlation`
====================  ===============

**Where implementations differ.** mmcv's momentum and the step size of optax's ``incremental_update`` are
:math:`1 - d`. timm and diffusers count one update less, with a decay of 0 until the second.

**Provenance.** Confirmed: update, start and correction by PyTorch and optax; the warm-ups as timm, diffusers and
k-diffusion have them; the half-life as in NVlabs/edm. The last three equations are derived here and checked.

Polyak and Juditsky, *Acceleration of Stochastic Approximation by Averaging*, 1992; the half-life: Karras, Aittala, Aila
and Laine, *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022, arXiv:2206.00364.
"""

import math
from typing import Annotated, Literal, NamedTuple

from trref.backend import xp
from trref.signature import (
    Fraction,
    N,
    NonNegative,
    P,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    T,
    checked,
)


@checked
def blend(average: Real[P], theta: Real[P], *, decay: Fraction = 0.999) -> Real[P]:
    """Move the average by one update.

    Parameters
    ----------
    average
        Before the update.
    theta
        The newest weights.
    decay
        What is kept of the average.
    """
    return decay * average + (1 - decay) * theta  # eq. weight-ema-update


def _moves(decays, start, **_):
    """An average from zero that nothing moves: its weights cannot be divided by their sum."""
    free = start != "debiased"
    return [(lambda: free or decays[0] < 1, "decays must begin below 1 if debiased")]


@checked(also=_moves)
def average_path(
    path: Real[T, P],
    decays: Prob[T],
    *,
    start: Literal["copy", "zero", "debiased"] = "copy",
) -> Real[T, P]:
    """Average the weights of a run, and return the average after each update.

    Parameters
    ----------
    path
        The weights after each step.
    decays
        Of each update.
    start
        Whether the first update copies the weights, or the average begins at zero, as it is or divided by the sum of
        its weights.
    """
    if start == "copy":
        decays = xp.concatenate([xp.zeros_like(decays[:1]), decays[1:]])
    average, total = xp.zeros_like(path[0]), xp.zeros_like(decays[:1])
    one = xp.ones_like(total)
    averages = []
    for theta, d in zip(path, decays, strict=True):
        average = blend.unchecked(average, theta, decay=d)
        total = blend.unchecked(total, one, decay=d)
        # eq. weight-ema-debiased
        averages.append(average / total if start == "debiased" else average)

    return xp.stack(averages)


@checked
def warm_decays(
    updates: NonNegative[N],
    *,
    decay: Fraction = 0.999,
    warmup: Literal["none", "tensorflow", "power"] = "none",
    gamma: PositiveFloat = 1.0,
    power: PositiveFloat = 2 / 3,
) -> Prob[N]:
    """Return the decay of an update.

    Parameters
    ----------
    updates
        How many there were before.
    decay
        In the end.
    warmup
        How the decay begins: at once, with TensorFlow's fraction, or with a power.
    gamma
        Updates that the power's warm-up counts as one.
    power
        Of its growth.
    """
    if warmup == "tensorflow":
        rising = (1 + updates) / (10 + updates)  # eq. weight-ema-tensorflow
    elif warmup == "power":
        # eq. weight-ema-power
        rising = 1 - (gamma / (gamma + updates)) ** power
    else:
        rising = xp.ones_like(updates)
    return xp.minimum(rising, decay)


@checked
def half_life_decays(
    images: NonNegative[N],
    *,
    batch: PositiveInt = 512,
    half_life: PositiveFloat = 500e3,
    ramp: Annotated[float, "(0, 1]"] | None = 0.05,
) -> Prob[N]:
    """Return the decay of an update, by a half-life in images.

    Parameters
    ----------
    images
        Number of images seen before.
    batch
        Images of a step.
    half_life
        Images after which a weight has halved.
    ramp
        The largest half-life, as a share of the images seen. None sets no such bound.
    """
    life = xp.full_like(images, half_life)
    if ramp is not None:
        life = xp.minimum(life, ramp * images)
    # eq. weight-ema-half-life
    return 0.5 ** (batch / xp.maximum(life, 1e-8))


class Memory(NamedTuple):
    """Updates that an average reaches back, its half-life, and its lag, in updates."""

    horizon: Real[N]
    half_life: Real[N]
    lag: Real[N]


def _between(decays, **_):
    """A decay of 0 or 1."""
    inside = lambda: ((decays > 0) & (decays < 1)).all()  # noqa: E731
    return [(inside, "decays must lie between 0 and 1")]


@checked(also=_between)
def memory(decays: Prob[N]) -> Memory:
    """Return how far averages reach back.

    Parameters
    ----------
    decays
        Constant ones, one an average.
    """
    # eq. weight-ema-memory
    horizon = 1 / (1 - decays)
    return Memory(horizon, math.log(2) / -xp.log(decays), decays * horizon)


@checked
def rescaled_decays(decays: Prob[N], *, factor: PositiveFloat = 2.0) -> Prob[N]:
    """Return the decays of one update in the place of several.

    Parameters
    ----------
    factor
        The number of updates that one replaces, or the ratio of batch sizes.
    """
    return decays**factor  # eq. weight-ema-rescaled


@checked
def variance_left(
    decays: Prob[N], *, correlation: Annotated[float, "(-1, 1)"] = 0.0
) -> NonNegative[N]:
    """Return what averages leave of the variance of stationary weights.

    Parameters
    ----------
    correlation
        Of the weights from one step to the next.
    """
    carried = correlation * decays
    # eq. weight-ema-variance
    return (1 - decays) / (1 + decays) * ((1 + carried) / (1 - carried))
