r"""Contrastive preference optimisation: DPO without a reference, and a likelihood that keeps the chosen answer up.

With a reference that gives all answers the same probability DPO (:mod:`trref.preferences.dpo`) contrasts the answers'
log-probabilities themselves, and the second model disappears. As both of them may fall then, the likelihood of the
chosen answer joins in:

.. math::
    :label: cpo-loss

    L = \frac1B \sum \Big[ -\log\sigma\big( \beta (\log\pi(y_w) - \log\pi(y_l)) \big) + \alpha\, n \Big]

.. math::
    :label: cpo-likelihood

    n = -\log\pi(y_w), \qquad \text{or}\quad -\frac{\log\pi(y_w)}{|y_w|}, \qquad \text{or}\quad
    -\frac{B \log\pi(y_w)}{\sum |y_w|}

the sum of the answer, its mean over tokens, or its part of the mean over all tokens of the batch. The first is the
paper's. The contrast has no slope along a common shift of both log-probabilities, so all that moves them together is
:math:`\alpha`:

.. math::
    :label: cpo-gradient

    \frac{\partial L}{\partial \log\pi(y_l)} = \frac\beta B\, \sigma(-\beta h), \qquad
    \frac{\partial L}{\partial \log\pi(y_w)} = -\frac\beta B\, \sigma(-\beta h)
    + \frac\alpha B \frac{\partial n}{\partial \log\pi(y_w)}

with :math:`h = \log\pi(y_w) - \log\pi(y_l)`. A longer rejected answer has a large h for nothing, and its pair is silent
soon.

The authors' later variant (ARPO, in X-ALMA) weighs the rejected answer by how different the two are,

.. math::
    :label: cpo-penalty

    \tau = \min\big\{ \eta_1 e^{\eta_2 |a_w - a_l|} - 1,\; 1 \big\}, \qquad a = \frac{\log\pi(y)}{|y|}

.. math::
    :label: cpo-arpo

    L = -\frac1B \sum \log\sigma\big( \beta (\log\pi(y_w) - \tau \log\pi(y_l)) \big)
    - \frac{\alpha}{\sum |y_w|} \sum \log\pi(y_w)

The gradient flows through :math:`\tau`. With the authors' :math:`\eta_1 = 0.9, \eta_2 = 0.4` it is -0.1 for equal
averages and 0 where they are 0.263 nats apart: the rejected answer of a close pair is pulled *up*. At equal averages
there is a kink, and the derivative of the absolute value is taken to be 0; from :math:`\tau = 1` on it is constant.

==================  ==========================
:math:`\alpha`      ``likelihood_weight``
:math:`\eta_1`      ``scale``
:math:`\eta_2`      ``rate``
==================  ==========================

**Where implementations differ.** The authors' repository computes :eq:`cpo-arpo` today, whatever the ``loss_type``; the
2024 paper needs TRL. Both take the likelihood's mean over all tokens of the batch, which is smaller than the paper's by
the length, so that :math:`\alpha = 1` is weak against summed contrasts. TRL's trainer has its ``cpo_alpha`` of 1 in
every ``loss_type``, and among these the hinge of the same contrast.

**Provenance.** Confirmed by TRL (trl/experimental/cpo/cpo_trainer.py, which cites the paper's equation 3) and, for the
penalty, by the authors' code (fe1ixxu/ALMA utils/cpo_trainer.py). That the penalty is X-ALMA's ARPO is from memory; the
gradients are derived.

Xu, Sharaf, Chen, Tan, Shen, Van Durme, Murray and Kim, *Contrastive Preference Optimization: Pushing the Boundaries of
LLM Performance in Machine Translation*, 2024, arXiv:2401.08417.
"""

import math
from typing import Annotated, Literal

from trref.backend import xp
from trref.preferences.terms import PairGradient, counted, logistic_loss, of_pairs
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
def cpo(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    *,
    beta: PositiveFloat = 0.1,
    likelihood_weight: NonNegativeFloat = 1.0,
    likelihood: Literal["sum", "answer_mean", "batch_mean"] = "sum",
    label_smoothing: Annotated[float, "[0, 0.5]"] = 0.0,
) -> tuple[Scalar, PairGradient]:
    """Loss of contrastive preference optimisation.

    Parameters
    ----------
    beta
        Scale of the contrast.
    likelihood_weight
        Of the chosen answers' likelihood beside the contrast.
    likelihood
        Over what it is a mean, beside the answers.
    """
    h = chosen_log_prob - rejected_log_prob
    loss, slope = logistic_loss(beta * h, label_smoothing)
    contrast, (d_chosen, d_rejected) = of_pairs(loss, beta * slope)

    share = _likelihood_weights(chosen_length, likelihood)
    # eq. cpo-loss
    L = contrast - likelihood_weight * (share * chosen_log_prob).sum()
    # eq. cpo-gradient
    return L, PairGradient(d_chosen - likelihood_weight * share, d_rejected)


def _likelihood_weights(length, likelihood):
    """What multiplies the log-probability of each chosen answer."""
    B = len(length)
    # eq. cpo-likelihood
    if likelihood == "sum":
        return xp.full_like(length, 1 / B)
    if likelihood == "answer_mean":
        return 1 / (B * length)
    return xp.ones_like(length) / length.sum()


@checked(also=counted)
def arpo_penalty(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    rejected_length: Positive[B],
    *,
    scale: PositiveFloat = 0.9,
    rate: PositiveFloat = 0.4,
) -> Real[B]:
    """Weight of each rejected answer, at most 1; negative for close pairs if `scale` is below 1.

    Parameters
    ----------
    scale
        The weight of equal averages, plus 1.
    rate
        How fast it grows with the distance of the averages.
    """
    distance = abs(
        chosen_log_prob / chosen_length - rejected_log_prob / rejected_length
    )
    enough = math.log(2) - math.log(scale) + 1  # more only overflows
    # eq. cpo-penalty
    return xp.minimum(scale * xp.exp(xp.minimum(rate * distance, enough)) - 1, 1)


@checked
def arpo(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    rejected_length: Positive[B],
    *,
    beta: PositiveFloat = 0.1,
    likelihood_weight: NonNegativeFloat = 1.0,
    scale: PositiveFloat = 0.9,
    rate: PositiveFloat = 0.4,
    label_smoothing: Annotated[float, "[0, 0.5]"] = 0.0,
) -> tuple[Scalar, PairGradient]:
    """Loss with rejected answers weighed by their distance from the chosen ones."""
    B = len(chosen_log_prob)
    pairs = chosen_log_prob, rejected_log_prob, chosen_length, rejected_length
    tau = arpo_penalty.unchecked(*pairs, scale=scale, rate=rate)
    h = chosen_log_prob - tau * rejected_log_prob
    loss, slope = logistic_loss(beta * h, label_smoothing)

    likelihood = chosen_log_prob.sum() / chosen_length.sum()
    L = loss.sum() / B - likelihood_weight * likelihood  # eq. cpo-arpo

    distance = chosen_log_prob / chosen_length - rejected_log_prob / rejected_length
    d_tau = xp.where(tau < 1, rate * (tau + 1) * xp.sign(distance), 0)
    by_tau = d_tau * rejected_log_prob
    d_chosen = beta * slope * (1 - by_tau / chosen_length) / B
    d_chosen = d_chosen - likelihood_weight / chosen_length.sum()
    return L, PairGradient(
        d_chosen, beta * slope * (by_tau / rejected_length - tau) / B
    )
