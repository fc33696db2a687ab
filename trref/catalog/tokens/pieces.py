"""The pieces that several deviations share."""

from trref.backend import xp
from trref.tokens.terms import per_token

__all__ = [
    "clamped_log_ratio",
    "clipped_terms",
    "clipped_terms_of_clamped",
    "dual_clipped_terms_of_clamped",
    "normalised",
    "weighted",
]


def clipped_terms(log_ratio, advantage, low, high):
    """The clipped token term and its derivative."""
    A, ratio = per_token(advantage), xp.exp(log_ratio)
    unclipped, clipped = ratio * A, xp.clip(ratio, 1 - low, 1 + high) * A
    return xp.minimum(unclipped, clipped), xp.where(unclipped <= clipped, unclipped, 0)


def weighted(weight, term, derivative):
    return -(weight * term).sum(), -weight * derivative


def clamped_log_ratio(log_prob, old_log_prob, bound=20.0):
    d = log_prob - old_log_prob
    return xp.clip(d, -bound, bound), abs(d) <= bound


def clipped_terms_of_clamped(log_prob, old_log_prob, advantage, low, high):
    """The clipped token term of log-ratios clamped to ±20, and its derivative."""
    d, free = clamped_log_ratio(log_prob, old_log_prob)
    term, derivative = clipped_terms(d, advantage, low, high)
    return term, derivative * free


def dual_clipped_terms_of_clamped(log_prob, old_log_prob, advantage, low, high):
    """The same, for negative advantages no less than 3 times the advantage."""
    term, derivative = clipped_terms_of_clamped(
        log_prob, old_log_prob, advantage, low, high
    )
    A = per_token(advantage)
    lower = (A < 0) & (term < 3 * A)
    return xp.where(lower, 3 * A, term), derivative * ~lower


def normalised(z):
    z = z - z.max(-1, keepdims=True)
    return z - xp.log(xp.exp(z).sum(-1, keepdims=True))
