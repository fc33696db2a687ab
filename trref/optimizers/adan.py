r"""Adan: Nesterov's momentum from the last change of the gradient.

Nesterov's method takes the gradient at a point ahead. Adan keeps to the gradient that it has, and adds a multiple of
its last change. Three averages follow: of the gradient, of its change, and of the square of the two together:

.. math::
    :label: adan-averages

    m_t = \beta_1 m_{t-1} + (1 - \beta_1)\, g_t, \qquad
    v_t = \beta_2 v_{t-1} + (1 - \beta_2)\, d_t, \qquad d_t = g_t - g_{t-1}, \quad d_1 = 0

.. math::
    :label: adan-square

    n_t = \beta_3 n_{t-1} + (1 - \beta_3) \bigl(g_t + \beta_2\, d_t\bigr)^2

.. math::
    :label: adan-direction

    u_t = \Bigl(\frac{m_t}{1 - \beta_1^t} + \beta_2 \frac{v_t}{1 - \beta_2^t}\Bigr)
    \Big/ \Bigl(\sqrt{\frac{n_t}{1 - \beta_3^t}} + \varepsilon\Bigr)

.. math::
    :label: adan-step

    \theta_t = \frac{\theta_{t-1} - \eta\, u_t}{1 + \eta\lambda} ,

which minimises the linear model with the decay :math:`\frac\lambda2 \|\theta\|^2` included (a proximal step); the other
form is :math:`(1 - \eta\lambda)\, \theta_{t-1} - \eta\, u_t`. The paper's letters are weights of the *new* value,
:math:`\beta_i^{\text{paper}} = 1 - \beta_i`: the factor before the change is :math:`1 - \beta_2^{\text{paper}}`. With
:math:`\beta_2 = 0` it is Adam with :math:`\beta_1` and :math:`\beta_3`; a constant gradient moves at the rate. Zero
gradients move nothing.

====================  ==============
:math:`\eta`          `lr`
:math:`\varepsilon`   `eps`
:math:`\lambda`       `weight_decay`
====================  ==============

**Where implementations differ.** optax takes :math:`1 - \beta_2` for the factor before the change, where its own
documentation needs :math:`\beta_2`: the two conventions are mixed. The paper's algorithm begins with :math:`m = g_1`
and corrects nothing; its authors' code does what stands here.

**Provenance.** Confirmed by the authors' code (sail-sg/Adan) and by pytorch_optimizer, with which this one agrees.

Xie, Zhou, Li, Lin and Yan, *Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models*, 2022,
arXiv:2208.06677.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import Arrays, Decay, NonNegativeFloat, PositiveFloat, checked


class AdanState(NamedTuple):
    """Number of steps taken, the three averages, and the gradients of the step before."""

    step: int
    m: Arrays
    v: Arrays
    n: Arrays
    previous: Arrays


def init(params: Arrays) -> AdanState:
    """Return the state before the first step: all zero."""
    m, v, n, previous = ([xp.zeros_like(p) for p in params] for _ in range(4))
    return AdanState(0, m, v, n, previous)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: AdanState,
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Decay = 0.98,
    beta2: Decay = 0.92,
    beta3: Decay = 0.99,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
    proximal: bool = True,
) -> tuple[Arrays, AdanState]:
    """Take one step of Adan.

    Parameters
    ----------
    beta1, beta2, beta3
        Decay of the averages of the gradient, of its change, and of the square.
    eps
        Added to the root.
    weight_decay
        Rate at which weights shrink, relative to the step size.
    proximal
        Whether weights are divided after the step; else they are multiplied before it.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    # eq. adan-averages
    before = state.previous if state.step else grads
    change = [g - a for g, a in zip(grads, before, strict=True)]
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]
    v = [beta2 * a + (1 - beta2) * d for a, d in zip(state.v, change, strict=True)]

    # eq. adan-square
    ahead = [g + beta2 * d for g, d in zip(grads, change, strict=True)]
    n = [beta3 * a + (1 - beta3) * g * g for a, g in zip(state.n, ahead, strict=True)]

    # eq. adan-direction
    c1, c2, c3 = 1 - beta1**t, 1 - beta2**t, 1 - beta3**t
    momenta = [a / c1 + beta2 * b / c2 for a, b in zip(m, v, strict=True)]
    u = [a / (xp.sqrt(b / c3) + eps) for a, b in zip(momenta, n, strict=True)]

    # eq. adan-step
    kept = 1 if proximal else 1 - lr * weight_decay
    after = 1 + lr * weight_decay if proximal else 1
    params = [(kept * p - lr * a) / after for p, a in zip(params, u, strict=True)]

    return params, AdanState(t, m, v, n, [xp.array(g) for g in grads])
