r"""LUSPO: GSPO with each answer's term multiplied by its length, so that all tokens weigh the same.

In GSPO an answer has one term, of which a token of a long answer gets :math:`1/|y|`. Good long answers are learned more
slowly than good short ones, bad long ones survive bad short ones. LUSPO multiplies each term by the length. With the
answer's ratio :math:`s_i` of :mod:`trref.tokens.gspo`,

.. math::
    :label: luspo-objective

    J = \frac1B \sum_i |y_i| \min\big\{ s_i \hat A_i,\; \mathrm{clip}(s_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i \big\}

.. math::
    :label: luspo-gradient

    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}{B}\, s_i \hat A_i\;
    \mathbb 1\big[s_i \hat A_i \le \mathrm{clip}(s_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i\big]

The length cancels. This is GSPO of the advantages :math:`|y_i| \hat A_i`, for all inputs. On-policy it is REINFORCE
with the sum over tokens, the unbiased estimator of the policy gradient; GSPO there is the gradient of the mean of
:math:`r/|y|`. The gradient is larger by about the mean length, so that a step size does not carry over. "Unbiased" is
the weight of the tokens alone: the ratio stays that of a mean, which for the same change of the answer's probability
moves less in a long answer, and its clip bites later.

An answer without tokens contributes nothing, though it counts in B. Where the tokens of an answer have advantages of
their own, its term is the sum of theirs, and each token's coefficient is their mean.

===============================  =======================
:math:`\epsilon_l,\ \epsilon_h`  `clip_low`, `clip_high`
===============================  =======================

**Where implementations differ.** TRL's default ratio is that of each token, not of the answer, also for this loss: it
warns, and computes Dr. GRPO with a constant of 1. Liger-Kernel there multiplies the terms of tokens by the length and
averages over the padded width, padding included. GSPO under a mean over all tokens, another default of TRL's, is LUSPO
over the mean length.

**Provenance.** Partly: by the paper's abstract and summaries, by TRL, and by TRL's index of papers for the clips; the
paper's equations were not read. The gradient and the relations to GSPO and REINFORCE are derived and checked.

Liu et al., *Length-Unbiased Sequence Policy Optimization: Revealing and Controlling Response Length Variation in RLVR*,
2026, arXiv:2602.05261.
"""

from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.gspo import mean_log_ratio
from trref.tokens.terms import clip_surrogate


@checked
def luspo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip_low: PositiveFloat = 2e-3,
    clip_high: PositiveFloat = 2.5e-3,
) -> tuple[Scalar, Real[B, T]]:
    """LUSPO loss; the ratio that is clipped is the answer's."""
    log_s = mean_log_ratio.unchecked(log_prob, old_log_prob, mask)[:, None]
    term, derivative = clip_surrogate(
        log_s, xp.zeros_like(log_s), advantage, clip_low, clip_high
    )
    w = mask / len(mask)
    J = (w * term).sum()  # eq. luspo-objective
    share = mask / xp.maximum(mask.sum(1, keepdims=True), 1)
    dJ = share * (w * derivative).sum(1, keepdims=True)  # eq. luspo-gradient
    return -J, -dJ
