r"""Adam: adaptive moment estimation.

Exponential averages of the gradient and of its square, both corrected for their start at zero, give a step of bounded
size in every coordinate:

.. math::
    :label: adam-moments

    m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
    v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2

.. math::
    :label: adam-step

    \theta_t = \theta_{t-1} - \eta\, \frac{\hat m_t}{\sqrt{\hat v_t} + \varepsilon}, \qquad
    \hat m_t = \frac{m_t}{1 - \beta_1^t}, \quad
    \hat v_t = \frac{v_t}{1 - \beta_2^t}

The first step has length :math:`\eta` in every coordinate, whatever the gradient's scale.

**Where implementations differ.** The paper's section 2 also gives a shorter form,
:math:`\eta\sqrt{1-\beta_2^t}/(1-\beta_1^t) \cdot m_t/(\sqrt{v_t} + \hat\varepsilon)`, in which epsilon is not
corrected; TensorFlow and Keras use it. With :math:`\varepsilon` near :math:`\sqrt{\hat v}` the two differ at the start.

**Provenance.** Confirmed by PyTorch's implementation, with which this one agrees step by step.

Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2014, arXiv:1412.6980.
"""

from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Method, UpdateRule
from trref.optimizers import deviations
from trref.optimizers.interfaces import UPDATE

__all__ = ["AdamState", "init", "update"]


class AdamState(NamedTuple):
    """Number of steps taken, and the two moments, lists of arrays like the parameters."""

    step: int
    m: Any
    v: Any


def init(params):
    """Return the state before the first step: moments zero."""
    return AdamState(0, [xp.zeros_like(p) for p in params], [xp.zeros_like(p) for p in params])


def update(params, grads, state, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Take one step of Adam.

    Parameters
    ----------
    params, grads : list of arrays
        Of equal shapes.
    state : AdamState
        From `init`, or from the step before.
    lr : float
        Step size, in (0, inf).
    beta1, beta2 : float
        Decay of the moments, in [0, 1).
    eps : float
        Added to the root, in (0, inf).

    Returns
    -------
    params : list of arrays
    state : AdamState

    Raises
    ------
    ValueError
        Lists or shapes that do not fit each other, values that are not finite, numbers out of range.
    """
    validate.state(params, grads, state.m, state.v)
    validate.interval("(0, inf)", lr=lr, eps=eps)
    validate.interval("[0, 1)", beta1=beta1, beta2=beta2)
    t = state.step + 1
    # eq. adam-moments
    m = [beta1 * m + (1 - beta1) * g for m, g in zip(state.m, grads, strict=True)]
    v = [beta2 * v + (1 - beta2) * g * g for v, g in zip(state.v, grads, strict=True)]

    # eq. adam-step
    m_hat = [m_i / (1 - beta1**t) for m_i in m]
    v_hat = [v_i / (1 - beta2**t) for v_i in v]
    params = [p - lr * m_i / (xp.sqrt(v_i) + eps) for p, m_i, v_i in zip(params, m_hat, v_hat, strict=True)]

    return params, AdamState(t, m, v)


METHOD = Method(
    title="Adam: A Method for Stochastic Optimization",
    key="kingma2014adam",
    arxiv="1412.6980",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "no momentum": {"beta1": 0.0},
                "probe": {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3},
            },
            deviations=(deviations.ADAM_EPSILON_HAT,),
        ),
    ),
)
