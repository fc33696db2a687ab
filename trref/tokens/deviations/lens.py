"""What public code computes in the place of the equations of `trref.tokens.lens`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.tokens.deviations.terms import clipped_terms, seq_mean, weighted

__all__ = ["LENS_STANDARDISED", "LENS_UNBOUNDED"]


def _lens(log_prob, old_log_prob, mask, group, reward, room, standardised, alpha=0.25):
    log_p = (mask * xp.minimum(old_log_prob, 0)).sum(1) / xp.maximum(mask.sum(1), 1)
    same = group[:, None] == group[None, :]
    each = same / same.sum(1, keepdims=True)
    relative = xp.maximum(log_p - xp.where(same, log_p[None, :], log_p.min()).max(1), -60.0)
    inverse = each @ (reward * xp.exp(-relative))
    D = xp.maximum(xp.where(inverse > 0, 1 / xp.where(inverse > 0, inverse, 1), 0), room)
    r = reward - (1 - reward) * each.max(1) * xp.exp(relative) / (D - xp.exp(relative))
    r, right = r.astype(log_prob.dtype), (each @ reward).astype(log_prob.dtype)
    centred = r - (each @ r).astype(r.dtype)
    centred = xp.where((right < 1) & (abs(centred) > 1e-6), centred, 0)
    n = same.sum(1)
    std = xp.sqrt((each @ centred**2) * (n / xp.maximum(n - 1, 1))).astype(r.dtype)
    A = xp.where((right > 0) | standardised, centred / xp.where(std > 0, std, 1), centred)
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
