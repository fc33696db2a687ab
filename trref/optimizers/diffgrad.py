r"""diffGrad: Adam with a friction where the gradient hardly changes.

Near an optimum consecutive gradients are alike, and Adam's momentum may carry it past. diffGrad multiplies Adam's step
by a sigmoid of how much the gradient changed: half the step where it did not, up to the whole step where it did.

.. math::
    :label: diffgrad-moments

    m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
    v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2

.. math::
    :label: diffgrad-friction

    \xi_t = \frac{1}{1 + e^{-|g_t - g_{t-1}|}} \in [\tfrac12, 1), \qquad g_0 = 0

.. math::
    :label: diffgrad-step

    \theta_t = \theta_{t-1} - \eta\, \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \cdot
    \frac{\xi_t m_t}{\sqrt{v_t} + \varepsilon}

Every step lies between half of Adam's and the whole one, in every coordinate. The friction is not invariant to the
gradient's scale: with small gradients, as those of means over a minibatch are, it is ½ nearly everywhere, and diffGrad
is Adam at half the rate; with large ones it is Adam. The authors' notebook adds epsilon to the corrected root, as Adam
does; then :math:`\varepsilon\sqrt{1 - \beta_2^t}` stands in the place of :math:`\varepsilon`. Weight decay is a
penalty:

.. math::
    :label: diffgrad-decay

    g_t \leftarrow g_t + \lambda\, \theta_{t-1} ,

and so the friction sees it, too.

====================  ==============
:math:`\eta`          `lr`
:math:`\varepsilon`   `eps`
:math:`\lambda`       `weight_decay`
====================  ==============

**Where implementations differ.** The authors' first file, the one "used in paper" by their own words, keeps a reference
to the gradient in place of a copy. Where gradients are written into the same memory at each step, the previous gradient
is then today's, and from the second step on the friction is ½ everywhere: Adam at half the rate. Their second version
copies. In pytorch_optimizer weight decay is decoupled unless one asks for the other.

**Provenance.** Confirmed by the authors' code, versions 1 and 2, and by pytorch_optimizer, with which this one agrees.

Dubey, Chakraborty, Roy, Mukherjee, Singh and Chaudhuri, *diffGrad: An Optimization Method for Convolutional Neural
Networks*, 2019, arXiv:1909.11015.
"""

import math
from typing import Literal, NamedTuple

from trref.backend import special, xp
from trref.signature import (
    Arrays,
    Decay,
    Lead,
    N,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    checked,
)


class DiffGradState(NamedTuple):
    """Number of steps taken, the two moments, and the gradients of the step before."""

    step: int
    m: Arrays
    v: Arrays
    previous: Arrays


def init(params: Arrays) -> DiffGradState:
    """Return the state before the first step: moments and gradients zero."""
    m, v, previous = ([xp.zeros_like(p) for p in params] for _ in range(3))
    return DiffGradState(0, m, v, previous)


@checked
def friction(current: Real[Lead, N], previous: Real[Lead, N]) -> Real[Lead, N]:
    """Return the share of Adam's step that is taken, from ½ to 1.

    Parameters
    ----------
    current
        The gradient.
    previous
        The gradient of the step before.
    """
    return special.expit(abs(current - previous))  # eq. diffgrad-friction


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: DiffGradState,
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    form: Literal["paper", "corrected"] = "paper",
    weight_decay: NonNegativeFloat = 0.0,
) -> tuple[Arrays, DiffGradState]:
    """Take one step of diffGrad.

    Parameters
    ----------
    beta1, beta2
        Decay of the moments.
    eps
        Added to the root.
    form
        Whether `eps` is added to the root of the second moment as it is, or corrected for its start.
    weight_decay
        Weight of the squared norm that is added to the loss, halved.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    # eq. diffgrad-decay
    g = [a + weight_decay * p for p, a in zip(params, grads, strict=True)]
    # eq. diffgrad-moments
    m = [beta1 * a + (1 - beta1) * b for a, b in zip(state.m, g, strict=True)]
    v = [beta2 * a + (1 - beta2) * b * b for a, b in zip(state.v, g, strict=True)]
    xi = [friction.unchecked(*pair) for pair in zip(g, state.previous, strict=True)]

    # eq. diffgrad-step
    root = math.sqrt(1 - beta2**t)
    rate = lr * root / (1 - beta1**t)
    small = eps if form == "paper" else eps * root
    steps = [x * a / (xp.sqrt(b) + small) for x, a, b in zip(xi, m, v, strict=True)]
    params = [p - rate * step for p, step in zip(params, steps, strict=True)]

    return params, DiffGradState(t, m, v, g)
