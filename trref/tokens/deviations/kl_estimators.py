"""What public code computes in the place of the equations of `trref.tokens.kl_estimators`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import token_mean

__all__ = ["ABSOLUTE", "K3_CLAMP", "K3_STRAIGHT_THROUGH", "UNCORRECTED_K3"]


def _k3(log_prob, ref_log_prob):
    d = ref_log_prob - log_prob
    return xp.exp(d) - d - 1, 1 - xp.exp(d)


def _k3_clamp(log_prob, mask, ref_log_prob):
    d = ref_log_prob - log_prob
    free = abs(d) <= 20
    d = xp.clip(d, -20.0, 20.0)
    k = xp.exp(d) - d - 1
    free = free & (k <= 10)
    w = token_mean(mask)
    return (w * xp.minimum(k, 10.0)).sum(), w * (1 - xp.exp(d)) * free


def _k3_straight_through(log_prob, mask, ref_log_prob):
    w = token_mean(mask)
    return (w * xp.minimum(_k3(log_prob, ref_log_prob)[0], 10.0)).sum(), w * (log_prob - ref_log_prob)


def _absolute(log_prob, mask, ref_log_prob):
    d, w = log_prob - ref_log_prob, token_mean(mask)
    return (w * abs(d)).sum(), w * xp.sign(d)


def _uncorrected_k3(log_prob, old_log_prob, mask, ref_log_prob):
    k, dk = _k3(log_prob, ref_log_prob)
    w = token_mean(mask)
    return (w * k).sum(), w * dk


K3_CLAMP = Deviation(
    "k3 clamped to ±10",
    _k3_clamp,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, kl_penalty_forward 'low_var_kl' and 'k3'",
    computes="no more than 10 a token, without gradient beyond",
)
K3_STRAIGHT_THROUGH = Deviation(
    "value of k3, gradient of k2",
    _k3_straight_through,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, kl_penalty 'k3+'",
    computes="the non-negative value of k3, at most 10 a token, with the gradient that is right on policy",
    documented=True,
)
ABSOLUTE = Deviation(
    "absolute log-ratio",
    _absolute,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, kl_penalty_forward 'abs'",
    computes="the distance of the log-probabilities, whose mean is no divergence",
    documented=True,
)
UNCORRECTED_K3 = Deviation(
    "k3 without the ratio",
    _uncorrected_k3,
    seen_in="TRL trl/trainer/grpo_trainer.py without use_bias_correction_kl",
    computes="plain k3 on tokens of the old policy, whose mean is neither the divergence nor its gradient",
    documented=True,
)
