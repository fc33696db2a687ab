"""What public code computes in the place of the equations of `trref.tokens.r2vpo`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import clamped_log_ratio, column, token_mean, weighted

__all__ = ["COEFFICIENT_TIMES_LOG_PROB", "RATIO_CLAMPED"]


def _ratio_clamped(log_prob, old_log_prob, advantage, mask, *, weight=0.04, target=0.02):
    d, free = clamped_log_ratio(log_prob, old_log_prob)
    A, ratio = column(advantage), xp.exp(d)
    term = ratio * A - weight * ((ratio - 1) ** 2 - target)
    return weighted(token_mean(mask), term, free * ratio * (A - 2 * weight * (ratio - 1)))


def _coefficient_times_log_prob(log_prob, old_log_prob, advantage, mask, *, weight=0.04):
    ratio = xp.exp(log_prob - old_log_prob)
    coefficient = ratio * (column(advantage) - 2 * weight * (ratio - 1))
    return weighted(token_mean(mask), coefficient * log_prob, coefficient)


RATIO_CLAMPED = Deviation(
    "log-ratios clamped to ±20, under the brake",
    _ratio_clamped,
    seen_in="two public re-implementations of R2VPO",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
COEFFICIENT_TIMES_LOG_PROB = Deviation(
    "the gradient's coefficient, held constant, times the log-probability",
    _coefficient_times_log_prob,
    seen_in="a public re-implementation ('R2VPOLoss')",
    computes="the same gradient, and a value that is not the objective",
)
