"""What public code computes in the place of the equations of `trref.tokens.a3po`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import clipped_terms, column, token_mean, weighted

__all__ = ["ANCHOR_DIFFERENTIATED", "WEIGHT_ABSENT"]


def _weight_absent(log_prob, old_log_prob, advantage, mask, behavior_log_prob, *, clip=0.2):
    return weighted(token_mean(mask), *clipped_terms(log_prob - old_log_prob, advantage, clip, clip))


def _anchor_differentiated(log_prob, advantage, mask, behavior_log_prob, version, *, current_version, clip=0.2):
    d, age = log_prob - behavior_log_prob, current_version - version.astype(log_prob.dtype)
    alpha = xp.where(age >= 1, 1 - 1 / xp.maximum(age, 1), 0)
    term, derivative = clipped_terms((1 - alpha) * d, advantage, clip, clip)
    w, clipped = xp.exp(alpha * d), term < xp.exp((1 - alpha) * d) * column(advantage)
    return weighted(token_mean(mask), w * term, xp.where(clipped, alpha * w * term, w * derivative))


WEIGHT_ABSENT = Deviation(
    "clipped around the proximal policy without the weight",
    _weight_absent,
    seen_in="AReaL 1.0.4 areal/utils/functional/functional.py, ppo_actor_loss_fn without rejection_sampling",
    computes="the clipped ratio to the proximal policy, as if that policy had sampled the tokens",
)
ANCHOR_DIFFERENTIATED = Deviation(
    "the interpolated anchor is differentiated",
    _anchor_differentiated,
    seen_in="a common slip in re-implementations; AReaL detaches it",
    computes="a gradient for clipped tokens, too; that of all others is the same",
)
