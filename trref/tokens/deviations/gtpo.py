"""What public code computes in the place of the equations of `trref.tokens.gtpo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import seq_mean, weighted

__all__ = ["DIVIDED_BY_CONFLICTS", "FIXED_ENTROPY_BOUND"]


def _conflict_tokens(advantage, mask, actions, group):
    """The weights, and each answer's number of conflict tokens."""
    from trref.tokens.conflict_tokens import back_runs, front_runs, weigh

    front, back = (runs(advantage, mask, actions, group) for runs in (front_runs, back_runs))
    return weigh(advantage, mask, actions, group, 2.0, 0.0), xp.maximum(front, back).sum(1)


def _gtpo(log_prob, old_log_prob, advantage, mask, weight, keep, mean, entropy_weight):
    A = (keep * (advantage - entropy_weight * mean))[:, None]
    term = A * xp.exp(log_prob - old_log_prob) * weight
    return weighted(seq_mean(mask), term, term)


def _fixed_entropy_bound(
    log_prob, old_log_prob, advantage, mask, actions, group, entropy, *, entropy_weight=0.1, initial_entropy=0.0
):
    mean = (mask * entropy).sum(1) / xp.maximum(mask.sum(1), 1)
    weight, _ = _conflict_tokens(advantage, mask, actions, group)
    return _gtpo(log_prob, old_log_prob, advantage, mask, weight, mean <= 0.7, mean, entropy_weight)


def _divided_by_conflicts(
    log_prob, old_log_prob, advantage, mask, actions, group, entropy, *, entropy_weight=0.1, initial_entropy=0.0
):
    mean = (mask * entropy).sum(1) / xp.maximum(mask.sum(1), 1)
    weight, number = _conflict_tokens(advantage, mask, actions, group)
    keep = ((mean <= math.log(2)) | (initial_entropy >= math.log(2))).astype(mask.dtype)
    return _gtpo(log_prob, old_log_prob, advantage, mask, weight, keep / xp.maximum(number, 1), mean, entropy_weight)


FIXED_ENTROPY_BOUND = Deviation(
    "answers filtered above an entropy of 0.7, whatever the first policy's",
    _fixed_entropy_bound,
    seen_in="winstonsmith1897/GTPO gtpo/gtpo_training.py",
    computes="a filter that also acts on a policy that was uncertain from the start",
)
DIVIDED_BY_CONFLICTS = Deviation(
    "each answer's loss divided by its number of conflict tokens",
    _divided_by_conflicts,
    seen_in="winstonsmith1897/GTPO gtpo/gtpo_training.py",
    computes="smaller steps for answers with long shared beginnings and ends",
)
