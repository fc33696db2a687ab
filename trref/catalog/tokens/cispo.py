"""What is known of `trref.tokens.cispo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import weighted
from trref.catalog.tokens.places import (
    OVER_TOKENS,
    nothing_negative,
    on_policy,
)
from trref.tokens.cispo import cispo, importance_weight
from trref.tokens.terms import per_token, token_weights


def _weights_by_loops(log_prob, old_log_prob, *, clip_low=1.0, clip_high=4.0):
    rows = zip(log_prob.tolist(), old_log_prob.tolist(), strict=True)
    return [
        [
            max(1 - clip_low, min(1 + clip_high, math.exp(a - b)))
            for a, b in zip(new, old, strict=True)
        ]
        for new, old in rows
    ]


def capped_at_clip_high(
    log_prob, old_log_prob, advantage, mask, *, clip_low=1.0, clip_high=4.0
):
    weight = xp.minimum(xp.exp(log_prob - old_log_prob), clip_high)
    return cispo.unchecked(log_prob, old_log_prob, advantage, mask, weight=weight)


def not_detached(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    clip_low=1.0,
    clip_high=4.0,
    aggregation="token_mean",
    max_length=1.0,
):
    ratio = xp.exp(log_prob - old_log_prob)
    weight = xp.clip(ratio, 1 - clip_low, 1 + clip_high)
    free, A = weight == ratio, per_token(advantage)
    return weighted(
        token_weights(mask, aggregation, max_length=max_length),
        weight * A * log_prob,
        weight * A * (1 + free * log_prob),
    )


CAPPED_AT_CLIP_HIGH = Deviation(
    "the weight is capped at clip_high itself",
    capped_at_clip_high,
    seen_in="TRL 1.16.0 trl/trainer/grpo_trainer.py, loss_type='cispo' (epsilon_high, by default 0.2)",
    computes="weights of at most clip_high in the place of 1 + clip_high, without a lower bound",
)
NOT_DETACHED = Deviation(
    "the weight is differentiated",
    not_detached,
    seen_in="a common slip in re-implementations; neither TRL nor verl has it",
    computes="the derivative of the ratio times the log-probability beside the right coefficient, inside the bounds",
)


def within_the_interval(inputs):
    """no ratio leaves the interval"""
    old = inputs["old_log_prob"]
    moved = 0.1 * xp.tanh(inputs["log_prob"] - old)
    return {**inputs, "log_prob": old + moved}


CLIP = {"clip_low": 0.2, "clip_high": 0.2}
LENGTH = {"max_length": 6}
SUM = {"aggregation": "constant", **LENGTH}
METHOD = Method(
    key="minimax2025minimax",
    provenance="confirmed",
    functions=(
        Estimator(
            f=importance_weight,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {"clip_low": 0.3, "clip_high": 0.6}},
            brute_force=_weights_by_loops,
        ),
        Objective(
            f=cispo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            stopped={"weight": importance_weight},
            value_free=True,
            settings={
                "default": {},
                "upper bound 1.28": {"clip_high": 0.28},
                "bounds of PPO": CLIP,
                "over answers": {"aggregation": "seq_mean"},
                "masked": {**CLIP, "masked": True},
                "probe": {
                    "clip_low": 0.3,
                    "clip_high": 0.6,
                    "aggregation": "constant",
                    "max_length": 4.5,
                    "masked": True,
                },
            },
            limits=(
                Limit(
                    "dapo.dapo_over_batch",
                    {"clip_high": 0.24, "masked": True},
                    {"clip_low": 0.24, "clip_high": 0.24},
                    where=nothing_negative,
                    gradient_only=True,
                ),
                Limit(
                    "drpo.dppo",
                    SUM,
                    {**LENGTH, "radius_low": 1.5, "radius_high": 1.5, "bound": 5.0},
                    gradient_only=True,
                ),
                Limit("reinforce.reinforce", {}, OVER_TOKENS, where=on_policy),
                Limit(
                    "dapo.dapo_over_batch",
                    CLIP,
                    CLIP,
                    where=within_the_interval,
                    gradient_only=True,
                ),
                Limit(
                    "dr_grpo.dr_grpo",
                    {**SUM, "clip_high": 1e14},
                    {**LENGTH, "clip": 1e14},
                    gradient_only=True,
                ),
            ),
            deviations=(CAPPED_AT_CLIP_HIGH, NOT_DETACHED),
        ),
    ),
)
