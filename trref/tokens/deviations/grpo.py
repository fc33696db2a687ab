"""What public code computes in the place of the equations of `trref.tokens.grpo`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.tokens.deviations.terms import (
    clipped_terms,
    clipped_terms_of_clamped,
    column,
    dual_clipped_terms_of_clamped,
    seq_mean,
    token_mean,
    weighted,
)

__all__ = ["EMPTY_ROWS_DROPPED", "GROUP_OF_ONE_RAW", "LOG_RATIO_CLAMP", "TOKEN_MEAN", "VERL_VANILLA", "WITHOUT_MINIMUM"]


def _group_of_one_raw(reward, group, *, eps=0.0):
    same = (group[:, None] == group[None, :]).astype(reward.dtype)
    count = same.sum(1)
    mean = same @ reward / count
    centred = xp.where(((same > 0) & (reward[:, None] != reward[None, :])).any(1), reward - mean, 0)
    std = xp.sqrt(same @ centred**2 / xp.maximum(count - 1, 1)) + eps
    return xp.where(count == 1, reward / (1 + eps), centred / xp.where(centred != 0, std, 1))


def _without_minimum(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    ratio, A = xp.exp(log_prob - old_log_prob), column(advantage)
    inside = (ratio >= 1 - clip) & (ratio <= 1 + clip)
    return weighted(seq_mean(mask), xp.clip(ratio, 1 - clip, 1 + clip) * A, inside * ratio * A)


def _log_ratio_clamp(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    return weighted(seq_mean(mask), *clipped_terms_of_clamped(log_prob, old_log_prob, advantage, clip, clip))


def _verl_vanilla(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    return weighted(seq_mean(mask), *dual_clipped_terms_of_clamped(log_prob, old_log_prob, advantage, clip, clip))


def _over_all_tokens(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    return weighted(token_mean(mask), *clipped_terms(log_prob - old_log_prob, advantage, clip, clip))


def _empty_rows_dropped(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    rows = xp.maximum((mask.sum(1) > 0).astype(mask.dtype).sum(), 1)
    weight = seq_mean(mask) * len(mask) / rows
    return weighted(weight, *clipped_terms(log_prob - old_log_prob, advantage, clip, clip))


GROUP_OF_ONE_RAW = Deviation(
    "a group of one keeps its raw reward",
    _group_of_one_raw,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_grpo_outcome_advantage",
    computes="mean 0 and deviation 1 for a group of one, so that its advantage is its reward (over 1 + eps)",
)
WITHOUT_MINIMUM = Deviation(
    "without the minimum",
    _without_minimum,
    seen_in="a common slip in re-implementations; neither TRL nor verl has it",
    computes="clip(ratio) * advantage alone, so that a ratio outside the interval never gets a gradient",
)
LOG_RATIO_CLAMP = Deviation(
    "log-ratios clamped to ±20",
    _log_ratio_clamp,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, all policy losses but 'gspo', 'clip_cov', 'kl_cov', 'geo_mean'",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
VERL_VANILLA = Deviation(
    "dual clip at 3 and log-ratios clamped to ±20",
    _verl_vanilla,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_vanilla under seq-mean-token-mean",
    computes="for negative advantages no less than 3 times the advantage, by default",
    documented=True,
)
TOKEN_MEAN = Deviation(
    "mean over all tokens of the batch",
    _over_all_tokens,
    seen_in="TRL trl/trainer/grpo_trainer.py, its default loss_type='dapo'; verl's default loss_agg_mode='token-mean'",
    computes="the same terms, averaged over tokens in the place of answers",
    documented=True,
)
EMPTY_ROWS_DROPPED = Deviation(
    "answers without tokens are not counted",
    _empty_rows_dropped,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, agg_loss where its caller gives no global_batch_size",
    computes="the mean over the answers that have at least one token",
)
