"""What is known of `trref.tokens.covariance_clip`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE, with_edges
from trref.catalog.tokens.pieces import weighted
from trref.catalog.tokens.places import REINFORCE_OVER_TOKENS
from trref.tokens.covariance_clip import (
    clip_cov,
    clip_cov_choice,
    kl_cov,
    kl_cov_choice,
    token_covariance,
)
from trref.tokens.terms import per_token, token_mean


def _with_choices(batch, draw):
    """Further inputs: random numbers of tokens, and 1 on some of them."""
    priority = draw(batch["mask"].shape)
    some = (priority < 0.3).astype(float)
    return {**batch, "priority": priority, "dropped": some, "chosen": some}


def _example(rng, size):
    return _with_choices(TOKEN_OBJECTIVE.example(rng, size), rng.random)


def _pattern(shape):
    B, T = shape
    return (0.37 * (xp.arange(B * T) + 1.0)).reshape(B, T) % 1.0


CHOICES = Interface(
    "token_objective with choices",
    example=_example,
    edges={
        name: lambda make=make: _with_choices(make(), _pattern)
        for name, make in TOKEN_OBJECTIVE.edges.items()
    },
    fit=TOKEN_OBJECTIVE.fit,
)


NOT_ALIKE = with_edges(
    CHOICES, *(name for name in CHOICES.edges if name != "one response")
)
"""Where all advantages are the same number, the covariances are rounding errors."""


def _each(advantage, i, t):
    return float(advantage[i] if advantage.ndim == 1 else advantage[i, t])


def _valid(mask):
    B, T = mask.shape
    return [(i, t) for i in range(B) for t in range(T) if mask[i, t]]


def _covariance_by_loops(log_prob, advantage, mask):
    places, found = _valid(mask), xp.zeros(mask.shape)
    n = max(len(places), 1)
    mean = math.fsum(float(log_prob[i, t]) for i, t in places) / n
    mean_A = math.fsum(_each(advantage, i, t) for i, t in places) / n
    for i, t in places:
        found[i, t] = (log_prob[i, t] - mean) * (_each(advantage, i, t) - mean_A)
    return found


def _chosen(places, score, share, mask):
    quota, found = max(int(share * float(mask.sum())), 1), xp.zeros(mask.shape)
    for i, t in sorted(places, key=lambda place: float(score[place]))[:quota]:
        found[i, t] = 1.0
    return found


def _dropped_by_loops(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    priority,
    *,
    share=2e-4,
    lowest=1.0,
    highest=5.0,
    clip_low=0.2,
    clip_high=0.2,
):
    kappa, places = _covariance_by_loops(log_prob, advantage, mask), []
    for i, t in _valid(mask):
        ratio, A = xp.exp(log_prob[i, t] - old_log_prob[i, t]), _each(advantage, i, t)
        silent = ratio > 1 + clip_high if A > 0 else ratio < 1 - clip_low
        if not silent and lowest < kappa[i, t] < highest:
            places.append((i, t))
    return _chosen(places, priority, share, mask)


def _largest_by_loops(log_prob, advantage, mask, *, share=2e-3):
    kappa = _covariance_by_loops(log_prob, advantage, mask)
    return _chosen(_valid(mask), -kappa, share, mask)


def squared(log_prob, old_log_prob, advantage, mask, chosen, *, kl_weight=1.0):
    d = log_prob - old_log_prob
    unclipped = xp.exp(d) * per_token(advantage)
    term = unclipped - kl_weight * chosen * d**2 / 2
    return weighted(token_mean(mask), term, unclipped - kl_weight * chosen * d)


SQUARED = Deviation(
    "half the squared log-ratio as penalty",
    squared,
    seen_in="re-implementations after the paper's words; the authors' code and verl 0.9.1 take the absolute value",
    computes="the k2 estimate of the divergence on the chosen tokens, whose pull is as large as the drift",
)


def nothing_dropped(inputs):
    """nothing is dropped"""
    return {**inputs, "dropped": 0 * inputs["dropped"]}


def nothing_chosen(inputs):
    """nothing is chosen"""
    return {**inputs, "chosen": 0 * inputs["chosen"]}


FREE = {"clip_low": 1e14, "clip_high": 1e14}
METHOD = Method(
    key="cui2025entropy",
    provenance="confirmed",
    functions=(
        Estimator(
            f=token_covariance, interface=NOT_ALIKE, brute_force=_covariance_by_loops
        ),
        Estimator(
            f=clip_cov_choice,
            interface=NOT_ALIKE,
            settings={
                "default": {},
                "a tenth": {"share": 0.1, "lowest": 0.1},
                "probe": {
                    "share": 0.4,
                    "lowest": 0.05,
                    "highest": 2.0,
                    "clip_low": 0.15,
                    "clip_high": 0.35,
                },
            },
            brute_force=_dropped_by_loops,
        ),
        Objective(
            f=clip_cov,
            interface=CHOICES,
            wrt="log_prob",
            settings={"default": {}, "probe": {"clip_low": 0.15, "clip_high": 0.35}},
            limits=(
                Limit(
                    "dapo.dapo_over_batch",
                    {},
                    {"clip_high": 0.2},
                    where=nothing_dropped,
                ),
            ),
        ),
        Estimator(
            f=kl_cov_choice,
            interface=NOT_ALIKE,
            settings={
                "default": {},
                "SkyRL": {"share": 0.2},
                "probe": {"share": 0.4},
            },
            brute_force=_largest_by_loops,
        ),
        Objective(
            f=kl_cov,
            interface=CHOICES,
            wrt="log_prob",
            settings={"default": {}, "probe": {"kl_weight": 0.3}},
            limits=(
                Limit("dapo.dapo_over_batch", {}, FREE, where=nothing_chosen),
                Limit("dapo.dapo_over_batch", {"kl_weight": 0.0}, FREE),
                REINFORCE_OVER_TOKENS,
            ),
            deviations=(SQUARED,),
        ),
    ),
)
