"""What is known of `trref.tokens.dapo`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import (
    clipped_terms,
    clipped_terms_of_clamped,
    dual_clipped_terms_of_clamped,
    weighted,
)
from trref.catalog.tokens.places import (
    OVER_TOKENS,
    REINFORCE_OVER_TOKENS,
    equal_lengths,
    on_policy,
)
from trref.tokens.dapo import dapo, dapo_over_batch, dynamic_sampling, overlong_penalty
from trref.tokens.terms import token_mean


def _batch_token_mean(
    log_prob, old_log_prob, advantage, mask, group, *, clip_low=0.2, clip_high=0.28
):
    return weighted(
        token_mean(mask),
        *clipped_terms(log_prob - old_log_prob, advantage, clip_low, clip_high),
    )


def _log_ratio_clamp(
    log_prob, old_log_prob, advantage, mask, *, clip_low=0.2, clip_high=0.28
):
    terms = clipped_terms_of_clamped(
        log_prob, old_log_prob, advantage, clip_low, clip_high
    )
    return weighted(token_mean(mask), *terms)


def _verl_vanilla(
    log_prob, old_log_prob, advantage, mask, *, clip_low=0.2, clip_high=0.28
):
    terms = dual_clipped_terms_of_clamped(
        log_prob, old_log_prob, advantage, clip_low, clip_high
    )
    return weighted(token_mean(mask), *terms)


BATCH_TOKEN_MEAN = Deviation(
    "mean over the tokens of the whole batch",
    _batch_token_mean,
    seen_in="TRL trl/trainer/grpo_trainer.py loss_type='dapo'; verl 0.9.1 loss_agg_mode='token-mean'",
    computes="one mean over all tokens in the place of a mean over the tokens of each prompt, averaged over prompts",
    documented=True,
)
LOG_RATIO_CLAMP = Deviation(
    "log-ratios clamped to ±20",
    _log_ratio_clamp,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_vanilla, token-mean, clip_ratio_c large",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
VERL_VANILLA = Deviation(
    "dual clip at 3 and log-ratios clamped to ±20",
    _verl_vanilla,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_vanilla under token-mean, its defaults",
    computes="for negative advantages no less than 3 times the advantage, by default",
    documented=True,
)


def _all_kept(reward, group):
    return xp.ones_like(reward)


ALL_KEPT = Deviation(
    "all answers are kept",
    _all_kept,
    seen_in="TRL, documentation of trl/trainer/grpo_trainer.py loss_type='dapo': no dynamic sampling",
    computes="1 for each answer, so that prompts without a gradient take their share of the batch",
    documented=True,
)


def _keep_by_counting(reward, group):
    right = {
        g: [float(r) == 1 for r, h in zip(reward, group, strict=True) if h == g]
        for g in group.tolist()
    }
    return [float(0 < sum(right[g]) < len(right[g])) for g in group.tolist()]


def _penalty_by_cases(length, *, longest, cache):
    start = longest - cache
    return [
        0.0 if n <= start else -1.0 if n > longest else (start - n) / cache
        for n in length.tolist()
    ]


def _one_prompt(inputs):
    """all answers are to one prompt"""
    return {**inputs, "group": 0 * inputs["group"]}


def _one_fresh_prompt(inputs):
    """the policies are equal, and all answers are to one prompt"""
    return on_policy(_one_prompt(inputs))


CLIPS = {"default": {}, "probe": {"clip_low": 0.15, "clip_high": 0.35}}
METHOD = Method(
    key="yu2025dapo",
    provenance={
        "confirmed": ("objective", "batch-objective", "dynamic-sampling"),
        "partly": ("overlong",),
    },
    functions=(
        Objective(
            f=dapo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings=CLIPS,
            limits=(
                Limit("dapo.dapo_over_batch", {}, where=_one_prompt),
                Limit(
                    "reinforce.reinforce",
                    {},
                    OVER_TOKENS,
                    where=_one_fresh_prompt,
                    gradient_only=True,
                ),
            ),
            deviations=(BATCH_TOKEN_MEAN,),
        ),
        Objective(
            f=dapo_over_batch,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings=CLIPS,
            limits=(
                Limit("grpo.grpo", {"clip_high": 0.2}, where=equal_lengths),
                REINFORCE_OVER_TOKENS,
            ),
            deviations=(LOG_RATIO_CLAMP, VERL_VANILLA),
        ),
        Estimator(
            f=dynamic_sampling,
            interface=TOKEN_OBJECTIVE,
            deviations=(ALL_KEPT,),
            brute_force=_keep_by_counting,
        ),
        Estimator(
            f=overlong_penalty,
            example=lambda rng, size: {
                "length": rng.integers(1, 30, size).astype(float)
            },
            edges={
                "at the ends of the slope": lambda: {
                    "length": xp.array([0.0, 12.0, 16.0, 20.0, 17.5, 21.0])
                }
            },
            settings={
                "default": {"longest": 20, "cache": 4},
                "probe": {"longest": 17.5, "cache": 5.5},
            },
            brute_force=_penalty_by_cases,
        ),
    ),
)
