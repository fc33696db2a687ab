r"""Simple preference optimisation: the mean log-probability of a token is the reward, and must win by a margin.

The reference of DPO (:mod:`trref.preferences.dpo`) is dropped. What ranks answers while decoding, the mean
log-probability of their tokens, becomes the reward,

.. math::
    :label: simpo-reward

    r(y) = \frac\beta{|y|} \log\pi(y|x)

so that training and generation agree, and a long answer earns nothing for being long. The chosen answer must win by a
margin :math:`\gamma`:

.. math::
    :label: simpo-loss

    L = -\frac1B \sum \log\sigma(z), \qquad z = r(y_w) - r(y_l) - \gamma

.. math::
    :label: simpo-gradient

    \frac{\partial L}{\partial \log\pi(y_w)} = -\frac{\beta}{B |y_w|}\, \sigma(-z), \qquad
    \frac{\partial L}{\partial \log\pi(y_l)} = +\frac{\beta}{B |y_l|}\, \sigma(-z)

A pair keeps a weight :math:`\sigma(-z)` above one half until its rewards are :math:`\gamma` apart. Nothing ties the
policy to anything: on pairs that can be separated the loss falls to 0 with :math:`\log\pi(y_l) \to -\infty`. Both
answers moved by the same amount change the loss by :math:`\frac\beta B \sigma(-z) \big( \frac1{|y_l|} - \frac1{|y_w|}
\big)` times it: a shorter rejected answer makes both fall.

With a share s of the labels taken to be wrong the loss is :math:`-(1-s) \log\sigma(z) - s \log\sigma(-z)`; the flipped
term asks for a defeat by *minus* the margin, so that the two are no mirror images.

**Where implementations differ.** In what the number for the margin means: the authors' trainer, HALOs and open-instruct
take :math:`\gamma/\beta` (``gamma_beta_ratio``), TRL and LLaMA-Factory :math:`\gamma` itself; 0.5 is 0.25 nats a token
in one and 0.5 in the other at :math:`\beta = 2`. TRL has no trainer of its own for it: ``CPOTrainer`` with
``loss_type="simpo"`` adds the likelihood of the chosen answers, a mean over all tokens of the batch, unless its
``cpo_alpha`` is set to 0, and starts from :math:`\beta = 0.1`. The authors' trainer also has the hinge
:math:`\max(0, 1 - z)`. Whether the end-of-sequence token counts in :math:`|y|` differs by template.

**Provenance.** Confirmed by the authors' code (princeton-nlp/SimPO scripts/simpo_trainer.py and simpo_config.py, whose
defaults are :math:`\beta = 2` and :math:`\gamma/\beta = 0.25`), TRL and open-instruct; the gradient is derived.

Meng, Xia and Chen, *SimPO: Simple Preference Optimization with a Reference-Free Reward*, 2024, arXiv:2405.14734.
"""

from typing import Annotated

from trref.preferences.terms import PairGradient, logistic_loss, of_pairs
from trref.signature import (
    B,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


@checked
def simpo(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    rejected_length: Positive[B],
    *,
    beta: PositiveFloat = 2.0,
    gamma: NonNegativeFloat = 0.5,
    label_smoothing: Annotated[float, "[0, 0.5]"] = 0.0,
) -> tuple[Scalar, PairGradient]:
    """Loss of simple preference optimisation.

    Parameters
    ----------
    beta
        Scale of the rewards.
    gamma
        By how much the chosen answer's reward is to win: that of the difference of rewards, not of log-probabilities.
    """
    # eq. simpo-reward
    chosen = beta * chosen_log_prob / chosen_length
    rejected = beta * rejected_log_prob / rejected_length

    z = chosen - rejected - gamma  # eq. simpo-loss
    loss, slope = logistic_loss(z, label_smoothing)
    L, (d_chosen, d_rejected) = of_pairs(loss, beta * slope)
    # eq. simpo-gradient
    return L, PairGradient(d_chosen / chosen_length, d_rejected / rejected_length)
