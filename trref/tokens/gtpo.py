r"""GTPO: protect the tokens that right and wrong answers share, and avoid uncertain answers.

What differs from GRPO: there is no clip and no reference; each token has a weight :math:`\lambda`, each answer a filter
:math:`\delta`, and its advantage is lowered by its mean entropy. Tokens that
right and wrong answers of a group share at their beginnings and ends have :math:`\lambda` above 1 in right answers and
0 in wrong ones; :mod:`trref.tokens.gtpo_conflicts` says which. With the mean entropy of the policy over the
answer, and that of the first policy :math:`H_0`,

.. math::
    :label: gtpo-entropy

    \langle H \rangle_i = \frac1{|y_i|} \sum_t m_{i,t} \Big( -\sum_v \pi_{i,t,v} \log\pi_{i,t,v} \Big)

.. math::
    :label: gtpo-filter

    \delta_i = 0 \text{ if } H_0 < \log 2 < \langle H\rangle_i, \quad 1 \text{ else}

.. math::
    :label: gtpo-objective

    J = \frac1B \sum_i \frac{\delta_i\, (\hat A_i - \gamma \langle H \rangle_i)}{|y_i|}
    \sum_t m_{i,t}\, \rho_{i,t}\, \lambda_{i,t}, \qquad
    \frac{\partial J}{\partial\log\pi_{i,t}} =
    \frac{m_{i,t}}{B |y_i|}\, \delta_i\, (\hat A_i - \gamma\langle H\rangle_i)\, \rho_{i,t}\, \lambda_{i,t}

Weights, filter and entropies are constants, and the signs in the weights are those of :math:`\hat A` before the entropy
is subtracted: on-policy this is REINFORCE with other advantages than GRPO's. An entropy above :math:`\log 2` means that
no two tokens hold the distribution. Where all rewards of a group are equal the update pushes down whatever was sampled,
in proportion to its entropy.

==============  ============================================
:math:`\gamma`  `entropy_weight`
:math:`H_0`     `initial_entropy`
c               `boost` of right, `penalty` of wrong answers
==============  ============================================

**Where implementations differ.** The authors' code filters above a fixed 0.7, whatever :math:`H_0`; it divides each
answer's loss by the number of its conflict tokens as well; and it marks valid tokens by a padding id.

**Provenance.** Confirmed: objective and filter by the authors' README, conflicts and constants by their code; the text
of the paper was not read. The reading of :math:`\log 2` is ours.

Simoni, Fontana et al., *GTPO: Trajectory-Based Policy Optimization in Large Language Models*, 2025, arXiv:2508.03772.
"""

import math

from trref.backend import xp
from trref.nn.heads import categorical_entropy
from trref.signature import (
    B,
    Binary,
    Index,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.gtpo_conflicts import conflict_weights
from trref.tokens.terms import seq_mean

LOG_2 = math.log(2)


@checked
def mean_entropy(logits: Real[B, T, V], mask: Mask[B, T]) -> Real[B]:
    """Mean entropy of the policy over each answer's tokens, in nats; 0 for an answer without tokens."""
    return _mean(categorical_entropy(logits)[0], mask)


def _mean(entropy, mask):
    return (mask * entropy).sum(1) / xp.maximum(mask.sum(1), 1)  # eq. gtpo-entropy


@checked
def entropy_filter(
    mask: Mask[B, T],
    entropy: NonNegative[B, T],
    *,
    initial_entropy: NonNegativeFloat = 0.0,
    threshold: PositiveFloat = LOG_2,
) -> Binary[B]:
    """Which answers stay: all, or, for a policy that began below the threshold, those whose mean entropy is not above.

    Parameters
    ----------
    initial_entropy
        Mean entropy of the first policy.
    threshold
        Largest mean entropy.
    """
    stays = (_mean(entropy, mask) <= threshold) | (initial_entropy >= threshold)
    return stays.astype(mask.dtype)  # eq. gtpo-filter


@checked
def gtpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B],
    mask: Mask[B, T],
    actions: Index[B, T],
    group: Index[B],
    entropy: NonNegative[B, T],
    *,
    entropy_weight: NonNegativeFloat = 0.1,
    initial_entropy: NonNegativeFloat = 0.0,
    boost: NonNegativeFloat = 2.0,
    penalty: NonNegativeFloat = 0.0,
) -> tuple[Scalar, Real[B, T]]:
    """GTPO loss.

    Parameters
    ----------
    advantage
        As of `trref.tokens.grpo.group_advantage`.
    entropy_weight
        By how much of its mean entropy an answer's advantage is lowered.
    initial_entropy
        From log 2 on nothing is filtered.
    boost, penalty
        Weights of conflict tokens of right and of wrong answers, a side.
    """
    weight = conflict_weights.unchecked(
        advantage, mask, actions, group, boost=boost, penalty=penalty
    )
    keep = entropy_filter.unchecked(mask, entropy, initial_entropy=initial_entropy)
    A = keep * (advantage - entropy_weight * _mean(entropy, mask))
    # eq. gtpo-objective
    ratio = xp.exp(log_prob - old_log_prob)
    dJ = seq_mean(mask) * (ratio * A[:, None] * weight)
    J = dJ.sum()

    return -J, -dJ
