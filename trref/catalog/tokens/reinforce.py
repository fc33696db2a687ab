"""What is known of `trref.tokens.reinforce`."""

from trref.backend import xp
from trref.catalog import Deviation, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import weighted
from trref.tokens.reinforce import reinforce
from trref.tokens.terms import per_token


def _empty_rows_dropped(
    log_prob, advantage, mask, *, aggregation="constant", max_length=1.0
):
    rows = xp.maximum((mask.sum(1, keepdims=True) > 0).astype(mask.dtype).sum(), 1)
    divisor = {
        "seq_mean": rows * xp.maximum(mask.sum(1, keepdims=True), 1),
        "token_mean": xp.maximum(mask.sum(), 1),
        "constant": rows * max_length,
    }[aggregation]
    A = per_token(advantage)
    return weighted(mask / divisor, A * log_prob, A)


EMPTY_ROWS_DROPPED = Deviation(
    "answers without tokens are not counted",
    _empty_rows_dropped,
    seen_in="verl verl/trainer/ppo/core_algos.py, compute_policy_loss_reinforce: agg_loss without global_batch_size",
    computes="the mean over the answers that have at least one token",
)


METHOD = Method(
    key="williams1992simple",
    provenance="confirmed",
    functions=(
        Objective(
            f=reinforce,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            value_free=True,
            settings={
                "default": {},
                "seq_mean": {"aggregation": "seq_mean"},
                "over a horizon": {"max_length": 12.5},
                "probe": {"aggregation": "token_mean", "max_length": 6.5},
            },
            deviations=(EMPTY_ROWS_DROPPED,),
        ),
    ),
)
