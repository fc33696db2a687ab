"""Distributions on top of a network: log-probability, entropy, KL divergence, each with its gradient, row by row.

Every function returns per-row values (N,) and the derivatives of each row's value with respect to that row's
parameters.
"""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.signature import D, N, Real

__all__ = [
    "GaussianGradient",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "log_softmax",
    "one_hot",
]


class GaussianGradient(NamedTuple):
    """Derivatives with respect to mean and log standard deviation."""

    mean: Real[N, D]
    log_std: Real[N, D]


def log_softmax(z):
    """Normalise logits along the last axis, safe from overflow: ``z - logsumexp(z)``."""
    shifted = z - z.max(-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(-1, keepdims=True))


def one_hot(labels, K, dtype):
    """Return indicator rows: labels (...,) to (..., K)."""
    return (labels[..., None] == xp.arange(K)).astype(dtype)


def categorical_log_prob(logits, actions):
    """Log-probability of actions (N,) under softmax(logits (N, K)); gradient ``e_a - p``."""
    log_p = log_softmax(logits)
    e = one_hot(actions, logits.shape[-1], logits.dtype)
    return (log_p * e).sum(-1), e - xp.exp(log_p)


def categorical_entropy(logits):
    """Entropy of softmax(logits); gradient ``-p (log p + H)``."""
    log_p = log_softmax(logits)
    p = xp.exp(log_p)
    H = -(p * log_p).sum(-1)
    return H, -p * (log_p + H[..., None])


def categorical_kl(logits, other_logits):
    """KL(p‖q) with p = softmax(logits) and q = softmax(other_logits).

    Returns
    -------
    kl : array (N,)
    d_logits : array (N, K)
        ``p (log p - log q - kl)``.
    d_other : array (N, K)
        ``q - p``.
    """
    log_p, log_q = log_softmax(logits), log_softmax(other_logits)
    p = xp.exp(log_p)
    kl = (p * (log_p - log_q)).sum(-1)
    return kl, p * (log_p - log_q - kl[..., None]), xp.exp(log_q) - p


def gaussian_log_prob(mean, log_std, actions):
    """Log-density of actions (N, d) under independent Gaussians with mean and log_std (N, d)."""
    z = (actions - mean) * xp.exp(-log_std)
    value = (-z * z / 2 - log_std - math.log(2 * math.pi) / 2).sum(-1)
    return value, GaussianGradient(z * xp.exp(-log_std), z * z - 1)


def gaussian_entropy(log_std):
    """Differential entropy ``sum(log_std) + d (1 + log 2π) / 2``; gradient 1 in each log_std."""
    value = (log_std + (1 + math.log(2 * math.pi)) / 2).sum(-1)
    return value, xp.ones_like(log_std)


def gaussian_kl(mean, log_std, other_mean, other_log_std):
    """KL of N(mean, std²) from N(other_mean, other_std²), all (N, d).

    Returns
    -------
    kl : array (N,)
    gradient : GaussianGradient
        With respect to the first distribution.
    other_gradient : GaussianGradient
        With respect to the second.
    """
    variance_ratio = xp.exp(2 * (log_std - other_log_std))
    precision = xp.exp(-2 * other_log_std)
    difference = mean - other_mean
    square = difference * difference * precision
    kl = (other_log_std - log_std + (variance_ratio + square - 1) / 2).sum(-1)
    return (
        kl,
        GaussianGradient(difference * precision, variance_ratio - 1),
        GaussianGradient(-difference * precision, 1 - variance_ratio - square),
    )
