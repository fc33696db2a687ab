r"""AMSGrad: Adam that never forgets the largest second moment.

Adam's denominator may shrink, so that a rare large gradient is forgotten before its step has done its work; on convex
problems it can converge to the worst point. AMSGrad divides by the largest second moment seen so far:

.. math::
    :label: amsgrad-moments

    m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
    v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2

.. math::
    :label: amsgrad-maximum

    \bar v_t = \max(\bar v_{t-1}, v_t), \qquad \bar v_0 = 0

.. math::
    :label: amsgrad-step

    \theta_t = \theta_{t-1} - \eta\, \frac{m_t}{\sqrt{\bar v_t} + \varepsilon} .

The paper corrects neither moment, and has no epsilon. Programs correct both, and disagree on where. The maximum can be
corrected as Adam's second moment is (``"maximum"``: PyTorch), or be taken of corrected moments (``"moments"``: optax):

.. math::
    :label: amsgrad-corrected

    \hat m_t = \frac{m_t}{1 - \beta_1^t}, \qquad
    \text{``maximum'': } \frac{\bar v_t}{1 - \beta_2^t}, \qquad
    \text{``moments'': } \tilde v_t = \max\Bigl(\tilde v_{t-1}, \frac{v_t}{1 - \beta_2^t}\Bigr) .

With constant gradients both are Adam. After one large first gradient, optax's form takes small steps for ever;
PyTorch's denominator falls with the correction, which the paper's proof does not allow; the two agree once
:math:`\beta_2^t` is small. Zero gradients do not move a parameter that never had others.

====================  ==========
:math:`\eta`          `lr`
:math:`\varepsilon`   `eps`
====================  ==========

**Where implementations differ.** As above; and Keras and TensorFlow compute PyTorch's form with an epsilon that is
added before the correction.

**Provenance.** Partly: the paper's form as its implementers describe it (optax has it as an option); the other two as
PyTorch and optax compute them.

Reddi, Kale and Kumar, *On the Convergence of Adam and Beyond*, 2018, arXiv:1904.09237.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import Arrays, Decay, PositiveFloat, checked


class AmsGradState(NamedTuple):
    """Number of steps taken, the two moments, and the largest second moment."""

    step: int
    m: Arrays
    v: Arrays
    largest: Arrays


def init(params: Arrays) -> AmsGradState:
    """Return the state before the first step: moments zero."""
    m, v, largest = ([xp.zeros_like(p) for p in params] for _ in range(3))
    return AmsGradState(0, m, v, largest)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: AmsGradState,
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    corrected: Literal["nothing", "maximum", "moments"] = "nothing",
) -> tuple[Arrays, AmsGradState]:
    """Take one step of AMSGrad.

    Parameters
    ----------
    beta1, beta2
        Decay of the moments.
    eps
        Added to the root.
    corrected
        What is corrected for the start at zero: nothing, as in the paper; the first moment and the maximum; or both
        moments, before the maximum is taken.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    # eq. amsgrad-moments
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]
    v = [beta2 * b + (1 - beta2) * g * g for b, g in zip(state.v, grads, strict=True)]

    # eq. amsgrad-corrected
    first = 1 if corrected == "nothing" else 1 - beta1**t
    before = 1 - beta2**t if corrected == "moments" else 1
    after = 1 - beta2**t if corrected == "maximum" else 1

    # eq. amsgrad-maximum
    largest = [xp.maximum(a, b / before) for a, b in zip(state.largest, v, strict=True)]

    # eq. amsgrad-step
    roots = [xp.sqrt(b / after) + eps for b in largest]
    steps = [lr * (a / first) / root for a, root in zip(m, roots, strict=True)]
    params = [p - step for p, step in zip(params, steps, strict=True)]

    return params, AmsGradState(t, m, v, largest)
