r"""Lion: the sign of a mixture of momentum and gradient.

A search among programs found a rule with a single average. The step goes along the sign of a mixture of the average and
today's gradient; the average is brought up to date afterwards, more slowly:

.. math::
    :label: lion-mixture

    c_t = \beta_1 m_{t-1} + (1 - \beta_1)\, g_t

.. math::
    :label: lion-step

    \theta_t = (1 - \eta\lambda)\, \theta_{t-1} - \eta\, \mathrm{sign}(c_t), \qquad \mathrm{sign}(0) = 0

.. math::
    :label: lion-average

    m_t = \beta_2 m_{t-1} + (1 - \beta_2)\, g_t, \qquad m_0 = 0 .

Every coordinate moves by the rate, whatever the gradient's scale: rates are three to ten times smaller than Adam's, and
decays as much larger. Today's gradient counts 0.1 in the sign, yesterday's 0.009: more than in any one average. With
:math:`\eta\lambda < 1` weights stay within :math:`\max(|\theta_0|, 1/\lambda)`. A parameter with zero gradients stays.

===============  ==============
:math:`\eta`     `lr`
:math:`\lambda`  `weight_decay`
===============  ==============

**Where implementations differ.** DeepSpeed's kernel for many tensors steps by minus the rate where the mixture is
positive and by plus the rate elsewhere, so that a parameter without gradients drifts. Whoever brings the average up to
date *before* mixing changes one sign in a hundred, which no first step shows; the sign of the slow average alone
(signum) changes every fourth. pytorch_optimizer's ``fixed_decay`` does not multiply the decay by the rate.

**Provenance.** Confirmed by the authors' code (google/automl) and by pytorch_optimizer, with which this one agrees.

Chen et al., *Symbolic Discovery of Optimization Algorithms*, 2023, arXiv:2302.06675.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import Arrays, Decay, NonNegativeFloat, PositiveFloat, checked


class LionState(NamedTuple):
    """The average of the gradients."""

    m: Arrays


def init(params: Arrays) -> LionState:
    """Return the state before the first step: average zero."""
    return LionState([xp.zeros_like(p) for p in params])


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: LionState,
    *,
    lr: PositiveFloat = 1e-4,
    beta1: Decay = 0.9,
    beta2: Decay = 0.99,
    weight_decay: NonNegativeFloat = 0.0,
) -> tuple[Arrays, LionState]:
    """Take one step of Lion.

    Parameters
    ----------
    beta1
        Weight of the average in the step.
    beta2
        Decay of the average.
    weight_decay
        Rate at which weights shrink, relative to the step size.

    Returns
    -------
    params
    state
    """
    # eq. lion-mixture
    c = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]
    # eq. lion-step
    keep = 1 - lr * weight_decay
    params = [keep * p - lr * xp.sign(a) for p, a in zip(params, c, strict=True)]
    # eq. lion-average
    m = [beta2 * a + (1 - beta2) * g for a, g in zip(state.m, grads, strict=True)]
    return params, LionState(m)
