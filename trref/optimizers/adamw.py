r"""AdamW: weight decay outside of Adam, in the paper's form, where the rate is not in the decay.

A penalty on the weights that is added to the gradient goes through Adam's denominator: weights with large gradients are
decayed less. AdamW takes the decay out and shrinks all weights at one rate. Programs multiply it by the learning rate,
as :mod:`trref.optimizers.adam` does; the paper multiplies step and decay by a schedule :math:`s_t`, and the step alone
by the rate:

.. math::
    :label: adamw-step

    \theta_t = \theta_{t-1} - s_t \Bigl( \eta\, \frac{\hat m_t}{\sqrt{\hat v_t} + \varepsilon}
    + \lambda\, \theta_{t-1} \Bigr),

with Adam's corrected moments, which never see :math:`\lambda`. A change of :math:`\eta` then leaves the decay as it is,
and the two can be chosen one by one. It is the programs' form with the rate :math:`s_t \eta` and the decay
:math:`\lambda / \eta`. Zero gradients leave :math:`\theta_t = \theta_0 \prod (1 - s_i \lambda)`. Steps of unit size and
independent signs let weights settle at a root mean square of about :math:`\eta / \sqrt{2\lambda}` at :math:`s = 1`.

====================  ==============
:math:`\eta`          `lr`
:math:`s_t`           `schedule`
:math:`\lambda`       `weight_decay`
:math:`\varepsilon`   `eps`
====================  ==============

**Where implementations differ.** PyTorch, optax and Keras have the rate in the decay. TensorFlow Addons' extension and
pytorch_optimizer's ``fixed_decay`` leave the schedule out of it, too: a schedule that ends at 0 does not end the decay.

**Provenance.** Partly: the place of the schedule as trackers quote the paper's Algorithm 2 and as a comment of an
author has it; the programs' form by running them.

Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, 2017, arXiv:1711.05101.
"""

from trref.optimizers.adam import AdamState
from trref.optimizers.adam import init as adam_init
from trref.optimizers.adam import update as adam_update
from trref.signature import (
    Arrays,
    Decay,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    checked,
)


def init(params: Arrays) -> AdamState:
    """Return the state before the first step: moments zero."""
    return adam_init(params)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: AdamState,
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: Fraction = 1e-5,
    schedule: NonNegativeFloat = 1.0,
) -> tuple[Arrays, AdamState]:
    """Take one step of AdamW, in the paper's form.

    Parameters
    ----------
    beta1, beta2
        Decay of the moments.
    eps
        Added to the root.
    weight_decay
        Share of the weights that is lost in a step, at a schedule of 1.
    schedule
        What step and decay are multiplied with.

    Returns
    -------
    params
    state
    """
    moved, after = adam_update.unchecked(
        params, grads, state, lr=lr, beta1=beta1, beta2=beta2, eps=eps
    )
    steps = [p - q for p, q in zip(params, moved, strict=True)]
    # eq. adamw-step
    params = [
        p - schedule * (step + weight_decay * p)
        for p, step in zip(params, steps, strict=True)
    ]

    return params, after
