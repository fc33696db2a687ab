r"""SGD: gradient descent with momentum.

A step along the gradient alone zigzags across a valley. Momentum remembers: it sums the gradients, the older ones
weighted less, so that what alternates cancels and what lasts adds up. With :math:`\nu = 1` it is a sum (heavy ball),
with :math:`\nu = 1 - \mu` an average:

.. math::
    :label: sgd-momentum

    m_t = \mu\, m_{t-1} + \nu\, g_t, \qquad m_0 = 0 .

Nesterov's form goes where the sum will be if the gradient stays zero after this step,

.. math::
    :label: sgd-nesterov

    d_t = \mu\, m_t + \nu\, g_t \quad \text{instead of } d_t = m_t ,

and an average that begins at zero can be divided by the sum of its weights, which with Nesterov's form is one step
ahead:

.. math::
    :label: sgd-average

    d_t \leftarrow \frac{d_t}{1 - \mu^t}, \qquad \text{Nesterov: } \frac{d_t}{1 - \mu^{t+1}} .

The step, with weights that shrink at the rate :math:`\eta\lambda` of their own (decoupled weight decay):

.. math::
    :label: sgd-step

    \theta_t = (1 - \eta\lambda)\, \theta_{t-1} - \eta\, d_t .

The older form, the gradient of :math:`\frac{\lambda}{2}\|\theta\|^2`, goes through the momentum instead:

.. math::
    :label: sgd-l2

    g_t \leftarrow g_t + \lambda\, \theta_{t-1} .

Without momentum the two decays are one. Heavy ball with the rate :math:`\eta` and the average with the rate
:math:`\eta/(1-\mu)` take the same path. Zero gradients leave the parameters where they are, but for momentum and decay.

=================  ==========================================
:math:`\eta`       `lr`
:math:`\mu`        `momentum`
:math:`\nu`        by `averaging`: 1, or ``1 - momentum``
:math:`\lambda`    `weight_decay`
=================  ==========================================

**Where implementations differ.** PyTorch multiplies gradients by 1 - dampening, but not the first one: with a dampening
of :math:`\mu` its buffer is no average from zero, but begins at :math:`g_1`. By `weight_decay` PyTorch's SGD means the
coupled form and Keras' the decoupled one.

**Provenance.** Confirmed by PyTorch's SGD (heavy ball, Nesterov, coupled decay), with which this one agrees step by
step. The sum of the weights of Nesterov's average is derived here.

Polyak, *Some Methods of Speeding up the Convergence of Iteration Methods*, 1964.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import Arrays, Decay, NonNegativeFloat, PositiveFloat, checked


class SgdState(NamedTuple):
    """Number of steps taken, and the momentum."""

    step: int
    m: Arrays


def init(params: Arrays) -> SgdState:
    """Return the state before the first step: momentum zero."""
    return SgdState(0, [xp.zeros_like(p) for p in params])


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: SgdState,
    *,
    lr: PositiveFloat = 0.1,
    momentum: Decay = 0.0,
    nesterov: bool = False,
    averaging: Literal["heavy_ball", "ema", "debiased_ema"] = "heavy_ball",
    weight_decay: NonNegativeFloat = 0.0,
    decoupled_weight_decay: bool = True,
) -> tuple[Arrays, SgdState]:
    """Take one step of gradient descent with momentum.

    Parameters
    ----------
    momentum
        Weight of the gradients before.
    nesterov
        Whether to look one step of the momentum ahead.
    averaging
        Whether the momentum is a sum, an average that begins at zero, or that average corrected for its beginning.
    weight_decay
        Rate at which weights shrink, relative to the step size.
    decoupled_weight_decay
        Whether the decay is a shrinking of its own; else it is added to the gradients.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    new = 1 if averaging == "heavy_ball" else 1 - momentum
    if not decoupled_weight_decay:
        # eq. sgd-l2
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    # eq. sgd-momentum
    m = [momentum * m_i + new * g for m_i, g in zip(state.m, grads, strict=True)]

    direction = m
    if nesterov:
        # eq. sgd-nesterov
        direction = [momentum * a + new * g for a, g in zip(m, grads, strict=True)]
    if averaging == "debiased_ema":
        # eq. sgd-average
        direction = [d / (1 - momentum ** (t + nesterov)) for d in direction]

    # eq. sgd-step
    keep = 1 - lr * weight_decay if decoupled_weight_decay else 1
    params = [keep * p - lr * d for p, d in zip(params, direction, strict=True)]

    return params, SgdState(t, m)
