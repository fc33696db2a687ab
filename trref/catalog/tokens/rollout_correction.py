"""What is known of `trref.tokens.rollout_correction`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import weighted
from trref.catalog.tokens.places import OVER_TOKENS
from trref.tokens.rollout_correction import (
    normalised_weight,
    off_policy_mask,
    rejection_mask,
    rollout_corrected,
    rollout_weight,
)
from trref.tokens.terms import clip_surrogate, token_mean, token_weights


def _moved(old_log_prob, behavior_log_prob, mask):
    """For each answer the log-ratios of all positions, and of its tokens."""
    rows = zip(
        old_log_prob.tolist(), behavior_log_prob.tolist(), mask.tolist(), strict=True
    )
    for old, sampler, valid in rows:
        d = [a - b for a, b in zip(old, sampler, strict=True)]
        yield d, [x for x, m in zip(d, valid, strict=True) if m]


def _weights_by_loops(
    old_log_prob,
    behavior_log_prob,
    mask,
    *,
    level="token",
    rule="truncate",
    lower=0.0,
    upper=2.0,
):
    found = []
    for d, of_tokens in _moved(old_log_prob, behavior_log_prob, mask):
        if level != "token":
            whole = math.prod(math.exp(x) for x in of_tokens)
            root = max(len(of_tokens), 1) if level == "geometric" else 1
            ratios = [whole ** (1 / root)] * len(d)
        else:
            ratios = [math.exp(x) for x in d]
        if rule == "truncate":
            found.append([min(max(r, lower), upper) for r in ratios])
        else:
            found.append([r if lower <= r <= upper else 0.0 for r in ratios])
    return mask * xp.array(found)


def _kept_by_loops(
    old_log_prob,
    behavior_log_prob,
    mask,
    *,
    statistic="k1",
    level="token",
    lower=0.5,
    upper=5.0,
):
    estimate = {
        "k1": lambda x: x,
        "k2": lambda x: x**2 / 2,
        "k3": lambda x: math.exp(x) - 1 - x,
    }[statistic]
    found = []
    for d, of_tokens in _moved(old_log_prob, behavior_log_prob, mask):
        each = [estimate(x) for x in d]
        if level == "all":
            low, high = (
                (math.log(lower), math.log(upper))
                if statistic == "k1"
                else (-math.inf, upper)
            )
            kept = [low <= estimate(x) <= high for x in of_tokens]
            found.append([False not in kept] * len(d))
            continue
        if level != "token":
            total = sum(estimate(x) for x in of_tokens)
            each = [total / (max(len(of_tokens), 1) if level == "mean" else 1)] * len(d)
        if statistic == "k1":
            found.append([math.log(lower) <= x <= math.log(upper) for x in each])
        else:
            found.append([x <= upper for x in each])
    return mask * xp.array(found)


def _near_by_loops(log_prob, behavior_log_prob, advantage, mask, *, radius=0.1):
    found = []
    moved = _moved(behavior_log_prob, log_prob, mask)
    for (d, of_tokens), A in zip(moved, advantage.tolist(), strict=True):
        mean = math.fsum(of_tokens) / max(len(of_tokens), 1)
        found.append([A >= 0 or mean <= radius] * len(d))
    return mask * xp.array(found)


def _normalised_by_loops(weight, mask):
    kept = [
        w
        for row, valid in zip(weight.tolist(), mask.tolist(), strict=True)
        for w, m in zip(row, valid, strict=True)
        if m
    ]
    total = math.fsum(kept)
    return mask * weight * (len(kept) / total if total else 0.0)


def _weighted_example(rng, size):
    batch = TOKEN_OBJECTIVE.example(rng, size)
    return {"weight": rng.exponential(1.0, batch["mask"].shape), "mask": batch["mask"]}


def _weighted(weight, mask):
    return lambda: {"weight": xp.array(weight), "mask": xp.array(mask)}


def inverse_ratio(
    old_log_prob,
    behavior_log_prob,
    mask,
    *,
    statistic="k1",
    level="token",
    lower=0.5,
    upper=5.0,
):
    if statistic == "k1":
        lower, upper = 1 / upper, 1 / lower
    return rejection_mask.unchecked(
        old_log_prob,
        behavior_log_prob,
        mask,
        statistic=statistic,
        level=level,
        lower=lower,
        upper=upper,
    )


def dropped_tokens_not_counted(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    behavior_log_prob,
    *,
    level="token",
    lower=0.0,
    upper=2.0,
    clip=0.2,
    aggregation="token_mean",
):
    bounds = {"level": level, "rule": "mask", "lower": lower, "upper": upper}
    W = rollout_weight.unchecked(old_log_prob, behavior_log_prob, mask, **bounds)
    w = token_weights(mask * (W > 0), aggregation) * W
    terms = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    return weighted(w, *terms)


def uncorrected(
    log_prob, old_log_prob, advantage, mask, behavior_log_prob, *, clip=0.2
):
    terms = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    return weighted(token_mean(mask), *terms)


INVERSE_RATIO = Deviation(
    "the inverse ratio is tested",
    inverse_ratio,
    seen_in="verl 0.9.1 verl/trainer/ppo/rollout_corr_helper.py, compute_rollout_rejection_mask, token_k1 and others",
    computes="ratios between 1/upper and 1/lower are kept, where the documentation bounds the ratio itself",
)
DROPPED_TOKENS_NOT_COUNTED = Deviation(
    "dropped tokens leave the denominator",
    dropped_tokens_not_counted,
    seen_in="verl 0.9.1 verl/trainer/ppo/rollout_corr_helper.py, rejection changes the response mask",
    computes="tokens outside the bounds are masked, and means are over those that are left",
    documented=True,
)
UNCORRECTED = Deviation(
    "no correction",
    uncorrected,
    seen_in="trainers by default before mid-2025, and TRL 1.16.0 where vllm_importance_sampling_correction is off",
    computes="the clipped loss as if the trainer's old policy had sampled",
)


def sampled_by_the_old_policy(inputs):
    """the old policy sampled"""
    return {**inputs, "behavior_log_prob": inputs["old_log_prob"]}


def all_equal(inputs):
    """all policies are equal"""
    sampled = inputs["behavior_log_prob"]
    return {**inputs, "log_prob": sampled, "old_log_prob": sampled}


PPO = {"clip_low": 0.2, "clip_high": 0.2}
ICEPOP = {"rule": "mask", "lower": 0.5, "upper": 5.0}
OUT_OF_ORDER = {
    "bounds out of order": {"lower": 3.0},
}


METHOD = Method(
    key="yao2025offpolicy",
    provenance="confirmed",
    functions=(
        Estimator(
            f=rollout_weight,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {},
                "IcePop": ICEPOP,
                "answers": {"level": "sequence"},
                "probe": {
                    "level": "geometric",
                    "rule": "mask",
                    "lower": 0.8,
                    "upper": 1.3,
                },
            },
            brute_force=_weights_by_loops,
            refused=OUT_OF_ORDER,
        ),
        Estimator(
            f=rejection_mask,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {},
                "reciprocal bounds": {"upper": 2.0},
                "veto": {"level": "all", "lower": 0.7, "upper": 1e15},
                "largest k2 of answers": {
                    "statistic": "k2",
                    "level": "all",
                    "upper": 0.1,
                },
                "k2 of answers": {"statistic": "k2", "level": "sum", "upper": 0.3},
                "geometric mean": {"level": "mean", "lower": 0.9, "upper": 1.3},
                "probe": {
                    "statistic": "k3",
                    "level": "mean",
                    "lower": 0.3,
                    "upper": 0.02,
                },
            },
            deviations=(INVERSE_RATIO,),
            brute_force=_kept_by_loops,
        ),
        Estimator(
            f=off_policy_mask,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {"radius": 0.03}},
            brute_force=_near_by_loops,
        ),
        Estimator(
            f=normalised_weight,
            example=_weighted_example,
            edges={
                "no tokens": _weighted([[1.0, 2.0]], [[0.0, 0.0]]),
                "nothing left": _weighted([[0.0, 0.0], [0.0, 3.0]], [[1.0, 1.0]] * 2),
                "one token": _weighted([[3.0, 1.0]], [[1.0, 0.0]]),
                "all zero": _weighted([[0.0, 0.0]], [[1.0, 1.0]]),
            },
            brute_force=_normalised_by_loops,
        ),
        Objective(
            f=rollout_corrected,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "IcePop": ICEPOP,
                "answers": {"level": "sequence"},
                "answers, masked": {"level": "sequence", "rule": "mask", "upper": 3.0},
                "over answers": {"aggregation": "seq_mean"},
                "probe": {
                    "level": "geometric",
                    "rule": "mask",
                    "lower": 0.8,
                    "upper": 1.3,
                    "clip": 0.35,
                    "aggregation": "seq_mean",
                },
            },
            limits=(
                Limit("a3po.decoupled", {}, {"weight_cap": 2.0, "over_cap": "clamp"}),
                Limit("a3po.decoupled", {"rule": "mask"}, {"weight_cap": 2.0}),
                Limit("dapo.dapo_over_batch", {}, PPO, where=sampled_by_the_old_policy),
                Limit(
                    "grpo.grpo",
                    {"aggregation": "seq_mean", "level": "sequence"},
                    where=sampled_by_the_old_policy,
                ),
                Limit(
                    "reinforce.reinforce",
                    {},
                    OVER_TOKENS,
                    where=all_equal,
                    gradient_only=True,
                ),
            ),
            deviations=(DROPPED_TOKENS_NOT_COUNTED, UNCORRECTED),
            refused=OUT_OF_ORDER,
        ),
    ),
)
