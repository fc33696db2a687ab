r"""The loss landscape's induced metric: gradient descent on the graph of the loss.

Draw the loss as a surface :math:`(\theta, \sqrt\xi L(\theta))` in one more dimension. Lengths on it give the parameters
the metric

.. math::
    :label: induced-metric-metric

    G = I + \xi\, g g^\top, \qquad \det G = 1 + \xi \|g\|^2, \qquad G^{-1} g = \frac{g}{1 + \xi \|g\|^2}

with :math:`g = \nabla L`: the natural gradient has the direction of the gradient, and a length that *falls* where the
surface is steep, a smooth kind of clipping. It is at most :math:`1/(2\sqrt\xi)`, reached at :math:`\|g\| = 1/\sqrt\xi`.
From any other metric B to begin with it is

.. math::
    :label: induced-metric-base

    G = B + \xi\, g g^\top, \qquad G^{-1} g = \frac{B^{-1} g}{1 + \xi\, g^\top B^{-1} g} ,

and for descent on :math:`\log L`, on the graph of that,

.. math::
    :label: induced-metric-log

    \frac{\nabla \log L}{1 + \xi \|\nabla \log L\|^2} = \frac{L\, g}{L^2 + \xi \|g\|^2}, \qquad L > 0 ,

which is the same for :math:`cL`. The optimisers average what they see. One number for all parameters together,

.. math::
    :label: induced-metric-average

    e_t = \beta e_{t-1} + (1 - \beta)\, \xi \sum \|g_t\|^2, \qquad \hat e_t = \frac{e_t}{1 - \beta^t},

scales a momentum that is corrected for its start, beside a decoupled decay:

.. math::
    :label: induced-metric-step

    m_t = \mu\, m_{t-1} + (1 - \mu)\, g_t, \qquad
    \theta_t = (1 - \eta\lambda)\, \theta_{t-1} - \eta\, s_t\, \frac{m_t}{1 - \mu^t}, \qquad
    s_t = \frac{1}{1 + \hat e_t} .

The logarithmic form takes the loss of the same batch,

.. math::
    :label: induced-metric-log-scale

    s_t = \frac{L_t}{L_t^2 + \hat e_t},

and the third begins from RMSprop's metric, :math:`e_t` now averaging :math:`\xi \sum g_t^2 / B_t`:

.. math::
    :label: induced-metric-rms

    r_t = \beta_r r_{t-1} + (1 - \beta_r)\, g_t^2, \quad B_t = \sqrt{\frac{r_t}{1 - \beta_r^t}} + \varepsilon, \quad
    \theta_t = (1 - \eta\lambda)\, \theta_{t-1} - \eta\, \frac{s_t}{B_t}\, \frac{m_t}{1 - \mu^t} .

With :math:`\xi = 0` the first is gradient descent with momentum, the third Adam. Without averages
(:math:`\beta = \mu = 0`) they are the metrics above. Zero gradients do not move anything. The logarithmic form needs a
minimum near zero: of a loss that cannot vanish it is descent at the rate :math:`\eta/L`. A number for each tensor, not
one for all, would be another method.

====================  ==============
:math:`\eta`          `lr`
:math:`\mu`           `momentum`
:math:`\beta`         `beta`
:math:`\beta_r`       `beta2`
:math:`\varepsilon`   `eps`
:math:`\lambda`       `weight_decay`
====================  ==============

**Where implementations differ.** The author's two versions agree with each other and with this one; others are not
known.

**Provenance.** The three optimisers are confirmed in the author's code (harveyThomas4692/Induced-Metric-Optimiser, JAX
and PyTorch). The metrics are derived here, and give those updates; that the logarithmic form is descent on the graph of
:math:`\log L` is read off its formula.

Harvey, *The Optimiser Hidden in Plain Sight: Training with the Loss Landscape's Induced Metric*, 2025,
arXiv:2509.03594.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    Arrays,
    Decay,
    NonNegativeFloat,
    P,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


class MetricState(NamedTuple):
    """Number of steps; the averaged steepness; momentum; second moments, of `update_rms` alone."""

    step: int
    e: Scalar
    m: Arrays
    r: Arrays


def init(params: Arrays) -> MetricState:
    """Return the state before the first step, of all three rules: averages zero."""
    m, r = ([xp.zeros_like(p) for p in params] for _ in range(2))
    return MetricState(0, xp.zeros((), dtype=params[0].dtype), m, r)


@checked
def natural_step(
    g: Real[P], base: Positive[P] | None = None, *, xi: NonNegativeFloat = 0.1
) -> Real[P]:
    """The natural gradient for the metric of the graph.

    Parameters
    ----------
    g
        The gradient.
    base
        The diagonal of the metric to begin with; ones if None.
    xi
        The square of the height of one unit of loss.
    """
    # eq. induced-metric-metric, induced-metric-base
    base = xp.ones_like(g) if base is None else base
    least = base.min()  # factored out: a tiny entry alone would overflow
    step = g * (least / base)
    return step / (least + xi * (g * step).sum())


@checked
def log_step(g: Real[P], loss: Positive[()], *, xi: NonNegativeFloat = 0.1) -> Real[P]:
    """The natural gradient of the loss's logarithm for the metric of its own graph.

    Parameters
    ----------
    loss
        Its value there.
    """
    # eq. induced-metric-log
    return loss * g / (loss**2 + xi * (g * g).sum())


def _averages(grads, state, steepness, momentum, beta):
    """The next steepness and momentum, and both corrected for their start."""
    t = state.step + 1
    # eq. induced-metric-average
    e = beta * state.e + (1 - beta) * steepness
    m = [momentum * a + (1 - momentum) * g for a, g in zip(state.m, grads, strict=True)]
    ahead = [a / (1 - momentum**t) for a in m]
    return state._replace(step=t, e=e, m=m), e / (1 - beta**t), ahead


def _steepness(grads, xi):
    return xi * sum((g * g).sum() for g in grads)


def _moved(params, steps, scale, lr, weight_decay):
    # eq. induced-metric-step
    keep = 1 - lr * weight_decay
    return [keep * p - lr * scale * s for p, s in zip(params, steps, strict=True)]


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: MetricState,
    *,
    lr: PositiveFloat = 0.1,
    momentum: Decay = 0.9,
    xi: NonNegativeFloat = 0.1,
    beta: Decay = 0.8,
    weight_decay: NonNegativeFloat = 0.0,
) -> tuple[Arrays, MetricState]:
    """Take one step of descent on the graph of the loss.

    Parameters
    ----------
    momentum
        Decay of the averaged gradient.
    beta
        Decay of the averaged steepness.
    weight_decay
        Rate at which weights shrink, relative to the step size.

    Returns
    -------
    params
    state
    """
    steepness = _steepness(grads, xi)
    state, e, m = _averages(grads, state, steepness, momentum, beta)
    return _moved(params, m, 1 / (1 + e), lr, weight_decay), state


@checked
def update_log(
    params: Arrays,
    grads: Arrays,
    state: MetricState,
    *,
    loss: Positive[()],
    lr: PositiveFloat = 0.1,
    momentum: Decay = 0.9,
    xi: NonNegativeFloat = 0.1,
    beta: Decay = 0.8,
    weight_decay: NonNegativeFloat = 0.0,
) -> tuple[Arrays, MetricState]:
    """Take one step of descent on the graph of the loss's logarithm.

    Parameters
    ----------
    loss
        Of the batch of the gradients.

    Returns
    -------
    params
    state
    """
    steepness = _steepness(grads, xi)
    state, e, m = _averages(grads, state, steepness, momentum, beta)
    scale = loss / (loss * loss + e)  # eq. induced-metric-log-scale
    return _moved(params, m, scale, lr, weight_decay), state


@checked
def update_rms(
    params: Arrays,
    grads: Arrays,
    state: MetricState,
    *,
    lr: PositiveFloat = 0.1,
    momentum: Decay = 0.9,
    xi: NonNegativeFloat = 0.1,
    beta: Decay = 0.8,
    beta2: Decay = 0.99,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
) -> tuple[Arrays, MetricState]:
    """Take one step on the graph of the loss over RMSprop's metric.

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
    t = state.step + 1
    # eq. induced-metric-rms
    r = [beta2 * a + (1 - beta2) * g * g for a, g in zip(state.r, grads, strict=True)]
    B = [xp.sqrt(a / (1 - beta2**t)) + eps for a in r]
    steepness = xi * sum((g * g / b).sum() for g, b in zip(grads, B, strict=True))
    state, e, m = _averages(grads, state, steepness, momentum, beta)
    steps = [a / b for a, b in zip(m, B, strict=True)]
    moved = _moved(params, steps, 1 / (1 + e), lr, weight_decay)
    return moved, state._replace(r=r)
