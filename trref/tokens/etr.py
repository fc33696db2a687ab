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

**Where implementations differ.** No public implementation is known. Without the division by the deviation
:math:`|\hat A| \le 1`, and :math:`a_{ref}` has to be smaller.

**Provenance.** Reconstructed: the abstract and public summaries name the two ingredients, the size of the advantage and
the variance of the pass rate. None of the paper's equations and constants was found: the forms above are one faithful,
simple choice. The identities about advantages are derived and checked.

Zhang, Zhang, Gu et al., *ETR: Outcome-Guided Elastic Trust Regions for Policy Optimization*, 2026, arXiv:2601.03723.
"""

import math
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import OVER_TOKENS, REINFORCE_OVER_ANSWERS, on_policy
from trref.tokens.interfaces import token_objective
from trref.tokens.terms import clip_surrogate, group_mean, token_weights

__all__ = ["MAX_LOW", "Bounds", "elastic_bounds", "etr", "macro_scale", "micro_scale"]

OUTCOMES = token_objective("reward", "group", advantage="B")
ANSWERS = token_objective("reward", "group", advantage="B", without=("log_prob", "old_log_prob", "mask"))
SHAPES, BUDGETS = ("tanh", "linear"), ("elastic", "matched")
MAX_LOW = 0.95
"""The lower bound of a ratio, 1 minus this, stays positive; a constant of this reconstruction."""


class Bounds(NamedTuple):
    """Of each answer's ratio, (B,): it earns between 1 - low and 1 + high."""

    low: Any
    high: Any


def micro_scale(advantage, micro, shape, reference, cap):
    """Building block, unchecked: the factor (B,) for the size of an answer's advantage."""
    size = abs(advantage) / reference
    return 1 + micro * xp.tanh(size) if shape == "tanh" else xp.minimum(size, cap)  # eq. etr-micro


def macro_scale(reward, group, macro):
    """Building block, unchecked: the factor (B,) for the disagreement of an answer's group."""
    p = group_mean(reward, group)[0]
    return 1 + macro * 4 * p * (1 - p)  # eq. etr-macro


def _bounds(advantage, reward, group, clip_low, clip_high, micro, macro, shape, reference, cap, budget):
    scale = micro_scale(advantage, micro, shape, reference, cap) * macro_scale(reward, group, macro)
    if budget == "matched":
        counts = (advantage != 0).astype(scale.dtype)
        mean = (scale * counts).sum() / xp.maximum(counts.sum(), 1)
        scale = scale / xp.where(mean > 0, mean, 1)  # eq. etr-matched
    return Bounds(xp.minimum(clip_low * scale, MAX_LOW), clip_high * scale)  # eq. etr-bounds


def _check(clip_low, clip_high, micro, macro, shape, reference, cap, budget):
    validate.interval("(0, inf)", clip_low=clip_low, clip_high=clip_high, reference=reference, cap=cap)
    validate.interval("[0, inf)", micro=micro, macro=macro)
    validate.choice(SHAPES, shape=shape)
    validate.choice(BUDGETS, budget=budget)


def elastic_bounds(
    advantage,
    reward,
    group,
    *,
    clip_low=0.2,
    clip_high=0.2,
    micro=0.5,
    macro=0.5,
    shape="tanh",
    reference=1.0,
    cap=2.0,
    budget="elastic",
):
    """How far each answer's token ratios may go.

    Parameters
    ----------
    advantage : array (B,)
        As of `trref.tokens.grpo.group_advantage`.
    reward : array (B,), 0 or 1
    group : array (B,), integer
        The prompt of each answer.
    clip_low, clip_high : float
        The bounds before scaling, in (0, inf).
    micro, macro : float
        Strength of the two rules, in [0, inf); 0 is none.
    shape : {"tanh", "linear"}
        Of the micro rule; the linear one has no strength.
    reference : float
        The size of a typical advantage, in (0, inf).
    cap : float
        Largest factor of the linear rule, in (0, inf).
    budget : {"elastic", "matched"}
        As they come, or with a mean factor of 1 over the answers that have an advantage.

    Returns
    -------
    Bounds

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, rewards other than 0 and 1, numbers out of range, an unknown
        choice.
    """
    validate.inputs(ANSWERS.inputs, advantage, reward, group)
    rules = micro, macro, shape, reference, cap, budget
    _check(clip_low, clip_high, *rules)
    return _bounds(advantage, reward, group, clip_low, clip_high, *rules)


def etr(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    reward,
    group,
    *,
    clip_low=0.2,
    clip_high=0.2,
    micro=0.5,
    macro=0.5,
    shape="tanh",
    reference=1.0,
    cap=2.0,
    budget="elastic",
    aggregation="seq_mean",
):
    """ETR loss: GRPO's with clip bounds of each answer's own.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,)
        One an answer, as of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    reward, group, clip_low, clip_high, micro, macro, shape, reference, cap, budget
        As in `elastic_bounds`.
    aggregation : {"seq_mean", "token_mean"}
        GRPO's mean, or that over all tokens.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        As `elastic_bounds`; log-probabilities more than 30 apart.
    """
    validate.inputs(OUTCOMES.inputs, log_prob, old_log_prob, advantage, mask, reward, group)
    rules = micro, macro, shape, reference, cap, budget
    _check(clip_low, clip_high, *rules)
    validate.choice(("seq_mean", "token_mean"), aggregation=aggregation)
    low, high = _bounds(advantage, reward, group, clip_low, clip_high, *rules)
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, low[:, None], high[:, None])
    w = token_weights(mask, aggregation)
    J = (w * term).sum()  # eq. etr-objective
    return -J, -w * derivative


def _bounds_by_loops(
    advantage,
    reward,
    group,
    *,
    clip_low=0.2,
    clip_high=0.2,
    micro=0.5,
    macro=0.5,
    shape="tanh",
    reference=1.0,
    cap=2.0,
    budget="elastic",
):
    scales = []
    for A, g in zip(advantage.tolist(), group.tolist(), strict=True):
        members = [r for r, h in zip(reward.tolist(), group.tolist(), strict=True) if h == g]
        variance = sum(members) * (len(members) - sum(members)) / len(members) ** 2
        kappa = 1 + micro * math.tanh(abs(A) / reference) if shape == "tanh" else min(abs(A) / reference, cap)
        scales.append(kappa * (1 + 4 * macro * variance))
    live = [s for s, A in zip(scales, advantage.tolist(), strict=True) if A != 0]
    mean = sum(live) / len(live) if budget == "matched" and live else 1
    return [[min(clip_low * s / mean, 0.95) for s in scales], [clip_high * s / mean for s in scales]]


def _alike(inputs):
    """there is one prompt, and advantages differ in sign alone"""
    return {**inputs, "group": 0 * inputs["group"], "advantage": 2 * inputs["reward"] - 1}


PROBE = {
    "clip_low": 0.6,
    "clip_high": 0.35,
    "micro": 0.3,
    "macro": 0.8,
    "shape": "linear",
    "reference": 0.7,
    "cap": 1.5,
    "budget": "matched",
}
VARIANTS = {
    "default": {},
    "matched": {"budget": "matched"},
    "linear in the advantage alone": {"shape": "linear", "macro": 0.0},
}
MATCHED = {"budget": "matched", "shape": "linear", "macro": 0.0, "reference": 5.0}
PLAIN = {"micro": 0.0, "macro": 0.0}
WIDE = {"clip_low": 0.24, "clip_high": 0.24}  # no edge lies on these bounds, where the mean rounds
METHOD = Method(
    key="zhang2026etr",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=elastic_bounds,
            interface=ANSWERS,
            settings={**VARIANTS, "probe": PROBE},
            brute_force=_bounds_by_loops,
        ),
        Objective(
            f=etr,
            interface=OUTCOMES,
            wrt="log_prob",
            settings={**VARIANTS, "matched to 1": MATCHED, "probe": {**PROBE, "aggregation": "token_mean"}},
            limits=(
                Limit(to="grpo.grpo", hyper=PLAIN),
                Limit(to="grpo.grpo", hyper={"reference": 1e-9, "macro": 0.0}, to_hyper={"clip": 0.3}),
                Limit(to="dapo.dapo_over_batch", hyper={**PLAIN, "clip_high": 0.28, "aggregation": "token_mean"}),
                Limit("grpo.grpo", {"budget": "matched", **WIDE}, {"clip": 0.24}, where=_alike),
                REINFORCE_OVER_ANSWERS,
                Limit(
                    "reinforce.reinforce",
                    {"aggregation": "token_mean"},
                    OVER_TOKENS,
                    where=on_policy,
                    gradient_only=True,
                ),
            ),
        ),
    ),
)
