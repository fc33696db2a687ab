r"""Group sequence policy optimisation (GSPO): one ratio for the whole answer.

The reward belongs to the answer, so the importance ratio and the clip should, too. GSPO takes the geometric mean of the
token ratios,

.. math::
    :label: gspo-ratio

    s_i = \exp\Big( \frac1{|y_i|} \sum_t m_{i,t} \big(\log\pi_{i,t} - \log\pi^{old}_{i,t}\big) \Big)

.. math::
    :label: gspo-objective

    J = \frac1B \sum_i \min\big\{ s_i \hat A_i,\; \mathrm{clip}(s_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i \big\}

and clips far more tightly than a token ratio, because a mean over tokens moves less. All tokens of an answer share one
coefficient:

.. math::
    :label: gspo-gradient

    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}{B\,|y_i|}\, s_i \hat A_i\;
    \mathbb 1\big[s_i \hat A_i \le \mathrm{clip}(s_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i\big]

An answer without tokens contributes nothing, though it counts in B. For answers of one token this is GRPO. Where the
tokens of an answer have advantages of their own, its term is the mean of theirs, and so is the coefficient.

**Where implementations differ.** verl clamps the answer's log-ratio at 10, EasyR1 to ±20, and adds the dual clip. In
TRL the level of the ratio and the averaging are separate options, and the default averages over tokens, so that long
answers count more. Without the division by the length the ratio is that of the whole answer, which the published clip
would always cut. With advantages of tokens verl gives each token the coefficient of its own, which is GSPO-token
(:mod:`trref.tokens.gspo_token`) and no gradient of this objective; where each answer has one advantage the two are the
same.

**Provenance.** Confirmed: by the loss code of TRL and verl; the default clips as TRL quotes section 5.1 of the paper.
The gradient is derived and checked.

Zheng et al., *Group Sequence Policy Optimization*, 2025, arXiv:2507.18071.
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
from trref.tokens.terms import clip_surrogate, seq_mean


@checked
def mean_log_ratio(
    log_prob: LogProb[B, T], old_log_prob: LogProb[B, T], mask: Mask[B, T]
) -> Real[B]:
    """Mean log-ratio over each answer's tokens; 0 for an answer without any."""
    length = xp.maximum(mask.sum(1), 1)
    return ((log_prob - old_log_prob) * mask).sum(1) / length


@checked
def gspo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip_low: PositiveFloat = 3e-4,
    clip_high: PositiveFloat = 4e-4,
) -> tuple[Scalar, Real[B, T]]:
    """GSPO loss; the ratio that is clipped is the answer's."""
    # eq. gspo-ratio
    log_s = mean_log_ratio.unchecked(log_prob, old_log_prob, mask)[:, None]
    term, derivative = clip_surrogate(
        log_s, xp.zeros_like(log_s), advantage, clip_low, clip_high
    )
    w = seq_mean(mask)
    J = (w * term).sum()  # eq. gspo-objective
    share = mask / xp.maximum(mask.sum(1, keepdims=True), 1)
    dJ = share * (w * derivative).sum(1, keepdims=True)  # eq. gspo-gradient
    return -J, -dJ
