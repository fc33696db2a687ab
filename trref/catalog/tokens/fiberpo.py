"""What is known of `trref.tokens.fiberpo`."""

import dataclasses

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, one_advantage
from trref.tokens.fiberpo import fiberpo, gate_regimes
from trref.tokens.terms import per_token, seq_mean


def _base_clipped(log_prob, old_log_prob, advantage, mask):
    x, T = mask * (log_prob - old_log_prob), xp.maximum(mask.sum(1, keepdims=True), 1)
    mean = x.sum(1, keepdims=True) / T
    base = xp.clip(mean, -0.2, 0.2)
    residual = x - base
    terms = (
        seq_mean(mask)
        * xp.exp(base + xp.clip(residual, -0.2, 0.2))
        * per_token(advantage)
    )
    free = abs(residual) <= 0.2
    through_base = (terms * ~free).sum(1, keepdims=True) * (abs(mean) <= 0.2) / T
    return -terms.sum(), -mask * (terms * free + through_base)


BASE_CLIPPED = Deviation(
    "mean log-ratio clipped, residual from the clipped mean",
    _base_clipped,
    seen_in="alphadl/FibrationPO fiberpo/fbg.py, both thresholds 0.2",
    computes="a base without sign channels and rollback, and a residual in which the clipped part of the drift returns",
)


def _regimes_by_loops(log_prob, old_log_prob, mask, *, budget_up=0.3, budget_down=0.25):
    counts = [[0, 0, 0], [0, 0, 0]]
    for row, m in zip((log_prob - old_log_prob).tolist(), mask.tolist(), strict=True):
        x = [v for v, kept in zip(row, m, strict=True) if kept]
        T = max(len(x), 1)
        for channel, (sign, C) in enumerate(((1, budget_up), (-1, budget_down))):
            drift = sum(max(sign * v, 0) for v in x) / T
            counts[channel][
                0 if drift <= C else 1 if drift < (1 + 1 / T) * C else 2
            ] += 1
    return [[n / len(mask) for n in channel] for channel in counts]


def _uneven(batch):
    """Equal answers of opposite advantage don't cancel to rounding errors."""
    growth = 1 + 0.125 * xp.arange(len(batch["mask"]))
    return {**batch, "advantage": (batch["advantage"].T * growth).T}


UNEVEN = dataclasses.replace(
    TOKEN_OBJECTIVE,
    edges={
        name: lambda make=make: _uneven(make())
        for name, make in TOKEN_OBJECTIVE.edges.items()
    },
)


def _one_advantage_an_answer(inputs):
    """one advantage an answer, no token just at the drift"""
    columns = xp.arange(inputs["mask"].shape[1])
    return {**one_advantage(inputs), "log_prob": inputs["log_prob"] - 0.01 * columns**2}


OPEN = {"budget_up": 1e3, "budget_down": 1e3, "residual_clip": 1e3}


UNCLIPPED = {"clip_low": 1e14, "clip_high": 1e14}


METHOD = Method(
    key="li2026fibration",
    provenance="confirmed",
    functions=(
        Objective(
            f=fiberpo,
            interface=UNEVEN,
            wrt="log_prob",
            settings={
                "default": {},
                "of a figure": {
                    "budget_up": 0.12,
                    "budget_down": 0.05,
                    "residual_clip": 0.04,
                },
                "probe": {"budget_up": 0.6, "budget_down": 0.4, "residual_clip": 0.35},
            },
            limits=(
                Limit("grpo.grpo", OPEN, {"clip": 1e14}),
                Limit(
                    "gspo.gspo",
                    {**OPEN, "residual_clip": 1e-13},
                    UNCLIPPED,
                    where=_one_advantage_an_answer,
                ),
                REINFORCE_OVER_ANSWERS,
            ),
            deviations=(BASE_CLIPPED,),
        ),
        Estimator(
            f=gate_regimes,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {"budget_up": 0.1, "budget_down": 0.05}},
            brute_force=_regimes_by_loops,
        ),
    ),
)
