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

**Where implementations differ.** TRL and verl average over the tokens of the batch, the paper over those of a prompt.
TRL documents that it does not sample dynamically.

**Provenance.** Confirmed: the objectives and the sampling by the loss code and documentation of TRL and verl. Partly:
the overlong penalty, recalled from the paper. The gradients are derived and checked.

Yu et al., *DAPO: An Open-Source LLM Reinforcement Learning System at Scale*, 2025, arXiv:2503.14476.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Objective
from trref.catalog.tokens.places import OVER_TOKENS, REINFORCE_OVER_TOKENS, equal_lengths, on_policy
from trref.tokens.deviations import dapo as deviations
from trref.tokens.interfaces import TOKEN_OBJECTIVE, token_objective
from trref.tokens.terms import clip_surrogate, group_mean, token_weights

__all__ = ["dapo", "dapo_over_batch", "dynamic_sampling", "overlong_penalty"]

WITH_GROUP = token_objective("group")
ANSWERS = token_objective("reward", "group", without=("log_prob", "old_log_prob", "advantage", "mask"))
LENGTHS = {"length": Input("B", "nonnegative")}


def dapo(log_prob, old_log_prob, advantage, mask, group, *, clip_low=0.2, clip_high=0.28):
    """DAPO loss of the paper: the mean over prompts of the mean over the tokens of all their answers.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    group : array (B,), integer
        The prompt of each answer.
    clip_low, clip_high : float
        The ratio earns between 1 - clip_low and 1 + clip_high; in (0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, clips not positive.
    """
    validate.inputs(WITH_GROUP.inputs, log_prob, old_log_prob, advantage, mask, group)
    validate.interval("(0, inf)", clip_low=clip_low, clip_high=clip_high)
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip_low, clip_high)
    w = token_weights(mask, "group_token_mean", group=group)
    J = (w * term).sum()  # eq. dapo-objective
    return -J, -w * derivative


def dapo_over_batch(log_prob, old_log_prob, advantage, mask, *, clip_low=0.2, clip_high=0.28):
    """DAPO loss as trainers have it: the mean over all tokens of the batch.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, clip_low, clip_high
        As in `dapo`.

    Returns
    -------
    loss : scalar array
    gradient : array (B, T)

    Raises
    ------
    ValueError
        As `dapo`.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", clip_low=clip_low, clip_high=clip_high)
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip_low, clip_high)
    w = token_weights(mask, "token_mean")
    J = (w * term).sum()  # eq. dapo-batch-objective
    return -J, -w * derivative


def dynamic_sampling(reward, group):
    """Which answers to keep: those of prompts with at least one right answer and one that is not.

    Parameters
    ----------
    reward : array (B,)
        1 for a right answer, 0 for others.
    group : array (B,), integer

    Returns
    -------
    array (B,), 0 or 1

    Raises
    ------
    ValueError
        Shapes that differ, rewards other than 0 and 1.
    """
    validate.inputs(ANSWERS.inputs, reward, group)
    share = group_mean(reward, group)[0]
    return ((share > 0) & (share < 1)).astype(reward.dtype)  # eq. dapo-dynamic-sampling


def overlong_penalty(length, *, max_length, cache):
    """Soft penalty for long answers, added to their rewards.

    Parameters
    ----------
    length : array (B,)
        Number of tokens.
    max_length : float
        L, in (0, inf).
    cache : float
        C, in (0, max_length]: the penalty falls from 0 to -1 over the last C tokens before L.

    Returns
    -------
    array (B,), in [-1, 0]

    Raises
    ------
    ValueError
        A wrong shape, lengths that are negative or not finite, `max_length` or `cache` out of range.
    """
    validate.inputs(LENGTHS, length)
    validate.interval("(0, inf)", max_length=max_length)
    validate.interval(f"(0, {max_length}]", cache=cache)
    return xp.clip((max_length - cache - length) / cache, -1.0, 0.0)  # eq. dapo-overlong


def _keep_by_counting(reward, group):
    right = {g: [float(r) == 1 for r, h in zip(reward, group, strict=True) if h == g] for g in group.tolist()}
    return [float(0 < sum(right[g]) < len(right[g])) for g in group.tolist()]


def _penalty_by_cases(length, *, max_length, cache):
    start = max_length - cache
    return [0.0 if n <= start else -1.0 if n > max_length else (start - n) / cache for n in length.tolist()]


def _one_prompt(inputs):
    """all answers are to one prompt"""
    return {**inputs, "group": 0 * inputs["group"]}


def _one_fresh_prompt(inputs):
    """the policies are equal, and all answers are to one prompt"""
    return on_policy(_one_prompt(inputs))


CLIPS = {"default": {}, "probe": {"clip_low": 0.15, "clip_high": 0.35}}
METHOD = Method(
    key="yu2025dapo",
    provenance={"confirmed": ("objective", "batch-objective", "dynamic-sampling"), "partly": ("overlong",)},
    functions=(
        Objective(
            f=dapo,
            interface=WITH_GROUP,
            wrt="log_prob",
            settings=CLIPS,
            limits=(
                Limit("dapo.dapo_over_batch", {}, where=_one_prompt),
                Limit("reinforce.reinforce", {}, OVER_TOKENS, where=_one_fresh_prompt, gradient_only=True),
            ),
            deviations=(deviations.BATCH_TOKEN_MEAN,),
        ),
        Objective(
            f=dapo_over_batch,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings=CLIPS,
            limits=(Limit("grpo.grpo", {"clip_high": 0.2}, where=equal_lengths), REINFORCE_OVER_TOKENS),
            deviations=(deviations.LOG_RATIO_CLAMP, deviations.VERL_VANILLA),
        ),
        Estimator(f=dynamic_sampling, interface=ANSWERS, brute_force=_keep_by_counting),
        Estimator(
            f=overlong_penalty,
            inputs=LENGTHS,
            example=lambda rng, size: {"length": rng.integers(1, 30, size).astype(float)},
            edges={"at the ends of the slope": lambda: {"length": xp.array([0.0, 12.0, 16.0, 20.0, 17.5, 21.0])}},
            settings={"default": {"max_length": 20, "cache": 4}, "probe": {"max_length": 17.5, "cache": 5.5}},
            brute_force=_penalty_by_cases,
        ),
    ),
)
