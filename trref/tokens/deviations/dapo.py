"""What public code computes in the place of the equations of `trref.tokens.dapo`."""

from trref.catalog import Deviation
from trref.tokens.deviations.terms import clipped_terms, token_mean, weighted

__all__ = ["BATCH_TOKEN_MEAN"]


def _batch_token_mean(log_prob, old_log_prob, advantage, mask, group, *, clip_low=0.2, clip_high=0.28):
    return weighted(token_mean(mask), *clipped_terms(log_prob - old_log_prob, advantage, clip_low, clip_high))


BATCH_TOKEN_MEAN = Deviation(
    "mean over the tokens of the whole batch",
    _batch_token_mean,
    seen_in="TRL trl/trainer/grpo_trainer.py loss_type='dapo'; verl loss_agg_mode='token-mean'",
    computes="one mean over all tokens in the place of a mean over the tokens of each prompt, averaged over prompts",
    documented=True,
)
