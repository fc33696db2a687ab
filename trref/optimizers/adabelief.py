r"""AdaBelief: long steps where gradients are as expected.

Adam divides by the size of gradients. AdaBelief divides by how far they are from their own average: where they agree
with it the step is long, where they surprise it is short:

.. math::
    :label: adabelief-average

    m_t = \beta_1 m_{t-1} + (1 - \beta_1)\, g_t

.. math::
    :label: adabelief-deviation

    s_t = \beta_2 s_{t-1} + (1 - \beta_2)\, (g_t - m_t)^2 + \varepsilon

.. math::
    :label: adabelief-step

    \theta_t = \theta_{t-1} - \eta\, \frac{m_t}{1 - \beta_1^t} \Big/
    \Bigl( \sqrt{\frac{s_t}{1 - \beta_2^t}} + \varepsilon \Bigr) .

The average is the new one, so that :math:`g_t - m_t = \beta_1 (g_t - m_{t-1})`. Epsilon stays in :math:`s_t`, and with
it :math:`\varepsilon / (1 - \beta_2)` is in the root at every step. It is all that is left there when a gradient is
constant: the step then grows to :math:`\eta |g| / \sqrt{\varepsilon / (1 - \beta_2)}`, where Adam's stays at
:math:`\eta`. Gradients :math:`\mu + \sigma\xi` with independent noise give :math:`\mathbb E\, s \to 2\sigma^2 \beta_1^2
/ (1 + \beta_1)`, whatever :math:`\mu` is. With :math:`\beta_1 = 0` every gradient is as expected, and the method is
gradient descent. Zero gradients move nothing. Not stored, epsilon is added in the root only.

The rectified form takes a step of momentum alone while the second average has seen too little, and after it scales the
step as RAdam does. With :math:`\rho_\infty = 2/(1 - \beta_2) - 1`,

.. math::
    :label: adabelief-rectified

    \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t}, \qquad
    \theta_t = \theta_{t-1} - \frac{\eta}{1 - \beta_1^t} \begin{cases}
    \sqrt{(1 - \beta_2^t) \frac{(\rho_t - 4)(\rho_t - 2)\, \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2)\, \rho_t}}
    \; m_t \big/ (\sqrt{s_t} + \varepsilon) & \rho_t \ge 5 \\
    m_t & \text{else.} \end{cases}

====================  ==========
:math:`\eta`          `lr`
:math:`\varepsilon`   `eps`
====================  ==========

**Where implementations differ.** The authors' package rectifies by default. Its epsilon was stored by an addition in
place that was not meant to be one, and then kept, for results depend on it; copies that repair this compute the form
that is not stored. The paper's epsilon is :math:`10^{-8}`, that of the packages :math:`10^{-16}`.

**Provenance.** Confirmed by the authors' code (juntang-zhuang/Adabelief-Optimizer, adabelief_pytorch 0.2.1), optax and
pytorch_optimizer, with which this one agrees.

Zhuang et al., *AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients*, 2020, arXiv:2010.07468.
"""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.signature import Arrays, Decay, PositiveFloat, checked


class AdaBeliefState(NamedTuple):
    """Number of steps taken, the average gradient, and the average squared deviation from it."""

    step: int
    m: Arrays
    s: Arrays


def init(params: Arrays) -> AdaBeliefState:
    """Return the state before the first step: all zero."""
    m, s = ([xp.zeros_like(p) for p in params] for _ in range(2))
    return AdaBeliefState(0, m, s)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: AdaBeliefState,
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-16,
    stored: bool = True,
    rectified: bool = False,
) -> tuple[Arrays, AdaBeliefState]:
    """Take one step of AdaBelief.

    Parameters
    ----------
    beta1, beta2
        Decay of the averages.
    eps
        Added to the squared deviation, and to the root.
    stored
        Whether what is added to the squared deviation stays in its average.
    rectified
        Whether steps are those of momentum at first, and rectified afterwards.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    c1, c2 = 1 - beta1**t, 1 - beta2**t
    # eq. adabelief-average
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]

    # eq. adabelief-deviation
    off = [g - a for g, a in zip(grads, m, strict=True)]
    s = [beta2 * b + (1 - beta2) * d * d for b, d in zip(state.s, off, strict=True)]
    seen = [b + eps for b in s]

    # eq. adabelief-rectified
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / c2
    if rectified and length < 5:
        steps = [lr / c1 * a for a in m]
    elif rectified:
        ahead, end = (length - 4) * (length - 2), (longest - 4) * (longest - 2)
        rate = lr / c1 * math.sqrt(c2 * ahead / end * longest / length)
        steps = [rate * a / (xp.sqrt(b) + eps) for a, b in zip(m, seen, strict=True)]
    else:
        # eq. adabelief-step
        inside = seen if stored else [b + c2 * eps for b in s]
        roots = [xp.sqrt(b / c2) + eps for b in inside]
        steps = [lr * (a / c1) / root for a, root in zip(m, roots, strict=True)]

    params = [p - step for p, step in zip(params, steps, strict=True)]
    return params, AdaBeliefState(t, m, seen if stored else s)
