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
from trref.tokens.terms import per_token, token_mean


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


def _padding_summed(
    log_prob, old_log_prob, advantage, mask, *, clip_low=0.2, clip_high=0.28
):
    weight = xp.ones_like(mask) / xp.maximum(mask.sum(), 1)
    terms = clipped_terms(log_prob - old_log_prob, advantage, clip_low, clip_high)
    return weighted(weight, *terms)


def _outside_masked(log_prob, old_log_prob, advantage, mask):
    ratio, A = xp.exp(log_prob - old_log_prob), per_token(advantage)
    term = xp.where((ratio >= 0.125) & (ratio <= 8.0), ratio * A, 0.0)
    return weighted(token_mean(mask), term, term)


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
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_vanilla, token-mean, clip_ratio_c large;"
    " OpenRLHF 0.11.2 openrlhf/models/loss.py, PolicyLoss; SkyRL 0.4.0 ppo_utils.py, ppo_policy_loss",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
VERL_VANILLA = Deviation(
    "dual clip at 3 and log-ratios clamped to ±20",
    _verl_vanilla,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_vanilla under token-mean, its defaults;"
    " EasyR1 verl/trainer/core_algos.py, compute_policy_loss with loss_avg_mode='token'",
    computes="for negative advantages no less than 3 times the advantage, by default",
    documented=True,
)
PADDING_SUMMED = Deviation(
    "padding counts in the sum",
    _padding_summed,
    seen_in="ROLL roll/utils/functionals.py, agg_loss 'token-mean', which does not mask the terms that it is given",
    computes="the sum of the terms of all places, padding included, over the number of tokens",
)
OUTSIDE_MASKED = Deviation(
    "tokens outside [1/8, 8] are masked, the others not clipped",
    _outside_masked,
    seen_in="prime-rl src/prime_rl/trainer/rl/loss.py, compute_loss with ratio_type='token' and no mask of answers",
    computes="the ratio times the advantage of tokens whose ratio is in these bounds, over the number of all tokens",
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
            deviations=(LOG_RATIO_CLAMP, VERL_VANILLA, PADDING_SUMMED, OUTSIDE_MASKED),
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
            refused={
                "a cache of more than all": {"longest": 20, "cache": 21},
            },
        ),
    ),
)
