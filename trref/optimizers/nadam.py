r"""NAdam: Adam with Nesterov's look ahead in the momentum.

Adam moves along the average of the gradients until now. Nesterov's momentum uses the average as it will be after the
next step. NAdam gets that without a second gradient: the average counts with its next weight, and today's gradient with
today's. The weight may rise over time, from :math:`\beta_1/2` to :math:`\beta_1`:

.. math::
    :label: nadam-schedule

    \mu_t = \beta_1 \bigl( 1 - \tfrac12\, 0.96^{\psi t} \bigr), \qquad \Pi_t = \mu_1 \cdots \mu_t

.. math::
    :label: nadam-moments

    m_t = \mu_t m_{t-1} + (1 - \mu_t)\, g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2)\, g_t^2

.. math::
    :label: nadam-ahead

    \bar m_t = \frac{\mu_{t+1} m_t}{1 - \Pi_{t+1}} + \frac{(1 - \mu_t)\, g_t}{1 - \Pi_t}, \qquad
    \hat v_t = \beta_2\, \frac{v_t}{1 - \beta_2^t}

.. math::
    :label: nadam-step

    \theta_t = \theta_{t-1} - \eta\, \frac{\bar m_t}{\sqrt{\hat v_t} + \varepsilon} .

The weights of the average sum to :math:`1 - \Pi_t`, and the corrections make :math:`m_t/(1 - \Pi_t) = g` of a constant
gradient. The factor :math:`\beta_2` in :math:`\hat v_t` is the paper's and in no program (`second`). Its first step is
longer than Adam's. Zero gradients move nothing; with :math:`\beta_1 = 0` and without that factor it is Adam without
momentum.

====================  =====================
:math:`\eta`          `lr`
:math:`\psi`          `psi`
:math:`\varepsilon`   `eps`
====================  =====================

**Where implementations differ.** The author's earlier report, and with it PyTorch and timm, decays the average with a
constant :math:`\beta_1` and corrects it with the products all the same (``form="report"``): for a constant gradient the
first average is then 0.18 of it, and the early momentum too small. optax has no schedule at all (``form="constant"``).
Keras has the report's form, and lacks the factor :math:`\psi` in the exponent: its schedule is over after a hundred
steps.

**Provenance.** Reconstructed: the workshop paper's algorithm from memory, supported by comments in optax and PyTorch's
tracker; the report's and the constant form confirmed by PyTorch and optax, with which they agree.

Dozat, *Incorporating Nesterov Momentum into Adam*, 2016.
"""

import math
from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import Arrays, Decay, NonNegativeFloat, PositiveFloat, checked


class NAdamState(NamedTuple):
    """Number of steps taken, and the two moments."""

    step: int
    m: Arrays
    v: Arrays


def init(params: Arrays) -> NAdamState:
    """Return the state before the first step: moments zero."""
    m, v = ([xp.zeros_like(p) for p in params] for _ in range(2))
    return NAdamState(0, m, v)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: NAdamState,
    *,
    lr: PositiveFloat = 2e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    psi: NonNegativeFloat = 0.004,
    form: Literal["workshop", "report", "constant"] = "workshop",
    second: bool = True,
) -> tuple[Arrays, NAdamState]:
    """Take one step of NAdam.

    Parameters
    ----------
    beta1
        Weight of the average in the long run.
    beta2
        Decay of the second moment.
    eps
        Added to the root.
    psi
        How fast the weight rises.
    form
        Whether average and corrections follow the schedule, or the corrections alone, or nothing does.
    second
        Whether the second moment counts with its next weight, too.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    # eq. nadam-schedule
    rise = 0.0 if form == "constant" else 0.5
    weights = [beta1 * (1 - rise * 0.96 ** (psi * k)) for k in range(1, t + 2)]
    mu, ahead, product = weights[-2], weights[-1], math.prod(weights[:-1])

    # eq. nadam-moments
    decay = beta1 if form == "report" else mu
    m = [decay * a + (1 - decay) * g for a, g in zip(state.m, grads, strict=True)]
    v = [beta2 * b + (1 - beta2) * g * g for b, g in zip(state.v, grads, strict=True)]

    # eq. nadam-ahead
    old, new = ahead / (1 - product * ahead), (1 - mu) / (1 - product)
    bar = [old * a + new * g for a, g in zip(m, grads, strict=True)]
    factor = (beta2 if second else 1) / (1 - beta2**t)
    roots = [xp.sqrt(factor * b) + eps for b in v]

    # eq. nadam-step
    steps = [lr * a / root for a, root in zip(bar, roots, strict=True)]
    params = [p - step for p, step in zip(params, steps, strict=True)]

    return params, NAdamState(t, m, v)
