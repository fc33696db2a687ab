"""What is known of `trref.tokens.gmpo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clipped_terms, weighted
from trref.catalog.tokens.places import (
    REINFORCE_OVER_ANSWERS,
    of_one_token,
    on_policy,
)
from trref.tokens.gmpo import gmpo
from trref.tokens.terms import seq_mean


def _cut(d, advantage, clip_low, clip_high):
    A = advantage[:, None]
    return xp.where(A > 0, xp.minimum(d, clip_high), xp.maximum(d, -clip_low))


def length_plus_epsilon(
    log_prob, old_log_prob, advantage, mask, *, clip_low=0.4, clip_high=0.4
):
    d, length = log_prob - old_log_prob, mask.sum(1) + 1e-8
    cut = _cut(d, advantage, clip_low, clip_high)
    term = xp.exp((mask * cut).sum(1) / length) * advantage * mask.sum(1) / length
    coefficient = mask * (cut == d) * (term / length)[:, None]
    return -term.sum() / len(term), -coefficient / len(term)


def bounds_of_ratios(
    log_prob, old_log_prob, advantage, mask, *, clip_low=0.4, clip_high=0.4
):
    low = -math.log(1 - clip_low) if clip_low < 1 else math.inf
    high = math.log(1 + clip_high)
    return gmpo.unchecked(
        log_prob, old_log_prob, advantage, mask, clip_low=low, clip_high=high
    )


def mean_before_clip(
    log_prob, old_log_prob, advantage, mask, *, clip_low=0.4, clip_high=0.4
):
    length = xp.maximum(mask.sum(1, keepdims=True), 1)
    d = ((log_prob - old_log_prob) * mask).sum(1, keepdims=True) / length
    low, high = 1 - math.exp(-clip_low), math.exp(clip_high) - 1
    return weighted(seq_mean(mask), *clipped_terms(d, advantage, low, high))


def without_the_root(
    log_prob, old_log_prob, advantage, mask, *, clip_low=0.4, clip_high=0.4
):
    d = log_prob - old_log_prob
    cut = _cut(d, advantage, clip_low, clip_high)
    term = xp.exp((mask * cut).sum(1, keepdims=True)) * advantage[:, None]
    value, _ = weighted(seq_mean(mask), term, 0 * d)
    return value, -mask * (cut == d) * term / len(mask)


LENGTH_PLUS_EPSILON = Deviation(
    "divided by the length plus 1e-8",
    length_plus_epsilon,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_geo_mean",
    computes="the mean of log-ratios, and the answer's advantage, over a length that is 1e-8 too long",
)
BOUNDS_OF_RATIOS = Deviation(
    "bounds of ratios in the place of their logarithms",
    bounds_of_ratios,
    seen_in="a common slip in re-implementations; neither verl nor TRL has it",
    computes="token ratios cut at 1 - clip_low and 1 + clip_high",
)
MEAN_BEFORE_CLIP = Deviation(
    "the mean is clipped, not the tokens",
    mean_before_clip,
    seen_in="an ablation of the paper",
    computes="GSPO with bounds of logarithms: an answer's tokens are silent all together or not at all",
    documented=True,
)
WITHOUT_THE_ROOT = Deviation(
    "the product of the cut ratios",
    without_the_root,
    seen_in="an ablation of the paper",
    computes="the ratio of the whole answer, which grows with its length",
    documented=True,
)
WIDE = {"clip_low": 1e3, "clip_high": 1e3}
RATIO = {"clip_low": 1 - math.exp(-0.4), "clip_high": math.exp(0.4) - 1}
METHOD = Method(
    key="zhao2025geometric",
    provenance="confirmed",
    functions=(
        Objective(
            f=gmpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "bounds of PPO": {"clip_low": 0.2, "clip_high": 0.2},
                "probe": {"clip_low": 0.15, "clip_high": 0.35},
            },
            limits=(
                Limit("gspo.gspo", WIDE, {"clip_low": 1e14, "clip_high": 1e14}),
                Limit("dapo.dapo_over_batch", {}, RATIO, where=of_one_token),
                Limit("grpo.grpo", {}, where=on_policy),
                REINFORCE_OVER_ANSWERS,
            ),
            deviations=(
                LENGTH_PLUS_EPSILON,
                BOUNDS_OF_RATIOS,
                MEAN_BEFORE_CLIP,
                WITHOUT_THE_ROOT,
            ),
        ),
    ),
)
