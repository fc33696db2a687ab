"""What public code computes in the place of the equations of `trref.tokens.ace`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import clipped_terms, column, seq_mean

__all__ = ["SHIFT_DIFFERENTIATED"]


def _shift_differentiated(log_prob, old_log_prob, advantage, mask, ref_log_prob, *, alpha=1.0):
    A, length = column(advantage) + 0 * mask, xp.maximum(mask.sum(1, keepdims=True), 1)
    c = (mask * (log_prob - ref_log_prob)).sum(1, keepdims=True) / length
    softplus, sigmoid = xp.logaddexp(0, c), xp.exp(-xp.logaddexp(0, -c))
    term, derivative = clipped_terms(log_prob - old_log_prob, A, 0.2, 0.2)
    factor, w = xp.where(A < 0, 1 + alpha * softplus, 1), seq_mean(mask)
    through = (w * term * (A < 0)).sum(1, keepdims=True) * alpha * sigmoid * mask / length
    return -(w * factor * term).sum(), -w * factor * derivative - through


SHIFT_DIFFERENTIATED = Deviation(
    "gradient through the confidence shift",
    _shift_differentiated,
    seen_in="a common slip in re-implementations; the paper holds the shift constant",
    computes="for each token of a wrong answer also the derivative of the penalty factor",
)
