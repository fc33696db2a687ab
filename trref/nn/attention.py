"""Scaled dot-product attention, and self-attention with its four matrices."""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.nn.heads import log_softmax

__all__ = [
    "SelfAttentionGradient",
    "attention",
    "attention_vjp",
    "self_attention",
    "self_attention_vjp",
]


class SelfAttentionGradient(NamedTuple):
    """Derivatives with respect to the input and the four matrices."""

    x: object
    W_query: object
    W_key: object
    W_value: object
    W_out: object


def _weights(query, key, causal):
    """Return the attention weights (B, T, S): softmax over the keys, none of the future where `causal`."""
    scores = query @ xp.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
    if causal:
        later = xp.arange(key.shape[-2]) > xp.arange(query.shape[-2])[:, None]
        scores = xp.where(later, -xp.inf, scores)
    return xp.exp(log_softmax(scores))


def attention(query, key, value, *, causal=False):
    """Return ``softmax(query keyᵀ / sqrt(d)) value`` for query (B, T, d), key (B, S, d), value (B, S, e)."""
    return _weights(query, key, causal) @ value


def attention_vjp(query, key, value, cotangent, *, causal=False):
    """Return the derivatives of ``sum(cotangent * attention(query, key, value))`` by query, key and value."""
    A = _weights(query, key, causal)
    d_value = xp.swapaxes(A, -1, -2) @ cotangent
    d_A = cotangent @ xp.swapaxes(value, -1, -2)
    d_scores = A * (d_A - (d_A * A).sum(-1, keepdims=True)) / math.sqrt(query.shape[-1])
    return d_scores @ key, xp.swapaxes(d_scores, -1, -2) @ query, d_value


def self_attention(x, W_query, W_key, W_value, W_out, *, causal=False):
    """One head of self-attention on x (B, T, D): matrices (D, d), (D, d), (D, e) and (e, D)."""
    return attention(x @ W_query, x @ W_key, x @ W_value, causal=causal) @ W_out


def self_attention_vjp(x, W_query, W_key, W_value, W_out, cotangent, *, causal=False):
    """Return the derivatives of ``sum(cotangent * self_attention(…))`` as a `SelfAttentionGradient`."""
    query, key, value = x @ W_query, x @ W_key, x @ W_value
    mixed = attention(query, key, value, causal=causal)
    d_query, d_key, d_value = attention_vjp(
        query, key, value, cotangent @ W_out.T, causal=causal
    )
    return SelfAttentionGradient(
        x=d_query @ W_query.T + d_key @ W_key.T + d_value @ W_value.T,
        W_query=_outer(x, d_query),
        W_key=_outer(x, d_key),
        W_value=_outer(x, d_value),
        W_out=_outer(mixed, cotangent),
    )


def _outer(a, b):
    """Sum over batch and time of the outer products of rows."""
    return xp.einsum("bti,btj->ij", a, b)
