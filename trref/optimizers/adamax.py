r"""AdaMax: Adam with the largest gradient in the place of the root mean square.

Adam's second moment is an average of squares. Averages of ever higher powers tend to a decaying maximum, which needs no
correction for its start and no power:

.. math::
    :label: adamax-average

    m_t = \beta_1 m_{t-1} + (1 - \beta_1)\, g_t

.. math::
    :label: adamax-maximum

    u_t = \max(\beta_2 u_{t-1}, |g_t|) = \max_{s \le t} \beta_2^{t-s} |g_s|

.. math::
    :label: adamax-step

    \theta_t = \theta_{t-1} - \frac{\eta}{1 - \beta_1^t}\, \frac{m_t}{u_t} .

The first step has the length :math:`\eta` exactly, in every coordinate, and with :math:`\beta_1 < \beta_2` none is
longer than :math:`\eta (1 - \beta_1) / (1 - \beta_1/\beta_2)` in the long run: 1.009 :math:`\eta` at the defaults.
Gradients of any other size make the same path; constant ones make Adam's without epsilon. Where :math:`u_t = 0`
nothing moves.

====================  ==========
:math:`\eta`          `lr`
:math:`\varepsilon`   `eps`
====================  ==========

**Where implementations differ.** The paper has no epsilon; programs do. PyTorch and optax add it to :math:`|g_t|`,
inside of the maximum, where it decays; Keras to :math:`u_t`. The keyword `epsilon` has all three forms.

**Provenance.** Confirmed: Algorithm 2 of the paper as the three programs cite it, with which this one agrees up to
their epsilon, and exactly with it.

Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2014, arXiv:1412.6980, section 7.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import Arrays, Decay, PositiveFloat, checked


class AdaMaxState(NamedTuple):
    """Number of steps taken, the average gradient, and the decaying maximum."""

    step: int
    m: Arrays
    u: Arrays


def init(params: Arrays) -> AdaMaxState:
    """Return the state before the first step: all zero."""
    m, u = ([xp.zeros_like(p) for p in params] for _ in range(2))
    return AdaMaxState(0, m, u)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: AdaMaxState,
    *,
    lr: PositiveFloat = 2e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    epsilon: Literal["nowhere", "inside", "outside"] = "nowhere",
) -> tuple[Arrays, AdaMaxState]:
    """Take one step of AdaMax.

    Parameters
    ----------
    beta1, beta2
        Decay of the average and of the maximum.
    eps
        What is added to the maximum.
    epsilon
        Where: nowhere, as in the paper; to the gradients' size inside of the maximum; or to the maximum itself.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    inside, outside = (eps * (epsilon == where) for where in ("inside", "outside"))
    # eq. adamax-average
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]

    # eq. adamax-maximum
    u = [
        xp.maximum(beta2 * b, abs(g) + inside)
        for b, g in zip(state.u, grads, strict=True)
    ]

    # eq. adamax-step
    sizes = [xp.where(b + outside > 0, b + outside, xp.inf) for b in u]
    steps = [lr / (1 - beta1**t) * (a / b) for a, b in zip(m, sizes, strict=True)]
    params = [p - step for p, step in zip(params, steps, strict=True)]

    return params, AdaMaxState(t, m, u)
