"""What is known of `trref.tokens.vespo`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clamped_log_ratio
from trref.catalog.tokens.places import OVER_TOKENS, of_one_token, on_policy
from trref.tokens.terms import per_token
from trref.tokens.vespo import gamma_weight, vespo


def _weights_by_loops(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    k_pos=2.0,
    lambda_pos=3.0,
    k_neg=3.0,
    lambda_neg=2.0,
):
    A = per_token(advantage) + 0 * mask
    found = xp.zeros(mask.shape)
    for i in range(len(mask)):
        total = math.fsum(
            float(a - b)
            for a, b, m in zip(log_prob[i], old_log_prob[i], mask[i], strict=True)
            if m
        )
        W = math.exp(min(total, 20.0))
        for t in range(mask.shape[1]):
            good = A[i, t] >= 0
            k, rate = (k_pos, lambda_pos) if good else (k_neg, lambda_neg)
            found[i, t] = mask[i, t] * W**k * math.exp(rate * (1 - W))
    return found


def sign_of_the_first(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    k_pos=2.0,
    lambda_pos=3.0,
    k_neg=3.0,
    lambda_neg=2.0,
    aggregation="token_mean",
    max_length=1.0,
):
    shape = {
        "k_pos": k_pos,
        "lambda_pos": lambda_pos,
        "k_neg": k_neg,
        "lambda_neg": lambda_neg,
    }
    first = per_token(advantage)[:, 0]
    weight = gamma_weight.unchecked(log_prob, old_log_prob, first, mask, **shape)
    average = {"aggregation": aggregation, "max_length": max_length}
    return vespo.unchecked(
        log_prob, old_log_prob, advantage, mask, **average, weight=weight
    )


SIGN_OF_THE_FIRST = Deviation(
    "one sign for an answer",
    sign_of_the_first,
    seen_in="FloyedShen/VESPO recipe/vespo/code/core_algos.py, compute_policy_loss_vespo, for advantages of tokens",
    computes="the constants of the sign at the answer's first position, for all of its tokens",
)


def tokens_clamped(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    k_pos=2.0,
    lambda_pos=3.0,
    k_neg=3.0,
    lambda_neg=2.0,
    aggregation="token_mean",
    max_length=1.0,
):
    shape = {
        "k_pos": k_pos,
        "lambda_pos": max(lambda_pos, 1e-4),
        "k_neg": k_neg,
        "lambda_neg": max(lambda_neg, 1e-4),
    }
    clamped, _ = clamped_log_ratio(log_prob, old_log_prob)
    weight = gamma_weight.unchecked(clamped, 0 * clamped, advantage, mask, **shape)
    average = {"aggregation": aggregation, "max_length": max_length}
    return vespo.unchecked(
        log_prob, old_log_prob, advantage, mask, **average, weight=weight
    )


TOKENS_CLAMPED = Deviation(
    "log-ratios of tokens clamped to ±20",
    tokens_clamped,
    seen_in="FloyedShen/VESPO recipe/vespo/code/core_algos.py;"
    " TRL 1.16.0 trl/trainer/grpo_trainer.py, loss_type='vespo'",
    computes="the product of ratios that are bounded one by one, and rates of at least 1e-4",
)


def one_moderate_token(inputs):
    """answers have one token, with ratios between 1/20 and 20"""
    inputs = of_one_token(inputs)
    moved = xp.clip(inputs["log_prob"] - inputs["old_log_prob"], -3, 3)
    return {**inputs, "log_prob": inputs["old_log_prob"] + moved}


def _far_apart_tokens():
    """Log-ratios of 25 and -25.5 in one answer, of 22 and -21 in another."""
    inputs = TOKEN_OBJECTIVE.edges["on-policy"]()
    moved = xp.array([[25.0, -25.5, 0.0], [22.0, -21.0, 0.0], [0.5, 0.0, -0.5]])
    rows = {name: value[:3] for name, value in inputs.items()}
    old = xp.array([[-26.0, -1.0, -1.0], [-24.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])
    return {**rows, "old_log_prob": old, "log_prob": old + moved}


FAR = dataclasses.replace(
    TOKEN_OBJECTIVE,
    edges={**TOKEN_OBJECTIVE.edges, "log-ratios that cancel": _far_apart_tokens},
)
NO_WEIGHT = {"k_pos": 0.0, "lambda_pos": 0.0, "k_neg": 0.0, "lambda_neg": 0.0}
PLAIN = {"k_pos": 1.0, "lambda_pos": 0.0, "k_neg": 1.0, "lambda_neg": 0.0}
KERNELS = {"k_pos": 1.5, "lambda_pos": 0.7, "k_neg": 0.6, "lambda_neg": 2.5}
METHOD = Method(
    key="shen2026vespo",
    provenance="confirmed",
    functions=(
        Estimator(
            f=gamma_weight,
            interface=FAR,
            settings={"default": {}, "plain ratios": PLAIN, "probe": KERNELS},
            brute_force=_weights_by_loops,
        ),
        Objective(
            f=vespo,
            interface=FAR,
            wrt="log_prob",
            stopped={"weight": gamma_weight},
            value_free=True,
            settings={
                "default": {},
                "plain importance sampling": PLAIN,
                "over answers": {"aggregation": "seq_mean"},
                "sum over an answer": {"aggregation": "constant"},
                "probe": {**KERNELS, "aggregation": "constant", "max_length": 4.5},
            },
            limits=(
                Limit("reinforce.reinforce", {}, OVER_TOKENS, where=on_policy),
                Limit("reinforce.reinforce", NO_WEIGHT, OVER_TOKENS),
                Limit(
                    "cispo.cispo", PLAIN, {"clip_high": 1e14}, where=one_moderate_token
                ),
            ),
            deviations=(SIGN_OF_THE_FIRST, TOKENS_CLAMPED),
        ),
    ),
)
