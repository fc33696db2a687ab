"""What is known of `trref.tokens.r2vpo`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clamped_log_ratio, weighted
from trref.catalog.tokens.places import (
    REINFORCE_OVER_ANSWERS,
    REINFORCE_OVER_TOKENS,
    of_one_token,
    on_policy,
)
from trref.tokens.r2vpo import dual_step, r2vpo, r2vpo_sequence, tabular_optimum
from trref.tokens.terms import per_token, token_mean


def optimum_by_bisection(advantage, prob, *, target=0.02):
    """Water filling: the level at which the mean is 1, inside the slope at which the variance is the target."""
    A, p = advantage - advantage.max(), prob / prob.sum()
    spread = max(-float(A.min()), 1e-9)

    def at(slope):
        low, high = -1 / slope - spread, spread + 1 / slope
        for _ in range(70):
            level = (low + high) / 2
            ratio = xp.maximum(1 + slope * (A - level), 0)
            low, high = (level, high) if float(p @ ratio) > 1 else (low, level)
        return ratio

    low, high = 1e-9 / spread, 1e9 / spread
    for _ in range(70):
        slope = (low * high) ** 0.5
        low, high = (
            (slope, high) if float(p @ (at(slope) - 1) ** 2) < target else (low, slope)
        )
    return at(slope)


def table(rng, size):
    prob = rng.dirichlet(xp.full(size, float(rng.choice((0.5, 2.0))))) + 1e-3
    return {
        "advantage": float(rng.choice((0.1, 1.0, 20.0))) * rng.standard_normal(size),
        "prob": prob / prob.sum(),
    }


def _edge(advantage, prob):
    return {"advantage": xp.array(advantage), "prob": xp.array(prob)}


EDGES = {
    "all equal": lambda: _edge([0.3] * 5, [0.11, 0.12, 0.13, 0.14, 0.5]),
    "ties": lambda: _edge([2.0, -1.0, 2.0, 0.5], [0.1, 0.5, 0.2, 0.2]),
    "one action": lambda: _edge([-1.0], [1.0]),
    "a rare best action": lambda: _edge([9.0, 0.0, 1.0], [0.01, 0.5, 0.49]),
}


def _ratio_clamped(
    log_prob, old_log_prob, advantage, mask, *, variance_weight=0.04, target=0.02
):
    d, free = clamped_log_ratio(log_prob, old_log_prob)
    A, ratio = per_token(advantage), xp.exp(d)
    term = ratio * A - variance_weight * ((ratio - 1) ** 2 - target)
    return weighted(
        token_mean(mask), term, free * ratio * (A - 2 * variance_weight * (ratio - 1))
    )


def _coefficient_times_log_prob(
    log_prob, old_log_prob, advantage, mask, *, variance_weight=0.04
):
    ratio = xp.exp(log_prob - old_log_prob)
    coefficient = ratio * (per_token(advantage) - 2 * variance_weight * (ratio - 1))
    return weighted(token_mean(mask), coefficient * log_prob, coefficient)


RATIO_CLAMPED = Deviation(
    "log-ratios clamped to ±20, under the brake",
    _ratio_clamped,
    seen_in="two public re-implementations of R2VPO",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)


COEFFICIENT_TIMES_LOG_PROB = Deviation(
    "the gradient's coefficient, held constant, times the log-probability",
    _coefficient_times_log_prob,
    seen_in="a public re-implementation ('R2VPOLoss')",
    computes="the same gradient, and a value that is not the objective",
)


def _dual_step_by_loops(
    log_prob, old_log_prob, mask, *, variance_weight, target=0.02, lr=1.0
):
    ratio = xp.exp(log_prob - old_log_prob)[mask > 0].tolist()
    return max(
        variance_weight
        + lr * (sum((r - 1) ** 2 for r in ratio) / max(len(ratio), 1) - target),
        0.0,
    )


def _signs_of_one_token(inputs):
    """answers have one token, and the advantage 1 or -1"""
    first = of_one_token(inputs)
    return {**first, "advantage": xp.where(first["advantage"] > 0, 1.0, -1.0)}


NO_CLIP = {"clip_low": 1e14, "clip_high": 1e14}


METHOD = Method(
    key="luo2026ratio",
    provenance={
        "partly": ("variance", "objective", "gradient"),
        "reconstructed": ("dual", "sequence", "optimum"),
    },
    functions=(
        Objective(
            f=r2vpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"variance_weight": 0.7, "target": 0.3}},
            limits=(
                Limit("dapo.dapo_over_batch", {"variance_weight": 0.0}, NO_CLIP),
                Limit(
                    "dapo.dapo_over_batch",
                    {"variance_weight": 2.5, "target": 0.0},
                    where=on_policy,
                ),
                REINFORCE_OVER_TOKENS,
                Limit(
                    "drpo.spo",
                    {"variance_weight": 2.5, "target": 0.0},
                    {"max_length": 1, "radius": 0.2},
                    where=_signs_of_one_token,
                ),
            ),
            deviations=(RATIO_CLAMPED, COEFFICIENT_TIMES_LOG_PROB),
        ),
        Objective(
            f=r2vpo_sequence,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"variance_weight": 0.7, "target": 0.3}},
            limits=(
                Limit("gspo.gspo", {"variance_weight": 0.0}, NO_CLIP),
                REINFORCE_OVER_ANSWERS,
                Limit(
                    "r2vpo.r2vpo",
                    {"variance_weight": 0.7, "target": 0.3},
                    {"variance_weight": 0.7, "target": 0.3},
                    where=of_one_token,
                ),
            ),
        ),
        Estimator(
            f=dual_step,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {"variance_weight": 0.5},
                "probe": {"variance_weight": 2.5, "target": 0.3, "lr": 0.7},
            },
            brute_force=_dual_step_by_loops,
        ),
        Estimator(
            f=tabular_optimum,
            example=table,
            edges=EDGES,
            settings={
                "default": {},
                "some at 0": {"target": 1.5},
                "probe": {"target": 0.4},
            },
            brute_force=optimum_by_bisection,
            refused={
                "probabilities of sum 1/2": {"prob": lambda prob: prob / 2},
            },
        ),
    ),
)
