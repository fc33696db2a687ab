r"""Schedule-Free SGD and AdamW: an average in the place of a rate that falls.

A rate that falls to zero must know when training ends. An average needs no such date, but a plain one reacts slowly:
gradients are taken where noise has led, and the average is only looked at. Schedule-free methods take the gradients
near the average. Three sequences start at :math:`\theta_0`: the fast :math:`z`, its mean :math:`x`, and between them

.. math::
    :label: schedule-free-between

    y_t = (1 - \beta)\, z_t + \beta\, x_t ,

where the gradient :math:`g_t` is taken and where the parameters of a training program stand. SGD moves

.. math::
    :label: schedule-free-sgd

    z_{t+1} = z_t - \gamma_t\, (g_t + \lambda y_t) ,

and AdamW, which has no first moment because the mean has its place,

.. math::
    :label: schedule-free-adamw

    v_t = \beta_2 v_{t-1} + (1 - \beta_2)\, g_t^2, \qquad
    z_{t+1} = z_t - \gamma_t \Bigl( \frac{g_t}{\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon} + \lambda y_t \Bigr) ;

weights decay at :math:`y`, outside of the denominator. The rate grows for :math:`T` steps,

.. math::
    :label: schedule-free-warmup

    \gamma_t = \gamma \min(1, t/T) ,

and the mean weighs each step by a power of its number and of the largest rate so far,

.. math::
    :label: schedule-free-average

    x_{t+1} = (1 - c_t)\, x_t + c_t\, z_{t+1}, \qquad
    c_t = \frac{w_t}{\sum_{s \le t} w_s}, \qquad w_t = t^r \max_{s \le t} \gamma_s^{\,p} .

The model to evaluate is :math:`x`, ``state.x``. After one step all three are one point. At a constant rate :math:`x`
is the plain mean of all :math:`z` but the first. With :math:`\beta = 0` the parameters are those of SGD, or of Adam
without momentum; with :math:`\beta = 1` they are the mean itself. Programs store :math:`y` and :math:`z` alone, and
find the mean by

.. math::
    :label: schedule-free-recover

    x = z + \frac{y - z}{\beta} .

Zero gradients move nothing without decay. The sum of weights is kept in units of the last one, and so never overflows.

=================  ==============================
:math:`\gamma`     `lr`
:math:`\lambda`    `weight_decay`
:math:`T`          `warmup`
:math:`r, p`       `step_power, rate_power`
=================  ==============================

**Where implementations differ.** optax counts the steps of the rate from 0 and those of the weights from 1: in a
warm-up it moves with the rate of the step before, and first of all not at all.

**Provenance.** Confirmed by the authors' package, its weights included, by pytorch_optimizer, which follows it, and by
optax at a constant rate. The paper's text was not read again.

Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, *The Road Less Scheduled*, 2024, arXiv:2405.15682.
"""

from typing import Annotated, NamedTuple

from trref.backend import xp
from trref.signature import (
    Arrays,
    Decay,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    P,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


class ScheduleFreeState(NamedTuple):
    """Steps taken, fast sequence, its mean, the weights' sum over the last one, largest rate, and AdamW's moment."""

    step: int
    z: Arrays
    x: Arrays
    total: Scalar
    largest: Scalar
    v: Arrays


def init(params: Arrays) -> ScheduleFreeState:
    """Return the state before the first step: all sequences at the parameters, the moment zero."""
    z, x = ([xp.array(p) for p in params] for _ in range(2))
    total, largest = (xp.zeros((), dtype=z[0].dtype) for _ in range(2))
    return ScheduleFreeState(
        0, z, x, total, largest, [xp.zeros_like(p) for p in params]
    )


def _rate(state, lr, warmup):
    t = state.step + 1
    return lr * min(1, t / max(warmup, 1))  # eq. schedule-free-warmup


def _averaged(state, z, rate, *, beta, step_power, rate_power):
    """The point between, and what the state says of the mean."""
    t, largest = state.step + 1, xp.maximum(state.largest, rate)
    # eq. schedule-free-average
    shrink = (state.step / t) ** step_power * (state.largest / largest) ** rate_power
    total = 1 + state.total * shrink
    c = 1 / total
    x = [(1 - c) * a + c * b for a, b in zip(state.x, z, strict=True)]

    # eq. schedule-free-between
    y = [(1 - beta) * b + beta * a for a, b in zip(x, z, strict=True)]

    return y, (t, z, x, total, largest)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: ScheduleFreeState,
    *,
    lr: PositiveFloat = 1.0,
    beta: Fraction = 0.9,
    weight_decay: NonNegativeFloat = 0.0,
    warmup: NonNegativeInt = 0,
    step_power: NonNegativeFloat = 0.0,
    rate_power: NonNegativeFloat = 2.0,
) -> tuple[Arrays, ScheduleFreeState]:
    """Take one step of Schedule-Free SGD.

    Parameters
    ----------
    params
        The point between, where gradients are taken.
    beta
        How near to the mean the gradients are taken: 0 at the fast sequence, 1 at the mean.
    weight_decay
        Rate at which weights shrink, relative to the step size.
    warmup
        Number of steps in which the rate grows.
    step_power
        Power of a step's number in its weight.
    rate_power
        Power of the largest rate so far in it.

    Returns
    -------
    params
    state
    """
    rate = _rate(state, lr, warmup)
    moves = zip(state.z, grads, params, strict=True)
    # eq. schedule-free-sgd
    z = [a - rate * (g + weight_decay * y) for a, g, y in moves]

    powers = {"step_power": step_power, "rate_power": rate_power}
    params, averages = _averaged(state, z, rate, beta=beta, **powers)
    return params, ScheduleFreeState(*averages, state.v)


@checked
def adamw_update(
    params: Arrays,
    grads: Arrays,
    state: ScheduleFreeState,
    *,
    lr: PositiveFloat = 2.5e-3,
    beta: Fraction = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
    warmup: NonNegativeInt = 0,
    step_power: NonNegativeFloat = 0.0,
    rate_power: NonNegativeFloat = 2.0,
) -> tuple[Arrays, ScheduleFreeState]:
    """Take one step of Schedule-Free AdamW.

    Parameters
    ----------
    beta2
        Decay of the second moment.
    eps
        Added to the root.

    Returns
    -------
    params
    state
    """
    t, rate = state.step + 1, _rate(state, lr, warmup)
    # eq. schedule-free-adamw
    v = [beta2 * b + (1 - beta2) * g * g for b, g in zip(state.v, grads, strict=True)]
    roots = [xp.sqrt(b / (1 - beta2**t)) + eps for b in v]
    moves = zip(state.z, grads, roots, params, strict=True)
    z = [a - rate * (g / root + weight_decay * y) for a, g, root, y in moves]

    powers = {"step_power": step_power, "rate_power": rate_power}
    params, averages = _averaged(state, z, rate, beta=beta, **powers)
    return params, ScheduleFreeState(*averages, v)


@checked
def recover_mean(
    y: Real[P], z: Real[P], *, beta: Annotated[float, "[0.001, 1]"] = 0.9
) -> Real[P]:
    """Return the mean of which a program stores the point between and the fast sequence.

    Parameters
    ----------
    y
        The point between.
    z
        The fast sequence.
    """
    return z + (y - z) / beta  # eq. schedule-free-recover
