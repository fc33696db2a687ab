"""What is known of `trref.tokens.etr`."""

import math

from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.places import OVER_TOKENS, REINFORCE_OVER_ANSWERS, on_policy
from trref.tokens.etr import elastic_bounds, etr


def _bounds_by_loops(
    advantage,
    reward,
    group,
    *,
    clip_low=0.2,
    clip_high=0.2,
    micro=0.5,
    macro=0.5,
    shape="tanh",
    reference=1.0,
    cap=2.0,
    budget="elastic",
):
    scales = []
    for A, g in zip(advantage.tolist(), group.tolist(), strict=True):
        members = [
            r for r, h in zip(reward.tolist(), group.tolist(), strict=True) if h == g
        ]
        variance = sum(members) * (len(members) - sum(members)) / len(members) ** 2
        kappa = (
            1 + micro * math.tanh(abs(A) / reference)
            if shape == "tanh"
            else min(abs(A) / reference, cap)
        )
        scales.append(kappa * (1 + 4 * macro * variance))
    live = [s for s, A in zip(scales, advantage.tolist(), strict=True) if A != 0]
    mean = sum(live) / len(live) if budget == "matched" and live else 1
    return [
        [min(clip_low * s / mean, 0.95) for s in scales],
        [clip_high * s / mean for s in scales],
    ]


def _alike(inputs):
    """there is one prompt, and advantages differ in sign alone"""
    return {
        **inputs,
        "group": 0 * inputs["group"],
        "advantage": 2 * inputs["reward"] - 1,
    }


PROBE = {
    "clip_low": 0.6,
    "clip_high": 0.35,
    "micro": 0.3,
    "macro": 0.8,
    "shape": "linear",
    "reference": 0.7,
    "cap": 1.5,
    "budget": "matched",
}
VARIANTS = {
    "default": {},
    "matched": {"budget": "matched"},
    "linear in the advantage alone": {"shape": "linear", "macro": 0.0},
}
MATCHED = {"budget": "matched", "shape": "linear", "macro": 0.0, "reference": 5.0}
PLAIN = {"micro": 0.0, "macro": 0.0}
WIDE = {
    "clip_low": 0.24,
    "clip_high": 0.24,
}  # no edge lies on these bounds, where the mean rounds
METHOD = Method(
    key="zhang2026etr",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=elastic_bounds,
            interface=TOKEN_OBJECTIVE,
            settings={**VARIANTS, "probe": PROBE},
            brute_force=_bounds_by_loops,
        ),
        Objective(
            f=etr,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                **VARIANTS,
                "matched to 1": MATCHED,
                "probe": {**PROBE, "aggregation": "token_mean"},
            },
            limits=(
                Limit(to="grpo.grpo", hyper=PLAIN),
                Limit(
                    to="grpo.grpo",
                    hyper={"reference": 1e-9, "macro": 0.0},
                    to_hyper={"clip": 0.3},
                ),
                Limit(
                    to="dapo.dapo_over_batch",
                    hyper={**PLAIN, "clip_high": 0.28, "aggregation": "token_mean"},
                ),
                Limit(
                    "grpo.grpo",
                    {"budget": "matched", **WIDE},
                    {"clip": 0.24},
                    where=_alike,
                ),
                REINFORCE_OVER_ANSWERS,
                Limit(
                    "reinforce.reinforce",
                    {"aggregation": "token_mean"},
                    OVER_TOKENS,
                    where=on_policy,
                    gradient_only=True,
                ),
            ),
        ),
    ),
)
