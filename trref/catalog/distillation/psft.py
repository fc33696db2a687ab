"""What is known of `trref.distillation.psft`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clipped_terms_of_clamped, weighted
from trref.catalog.tokens.places import OVER_TOKENS, on_policy
from trref.distillation.psft import clipped_share, fewest_anchors, psft, sft
from trref.tokens.terms import seq_mean, token_mean


def _clamped(log_prob, old_log_prob, mask, *, clip_high=0.28):
    terms = clipped_terms_of_clamped(
        log_prob, old_log_prob, xp.ones_like(mask), 0.2, clip_high
    )
    return weighted(token_mean(mask), *terms)


def _answer_by_answer(log_prob, old_log_prob, mask, *, clip_high=0.28):
    ratio = xp.exp(log_prob - old_log_prob)
    term = xp.minimum(ratio, 1 + clip_high)
    return weighted(seq_mean(mask), term, ratio * (ratio <= 1 + clip_high))


CLAMPED = Deviation(
    "log-ratios clamped to ±20",
    _clamped,
    seen_in="PSFT (zwhong714/PSFT) verl/verl/trainer/ppo/core_algos.py, compute_policy_loss_vanilla, advantages of 1",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
ANSWER_BY_ANSWER = Deviation(
    "a mean over tokens for each micro-batch",
    _answer_by_answer,
    seen_in="verl verl/workers/actor/dp_actor.py (loss_scale_factor) under use_dynamic_bsz, which the authors' script "
    "verl/recipe/psft/run_psft.sh sets; here with one answer in each micro-batch",
    computes="the mean over micro-batches, weighted by their number of answers, of the mean over tokens",
)


def _every_advantage_one(inputs):
    """every advantage is 1"""
    return {**inputs, "advantage": xp.ones(len(inputs["log_prob"]))}


def _share_by_counting(log_prob, old_log_prob, mask, *, clip_high=0.28):
    ratios = [
        math.exp(new - old)
        for new, old, here in zip(
            log_prob.ravel().tolist(),
            old_log_prob.ravel().tolist(),
            mask.ravel().tolist(),
            strict=True,
        )
        if here
    ]
    return sum(r > 1 + clip_high for r in ratios) / max(len(ratios), 1)


def _anchors_one_by_one(log_prob, old_log_prob, *, clip_high=0.28):
    """Raise each token by the factor 1 + clip_high as often as it goes in whole, then by what is left."""
    result = xp.zeros(log_prob.shape)
    for at, target in xp.ndenumerate(log_prob):
        reached, step = float(old_log_prob[at]), math.log(1 + clip_high)
        while reached + step <= target:
            reached, result[at] = reached + step, result[at] + 1
        result[at] += max(target - reached, 0.0) / step
    return result


def _all_far_below():
    old = xp.full((2, 3), -1.25)
    fallen = xp.array([[21.0, 23.0, 25.0], [28.0, 20.0, 22.0]])
    return {
        "log_prob": old - fallen,
        "old_log_prob": old,
        "mask": xp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]),
    }


DEMONSTRATIONS = dataclasses.replace(
    TOKEN_OBJECTIVE,
    edges={
        **TOKEN_OBJECTIVE.edges,
        "all far below the anchor": _all_far_below,
        "one token that has stopped": lambda: {
            "log_prob": xp.array([[-0.75]]),
            "old_log_prob": xp.array([[-1.25]]),
            "mask": xp.ones((1, 1)),
        },
    },
)
BOUND = {"default": {}, "probe": {"clip_high": 0.35}}
METHOD = Method(
    key="zhu2025proximal",
    provenance={
        "confirmed": ("sft", "objective", "clipped"),
        "reconstructed": ("gradient", "anchors"),
    },
    functions=(
        Objective(
            f=psft,
            interface=DEMONSTRATIONS,
            wrt="log_prob",
            settings=BOUND,
            limits=(
                Limit("dapo.dapo_over_batch", {}, where=_every_advantage_one),
                Limit("psft.sft", {}, where=on_policy, gradient_only=True),
            ),
            deviations=(CLAMPED, ANSWER_BY_ANSWER),
        ),
        Objective(
            f=sft,
            interface=DEMONSTRATIONS,
            wrt="log_prob",
            limits=(
                Limit(
                    "reinforce.reinforce",
                    {},
                    OVER_TOKENS,
                    where=_every_advantage_one,
                ),
            ),
        ),
        Estimator(
            f=clipped_share,
            interface=DEMONSTRATIONS,
            settings=BOUND,
            brute_force=_share_by_counting,
        ),
        Estimator(
            f=fewest_anchors,
            interface=DEMONSTRATIONS,
            settings=BOUND,
            brute_force=_anchors_one_by_one,
        ),
    ),
)
