r"""CPPO: a trust region that is tighter early in an answer, and tightens once the prefix has drifted.

What differs from GRPO: no clip of the ratio, but a mask on tokens that are being pushed away from the sampling policy
where a divergence :math:`D_t` of the two policies before the token is too large (as DPPO). A change before token t
shifts the T - t tokens after it (:mod:`trref.tokens.cppo_bound`); so the divergence counts with a weight that falls
along the answer's T tokens,

.. math::
    :label: cppo-weight

    w_t = 1 - \frac{1 - w_{min}}{T - 1}\,(t - 1), \qquad t = 1, \dots, T

and the allowance on :math:`D_t` widens from :math:`\delta` to :math:`\delta / w_{min}`. Small shifts add up along the
prefix; a running account of them lowers the threshold once their weighted mean exceeds a budget:

.. math::
    :label: cppo-threshold

    c_t = \min\big\{ \delta,\; \delta + \delta_b W_{t-1} - S_{t-1} \big\}, \qquad
    S_t = \sum_{j \le t} w_j D_j, \quad W_t = \sum_{j \le t} w_j

The sums run over all tokens of the answer, masked out or not. As the first token always has :math:`c_1 = \delta`, the
rule keeps :math:`S_m \le \delta + \delta_b W_{m-1}`, a little less than the bound asks. The budget is a number or, for
base models, one for each answer, from the ninth decile of its divergences:

.. math::
    :label: cppo-dynamic

    \delta_b = \mathrm{clip}\big( P_{90}(D_1, \dots, D_T),\; b,\; 2b \big)

The mask is

.. math::
    :label: cppo-mask

    M_t = \mathbb 1\big[ \hat A_t (\rho_t - 1) \le 0 \ \text{ or } \ w_t D_t \le c_t \big]

.. math::
    :label: cppo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{\sum_j |y_j|}\, M_{i,t}\, \rho_{i,t} \hat A_{i,t}, \qquad
    \frac{\partial J}{\partial \log\pi_{i,t}} = \frac{m_{i,t}}{\sum_j |y_j|}\, M_{i,t}\, \rho_{i,t} \hat A_{i,t}

with M held constant; value and mask jump where a token crosses its threshold. The divergence is the exact total
variation, that of the K likeliest tokens (:mod:`trref.tokens.reduced_divergences`), or the binary one:

.. math::
    :label: cppo-binary

    D_t = |\pi_t - \mu_t|

of the sampled token. With :math:`w_{min} = 1` and :math:`\delta_b \to \infty` this is DPPO, and so it is for answers of
one token; with :math:`\delta_b = 0` the threshold can only fall.

=================== ===============================================
:math:`\delta`      `radius`
:math:`\delta_b`    `mean_radius`, or with a dynamic budget b
:math:`w_{min}`     `w_min`
=================== ===============================================

**Where implementations differ.** UniRL ships the binary divergence, always with the dynamic budget, and clamps
log-ratios to ±20; its description says that the allowance on D shrinks along the answer, its code and the paper let it
grow. Masked tokens still move, through the parameters that they share with others: the constraint is not enforced.

**Provenance.** Confirmed: by the paper's text and UniRL's code (Tencent-Hunyuan/UniRL, unirl/algorithms/cppo.py).

Mao et al., *Beyond Uniform Token-Level Trust Region in LLM Reinforcement Learning*, 2026, arXiv:2606.10968.
"""

from typing import Annotated, Literal

from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    Prob,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import per_token, token_mean


@checked
def position_weight(
    mask: Mask[B, T], *, w_min: Annotated[float, "(0, 1]"] = 0.8
) -> Prob[B, T]:
    """Weight of each token's divergence: 1 at the first token of an answer; 0 where the mask is 0.

    Parameters
    ----------
    w_min
        The weight of the last token.
    """
    before, length = xp.cumsum(mask, axis=1) - mask, mask.sum(1, keepdims=True)
    # eq. cppo-weight
    return mask * (1 - (1 - w_min) * before / xp.maximum(length - 1, 1))


@checked
def dynamic_budget(
    mask: Mask[B, T],
    divergence: NonNegative[B, T],
    *,
    smallest: NonNegativeFloat = 0.02,
) -> NonNegative[B]:
    """Prefix budget of each answer: the ninth decile of its divergences, between `smallest` and twice that.

    Parameters
    ----------
    smallest
        Smallest budget.
    """
    # eq. cppo-dynamic
    # the zeros of the padding stand last
    largest_first = xp.flip(xp.sort(mask * divergence, axis=1), 1)
    # of the ninth decile, from the largest, between two neighbours
    place = 0.1 * (mask.sum(1, keepdims=True) - 1)
    share = xp.maximum(1 - abs(xp.arange(mask.shape[1], dtype=mask.dtype) - place), 0)
    decile = (share * largest_first).sum(1)

    return xp.clip(decile, smallest, 2 * smallest)


@checked
def prefix_threshold(
    mask: Mask[B, T],
    divergence: NonNegative[B, T],
    *,
    radius: NonNegativeFloat = 0.15,
    mean_radius: NonNegativeFloat = 0.015,
    w_min: Annotated[float, "(0, 1]"] = 0.8,
    budget: Literal["fixed", "dynamic"] = "fixed",
) -> Real[B, T]:
    """Threshold for the weighted divergence of each token: below 0 where the prefix has overspent by the radius.

    Parameters
    ----------
    radius
        Largest threshold; in the paper 0.2 for a mixture of experts, 0.1 for Kullback-Leibler.
    mean_radius
        Budget of the prefix's mean, or the smallest dynamic one; 0.002 for Kullback-Leibler.
    budget
        The same for all answers, or that of `dynamic_budget`.
    """
    w = position_weight.unchecked(mask, w_min=w_min)
    Z = w * divergence
    S, W = xp.cumsum(Z, axis=1) - Z, xp.cumsum(w, axis=1) - w
    b = mean_radius
    if budget == "dynamic":
        each = dynamic_budget.unchecked(mask, divergence, smallest=mean_radius)
        b = each[:, None]
    return xp.minimum(radius, radius + b * W - S)  # eq. cppo-threshold


@checked
def cppo_mask(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    divergence: NonNegative[B, T],
    *,
    radius: NonNegativeFloat = 0.15,
    mean_radius: NonNegativeFloat = 0.015,
    w_min: Annotated[float, "(0, 1]"] = 0.8,
    budget: Literal["fixed", "dynamic"] = "fixed",
) -> Mask[B, T]:
    """Which tokens keep their gradient: those that return to the old policy, and those within their threshold."""
    A, moved = per_token(advantage), log_prob - old_log_prob
    spent = position_weight.unchecked(mask, w_min=w_min) * divergence
    c = prefix_threshold.unchecked(
        mask,
        divergence,
        radius=radius,
        mean_radius=mean_radius,
        w_min=w_min,
        budget=budget,
    )
    pushed_away = ((A > 0) & (moved > 0)) | ((A < 0) & (moved < 0))
    return mask * (~pushed_away | (spent <= c))  # eq. cppo-mask


@checked
def cppo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    divergence: NonNegative[B, T],
    *,
    radius: NonNegativeFloat = 0.15,
    mean_radius: NonNegativeFloat = 0.015,
    w_min: Annotated[float, "(0, 1]"] = 0.8,
    budget: Literal["fixed", "dynamic"] = "fixed",
) -> tuple[Scalar, Real[B, T]]:
    """CPPO loss with a divergence of the whole distribution: the mean over all tokens.

    Parameters
    ----------
    advantage
        As of `trref.tokens.grpo.group_advantage`; the paper's is without the division by the deviation.
    """
    keep = cppo_mask.unchecked(
        log_prob,
        old_log_prob,
        advantage,
        mask,
        divergence,
        radius=radius,
        mean_radius=mean_radius,
        w_min=w_min,
        budget=budget,
    )
    ratio = xp.exp(log_prob - old_log_prob)
    dJ = token_mean(mask) * keep * (ratio * per_token(advantage))
    J = dJ.sum()  # eq. cppo-objective
    return -J, -dJ


@checked
def cppo_binary(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    radius: NonNegativeFloat = 0.15,
    mean_radius: NonNegativeFloat = 0.015,
    w_min: Annotated[float, "(0, 1]"] = 0.8,
    budget: Literal["fixed", "dynamic"] = "fixed",
) -> tuple[Scalar, Real[B, T]]:
    """CPPO loss with the binary divergence of the sampled tokens."""
    divergence = abs(xp.exp(log_prob) - xp.exp(old_log_prob))  # eq. cppo-binary
    return cppo.unchecked(
        log_prob,
        old_log_prob,
        advantage,
        mask,
        divergence,
        radius=radius,
        mean_radius=mean_radius,
        w_min=w_min,
        budget=budget,
    )
