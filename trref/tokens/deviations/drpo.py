"""What public code computes in the place of the equations of `trref.tokens.drpo`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import clamped_log_ratio, column, token_mean, weighted

__all__ = ["DPPO_LOG_PROB", "DPPO_TOKEN_MEAN", "DPPO_VERL", "DRPO_CLAMPED"]


def _dppo_coefficient(log_prob, old_log_prob, A, d_low, d_high, bound):
    """The coefficient of the log-probability, with the total variation of the sampled token."""
    moved, ratio = xp.exp(log_prob) - xp.exp(old_log_prob), xp.minimum(xp.exp(log_prob - old_log_prob), bound)
    dropped = xp.where(A > 0, moved > d_high, moved < -d_low)
    return xp.where(dropped, 0, ratio * A)


def _dppo_log_prob(log_prob, old_log_prob, advantage, mask, *, max_length, d_low=0.15, d_high=0.15):
    c = _dppo_coefficient(log_prob, old_log_prob, column(advantage), d_low, d_high, 10.0)
    return weighted(mask / (len(mask) * max_length), c * log_prob, c)


def _dppo_token_mean(log_prob, old_log_prob, advantage, mask, *, d_low=0.15, d_high=0.15, bound=20.0):
    c = _dppo_coefficient(log_prob, old_log_prob, column(advantage), d_low, d_high, bound)
    return weighted(token_mean(mask), c * log_prob, c)


def _dppo_verl(log_prob, old_log_prob, advantage, mask, *, max_length, d_low=0.15, d_high=0.15, bound=20.0):
    c = _dppo_coefficient(log_prob, old_log_prob, column(advantage), d_low, d_high, bound)
    return weighted(mask / (len(mask) * max_length), c * log_prob, c)


def _drpo_clamped(log_prob, old_log_prob, advantage, mask, *, max_length, delta=12.5):
    d, free = clamped_log_ratio(log_prob, old_log_prob)
    A, ratio, mu = column(advantage), xp.exp(d), xp.exp(old_log_prob)
    penalty, slope = (abs(A) / (2 * delta) * mu * x for x in ((ratio - 1) ** 2, 2 * ratio * (ratio - 1)))
    return weighted(mask / (len(mask) * max_length), ratio * A - penalty, free * (ratio * A - slope))


DPPO_LOG_PROB = Deviation(
    "the coefficient, truncated at 10 and held constant, times the log-probability",
    _dppo_log_prob,
    seen_in="TRL trl/experimental/dppo/dppo_trainer.py, before its removal",
    computes="the same gradient for ratios below 10, and a value that is not the objective",
    documented=True,
)
DPPO_TOKEN_MEAN = Deviation(
    "mean over all tokens of the constant coefficient times the log-probability",
    _dppo_token_mean,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_dppo_tv under its default loss_agg_mode;"
    " its bound is meant to be 20 by default and is 3, because ActorConfig has clip_ratio_c = 3",
    computes="the gradient averaged over all tokens in the place of a constant, and a value that is not the objective",
    documented=True,
)
DPPO_VERL = Deviation(
    "the coefficient, held constant, times the log-probability",
    _dppo_verl,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_dppo_tv under seq-mean-token-sum-norm",
    computes="the same gradient, and a value that is not the objective",
    documented=True,
)
DRPO_CLAMPED = Deviation(
    "log-ratios clamped to ±20, under the penalty",
    _drpo_clamped,
    seen_in="Tencent-Hunyuan/UniRL unirl/algorithms/drpo.py",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
