"""What public code computes in the place of the equations of `trref.tokens.tre`."""

import math

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import normalised, token_mean

__all__ = ["MIN_ENTROPY_FOR_ONE"]


def _min_entropy_for_one(logits, mask, *, rule="top_k", K=2, P=0.99):
    log_p, V = normalised(logits), logits.shape[-1]
    w = token_mean(mask)
    order = xp.argsort(-logits, axis=-1, kind="stable")
    rank = xp.argsort(order, axis=-1, kind="stable")
    if rule == "top_k" and K == 1:
        return (w * log_p.max(-1)).sum(), w[..., None] * ((rank == 0) - xp.exp(log_p)).astype(logits.dtype)
    ranked = xp.take_along_axis(xp.exp(log_p), order, -1)
    cut = {"top_k": rank < K, "all": rank < V}
    keep = cut[rule] if rule in cut else xp.take_along_axis(xp.cumsum(ranked, axis=-1) - ranked < P, rank, -1)
    mass = xp.where(keep, xp.exp(log_p), 0).sum(-1, keepdims=True)
    log_q = log_p - xp.log(mass)
    q = xp.where(keep, xp.exp(log_q), 0)
    H, size = -(q * log_q).sum(-1), keep.astype(logits.dtype).sum(-1)
    scale = w * xp.where(size > 1, math.log(V) / xp.log(xp.maximum(size, 2)), 0)
    return -(scale * H).sum(), scale[..., None] * q * (log_q + H[..., None])


MIN_ENTROPY_FOR_ONE = Deviation(
    "the min-entropy for K = 1",
    _min_entropy_for_one,
    seen_in="WhyChaos/TRE-Encouraging-Exploration-in-the-Trust-Region verl/utils/torch_functional.py",
    computes="-log max p in the place of an entropy inside a set of one token, which is 0",
)
