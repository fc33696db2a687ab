"""What is known of `trref.tokens.dr_grpo`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import GROUP_REWARD, TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import (
    clipped_terms,
    clipped_terms_of_clamped,
    weighted,
)
from trref.catalog.tokens.places import of_three_tokens, on_policy
from trref.tokens.dr_grpo import centred_advantage, dr_grpo


def _padded_width(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    terms = clipped_terms(log_prob - old_log_prob, advantage, clip, clip)
    return weighted(mask / (mask.shape[0] * mask.shape[1]), *terms)


def _sum_over_constant(
    log_prob, old_log_prob, advantage, mask, *, max_length=8, clip=0.2
):
    return weighted(
        mask / max_length,
        *clipped_terms(log_prob - old_log_prob, advantage, clip, clip),
    )


def _log_ratio_clamp(log_prob, old_log_prob, advantage, mask, *, max_length, clip=0.2):
    terms = clipped_terms_of_clamped(log_prob, old_log_prob, advantage, clip, clip)
    return weighted(mask / (len(mask) * max_length), *terms)


def _group_of_one_raw(reward, group):
    same = (group[:, None] == group[None, :]).astype(reward.dtype)
    count = same.sum(1)
    return xp.where(count == 1, reward, reward - same @ reward / count)


PADDED_WIDTH = Deviation(
    "divided by the padded width",
    _padded_width,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, agg_loss 'seq-mean-token-sum-norm' without loss_scale_factor",
    computes="the sum over the width of the batch, which varies from batch to batch, in the place of a constant",
    documented=True,
)
SUM_OVER_CONSTANT = Deviation(
    "not divided by the number of answers",
    _sum_over_constant,
    seen_in="verl verl/trainer/ppo/core_algos.py, a snapshot of early 2026; fixed in 0.9.1",
    computes="the sum of all tokens' terms over the constant",
)
LOG_RATIO_CLAMP = Deviation(
    "log-ratios clamped to ±20",
    _log_ratio_clamp,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_vanilla, clip_ratio_c large",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
GROUP_OF_ONE_RAW = Deviation(
    "a group of one keeps its raw reward",
    _group_of_one_raw,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_grpo_outcome_advantage without norm_adv_by_std_in_grpo",
    computes="mean 0 for a group of one, so that its advantage is its reward",
)


def _brute_force(reward, group):
    result = []
    for r, g in zip(reward.tolist(), group.tolist(), strict=True):
        members = [float(x) for x, h in zip(reward, group, strict=True) if h == g]
        result.append(
            0.0 if len(set(members)) == 1 else r - sum(members) / len(members)
        )
    return result


LENGTH = {"max_length": 8}
METHOD = Method(
    key="liu2025understanding",
    provenance="confirmed",
    functions=(
        Estimator(
            f=centred_advantage,
            interface=GROUP_REWARD,
            limits=(
                Limit(to="grpo.group_advantage", hyper={}, to_hyper={"std": "none"}),
            ),
            deviations=(GROUP_OF_ONE_RAW,),
            brute_force=_brute_force,
        ),
        Objective(
            f=dr_grpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": LENGTH, "probe": {"max_length": 12.5, "clip": 0.35}},
            limits=(
                Limit("grpo.grpo", {"max_length": 3}, where=of_three_tokens),
                Limit(
                    "reinforce.reinforce",
                    LENGTH,
                    LENGTH,
                    where=on_policy,
                    gradient_only=True,
                ),
            ),
            deviations=(PADDED_WIDTH, SUM_OVER_CONSTANT, LOG_RATIO_CLAMP),
        ),
    ),
)
