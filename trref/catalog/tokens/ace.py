"""What is known of `trref.tokens.ace`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, call
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clipped_terms
from trref.catalog.tokens.places import (
    OVER_ANSWERS,
    at_the_reference,
    nothing_negative,
    on_policy,
)
from trref.tokens.ace import ace, confidence_shift, error_shares, penalty_factor
from trref.tokens.terms import per_token, seq_mean


def _shift_differentiated(
    log_prob, old_log_prob, advantage, mask, ref_log_prob, *, alpha=1.0
):
    A, length = (
        per_token(advantage) + 0 * mask,
        xp.maximum(mask.sum(1, keepdims=True), 1),
    )
    c = (mask * (log_prob - ref_log_prob)).sum(1, keepdims=True) / length
    softplus, sigmoid = xp.logaddexp(0, c), xp.exp(-xp.logaddexp(0, -c))
    term, derivative = clipped_terms(log_prob - old_log_prob, A, 0.2, 0.2)
    factor, w = xp.where(A < 0, 1 + alpha * softplus, 1), seq_mean(mask)
    through = (
        (w * term * (A < 0)).sum(1, keepdims=True) * alpha * sigmoid * mask / length
    )
    return -(w * factor * term).sum(), -w * factor * derivative - through


SHIFT_DIFFERENTIATED = Deviation(
    "gradient through the confidence shift",
    _shift_differentiated,
    seen_in="a common slip in re-implementations; the paper holds the shift constant",
    computes="for each token of a wrong answer also the derivative of the penalty factor",
)


def _shift_by_loops(log_prob, mask, ref_log_prob, *, shift="mean"):
    result = []
    for x, m, y in zip(
        log_prob.tolist(), mask.tolist(), ref_log_prob.tolist(), strict=True
    ):
        d = [a - b for a, b, kept in zip(x, y, m, strict=True) if kept]
        result.append(sum(d) / (len(d) if shift == "mean" else 1) if d else 0.0)
    return result


def _shares_by_counting(log_prob, mask, ref_log_prob, reward, *, threshold=0.1):
    c = [
        x
        for x, r in zip(
            _shift_by_loops(log_prob, mask, ref_log_prob), reward, strict=True
        )
        if r == 0
    ]
    over, under = sum(x > threshold for x in c), sum(x < -threshold for x in c)
    return [n / max(len(c), 1) for n in (over, len(c) - over - under, under)]


def _with_these_advantages(inputs):
    """the policies are equal, and REINFORCE has the advantages of ACE"""
    ours = on_policy(inputs)
    A = ours["advantage"].reshape(len(ours["mask"]), -1)
    factor = call(penalty_factor, ours)
    return ours, {
        **ours,
        "advantage": xp.where(A < 0, A * factor[:, None], A)
        + xp.zeros_like(ours["mask"]),
    }


DAPO = {"clip_high": 0.28, "aggregation": "token_mean"}
METHOD = Method(
    key="xu2026overconfident",
    provenance={
        "confirmed": ("shift", "factor", "objective"),
        "reconstructed": ("shares",),
    },
    functions=(
        Estimator(
            f=confidence_shift,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {"shift": "sum"}},
            brute_force=_shift_by_loops,
        ),
        Estimator(
            f=error_shares,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {"threshold": 0.03}},
            brute_force=_shares_by_counting,
        ),
        Objective(
            f=ace,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            stopped={"factor": penalty_factor},
            settings={
                "default": {},
                "DAPO": DAPO,
                "relu": {"shape": "relu"},
                "shift of the rollout": {"shift_of": "rollout"},
                "probe": {
                    "alpha": 2.5,
                    "clip_low": 0.15,
                    "clip_high": 0.35,
                    "aggregation": "token_mean",
                    "shape": "relu",
                    "shift": "sum",
                    "shift_of": "rollout",
                },
            },
            limits=(
                Limit(to="grpo.grpo", hyper={"alpha": 0.0}),
                Limit(to="dapo.dapo_over_batch", hyper={"alpha": 0.0, **DAPO}),
                Limit("grpo.grpo", {"shape": "relu"}, where=at_the_reference),
                Limit("grpo.grpo", {}, where=nothing_negative),
                Limit(
                    "reinforce.reinforce",
                    {},
                    OVER_ANSWERS,
                    where=_with_these_advantages,
                    gradient_only=True,
                ),
            ),
            deviations=(SHIFT_DIFFERENTIATED,),
        ),
    ),
)
