"""What public code computes in the place of the equations of `trref.tokens.reinforce`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import column, weighted

__all__ = ["EMPTY_ROWS_DROPPED"]


def _empty_rows_dropped(log_prob, advantage, mask, *, aggregation="constant", max_length=1.0):
    rows = xp.maximum((mask.sum(1, keepdims=True) > 0).astype(mask.dtype).sum(), 1)
    divisor = {
        "seq_mean": rows * xp.maximum(mask.sum(1, keepdims=True), 1),
        "token_mean": xp.maximum(mask.sum(), 1),
        "constant": rows * max_length,
    }[aggregation]
    A = column(advantage)
    return weighted(mask / divisor, A * log_prob, A)


EMPTY_ROWS_DROPPED = Deviation(
    "answers without tokens are not counted",
    _empty_rows_dropped,
    seen_in="verl verl/trainer/ppo/core_algos.py, compute_policy_loss_reinforce: agg_loss without global_batch_size",
    computes="the mean over the answers that have at least one token",
)
