"""Random batches of token data, as the losses take them: arguments in the order of their signatures."""

import numpy as np


def token_batch(seed, *, B=8, T=5, spread=0.5):
    """log_prob, old_log_prob (B T), advantage (B,) and mask (B T): answers of 1 to T tokens."""
    rng = np.random.default_rng(seed)
    old_log_prob = -0.05 - rng.exponential(1.5, (B, T))
    mask = (np.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    return old_log_prob + spread * rng.standard_normal((B, T)), old_log_prob, rng.standard_normal(B), mask


def vocabulary_batch(seed, *, B=4, T=3, V=6, spread=0.5, scale=1.0):
    """logits, old_logits (B T V), actions (B T), advantage (B,) and mask (B T)."""
    rng = np.random.default_rng(seed)
    old_logits = scale * rng.standard_normal((B, T, V))
    mask = (np.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    logits = old_logits + spread * rng.standard_normal((B, T, V))
    return logits, old_logits, rng.integers(0, V, (B, T)), rng.standard_normal(B), mask
