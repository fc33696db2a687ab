r"""A-3PO: a proximal policy for asynchronous training that costs no forward pass.

When sampling and training run side by side, the policy that sampled, :math:`\pi_b`, is several versions old. Clipping
ratios around it would freeze most tokens. Decoupled PPO clips around a *proximal* policy :math:`\pi_p`, the weights
just before the update, and corrects for the age of the data by a weight that is not differentiated:

.. math::
    :label: a3po-decoupled

    J = \sum_{i,t} \frac{m_{i,t}}{\sum_j |y_j|}\, w_{i,t} \min\big\{ r \hat A,\;
    \mathrm{clip}(r, 1-\epsilon, 1+\epsilon)\, \hat A \big\}_{i,t}, \qquad
    w = \mathrm{sg}\Big[\frac{\pi_p}{\pi_b}\Big], \quad r = \frac{\pi}{\mathrm{sg}[\pi_p]}

.. math::
    :label: a3po-gradient

    \frac{\partial J}{\partial \log\pi_{i,t}} = \frac{m_{i,t}}{\sum_j |y_j|}\, w r \hat A\,
    [\text{not clipped}], \qquad w r = \frac{\pi}{\pi_b}

The anchor cancels from the size of the gradient: all that it decides is which tokens are clipped. Computing it exactly
takes one more forward pass. A-3PO interpolates between the two log-probabilities that are at hand anyway, by the
version that each token was sampled from, :math:`v_b`, and that in training, :math:`v`, with :math:`v_p = v - 1`:

.. math::
    :label: a3po-weight

    \alpha = \frac{v_p - v_b}{v - v_b} = 1 - \frac1d, \qquad d = v - v_b \ge 1, \qquad \alpha = 0
    \text{ elsewhere}

.. math::
    :label: a3po-loglinear

    \log\pi_p \approx \log\pi_b + \alpha\,(\mathrm{sg}[\log\pi] - \log\pi_b)

An alternative interpolates probabilities:

.. math::
    :label: a3po-linear

    \log\pi_p \approx \log\big( (1-\alpha)\,\pi_b + \alpha\,\mathrm{sg}[\pi] \big)

With the first one :math:`r = (\pi/\pi_b)^{1/d}`, so that the *total* ratio is clipped to
:math:`[(1-\epsilon)^d, (1+\epsilon)^d]`: a trust region that widens with the age of the data. At :math:`d = 1`, and
with :math:`\pi_p = \pi_b` in general (``"rollout"``), this is PPO on the sampling policy. Very large weights are left
out of the sum, or capped:

.. math::
    :label: a3po-cap

    w \leftarrow w\,[w \le c] \ (\text{mask}), \qquad w \leftarrow \min(w, c) \ (\text{clamp})

===============  ===================================
:math:`\pi_b`    `behavior_log_prob`
:math:`\pi_p`    `old_log_prob`, `proximal_log_prob`
:math:`v_b,\ v`  `version`, `current_version`
c                `weight_cap`, none by default
===============  ===================================

**Where implementations differ.** AReaL multiplies by w only where its configuration has ``rejection_sampling``; without
it ``use_decoupled_loss`` silently clips around the proximal policy with no weight. Tokens that it masks still count in
the mean, as here. It offers "linear" in its metrics only. Forgetting to stop the gradient at the interpolation leaves
unclipped tokens as they are, but gives every clipped token a gradient.

**Provenance.** Confirmed: by the code and documentation of AReaL and the author's blog; :math:`\alpha` is AReaL's
letter for the weight of the current policy. The gradient and the equivalent clip range are derived and checked.

Li et al., *A-3PO: Accelerating Asynchronous LLM Training with Staleness-aware Proximal Policy Approximation*, 2025,
arXiv:2512.06547.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import (
    B,
    Index,
    LogProb,
    Mask,
    NonNegativeInt,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, token_mean


@checked
def proximal_approximation(
    log_prob: LogProb[B, T],
    behavior_log_prob: LogProb[B, T],
    version: Index[B, T],
    *,
    current_version: NonNegativeInt,
    interpolation: Literal["loglinear", "linear", "rollout"] = "loglinear",
) -> LogProb[B, T]:
    """Log-probabilities under the proximal policy, approximately and without a forward pass.

    Parameters
    ----------
    version
        One answer may hold several.
    current_version
        Version of the policy in training: one more than that of the weights before the update.
    interpolation
        Between log-probabilities, between probabilities, or none: the sampling policy itself.
    """
    if interpolation == "rollout":
        return behavior_log_prob.copy()
    d = current_version - version.astype(log_prob.dtype)
    alpha = 1 - 1 / xp.maximum(d, 1)  # eq. a3po-weight
    moved = log_prob - behavior_log_prob
    if interpolation == "linear":
        # eq. a3po-linear
        return behavior_log_prob + xp.log((1 - alpha) + alpha * xp.exp(moved))
    return behavior_log_prob + alpha * moved  # eq. a3po-loglinear


@checked
def decoupled(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    behavior_log_prob: LogProb[B, T],
    *,
    clip: PositiveFloat = 0.2,
    weight_cap: PositiveFloat | None = None,
    over_cap: Literal["mask", "clamp"] = "mask",
) -> tuple[Scalar, Real[B, T]]:
    """Decoupled PPO loss with the exact proximal policy.

    Parameters
    ----------
    old_log_prob
        Here of the proximal policy, the weights before the update: one more forward pass.
    clip
        The ratio is that to the proximal policy.
    weight_cap
        Largest weight; 5 in an example of AReaL.
    over_cap
        What becomes of tokens whose weight is larger.
    """
    # eq. a3po-decoupled
    w = xp.exp(old_log_prob - behavior_log_prob)
    if weight_cap is not None:
        # eq. a3po-cap
        w = xp.minimum(w, weight_cap) if over_cap == "clamp" else w * (w <= weight_cap)
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    weight = token_mean(mask) * w
    J = (weight * term).sum()

    return -J, -weight * derivative  # eq. a3po-gradient


@checked
def a3po(
    log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    behavior_log_prob: LogProb[B, T],
    version: Index[B, T],
    *,
    current_version: NonNegativeInt,
    clip: PositiveFloat = 0.2,
    interpolation: Literal["loglinear", "linear", "rollout"] = "loglinear",
    weight_cap: PositiveFloat | None = None,
    over_cap: Literal["mask", "clamp"] = "mask",
    proximal_log_prob: LogProb[B, T] | None = None,
) -> tuple[Scalar, Real[B, T]]:
    """A-3PO loss: decoupled PPO with the proximal policy interpolated.

    Parameters
    ----------
    proximal_log_prob
        The anchor, held constant; that of `proximal_approximation` if not given.
    """
    if proximal_log_prob is None:
        proximal_log_prob = proximal_approximation.unchecked(
            log_prob,
            behavior_log_prob,
            version,
            current_version=current_version,
            interpolation=interpolation,
        )
    return decoupled.unchecked(
        log_prob,
        proximal_log_prob,
        advantage,
        mask,
        behavior_log_prob,
        clip=clip,
        weight_cap=weight_cap,
        over_cap=over_cap,
    )
