r"""Correcting for a sampler that is not the trained policy: truncated importance sampling (TIS), IcePop, rejection.

Answers are sampled by an inference engine with its own numerics, and maybe older weights: :math:`\mu`. The trainer's
old policy :math:`\pi^{old}`, recomputed, differs. The gradient then needs the weight :math:`\pi^{old}/\mu`, a constant.
It can be taken for each token, for the answer, or as the geometric mean over the answer,

.. math::
    :label: rollout-correction-ratio

    \rho_{i,t} = e^{d_{i,t}}, \qquad \rho_i = \exp\Big(\sum_t m_{i,t} d_{i,t}\Big), \qquad
    \bar\rho_i = \exp\Big(\frac1{|y_i|} \sum_t m_{i,t} d_{i,t}\Big), \qquad
    d_{i,t} = \log\pi^{old}_{i,t} - \log\mu_{i,t}

Its tail is dangerous. TIS truncates it, IcePop drops what lies outside an interval, bounds included:

.. math::
    :label: rollout-correction-rules

    W = m \min\{\max\{\rho, a\}, C\} \ (\text{truncate}), \qquad
    W = m\, \rho\; \mathbb 1[a \le \rho \le C] \ (\text{mask})

.. math::
    :label: rollout-correction-objective

    J = \sum_{i,t} w_{i,t}\, W_{i,t}\, \ell_{i,t}

with the clipped term :math:`\ell` and the weights w of :mod:`trref.tokens.grpo`. What is dropped stays in the
denominators. The weights may be divided by their mean over all tokens, so that one batch's step is not longer than
another's for its sampler alone:

.. math::
    :label: rollout-correction-normalised

    \widetilde W_{i,t} = \frac{W_{i,t}}{\overline W}, \qquad \overline W = \frac{\sum_{i,t} m_{i,t} W_{i,t}}
    {\sum_{i,t} m_{i,t}}

Rejection is a mask alone, by an estimate of the divergence: k1, k2 or k3 of a token, or their sum or mean over the
answer, or all tokens of the answer at once, the largest deciding,

.. math::
    :label: rollout-correction-rejection

    \mathrm{keep} = \mathbb 1[\log a \le d \le \log C] \ (k_1), \qquad
    \mathbb 1\big[\tfrac12 d^2 \le C\big] \ (k_2), \qquad \mathbb 1[e^d - 1 - d \le C] \ (k_3)

With all tokens at once and a lower bound alone it is a veto: one token that the old policy finds ten thousand times
less likely than its sampler did sends the answer away. DeepSeek-V3.2 asks the *current* policy, and drops bad answers
alone, from which a policy that has moved on learns what it would not say anyway,

.. math::
    :label: rollout-correction-sequence-mask

    \mathrm{keep}_i = \mathbb 1\Big[ \hat A_i \ge 0 \ \text{ or } \ \frac1{|y_i|} \sum_t m_{i,t}
    \big( \log\mu_{i,t} - \log\pi_{i,t} \big) \le \delta \Big]

Only the weight of the answer, without a bound, makes the estimator unbiased for a reward at the end of the answer. Its
variance grows exponentially with the length. Weights of tokens and geometric means have a bias that no truncation
causes, and little variance; truncating the answer's weight costs :math:`\mathbb E_\mu[(\rho - C)^+]` of the mass. An
answer without tokens has no weight and no term.

================  ===================
:math:`\mu`       `behavior_log_prob`
a, C              `lower`, `upper`
:math:`\delta`    `radius`
================  ===================

**Where implementations differ.** verl's rejection by k1 tests :math:`-d` against the logarithms of the bounds: it keeps
:math:`1/C \le \rho \le 1/a`, which is the same for reciprocal bounds only. verl rejects by changing the response mask,
so that a mean over its tokens has a smaller denominator. Without any correction the clipped ratio is taken as if
:math:`\pi^{old}` had sampled.

**Provenance.** Confirmed: by the code of verl and TRL, and by verl's documentation. The posts in which TIS and IcePop
were proposed were read as quoted there, and DeepSeek's mask as TRL has it; bounds are the codes'. The bias is derived
and checked by enumeration.

Yao et al., *Your Efficient RL Framework Secretly Brings You Off-Policy RL Training*, 2025. IcePop: Ling team, 2025,
arXiv:2510.18855. Rejection: Liu, Li et al., *When Speed Kills Stability*, 2025. DeepSeek-V3.2: 2025, arXiv:2512.02556.
"""

import math
from typing import Literal

from trref import validate
from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, token_weights


def _in_order(lower, upper, **_):
    """An upper bound below `lower`."""
    validate.interval(f"[{lower}, inf)", upper=upper)
    return []


@checked(also=_in_order)
def rollout_weight(
    old_log_prob: LogProb[B, T],
    behavior_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    level: Literal["token", "sequence", "geometric"] = "token",
    rule: Literal["truncate", "mask"] = "truncate",
    lower: NonNegativeFloat = 0.0,
    upper: PositiveFloat = 2.0,
) -> NonNegative[B, T]:
    """Weight of each token: π_old/μ of the token or of its answer, within bounds; 0 where the mask is.

    Parameters
    ----------
    level
        The token's own ratio, the product over its answer, or the geometric mean.
    rule
        Ratios outside the bounds are set to the bound, or to 0.
    lower, upper
        Bounds of the ratio.
    """
    # eq. rollout-correction-ratio
    d = old_log_prob - behavior_log_prob
    if level != "token":
        d = _over_answer(d, mask, mean=level == "geometric")

    # eq. rollout-correction-rules
    weight = xp.exp(xp.minimum(d, math.log(upper)))
    if rule == "truncate":
        return mask * xp.maximum(weight, lower)
    return mask * weight * ((weight >= lower) & (d <= math.log(upper)))


def _over_answer(x, mask, *, mean):
    """The sum or mean over each answer's tokens, as a column."""
    total = (x * mask).sum(1, keepdims=True)
    return total / xp.maximum(mask.sum(1, keepdims=True), 1) if mean else total


@checked
def rejection_mask(
    old_log_prob: LogProb[B, T],
    behavior_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    statistic: Literal["k1", "k2", "k3"] = "k1",
    level: Literal["token", "sum", "mean", "all"] = "token",
    lower: PositiveFloat = 0.5,
    upper: PositiveFloat = 5.0,
) -> Mask[B, T]:
    """The mask without the tokens, or answers, that have strayed too far from their sampler.

    Parameters
    ----------
    statistic
        The estimate of the divergence.
    level
        Of the token, or its sum or mean over the answer; with ``"all"`` an answer goes if one of its tokens would.
    lower, upper
        Bounds of the ratio (k1); for k2 and k3 `upper` bounds the estimate itself.
    """
    # eq. rollout-correction-rejection
    d = old_log_prob - behavior_log_prob
    if statistic == "k2":
        d = d * d / 2
    elif statistic == "k3":
        d = xp.expm1(d) - d
    if level in ("sum", "mean"):
        d = _over_answer(d, mask, mean=level == "mean")
    if statistic == "k1":
        keep = (d >= math.log(lower)) & (d <= math.log(upper))
    else:
        keep = d <= upper
    if level == "all":
        keep = (keep | (mask == 0)).all(1, keepdims=True)
    return mask * keep


@checked
def off_policy_mask(
    log_prob: LogProb[B, T],
    behavior_log_prob: LogProb[B, T],
    advantage: Real[B],
    mask: Mask[B, T],
    *,
    radius: PositiveFloat = 0.1,
) -> Mask[B, T]:
    """The mask without the bad answers that the policy has moved away from.

    Parameters
    ----------
    radius
        Largest mean log-ratio of the sampler to the policy.
    """
    # eq. rollout-correction-sequence-mask
    far = _over_answer(behavior_log_prob - log_prob, mask, mean=True) > radius
    return mask * ~(far & (advantage[:, None] < 0))


@checked
def normalised_weight(weight: NonNegative[B, T], mask: Mask[B, T]) -> NonNegative[B, T]:
    """Weights over their mean; where all are 0 they stay 0.

    Parameters
    ----------
    weight
        Of each token, such as by `rollout_weight`.
    """
    # eq. rollout-correction-normalised
    mean = (mask * weight).sum() / xp.maximum(mask.sum(), 1)
    return mask * weight / xp.where(mean > 0, mean, 1)


@checked(also=_in_order)
def rollout_corrected(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    behavior_log_prob: LogProb[B, T],
    *,
    level: Literal["token", "sequence", "geometric"] = "token",
    rule: Literal["truncate", "mask"] = "truncate",
    lower: NonNegativeFloat = 0.0,
    upper: PositiveFloat = 2.0,
    clip: PositiveFloat = 0.2,
    aggregation: Literal["token_mean", "seq_mean"] = "token_mean",
) -> tuple[Scalar, Real[B, T]]:
    """Clipped loss whose terms are weighted by `rollout_weight`.

    Parameters
    ----------
    old_log_prob
        Here of the trainer's policy before the update, recomputed.
    """
    W = rollout_weight.unchecked(
        old_log_prob,
        behavior_log_prob,
        mask,
        level=level,
        rule=rule,
        lower=lower,
        upper=upper,
    )
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    w = token_weights(mask, aggregation) * W
    J = (w * term).sum()  # eq. rollout-correction-objective
    return -J, -w * derivative
