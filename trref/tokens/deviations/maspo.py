"""What public code computes in the place of the equations of `trref.tokens.maspo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation
from trref.tokens.deviations.terms import clamped_log_ratio, column, token_mean, weighted

__all__ = ["GATE_DIFFERENTIATED", "MASPO_RATIO_CLAMPED"]


def _maspo_gate(d, old_log_prob, A):
    """The gate of the default settings, and the share of the derivative that it adds."""
    width = xp.exp(xp.clip(-0.3 * old_log_prob, 0, math.log(10)))
    width = width * xp.clip(xp.where(A < 0, 1 / (1 - 0.03 * xp.minimum(A, 0)), 1 + 0.03 * xp.maximum(A, 0)), 0.1, 10)
    moved = xp.expm1(d)
    away = xp.sign(A) * xp.sign(moved) > 0
    gate = xp.where(away, xp.exp(-(xp.minimum(abs(moved) / width, 40.0) ** 2) / 2), 1)
    return gate, away * (xp.exp(d) / width) * (moved / width)


def _maspo_ratio_clamped(log_prob, old_log_prob, advantage, mask):
    d, free = clamped_log_ratio(log_prob, old_log_prob)
    A = column(advantage)
    term = xp.exp(d) * _maspo_gate(d, old_log_prob, A)[0] * A
    return weighted(token_mean(mask), term, term * free)


def _gate_differentiated(log_prob, old_log_prob, advantage, mask):
    d, A = log_prob - old_log_prob, column(advantage)
    gate, more = _maspo_gate(d, old_log_prob, A)
    term = xp.exp(d) * gate * A
    return weighted(token_mean(mask), term, term * (1 - more))


MASPO_RATIO_CLAMPED = Deviation(
    "log-ratios clamped to ±20, under the gate",
    _maspo_ratio_clamped,
    seen_in="VenomRose-Juri/MASPO-RL verl/trainer/ppo/core_algos.py, compute_policy_loss with ratio_mode 'maspo'",
    computes="ratio and gate of a clamped log-ratio, without gradient beyond ±20",
)
GATE_DIFFERENTIATED = Deviation(
    "gradient through the gate",
    _gate_differentiated,
    seen_in="a reading of the paper's 'differentiable gate'; the authors' code detaches it",
    computes="the same value, and a gradient that pulls good tokens back and pushes falling bad ones harder",
)
