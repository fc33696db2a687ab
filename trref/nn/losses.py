"""Losses on a network's output: mean over the batch, with gradient and Hessian product.

Axes before the batch's, such as one of seeds, give one loss each.
"""

from trref.backend import special, xp
from trref.nn.heads import log_softmax, one_hot

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_hessian",
    "softmax_cross_entropy",
    "softmax_cross_entropy_hessian",
    "squared_error",
    "squared_error_hessian",
]


def softmax_cross_entropy(logits, labels):
    """Mean negative log-likelihood of the labels.

    Parameters
    ----------
    logits : array (N, K) or (S, N, K)
    labels : integer array (N,) or (S, N), 0 to K-1

    Returns
    -------
    loss : scalar array, or array (S,)
    gradient : array like logits
        ``(softmax(logits) - onehot(labels)) / N``.
    """
    N, K = logits.shape[-2:]
    log_p = log_softmax(logits)
    e = one_hot(labels, K, logits.dtype)
    return -(e * log_p).sum((-2, -1)) / N, (xp.exp(log_p) - e) / N


def softmax_cross_entropy_hessian(logits, u):
    """Hessian with respect to the logits times `u` (N, K): ``p * (u - <p, u>) / N``, row by row."""
    p = xp.exp(log_softmax(logits))
    return p * (u - (p * u).sum(-1, keepdims=True)) / logits.shape[-2]


def squared_error(output, target):
    """Half the squared error, summed over outputs, mean over the batch; arrays (N, K).

    Returns
    -------
    loss : scalar array, or (S,) of arrays (S, N, K)
    gradient : array like output
    """
    difference = output - target
    N = output.shape[-2]
    return (difference * difference).sum((-2, -1)) / (2 * N), difference / N


def squared_error_hessian(output, u):
    """Hessian with respect to the output times `u`: ``u / N``."""
    return u / output.shape[-2]


def binary_cross_entropy(logits, targets, weights=None):
    """Mean of ``log(1 + e^z) - t z``, weighted where weights are given: ``sum(w_i l_i) / sum(w_i)``.

    For trust_functions (balanced classes), trustworthy_erm and causal_ladder (two classes), dual_adversarial_jem. The
    domain loss of sdat is another sum: one mean a domain.

    Parameters
    ----------
    logits : array (N,) or (S, N)
    targets : array (N,)
        Probabilities of class 1, in [0, 1].
    weights : array (N,), optional
        Non-negative, not all 0.

    Returns
    -------
    loss : scalar array, or array (S,)
    gradient : array like logits
        ``w (sigmoid(z) - t) / sum(w)``.
    """
    share = _shares(logits, weights)
    losses = xp.logaddexp(logits, xp.zeros_like(logits)) - targets * logits
    return (share * losses).sum(-1), share * (special.expit(logits) - targets)


def binary_cross_entropy_hessian(logits, u, weights=None):
    """Hessian with respect to the logits times `u` (N,): ``w p (1 - p) u / sum(w)``."""
    p = special.expit(logits)
    return _shares(logits, weights) * p * (1 - p) * u


def _shares(logits, weights):
    """Return weights that sum to 1."""
    weights = xp.ones_like(logits) if weights is None else weights
    return weights / weights.sum(-1, keepdims=True)
