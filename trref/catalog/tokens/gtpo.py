"""What is known of `trref.tokens.gtpo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, call
from trref.catalog.tokens.interfaces import FULL_DISTRIBUTION, TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import weighted
from trref.catalog.tokens.places import OVER_ANSWERS, on_policy
from trref.tokens.gtpo import entropy_filter, gtpo, mean_entropy
from trref.tokens.gtpo_conflicts import (
    back_conflicts,
    conflict_weights,
    front_conflicts,
)
from trref.tokens.terms import seq_mean


def _conflict_tokens(advantage, mask, actions, group):
    """The weights, and each answer's number of conflict tokens."""
    batch = advantage, mask, actions, group
    number = xp.maximum(front_conflicts(*batch), back_conflicts(*batch)).sum(1)
    return conflict_weights(*batch), number


def _gtpo(log_prob, old_log_prob, advantage, mask, weight, keep, mean, entropy_weight):
    A = (keep * (advantage - entropy_weight * mean))[:, None]
    term = A * xp.exp(log_prob - old_log_prob) * weight
    return weighted(seq_mean(mask), term, term)


def _fixed_entropy_bound(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    actions,
    group,
    entropy,
    *,
    entropy_weight=0.1,
    initial_entropy=0.0,
):
    mean = (mask * entropy).sum(1) / xp.maximum(mask.sum(1), 1)
    weight, _ = _conflict_tokens(advantage, mask, actions, group)
    return _gtpo(
        log_prob,
        old_log_prob,
        advantage,
        mask,
        weight,
        mean <= 0.7,
        mean,
        entropy_weight,
    )


def _divided_by_conflicts(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    actions,
    group,
    entropy,
    *,
    entropy_weight=0.1,
    initial_entropy=0.0,
):
    mean = (mask * entropy).sum(1) / xp.maximum(mask.sum(1), 1)
    weight, number = _conflict_tokens(advantage, mask, actions, group)
    keep = ((mean <= math.log(2)) | (initial_entropy >= math.log(2))).astype(mask.dtype)
    return _gtpo(
        log_prob,
        old_log_prob,
        advantage,
        mask,
        weight,
        keep / xp.maximum(number, 1),
        mean,
        entropy_weight,
    )


FIXED_ENTROPY_BOUND = Deviation(
    "answers filtered above an entropy of 0.7, whatever the first policy's",
    _fixed_entropy_bound,
    seen_in="winstonsmith1897/GTPO gtpo/gtpo_training.py",
    computes="a filter that also acts on a policy that was uncertain from the start",
)
DIVIDED_BY_CONFLICTS = Deviation(
    "each answer's loss divided by its number of conflict tokens",
    _divided_by_conflicts,
    seen_in="winstonsmith1897/GTPO gtpo/gtpo_training.py",
    computes="smaller steps for answers with long shared beginnings and ends",
)


def _by_token(logits, mask):
    means = []
    for rows, here in zip(logits.tolist(), mask.tolist(), strict=True):
        total = 0.0
        for z, m in zip(rows, here, strict=True):
            log_sum = max(z) + math.log(sum(math.exp(x - max(z)) for x in z))
            total -= m * sum(math.exp(x - log_sum) * (x - log_sum) for x in z)
        means.append(total / max(sum(here), 1))
    return means


def _filter_by_rule(
    mask, entropy, *, initial_entropy=0.0, threshold=0.6931471805599453
):
    kept = []
    for here, h in zip(mask.tolist(), entropy.tolist(), strict=True):
        mean = sum(m * x for m, x in zip(here, h, strict=True)) / max(sum(here), 1)
        kept.append(0.0 if initial_entropy < threshold and mean > threshold else 1.0)
    return kept


def _no_wrong_answer(inputs):
    """all answers are right"""
    return {**inputs, "advantage": abs(inputs["advantage"])}


def _no_right_answer(inputs):
    """all answers are wrong"""
    return {**inputs, "advantage": -abs(inputs["advantage"])}


def _mean(inputs):
    """The mean entropy of each answer."""
    return (inputs["mask"] * inputs["entropy"]).sum(1) / xp.maximum(
        inputs["mask"].sum(1), 1
    )


def _equal_rewards(inputs):
    """all advantages are 0; GRPO's is the mean entropy times -gamma"""
    mean = _mean(inputs)
    return {**inputs, "advantage": 0 * mean}, {**inputs, "advantage": -0.1 * mean}


def _weighed(inputs):
    """the policies are equal, and REINFORCE has the weighed advantages"""
    ours = on_policy(inputs)
    A = call(entropy_filter, ours) * (ours["advantage"] - 0.1 * _mean(ours))
    return ours, {**ours, "advantage": A[:, None] * call(conflict_weights, ours)}


NO_ENTROPIES, NO_CLIP = {"entropy_weight": 0.0, "initial_entropy": 0.8}, {"clip": 1e14}
METHOD = Method(
    key="simoni2025gtpo",
    provenance="confirmed",
    functions=(
        Estimator(f=mean_entropy, interface=FULL_DISTRIBUTION, brute_force=_by_token),
        Estimator(
            f=entropy_filter,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {},
                "uncertain from the start": {"initial_entropy": 0.8},
                "probe": {"initial_entropy": 0.3, "threshold": 0.9},
            },
            brute_force=_filter_by_rule,
        ),
        Objective(
            f=gtpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "probe": {
                    "entropy_weight": 0.3,
                    "initial_entropy": 0.8,
                    "boost": 1.5,
                    "penalty": 0.4,
                },
            },
            limits=(
                Limit(
                    "grpo.grpo", {**NO_ENTROPIES, "boost": 1.0, "penalty": 1.0}, NO_CLIP
                ),
                Limit(
                    "grpo.grpo", {"initial_entropy": 0.8}, NO_CLIP, where=_equal_rewards
                ),
                Limit("grpo.grpo", NO_ENTROPIES, NO_CLIP, where=_no_wrong_answer),
                Limit("grpo.grpo", NO_ENTROPIES, NO_CLIP, where=_no_right_answer),
                Limit(
                    "grpo.grpo",
                    {**NO_ENTROPIES, "boost": 1.0, "penalty": 1.0},
                    where=on_policy,
                ),
                Limit(
                    "reinforce.reinforce",
                    {},
                    OVER_ANSWERS,
                    where=_weighed,
                    gradient_only=True,
                ),
            ),
            deviations=(FIXED_ENTROPY_BOUND, DIVIDED_BY_CONFLICTS),
        ),
    ),
)
