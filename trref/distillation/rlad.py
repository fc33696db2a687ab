r"""RLAD: the teacher stands in the denominator of the clipped ratio.

A penalty that draws the student to a teacher fights the reward. RLAD leaves GRPO's objective as it is, and takes the
ratio to a geometric mixture of the old policy and the teacher, its *anchor*:

.. math::
    :label: rlad-ratio

    \log r = \alpha\, (\log\pi - \log\pi_{\text{old}})
    + (1 - \alpha)\, \mathrm{clip}\big( \log\pi - \log\pi_{\text{T}},\, -c,\, c \big)

The advantage keeps the direction of each update; the teacher moves the window in which the ratio earns. With the
clipped term :math:`\ell(r, A) = \min\{ rA,\, \mathrm{clip}(r, 1-\epsilon_l, 1+\epsilon_h) A \}` and the mean over
answers of the mean over tokens,

.. math::
    :label: rlad-objective

    J = \frac1B \sum_i \frac1{|y_i|} \sum_t \ell(r_{i,t}, A_i)

.. math::
    :label: rlad-gradient

    \frac{\partial \ell}{\partial \log \pi} = r A\; \mathbb 1\big[ rA \le \mathrm{clip}(r, 1-\epsilon_l, 1+\epsilon_h)A
    \big]\; \big( \alpha + (1-\alpha)\, \mathbb 1[\, |\log\pi - \log\pi_{\text{T}}| \le c \,] \big)

where old policy and teacher are constant. On a bound the derivative is that of the unclipped term. The advantage is
that of :func:`trref.tokens.grpo.group_advantage` with the population's deviation. The full objective subtracts a
divergence from a reference policy:

.. math::
    :label: rlad-with-kl

    J - \beta \, \frac1B \sum_i \frac1{|y_i|} \sum_t \hat k_{i,t}, \qquad \hat k \approx KL(\pi \| \pi_{\text{ref}})

With :math:`\alpha = 1` and the teacher as the reference this is the baseline KDRL, GRPO with a penalty.

At the first inner step, where the policy is the old one, the ratio is not 1 but
:math:`(\pi_{\text{old}} / \pi_{\text{T}})^{1-\alpha}`: the teacher can veto a push at once. It vetoes exactly where

.. math::
    :label: rlad-veto

    A > 0:\; \frac{\pi_{\text{old}}}{\pi_{\text{T}}} > (1 + \epsilon_h)^{1/(1-\alpha)}, \qquad
    A < 0:\; \frac{\pi_{\text{old}}}{\pi_{\text{T}}} < (1 - \epsilon_l)^{1/(1-\alpha)},

and never if :math:`(1-\alpha)\,c` is at most :math:`\log(1+\epsilon_h)`, respectively
:math:`-\log(1-\epsilon_l)`. However often the anchor is renewed, pushes end at this band around the teacher: a teacher
that is unsure keeps the student unsure. Of the tokens with an advantage of each sign, which the teacher likes more than
the old policy does, or less, a share is still pushed:

.. math::
    :label: rlad-active

    \frac{\sum m\, \mathbb 1[\text{class}]\, \mathbb 1[\, rA \le \mathrm{clip}(r, 1-\epsilon_l, 1+\epsilon_h)A \,]}
    {\sum m\, \mathbb 1[\text{class}]}

and 0 where the class is empty. Equal to the old policy's, a teacher's probability counts as less liked.

======================  =================
:math:`\alpha`          `old_share`
:math:`c`               `teacher_clip`
:math:`\beta`           `kl_weight`
:math:`\pi_{\text{T}}`  `teacher_log_prob`
======================  =================

**Where implementations differ.** The paper's section 4.1 says that :math:`\alpha = 0` is GRPO, its formula and its
appendix that :math:`\alpha = 1` is; here the latter. Its main text has no clamp, its appendix B has one of 1: without
it a token that the teacher finds absurd has a huge ratio, whose gradient is not bounded for negative advantages. The
clamp also takes the teacher's share of the gradient away outside. The mixture is not normalised: r is no importance
weight.

**Provenance.** The ratio with its clamp, the objective, the penalty and the defaults were confirmed in the paper's text
(version 2), which does not state β: 0.04 is GRPO's. The gradient, the band of the veto and the shares are
reconstructed: derived here and checked.

Zhang et al., *Reinforcement-aware Knowledge Distillation for LLM Reasoning*, 2026, arXiv:2602.22495.
"""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    Fraction,
    LogProb,
    Mask,
    NonNegativeFloat,
    OpenFraction,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.kl_estimators import Estimate, kl_estimate
from trref.tokens.terms import clip_surrogate, per_token, seq_mean


class Active(NamedTuple):
    """Shares of tokens that are pushed: up or down, the teacher likes the token more or less than the old policy."""

    up_liked: Prob[()]
    up_disliked: Prob[()]
    down_liked: Prob[()]
    down_disliked: Prob[()]


@checked
def log_ratio(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    teacher_log_prob: LogProb[B, T],
    *,
    old_share: Fraction = 0.5,
    teacher_clip: PositiveFloat = 1.0,
) -> Real[B, T]:
    """Logarithm of the ratio to the mixture of old policy and teacher.

    Parameters
    ----------
    old_share
        Exponent of the old policy in the mixture; the teacher has the rest. At 1 the teacher counts for nothing.
    teacher_clip
        Most by which the log-ratio to the teacher counts.
    """
    to_old, to_teacher = log_prob - old_log_prob, log_prob - teacher_log_prob
    clamped = xp.clip(to_teacher, -teacher_clip, teacher_clip)
    return old_share * to_old + (1 - old_share) * clamped  # eq. rlad-ratio


def _terms(log_prob, old, teacher, advantage, share, clamp, low, high):
    """The clipped term of each token, and its derivative with respect to `log_prob`."""
    r = log_ratio.unchecked(log_prob, old, teacher, old_share=share, teacher_clip=clamp)
    term, derivative = clip_surrogate(r, xp.zeros_like(r), advantage, low, high)
    # eq. rlad-gradient
    inside = abs(log_prob - teacher) <= clamp
    return term, derivative * xp.where(inside, 1.0, share).astype(r.dtype)


@checked
def rlad(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    teacher_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    old_share: Fraction = 0.5,
    teacher_clip: PositiveFloat = 1.0,
    clip_low: OpenFraction = 0.2,
    clip_high: PositiveFloat = 0.28,
) -> tuple[Scalar, Real[B, T]]:
    """RLAD loss without the divergence: the mean over answers of the mean over tokens."""
    term, derivative = _terms(
        log_prob,
        old_log_prob,
        teacher_log_prob,
        advantage,
        old_share,
        teacher_clip,
        clip_low,
        clip_high,
    )
    w = seq_mean(mask)
    J = (w * term).sum()  # eq. rlad-objective
    return -J, -w * derivative


@checked
def rlad_with_kl(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    teacher_log_prob: LogProb[B, T],
    ref_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    old_share: Fraction = 0.5,
    teacher_clip: PositiveFloat = 1.0,
    clip_low: OpenFraction = 0.2,
    clip_high: PositiveFloat = 0.28,
    kl_weight: NonNegativeFloat = 0.04,
    estimator: Estimate = "k3",
) -> tuple[Scalar, Real[B, T]]:
    """RLAD loss with the divergence from a reference policy inside the mean.

    Parameters
    ----------
    estimator
        Of the divergence, as in `trref.tokens.kl_estimators`.
    """
    term, derivative = _terms(
        log_prob,
        old_log_prob,
        teacher_log_prob,
        advantage,
        old_share,
        teacher_clip,
        clip_low,
        clip_high,
    )
    k, dk = kl_estimate.unchecked(log_prob, ref_log_prob, estimator)
    w = seq_mean(mask)
    J = (w * (term - kl_weight * k)).sum()  # eq. rlad-with-kl
    return -J, -w * (derivative - kl_weight * dk)


@checked
def vetoed(
    old_log_prob: LogProb[B, T],
    teacher_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    old_share: Fraction = 0.5,
    teacher_clip: PositiveFloat = 1.0,
    clip_low: OpenFraction = 0.2,
    clip_high: PositiveFloat = 0.28,
) -> Binary[B, T]:
    """1 on the tokens whose push the teacher forbids at the first inner step."""
    A, distance = per_token(advantage), old_log_prob - teacher_log_prob
    low, high = math.log1p(-clip_low), math.log1p(clip_high)
    teacher_share = 1 - old_share
    # eq. rlad-veto
    reach = teacher_share * teacher_clip
    high = high / teacher_share if reach > high else math.inf
    low = low / teacher_share if reach > -low else -math.inf
    forbidden = ((A > 0) & (distance > high)) | ((A < 0) & (distance < low))
    return mask * forbidden


@checked
def active_share(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    teacher_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    old_share: Fraction = 0.5,
    teacher_clip: PositiveFloat = 1.0,
    clip_low: OpenFraction = 0.2,
    clip_high: PositiveFloat = 0.28,
) -> Active:
    """Share of the tokens that are still pushed, by the sign of the advantage and by what the teacher says of them."""
    A = per_token(advantage)
    r = xp.exp(
        log_ratio.unchecked(
            log_prob,
            old_log_prob,
            teacher_log_prob,
            old_share=old_share,
            teacher_clip=teacher_clip,
        )
    )
    pushed = r * A <= xp.clip(r, 1 - clip_low, 1 + clip_high) * A
    liked = teacher_log_prob > old_log_prob
    # eq. rlad-active
    classes = (A > 0) & liked, (A > 0) & ~liked, (A < 0) & liked, (A < 0) & ~liked
    counts = [mask * c for c in classes]
    return Active(*((n * pushed).sum() / xp.maximum(n.sum(), 1) for n in counts))
