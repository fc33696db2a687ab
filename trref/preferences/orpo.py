r"""ORPO: likelihood and an odds ratio in one stage, without a reference.

Supervised fine-tuning raises the chosen answer and, by shared style, the rejected one. ORPO adds to the likelihood a
logistic loss of the odds of the chosen answer against those of the rejected. With the mean log-probability of a token
and its geometric mean probability,

.. math::
    :label: orpo-mean

    a = \frac1{|y|} \log\pi(y|x), \qquad P = e^a

.. math::
    :label: orpo-odds

    o = \log\frac{P_w}{1 - P_w} - \log\frac{P_l}{1 - P_l}, \qquad L_{OR} = -\frac1B \sum \log\sigma(o)

.. math::
    :label: orpo-loss

    L = -\frac1B \sum a_w + \lambda L_{OR}

The derivative of the log-odds is :math:`1/(1-P)`, so that

.. math::
    :label: orpo-gradient

    \frac{\partial L_{OR}}{\partial a_w} = -\frac1B\, \frac{\sigma(-o)}{1 - P_w}, \qquad
    \frac{\partial L_{OR}}{\partial a_l} = +\frac1B\, \frac{\sigma(-o)}{1 - P_l},

each over the length for the sums. Where P is small the odds ratio is a probability ratio: SimPO with :math:`\beta = 1`
and no margin. Near 1 one factor grows without bound and the other vanishes; their product is formed from logarithms,
and :math:`\log(1 - e^a)` by two formulas that meet at :math:`a = -\log 2`. The rejected answer is pushed down for ever,
ever more weakly. A probability of exactly 1 has no odds and is refused.

**Where implementations differ.** In what the likelihood averages: LLaMA-Factory each answer's own mean, as here; the
authors and TRL one mean over all tokens of the batch, in which long answers count for more, and with the prompt's
tokens among them (the authors may leave these out). turbo-alignment had no likelihood for a while, nor had mlx-lm-lora.
ColossalAI writes :math:`\log(1.0001 - P)`, and takes the odds of single tokens, averaged over the batch before they are
compared. The authors', LLaMA-Factory's and Liger's ``log1p(-exp(a))`` loses all digits as :math:`a \to 0`, and becomes
minus infinity in low precision; TRL has two formulas since its pull request 4763. With sums in the place of means P
underflows, and the odds ratio is a probability ratio. :math:`\lambda` is called ``alpha`` by the authors and ``beta``
by TRL, Liger and LLaMA-Factory.

**Provenance.** Confirmed by the authors' code (xfactlab/orpo src/orpo_trainer.py), TRL, which cites the equations 4 and
7, and LLaMA-Factory; :math:`\lambda = 0.1` by TRL. The gradient is derived.

Hong, Lee and Thorne, *ORPO: Monolithic Preference Optimization without Reference Model*, 2024, arXiv:2403.07691.
"""

import math

from trref.backend import xp
from trref.preferences.terms import PairGradient, counted, softplus
from trref.signature import (
    B,
    NonNegativeFloat,
    Positive,
    Real,
    Scalar,
    checked,
)


def _log1mexp(a):
    """``log(1 - exp(a))`` of a < 0, each formula where it keeps its digits."""
    near = xp.log(-xp.expm1(xp.maximum(a, -math.log(2))))
    return xp.where(
        a > -math.log(2), near, xp.log1p(-xp.exp(xp.minimum(a, -math.log(2))))
    )


def _uncertain(chosen_log_prob, rejected_log_prob, chosen_length, rejected_length, **_):
    """A log-probability that is not below 0, or lengths as `counted` refuses them."""
    words = "must be below 0: a certain answer has no odds"
    return [
        *counted(chosen_length, rejected_length),
        (lambda: (chosen_log_prob < 0).all(), f"chosen_log_prob {words}"),
        (lambda: (rejected_log_prob < 0).all(), f"rejected_log_prob {words}"),
    ]


@checked(also=_uncertain)
def odds_ratio_loss(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    rejected_length: Positive[B],
) -> tuple[Scalar, PairGradient]:
    """Logistic loss of the log odds ratio."""
    B = len(chosen_log_prob)
    # eq. orpo-mean
    a_w, a_l = chosen_log_prob / chosen_length, rejected_log_prob / rejected_length

    # eq. orpo-odds
    rest_w, rest_l = _log1mexp(a_w), _log1mexp(a_l)
    o = (a_w - rest_w) - (a_l - rest_l)
    L = softplus(-o).sum() / B

    # eq. orpo-gradient
    d_w = -xp.exp(-softplus(o) - rest_w) / B
    d_l = xp.exp(-softplus(o) - rest_l) / B
    return L, PairGradient(d_w / chosen_length, d_l / rejected_length)


@checked(also=_uncertain)
def orpo(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    rejected_length: Positive[B],
    *,
    odds_weight: NonNegativeFloat = 0.1,
) -> tuple[Scalar, PairGradient]:
    """Likelihood of the chosen answers and the odds ratio.

    Parameters
    ----------
    odds_weight
        Of the odds ratio's loss beside the likelihood.
    """
    B = len(chosen_log_prob)
    odds, (d_chosen, d_rejected) = odds_ratio_loss.unchecked(
        chosen_log_prob, rejected_log_prob, chosen_length, rejected_length
    )
    # eq. orpo-loss
    L = odds_weight * odds - (chosen_log_prob / chosen_length).sum() / B
    d_chosen = odds_weight * d_chosen - 1 / (B * chosen_length)
    return L, PairGradient(d_chosen, odds_weight * d_rejected)
