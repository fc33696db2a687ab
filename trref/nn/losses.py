"""Losses on a network's output: mean over the batch, with gradient and Hessian product."""

from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot

__all__ = [
    "softmax_cross_entropy",
    "softmax_cross_entropy_hessian",
    "squared_error",
    "squared_error_hessian",
]


def softmax_cross_entropy(logits, labels):
    """Mean negative log-likelihood of the labels.

    Parameters
    ----------
    logits : array (N, K)
    labels : integer array (N,), 0 to K-1

    Returns
    -------
    loss : scalar array
    gradient : array (N, K)
        ``(softmax(logits) - onehot(labels)) / N``.
    """
    N, K = logits.shape
    log_p = log_softmax(logits)
    e = one_hot(labels, K, logits.dtype)
    return -xp.vdot(e, log_p) / N, (xp.exp(log_p) - e) / N


def softmax_cross_entropy_hessian(logits, u):
    """Hessian with respect to the logits times `u` (N, K): ``p * (u - <p, u>) / N``, row by row."""
    p = xp.exp(log_softmax(logits))
    return p * (u - (p * u).sum(1, keepdims=True)) / logits.shape[0]


def squared_error(output, target):
    """Half the squared error, summed over outputs, mean over the batch; arrays (N, K).

    Returns
    -------
    loss : scalar array
    gradient : array (N, K)
    """
    difference = output - target
    N = output.shape[0]
    return (difference * difference).sum() / (2 * N), difference / N


def squared_error_hessian(output, u):
    """Hessian with respect to the output times `u`: ``u / N``."""
    return u / output.shape[0]
