"""What is known of `trref.tokens.drpo`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clamped_log_ratio, weighted
from trref.catalog.tokens.places import measured_by_the_token, on_policy
from trref.tokens.drpo import dppo, dppo_measured, drpo, spo
from trref.tokens.terms import per_token, token_mean


def _dppo_coefficient(log_prob, old_log_prob, A, radius_low, radius_high, bound):
    """The coefficient of the log-probability, with the total variation of the sampled token."""
    moved, ratio = (
        xp.exp(log_prob) - xp.exp(old_log_prob),
        xp.minimum(xp.exp(log_prob - old_log_prob), bound),
    )
    dropped = xp.where(A > 0, moved > radius_high, moved < -radius_low)
    return xp.where(dropped, 0, ratio * A)


def _dppo_log_prob(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    max_length,
    radius_low=0.15,
    radius_high=0.15,
):
    c = _dppo_coefficient(
        log_prob, old_log_prob, per_token(advantage), radius_low, radius_high, 10.0
    )
    return weighted(mask / (len(mask) * max_length), c * log_prob, c)


def _dppo_token_mean(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    radius_low=0.15,
    radius_high=0.15,
    bound=20.0,
):
    c = _dppo_coefficient(
        log_prob, old_log_prob, per_token(advantage), radius_low, radius_high, bound
    )
    return weighted(token_mean(mask), c * log_prob, c)


def _dppo_verl(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    max_length,
    radius_low=0.15,
    radius_high=0.15,
    bound=20.0,
):
    c = _dppo_coefficient(
        log_prob, old_log_prob, per_token(advantage), radius_low, radius_high, bound
    )
    return weighted(mask / (len(mask) * max_length), c * log_prob, c)


def _drpo_clamped(log_prob, old_log_prob, advantage, mask, *, max_length, radius=12.5):
    d, free = clamped_log_ratio(log_prob, old_log_prob)
    A, ratio, mu = per_token(advantage), xp.exp(d), xp.exp(old_log_prob)
    penalty, slope = (
        abs(A) / (2 * radius) * mu * x
        for x in ((ratio - 1) ** 2, 2 * ratio * (ratio - 1))
    )
    return weighted(
        mask / (len(mask) * max_length), ratio * A - penalty, free * (ratio * A - slope)
    )


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


def moderate_ratios(inputs):
    """ratios between 1/20 and 20"""
    moved = xp.clip(inputs["log_prob"] - inputs["old_log_prob"], -3, 3)
    return {**inputs, "log_prob": inputs["old_log_prob"] + moved}


def certain_before(inputs):
    """the old policy was certain of its tokens"""
    fall = -abs(inputs["log_prob"] - inputs["old_log_prob"])
    return {**inputs, "log_prob": fall, "old_log_prob": xp.zeros_like(fall)}


def equal_sizes(inputs):
    """advantages of size 0.8, six tokens an answer"""
    columns = xp.arange(6) % inputs["mask"].shape[1]
    log_prob, old_log_prob = (
        inputs[name][:, columns] for name in ("log_prob", "old_log_prob")
    )
    advantage = xp.where(inputs["advantage"] > 0, 0.8, -0.8)
    advantage = advantage[:, columns] if advantage.ndim == 2 else advantage
    mask = xp.ones_like(log_prob)
    return {
        "log_prob": log_prob,
        "old_log_prob": old_log_prob,
        "advantage": advantage,
        "mask": mask,
    }


LENGTH = {"max_length": 6}
FREE = {"max_length": 6, "clip": 1e14}  # no clip, no penalty
FRESH = Limit(
    "reinforce.reinforce", LENGTH, LENGTH, where=on_policy, gradient_only=True
)
METHOD = Method(
    key="yao2026rethinking",
    provenance="confirmed",
    functions=(
        Objective(
            f=dppo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": LENGTH,
                "kl": {
                    **LENGTH,
                    "radius_low": 0.05,
                    "radius_high": 0.05,
                    "kind": "forward_kl",
                },
                "probe": {
                    "max_length": 4.5,
                    "radius_low": 0.02,
                    "radius_high": 0.03,
                    "kind": "forward_kl",
                    "bound": 2.5,
                },
            },
            limits=(
                Limit(
                    "dr_grpo.dr_grpo",
                    {**LENGTH, "radius_low": 1.5, "radius_high": 1.5, "bound": 1e14},
                    FREE,
                ),
                FRESH,
            ),
            deviations=(DPPO_LOG_PROB, DPPO_TOKEN_MEAN, DPPO_VERL),
        ),
        Objective(
            f=dppo_measured,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": LENGTH,
                "probe": {
                    "max_length": 4.5,
                    "radius_low": 0.05,
                    "radius_high": 0.08,
                    "bound": 2.5,
                },
            },
            limits=(
                Limit("drpo.dppo", LENGTH, LENGTH, where=measured_by_the_token),
                FRESH,
            ),
        ),
        Objective(
            f=spo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": LENGTH, "probe": {"max_length": 4.5, "radius": 0.7}},
            limits=(
                Limit(
                    "dr_grpo.dr_grpo",
                    {**LENGTH, "radius": 1e14},
                    FREE,
                    where=moderate_ratios,
                ),
                Limit(
                    "r2vpo.r2vpo",
                    {**LENGTH, "radius": 0.4},
                    {"variance_weight": 1.0, "target": 0.0},
                    where=equal_sizes,
                ),
                FRESH,
            ),
        ),
        Objective(
            f=drpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": LENGTH,
                "tight": {**LENGTH, "radius": 0.1},
                "probe": {"max_length": 4.5, "radius": 0.3},
            },
            limits=(
                Limit("dr_grpo.dr_grpo", {**LENGTH, "radius": 1e14}, FREE),
                Limit(
                    "drpo.spo",
                    {**LENGTH, "radius": 0.2},
                    {**LENGTH, "radius": 0.2},
                    where=certain_before,
                ),
                FRESH,
            ),
            deviations=(DRPO_CLAMPED,),
        ),
    ),
)
