r"""Asymmetric confidence penalties (ACE): the surer a wrong answer has become, the harder it is pushed down.

Group-relative advantages punish all wrong answers of a group alike. Yet some were explored (the policy rates them as
the reference did), and some were reinforced by chance (it rates them far higher). ACE measures that by the mean token
log-ratio of the answer to a frozen reference, and leaves right answers alone:

.. math::
    :label: ace-shift

    c_i = \frac1{|y_i|} \sum_t m_{i,t}\, \big( \log\pi_{i,t} - \log\pi^{ref}_{i,t} \big)

.. math::
    :label: ace-factor

    \hat A^{ACE}_i = \hat A_i\, \big( 1 + \alpha\, \mathrm{softplus}(\mathrm{sg}[c_i]) \big) \ \text{ where }
    \hat A_i < 0, \qquad \hat A^{ACE}_i = \hat A_i \ \text{ elsewhere}

with rewards 0 and 1, :math:`\hat A_i < 0` says that the answer is wrong and another one of its group right. That is all
that differs from the method underneath, here GRPO (or, over all tokens and with a higher upper clip, DAPO):

.. math::
    :label: ace-objective

    J = \sum_{i,t} w_{i,t} \min\big\{ \rho_{i,t} \hat A^{ACE}_i,\;
    \mathrm{clip}(\rho_{i,t}, 1-\epsilon_l, 1+\epsilon_h)\, \hat A^{ACE}_i \big\}

As softplus(0) = log 2, wrong answers of an unchanged policy are punished by the factor :math:`1 + \alpha\log 2`; with
max(c, 0) in its place (``"relu"``) by 1: on-policy this is REINFORCE with :math:`\hat A^{ACE}`, not with
:math:`\hat A`. The group's advantages no longer sum to zero, and a group of wrong answers only still has none. What the
additional update descends is in :mod:`trref.tokens.ace_regulariser`.

Trainers can log which share of the wrong answers is overconfident, exploratory and self-correcting:

.. math::
    :label: ace-shares

    c_i > \tau, \qquad |c_i| \le \tau, \qquad c_i < -\tau

============  ===========
:math:`\tau`  `threshold`
============  ===========

**Where implementations differ.** The abstract prints c without the division by the length: for long answers it is then
large and the penalty unbounded (``shift="sum"``). Letting the gradient flow through c adds that of
:math:`\mathrm{softplus}(c)` to every token of a wrong answer, which is another method.

**Provenance.** Confirmed: shift, factor and objective by two technical reviews of the full text, which write them out.
Reconstructed: the threshold of the shares.

Xu, Sang, Zhou, He and Wang, *Overconfident Errors Need Stronger Correction: Asymmetric Confidence Penalties for
Reinforcement Learning*, 2026, arXiv:2602.21420.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    LogProb,
    Mask,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, per_token, token_weights


class ErrorShares(NamedTuple):
    """Shares of the wrong answers, each in [0, 1]; zeros if none is wrong."""

    overconfident: Scalar
    exploratory: Scalar
    self_correcting: Scalar


@checked
def confidence_shift(
    log_prob: LogProb[B, T],
    mask: Mask[B, T],
    ref_log_prob: LogProb[B, T],
    *,
    shift: Literal["mean", "sum"] = "mean",
) -> Real[B]:
    """How much surer of each answer the policy is than the reference; 0 for an answer without tokens.

    Parameters
    ----------
    shift
        Mean or sum of the log-ratios of the tokens.
    """
    length = xp.maximum(mask.sum(1), 1) if shift == "mean" else 1
    return (mask * (log_prob - ref_log_prob)).sum(1) / length  # eq. ace-shift


@checked
def error_shares(
    log_prob: LogProb[B, T],
    mask: Mask[B, T],
    ref_log_prob: LogProb[B, T],
    reward: Binary[B],
    *,
    threshold: NonNegativeFloat = 0.1,
) -> ErrorShares:
    """Which shares of the wrong answers are overconfident, exploratory and self-correcting.

    Parameters
    ----------
    threshold
        Largest absolute shift of an exploratory answer.
    """
    c, wrong = confidence_shift.unchecked(log_prob, mask, ref_log_prob), 1 - reward
    # eq. ace-shares
    kinds = c > threshold, abs(c) <= threshold, c < -threshold
    return ErrorShares(*((k * wrong).sum() / xp.maximum(wrong.sum(), 1) for k in kinds))


@checked
def penalty_factor(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    ref_log_prob: LogProb[B, T],
    *,
    alpha: NonNegativeFloat = 1.0,
    shape: Literal["softplus", "relu"] = "softplus",
    shift: Literal["mean", "sum"] = "mean",
    shift_of: Literal["current", "rollout"] = "current",
) -> Positive[B]:
    """The factor on negative advantages of each answer.

    Parameters
    ----------
    alpha
        Strength; 1 in the paper, where larger values cost accuracy.
    shape
        How the factor grows with the shift.
    shift_of
        Whose shift counts: that of the current policy or of the one that sampled.
    """
    judged = log_prob if shift_of == "current" else old_log_prob
    c = confidence_shift.unchecked(judged, mask, ref_log_prob, shift=shift)
    # eq. ace-factor
    growth = xp.logaddexp(0, c) if shape == "softplus" else xp.maximum(c, 0)
    return 1 + alpha * growth


@checked
def ace(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    ref_log_prob: LogProb[B, T],
    *,
    alpha: NonNegativeFloat = 1.0,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.2,
    aggregation: Literal["seq_mean", "token_mean"] = "seq_mean",
    shape: Literal["softplus", "relu"] = "softplus",
    shift: Literal["mean", "sum"] = "mean",
    shift_of: Literal["current", "rollout"] = "current",
    factor: Real[B] | None = None,
) -> tuple[Scalar, Real[B, T]]:
    """ACE loss: GRPO's or DAPO's, with the negative advantages of overconfident answers enlarged.

    Parameters
    ----------
    advantage
        As of `trref.tokens.grpo.group_advantage`.
    factor
        Held constant; that of `penalty_factor` if not given.
    """
    if factor is None:
        options = {"alpha": alpha, "shape": shape, "shift": shift, "shift_of": shift_of}
        factor = penalty_factor.unchecked(
            log_prob, old_log_prob, mask, ref_log_prob, **options
        )
    A = per_token(advantage)
    A = xp.where(A < 0, A * factor[:, None], A)
    term, derivative = clip_surrogate(log_prob, old_log_prob, A, clip_low, clip_high)
    w = token_weights(mask, aggregation)
    J = (w * term).sum()  # eq. ace-objective
    return -J, -w * derivative
