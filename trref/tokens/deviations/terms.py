"""The pieces that several deviations share."""

from trref.backend import xp

__all__ = ["clamped_log_ratio", "clipped_terms", "column", "normalised", "seq_mean", "token_mean", "weighted"]


def column(advantage):
    return advantage[:, None] if advantage.ndim == 1 else advantage


def clipped_terms(log_ratio, advantage, low, high):
    """The clipped token term and its derivative."""
    A, ratio = column(advantage), xp.exp(log_ratio)
    unclipped, clipped = ratio * A, xp.clip(ratio, 1 - low, 1 + high) * A
    return xp.minimum(unclipped, clipped), xp.where(unclipped <= clipped, unclipped, 0)


def seq_mean(mask):
    return mask / (len(mask) * xp.maximum(mask.sum(1), 1))[:, None]


def token_mean(mask):
    return mask / xp.maximum(mask.sum(), 1)


def weighted(weight, term, derivative):
    return -(weight * term).sum(), -weight * derivative


def clamped_log_ratio(log_prob, old_log_prob, bound=20.0):
    d = log_prob - old_log_prob
    return xp.clip(d, -bound, bound), abs(d) <= bound


def normalised(z):
    z = z - z.max(-1, keepdims=True)
    return z - xp.log(xp.exp(z).sum(-1, keepdims=True))
