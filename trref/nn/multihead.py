"""Attention of several heads from one sequence to another, with keys that may be masked.

For trust_vl (queries that read a question, and then an image).
"""

import math
from typing import Any, NamedTuple

from trref.backend import xp
from trref.nn.heads import log_softmax

__all__ = [
    "MultiHeadGradient",
    "MultiHeadWeights",
    "affine_vjp",
    "multi_head",
    "multi_head_vjp",
]


class MultiHeadWeights(NamedTuple):
    """Matrices and offsets: queries (D, D), keys and values (E, D), and the output (D, D)."""

    W_query: Any
    b_query: Any
    W_key: Any
    b_key: Any
    W_value: Any
    b_value: Any
    W_out: Any
    b_out: Any


class MultiHeadGradient(NamedTuple):
    """Derivatives by what asks, by what is read, and by the weights."""

    x: Any
    y: Any
    weights: MultiHeadWeights


def _split(z, heads):
    """(N, T, D) to (N, H, T, D / H)."""
    N, T, D = z.shape
    return xp.swapaxes(z.reshape(N, T, heads, D // heads), 1, 2)


def _merge(z):
    """The inverse of `_split`."""
    N, H, T, d = z.shape
    return xp.swapaxes(z, 1, 2).reshape(N, T, H * d)


def _attend(x, y, w, heads, mask):
    """Queries, keys and values of each head, and the attention weights (N, H, T, S)."""
    q = _split(x @ w.W_query + w.b_query, heads)
    k = _split(y @ w.W_key + w.b_key, heads)
    v = _split(y @ w.W_value + w.b_value, heads)
    scores = q @ xp.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = xp.where(mask[:, None, None] > 0, scores, -xp.inf)
    return q, k, v, xp.exp(log_softmax(scores))


def multi_head(x, y, weights, *, heads, mask=None):
    """Let the rows of x read those of y.

    Parameters
    ----------
    x : array (N, T, D)
        What asks.
    y : array (N, S, E)
        What is read.
    weights : MultiHeadWeights
    heads : int
        A divisor of D.
    mask : array (N, S), optional
        0 on rows of y that nobody reads. Some row must be read.

    Returns
    -------
    output : array (N, T, D)
    attention : array (N, heads, T, S)
    """
    _, _, v, A = _attend(x, y, weights, heads, mask)
    return _merge(A @ v) @ weights.W_out + weights.b_out, A


def multi_head_vjp(x, y, weights, cotangent, *, heads, mask=None):
    """Return the derivatives of ``sum(cotangent * multi_head(x, y, weights)[0])`` as a `MultiHeadGradient`."""
    w = weights
    q, k, v, A = _attend(x, y, w, heads, mask)
    d_mixed = _split(cotangent @ w.W_out.T, heads)
    d_A = d_mixed @ xp.swapaxes(v, -1, -2)
    d_scores = A * (d_A - (d_A * A).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
    d_q, d_k = _merge(d_scores @ k), _merge(xp.swapaxes(d_scores, -1, -2) @ q)
    d_v = _merge(xp.swapaxes(A, -1, -2) @ d_mixed)
    by_weights = MultiHeadWeights(
        *affine_vjp(x, d_q),
        *affine_vjp(y, d_k),
        *affine_vjp(y, d_v),
        *affine_vjp(_merge(A @ v), cotangent),
    )
    return MultiHeadGradient(
        d_q @ w.W_query.T, d_k @ w.W_key.T + d_v @ w.W_value.T, by_weights
    )


def affine_vjp(x, d):
    """Return the derivatives of ``sum(d * (x W + b))`` by W and b, for x (N, T, D) and d (N, T, E)."""
    by_matrix = x.reshape(-1, x.shape[-1]).T @ d.reshape(-1, d.shape[-1])
    return by_matrix, d.sum((0, 1))
