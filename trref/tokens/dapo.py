r"""DAPO: clip higher, average over tokens, resample uninformative prompts, penalise overlong answers.

Four changes to GRPO. The upper clip is wider than the lower one, so that rare tokens can grow:
:math:`\epsilon_l = 0.2`, :math:`\epsilon_h = 0.28` in the clipped term :math:`\ell` of :mod:`trref.tokens.grpo`. Each
token of a prompt's answers has the same weight:

.. math::
    :label: dapo-objective

    J = \frac1P \sum_g \frac{1}{\sum_{i\in g} |y_i|} \sum_{i\in g} \sum_t m_{i,t}\, \ell_{i,t}

or, as most trainers have it, each token of the whole batch:

.. math::
    :label: dapo-batch-objective

    J = \frac{1}{\sum_i |y_i|} \sum_{i,t} m_{i,t}\, \ell_{i,t}

A prompt whose answers are all right or all wrong has no gradient; it is dropped and another one sampled:

.. math::
    :label: dapo-dynamic-sampling

    \mathrm{keep}_i = \mathbb 1\big[\,0 < \#\{j \in g(i) : r_j = 1\} < G\,\big]

The length of an answer costs, softly, over the last :math:`C` of :math:`L` tokens:

.. math::
    :label: dapo-overlong

    R(y) = \min\Big\{0,\; \max\Big\{-1,\; \frac{(L - C) - |y|}{C}\Big\}\Big\}

===============================  =======================
:math:`\epsilon_l,\ \epsilon_h`  `clip_low`, `clip_high`
L, C                             `longest`, `cache`
===============================  =======================

**Where implementations differ.** TRL and verl average over the tokens of the batch, the paper over those of a prompt.
TRL documents that it does not sample dynamically. Of the trainers that average over the batch, verl, OpenRLHF and SkyRL
clamp log-ratios to ±20, verl and EasyR1 add the dual clip at 3 unless told not to, ROLL's sum counts padding, and
prime-rl masks tokens whose ratio leaves [1/8, 8] in the place of clipping.

**Provenance.** Confirmed: the objectives and the sampling by the loss code and documentation of TRL and verl. Partly:
the overlong penalty, recalled from the paper. The gradients are derived and checked.

Yu et al., *DAPO: An Open-Source LLM Reinforcement Learning System at Scale*, 2025, arXiv:2503.14476.
"""

from trref import validate
from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    Index,
    LogProb,
    Mask,
    NonNegative,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, group_mean, group_token_mean, token_mean


@checked
def dapo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    group: Index[B],
    *,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.28,
) -> tuple[Scalar, Real[B, T]]:
    """DAPO loss of the paper: the mean over prompts of the mean over the tokens of all their answers.

    Parameters
    ----------
    advantage
        As of `trref.tokens.grpo.group_advantage`.
    """
    term, derivative = clip_surrogate(
        log_prob, old_log_prob, advantage, clip_low, clip_high
    )
    w = group_token_mean(mask, group)
    J = (w * term).sum()  # eq. dapo-objective
    return -J, -w * derivative


@checked
def dapo_over_batch(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.28,
) -> tuple[Scalar, Real[B, T]]:
    """DAPO loss as trainers have it: the mean over all tokens of the batch."""
    term, derivative = clip_surrogate(
        log_prob, old_log_prob, advantage, clip_low, clip_high
    )
    w = token_mean(mask)
    J = (w * term).sum()  # eq. dapo-batch-objective
    return -J, -w * derivative


@checked
def dynamic_sampling(reward: Binary[B], group: Index[B]) -> Binary[B]:
    """Which answers to keep: those of prompts with at least one right answer and one that is not."""
    share = group_mean(reward, group)[0]
    return ((share > 0) & (share < 1)).astype(reward.dtype)  # eq. dapo-dynamic-sampling


def _at_most_all(longest, cache, **_):
    """A cache larger than `longest`."""
    validate.interval(f"(0, {longest}]", cache=cache)
    return []


@checked(also=_at_most_all)
def overlong_penalty(
    length: NonNegative[B], *, longest: PositiveFloat, cache: PositiveFloat
) -> Real[B]:
    """Soft penalty for long answers, added to their rewards: between -1 and 0.

    Parameters
    ----------
    length
        Number of tokens of each answer.
    longest
        Length from which on the penalty is whole.
    cache
        The penalty falls from 0 to -1 over so many tokens before that.
    """
    # eq. dapo-overlong
    return xp.clip((longest - cache - length) / cache, -1.0, 0.0)
