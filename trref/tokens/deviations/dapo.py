"""What public code computes in the place of the equations of `trref.tokens.dapo`."""

from trref.catalog import Deviation
from trref.catalog.tokens.pieces import (
    clipped_terms,
    clipped_terms_of_clamped,
    dual_clipped_terms_of_clamped,
    token_mean,
    weighted,
)

__all__ = ["BATCH_TOKEN_MEAN", "LOG_RATIO_CLAMP", "VERL_VANILLA"]


def _batch_token_mean(log_prob, old_log_prob, advantage, mask, group, *, clip_low=0.2, clip_high=0.28):
    return weighted(token_mean(mask), *clipped_terms(log_prob - old_log_prob, advantage, clip_low, clip_high))


def _log_ratio_clamp(log_prob, old_log_prob, advantage, mask, *, clip_low=0.2, clip_high=0.28):
    terms = clipped_terms_of_clamped(log_prob, old_log_prob, advantage, clip_low, clip_high)
    return weighted(token_mean(mask), *terms)


def _verl_vanilla(log_prob, old_log_prob, advantage, mask, *, clip_low=0.2, clip_high=0.28):
    terms = dual_clipped_terms_of_clamped(log_prob, old_log_prob, advantage, clip_low, clip_high)
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
