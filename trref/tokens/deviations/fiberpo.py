"""What public code computes in the place of the equations of `trref.tokens.fiberpo`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import column, seq_mean

__all__ = ["BASE_CLIPPED"]


def _base_clipped(log_prob, old_log_prob, advantage, mask):
    x, T = mask * (log_prob - old_log_prob), xp.maximum(mask.sum(1, keepdims=True), 1)
    mean = x.sum(1, keepdims=True) / T
    base = xp.clip(mean, -0.2, 0.2)
    residual = x - base
    terms = seq_mean(mask) * xp.exp(base + xp.clip(residual, -0.2, 0.2)) * column(advantage)
    free = abs(residual) <= 0.2
    through_base = (terms * ~free).sum(1, keepdims=True) * (abs(mean) <= 0.2) / T
    return -terms.sum(), -mask * (terms * free + through_base)


BASE_CLIPPED = Deviation(
    "mean log-ratio clipped, residual from the clipped mean",
    _base_clipped,
    seen_in="alphadl/FibrationPO fiberpo/fbg.py, both thresholds 0.2",
    computes="a base without sign channels and rollback, and a residual in which the clipped part of the drift returns",
)
