r"""AdaMomentum: divide the averaged gradient by the root of an average of its own square.

Adam divides by an average of *raw* squared gradients, noise included. AdaMomentum squares the averaged gradient
instead, and adds epsilon to every term of the second average:

.. math::
    :label: adamomentum-moments

    m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
    v_t = \beta_2 v_{t-1} + (1 - \beta_2) m_t^2 + \varepsilon

.. math::
    :label: adamomentum-step

    \theta_t = (1 - \eta\lambda)\, \theta_{t-1} - \eta\, \frac{\hat m_t}{\sqrt{\hat v_t}}, \qquad
    \hat m_t = \frac{m_t}{1 - \beta_1^t}, \quad
    \hat v_t = \frac{v_t}{1 - \beta_2^t}

with decoupled weight decay :math:`\lambda`. The first average goes into the second as it is, not corrected: the first
step has the length :math:`\eta/(1 - \beta_1)` where gradients are large, ten times Adam's. What epsilon adds to
:math:`\hat v_t` is

.. math::
    :label: adamomentum-floor

    \varepsilon\, \frac{1 - \beta_2^t}{1 - \beta_2} \Big/ (1 - \beta_2^t) = \frac{\varepsilon}{1 - \beta_2}

at every step, so nothing is divided by zero, and a coordinate with zero gradients stays. For stationary gradients with
mean :math:`\mu` and variance :math:`\sigma^2` the expected square under the root tends to

.. math::
    :label: adamomentum-noise

    \mathbb E\, m^2 = \mu^2 + \frac{1 - \beta_1}{1 + \beta_1}\, \sigma^2
    \qquad \text{(Adam: } \mu^2 + \sigma^2 \text{)} .

====================  ==============
:math:`\eta`          `lr`
:math:`\varepsilon`   `eps`
:math:`\lambda`       `weight_decay`
====================  ==============

**Where implementations differ.** Whoever changes the one line of Adam in which the gradient is squared keeps Adam's
epsilon, beside the root and nowhere else, which lowers the floor of the denominator from
:math:`\sqrt{\varepsilon/(1 - \beta_2)}` (0.003) to :math:`\varepsilon`; correcting the first average before it is
squared makes the first steps Adam's. A reproduction of the paper's experiments couples the decay: it is added to the
gradient.

**Provenance.** Confirmed by three public implementations written after the paper (the place of epsilon included). The
floor, the first step and the law of noise are derived here.

Wang, Kang, Qin, Wang, Xu, Zhang and Fu, *Rethinking Adam: A Twofold Exponential Moving Average Approach*, 2021,
arXiv:2106.11514.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    Arrays,
    Decay,
    NonNegativeFloat,
    PositiveFloat,
    Scalar,
    checked,
)


class AdaMomentumState(NamedTuple):
    """Number of steps taken, and the two averages."""

    step: int
    m: Arrays
    v: Arrays


def init(params: Arrays) -> AdaMomentumState:
    """Return the state before the first step: averages zero."""
    m, v = ([xp.zeros_like(p) for p in params] for _ in range(2))
    return AdaMomentumState(0, m, v)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: AdaMomentumState,
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
) -> tuple[Arrays, AdaMomentumState]:
    """Take one step of AdaMomentum.

    Parameters
    ----------
    beta1, beta2
        Decay of the averages.
    eps
        Added to the second average at every step.
    weight_decay
        Rate at which weights shrink, relative to the step size.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    # eq. adamomentum-moments
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]
    v = [beta2 * b + (1 - beta2) * a * a + eps for b, a in zip(state.v, m, strict=True)]

    # eq. adamomentum-step
    m_hat = [a / (1 - beta1**t) for a in m]
    v_hat = [b / (1 - beta2**t) for b in v]
    steps = [lr * a / xp.sqrt(b) for a, b in zip(m_hat, v_hat, strict=True)]
    keep = 1 - lr * weight_decay
    params = [keep * p - step for p, step in zip(params, steps, strict=True)]

    return params, AdaMomentumState(t, m, v)


@checked
def expected_square(
    mean: Scalar,
    std: Scalar,
    *,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
) -> Scalar:
    """Return what the expected second average tends to under stationary gradients, with its floor.

    Parameters
    ----------
    mean
        Of the gradient.
    std
        Standard deviation of the gradient, independent from step to step.
    """
    noise = (1 - beta1) / (1 + beta1) * std * std  # eq. adamomentum-noise
    return mean * mean + noise + eps / (1 - beta2)  # eq. adamomentum-floor
