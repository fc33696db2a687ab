"""What public code computes in the place of the equations of `trref.tokens.lens`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.tokens.deviations.terms import clipped_terms, seq_mean, weighted

__all__ = ["LENS_STANDARDISED", "LENS_UNBOUNDED"]


def _lens(log_prob, old_log_prob, mask, group, reward, room, standardised, alpha=0.25):
    log_p = (mask * old_log_prob).sum(1) / xp.maximum(mask.sum(1), 1)
    same = group[:, None] == group[None, :]
    n = same.sum(1).astype(log_prob.dtype)
    each = same.astype(log_prob.dtype) / n[:, None]
    p = xp.exp(log_p - xp.where(same, log_p[None, :], log_p.min()).max(1))
    inverse = each @ (reward / xp.maximum(p, float(xp.finfo(p.dtype).eps)))
    D = 1 / xp.where(inverse > 0, xp.minimum(inverse, 1 / room), 1 / room)
    r, right = reward - (1 - reward) / n * p / (D - p), each @ reward
    differ = (same & (r[:, None] != r[None, :])).any(1)
    centred = xp.where(differ & (right < 1), r - each @ r, 0)
    std = xp.sqrt((each @ centred**2) * (n / xp.maximum(n - 1, 1)))
    A = centred / xp.where(differ & ((right > 0) | standardised), std, 1)
    A = xp.where(right > 0, A, alpha * A)
    return weighted(seq_mean(mask), *clipped_terms(log_prob - old_log_prob, A, 0.2, 0.2))


def _lens_unbounded(log_prob, old_log_prob, mask, group, reward):
    return _lens(log_prob, old_log_prob, mask, group, reward, 1.001, False)


def _lens_standardised(log_prob, old_log_prob, mask, group, reward):
    return _lens(log_prob, old_log_prob, mask, group, reward, 2.0, True)


LENS_UNBOUNDED = Deviation(
    "a difficulty only just above the largest confidence",
    _lens_unbounded,
    seen_in="a slip that the exact theory invites; the paper keeps twice the largest confidence",
    computes="penalties without a useful bound, which in mixed groups may turn the sign of a mistake",
)
LENS_STANDARDISED = Deviation(
    "groups of wrong answers standardised, too",
    _lens_standardised,
    seen_in="what reuse of GRPO's advantage computes; the paper takes the mean off and nothing else",
    computes="advantages of order 1 times alpha in groups of wrong answers, however little their confidences differ",
)
