"""What public code computes in the place of the equations of `trref.tokens.apo`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import clipped_terms, column, seq_mean
from trref.nn.heads import log_softmax, one_hot

__all__ = ["SAMPLED_TOKEN_ANCHORED"]


def _sampled_token_anchored(logits, old_logits, actions, advantage, mask, ref_logits, *, K=8):
    log_p, log_old, log_ref = log_softmax(logits), log_softmax(old_logits), log_softmax(ref_logits)
    sampled, p = one_hot(actions, logits.shape[-1], logits.dtype), xp.exp(log_p)
    A = column(advantage) + 0 * mask
    term, derivative = clipped_terms(((log_p - log_old) * sampled).sum(-1), A, 0.2, 0.2)
    rank = xp.argsort(xp.argsort(-ref_logits, axis=-1, kind="stable"), axis=-1, kind="stable")
    inside = (rank < K).astype(p.dtype)
    Z, M = (inside * xp.exp(log_ref)).sum(-1), (inside * p).sum(-1)
    scale = xp.where(A < 0, 1.05, 1)
    pull, w = -0.1 * xp.minimum(A, 0) / Z, seq_mean(mask)
    gradient = (scale * derivative)[..., None] * (sampled - p) + pull[..., None] * p * (inside - M[..., None])
    return -(w * (scale * term + pull * M)).sum(), -w[..., None] * gradient


SAMPLED_TOKEN_ANCHORED = Deviation(
    "the sampled token among the anchors",
    _sampled_token_anchored,
    seen_in="a common slip in re-implementations; the paper anchors exclusively",
    computes="a pull on the very token that is pushed down, wherever the reference trusts it",
)
