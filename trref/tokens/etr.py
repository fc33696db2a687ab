r"""Elastic trust regions (ETR): a reconstruction; clip bounds that grow with the advantage and with disagreement.

PPO and GRPO give every answer the same trust region. ETR lets answers with a strong advantage move further (*micro*),
and gives prompts of medium difficulty, where the outcomes of a group disagree most, a larger budget (*macro*) than
prompts that are almost always solved or failed. All else is GRPO. With the pass
rate :math:`\hat p_g` of the answer's group,

.. math::
    :label: etr-micro

    \kappa_i = 1 + \lambda_a \tanh\frac{|\hat A_i|}{a_{ref}} \ \text{(tanh)}, \qquad
    \kappa_i = \min\Big\{ \frac{|\hat A_i|}{a_{ref}},\; \kappa_{max} \Big\} \ \text{(linear)}

.. math::
    :label: etr-macro

    \nu_g = 1 + \lambda_v\, 4 \hat p_g (1 - \hat p_g) \in [1, 1 + \lambda_v]

.. math::
    :label: etr-bounds

    \epsilon^l_i = \min\{\epsilon^l_0\, \kappa_i \nu_g,\; 0.95\}, \qquad \epsilon^h_i = \epsilon^h_0\, \kappa_i \nu_g

.. math::
    :label: etr-objective

    J = \sum_{i,t} w_{i,t} \min\big\{ \rho_{i,t} \hat A_i,\;
    \mathrm{clip}(\rho_{i,t}, 1 - \epsilon^l_i, 1 + \epsilon^h_i)\, \hat A_i \big\}

The bounds are constants of the batch. On average they are wider than :math:`\epsilon_0`. To tell the allocation from
the width, ``budget="matched"`` divides by the mean over the n answers that have an advantage:

.. math::
    :label: etr-matched

    \kappa_i \nu_g \leftarrow \kappa_i \nu_g \Big/ \frac1n \sum_{j: \hat A_j \ne 0} \kappa_j \nu_{g(j)}

A second-order model motivates the micro rule: :math:`\hat A x - x^2 / (2\kappa)` is largest at the change of ratio
:math:`x = \kappa \hat A`. And it may *be* the macro rule: with rewards 0 and 1 and population deviations, right answers
have the advantage :math:`\sqrt{(1-\hat p)/\hat p}`, wrong ones :math:`-\sqrt{\hat p/(1-\hat p)}`, and the group's mean
of :math:`|\hat A|` is :math:`2\sqrt{\hat p(1-\hat p)}`, so that a bound linear in :math:`|\hat A|` already allots
budget by disagreement. With sample deviations and G answers all that is :math:`\sqrt{(G-1)/G}` times as large. A rare
success has :math:`|\hat A| = \sqrt{G-1}`: the micro scale is bounded lest one lucky answer get a huge region.

==============================  =======================
:math:`\lambda_a,\ \lambda_v`   `micro`, `macro`
:math:`a_{ref},\ \kappa_{max}`  `reference`, `cap`
:math:`\epsilon_0`              `clip_low`, `clip_high`
==============================  =======================

**Where implementations differ.** No public implementation is known. Without the division by the deviation
:math:`|\hat A| \le 1`, and :math:`a_{ref}` has to be smaller.

**Provenance.** Reconstructed: the abstract and public summaries name the two ingredients, the size of the advantage and
the variance of the pass rate. None of the paper's equations and constants was found: the forms above are one faithful,
simple choice. The identities about advantages are derived and checked.

Zhang, Zhang, Gu et al., *ETR: Outcome-Guided Elastic Trust Regions for Policy Optimization*, 2026, arXiv:2601.03723.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    Index,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, group_mean, token_weights

MAX_LOW = 0.95  # the lower bound of a ratio, 1 minus this, stays positive


class Bounds(NamedTuple):
    """Of each answer's ratio: it earns between 1 - low and 1 + high."""

    low: NonNegative[B]
    high: NonNegative[B]


@checked
def micro_scale(
    advantage: Real[B],
    *,
    micro: NonNegativeFloat = 0.5,
    shape: Literal["tanh", "linear"] = "tanh",
    reference: PositiveFloat = 1.0,
    cap: PositiveFloat = 2.0,
) -> NonNegative[B]:
    """The factor for the size of an answer's advantage.

    Parameters
    ----------
    advantage
        One an answer, as of `trref.tokens.grpo.group_advantage`.
    micro
        Strength, of ``"tanh"`` alone; 0 is none.
    shape
        How the factor grows.
    reference
        The size of a typical advantage.
    cap
        Largest factor of ``"linear"``.
    """
    size = abs(advantage) / reference
    # eq. etr-micro
    return 1 + micro * xp.tanh(size) if shape == "tanh" else xp.minimum(size, cap)


@checked
def macro_scale(
    reward: Binary[B], group: Index[B], *, macro: NonNegativeFloat = 0.5
) -> Positive[B]:
    """The factor for the disagreement of an answer's group.

    Parameters
    ----------
    macro
        Strength; 0 is none.
    """
    p = group_mean(reward, group)[0]
    return 1 + macro * 4 * p * (1 - p)  # eq. etr-macro


@checked
def elastic_bounds(
    advantage: Real[B],
    reward: Binary[B],
    group: Index[B],
    *,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.2,
    micro: NonNegativeFloat = 0.5,
    macro: NonNegativeFloat = 0.5,
    shape: Literal["tanh", "linear"] = "tanh",
    reference: PositiveFloat = 1.0,
    cap: PositiveFloat = 2.0,
    budget: Literal["elastic", "matched"] = "elastic",
) -> Bounds:
    """How far each answer's token ratios may go.

    Parameters
    ----------
    clip_low, clip_high
        Before they are scaled.
    budget
        Whether the factors stand as they come, or have a mean of 1 over the answers that have an advantage.
    """
    size = micro_scale.unchecked(
        advantage, micro=micro, shape=shape, reference=reference, cap=cap
    )
    scale = size * macro_scale.unchecked(reward, group, macro=macro)
    if budget == "matched":
        counts = (advantage != 0).astype(scale.dtype)
        mean = (scale * counts).sum() / xp.maximum(counts.sum(), 1)
        scale = scale / xp.where(mean > 0, mean, 1)  # eq. etr-matched
    # eq. etr-bounds
    return Bounds(xp.minimum(clip_low * scale, MAX_LOW), clip_high * scale)


@checked
def etr(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B],
    mask: Mask[B, T],
    reward: Binary[B],
    group: Index[B],
    *,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.2,
    micro: NonNegativeFloat = 0.5,
    macro: NonNegativeFloat = 0.5,
    shape: Literal["tanh", "linear"] = "tanh",
    reference: PositiveFloat = 1.0,
    cap: PositiveFloat = 2.0,
    budget: Literal["elastic", "matched"] = "elastic",
    aggregation: Literal["seq_mean", "token_mean"] = "seq_mean",
) -> tuple[Scalar, Real[B, T]]:
    """ETR loss: GRPO's with clip bounds of each answer's own."""
    low, high = elastic_bounds.unchecked(
        advantage,
        reward,
        group,
        clip_low=clip_low,
        clip_high=clip_high,
        micro=micro,
        macro=macro,
        shape=shape,
        reference=reference,
        cap=cap,
        budget=budget,
    )
    term, derivative = clip_surrogate(
        log_prob, old_log_prob, advantage, low[:, None], high[:, None]
    )
    w = token_weights(mask, aggregation)
    J = (w * term).sum()  # eq. etr-objective
    return -J, -w * derivative
