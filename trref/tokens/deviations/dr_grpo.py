"""What public code computes in the place of the equations of `trref.tokens.dr_grpo`."""

from trref.catalog import Deviation
from trref.tokens.deviations.terms import clipped_terms, weighted

__all__ = ["PADDED_WIDTH", "SUM_OVER_CONSTANT"]


def _padded_width(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    terms = clipped_terms(log_prob - old_log_prob, advantage, clip, clip)
    return weighted(mask / (mask.shape[0] * mask.shape[1]), *terms)


def _sum_over_constant(log_prob, old_log_prob, advantage, mask, *, max_length=8, clip=0.2):
    return weighted(mask / max_length, *clipped_terms(log_prob - old_log_prob, advantage, clip, clip))


PADDED_WIDTH = Deviation(
    "divided by the padded width",
    _padded_width,
    seen_in="verl verl/trainer/ppo/core_algos.py, seq-mean-token-sum-norm without loss_scale_factor",
    computes="the sum over the width of the batch, which varies from batch to batch, in the place of a constant",
)
SUM_OVER_CONSTANT = Deviation(
    "not divided by the number of answers",
    _sum_over_constant,
    seen_in="verl verl/trainer/ppo/core_algos.py, a snapshot of early 2026; fixed since",
    computes="the sum of all tokens' terms over the constant",
)
