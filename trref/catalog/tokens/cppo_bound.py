"""What is known of `trref.tokens.cppo_bound`."""

from trref.backend import xp
from trref.catalog import Estimator, Method
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE, with_edges
from trref.tokens.cppo_bound import (
    improvement_penalty,
    parts_of_the_ratio,
    residual_bound,
)


def _parts_by_loops(log_prob, old_log_prob, mask):
    ratio, parts = xp.exp(log_prob - old_log_prob), xp.zeros((2, len(mask)))
    for b, row in enumerate(ratio):
        rho = [float(r) for r, m in zip(row, mask[b], strict=True) if m]
        for t, r in enumerate(rho):
            rest = 1.0
            for later in rho[t + 1 :]:
                rest *= later
            parts[:, b] += [r - 1, (r - 1) * (1 - rest)]
    return parts


def _bound_by_loops(mean_variation, largest_variation, *, reward_bound=1.0):
    T, worst = len(mean_variation), float(largest_variation.max())
    pairs = [(t, j) for t in range(T) for j in range(t + 1, T)]
    tight = sum(float(mean_variation[t] * largest_variation[j]) for t, j in pairs)
    return [
        4 * reward_bound * tight,
        4 * reward_bound * sum(float(mean_variation[t]) * worst for t, _ in pairs),
    ]


def _variation(rng, size):
    largest = float(rng.choice((0.05, 0.3, 1.0))) * rng.random(size)
    return {"mean_variation": largest * rng.random(size), "largest_variation": largest}


def _penalty_by_loop(
    position_weight, threshold, *, mean_radius=0.015, reward_bound=1.0
):
    largest = max(
        c / w for c, w in zip(threshold.tolist(), position_weight.tolist(), strict=True)
    )
    return (
        reward_bound * mean_radius * largest * sum(4 * j for j in range(len(threshold)))
    )


def _rule(rng, size):
    w_min, delta = float(rng.choice((0.3, 0.8))), float(rng.choice((0.02, 0.15)))
    weight = 1 - (1 - w_min) * xp.arange(size) / max(size - 1, 1)
    return {"position_weight": weight, "threshold": delta * rng.random(size)}


METHOD = Method(
    key="mao2026cppo",
    provenance="confirmed",
    functions=(
        Estimator(
            f=parts_of_the_ratio,
            interface=with_edges(
                TOKEN_OBJECTIVE,
                *(name for name in TOKEN_OBJECTIVE.edges if name != "far off policy"),
            ),
            brute_force=_parts_by_loops,
            refused={
                "an answer far less likely than before": {
                    "log_prob": lambda log_prob: log_prob - 25,
                    "mask": 1,
                },
            },
        ),
        Estimator(
            f=residual_bound,
            example=_variation,
            edges={
                "one token": lambda: {
                    "mean_variation": xp.array([0.1]),
                    "largest_variation": xp.array([0.3]),
                },
                "no change": lambda: {
                    "mean_variation": xp.zeros(3),
                    "largest_variation": xp.zeros(3),
                },
                "disjoint": lambda: {
                    "mean_variation": xp.ones(3),
                    "largest_variation": xp.ones(3),
                },
            },
            settings={"default": {}, "probe": {"reward_bound": 2.5}},
            brute_force=_bound_by_loops,
        ),
        Estimator(
            f=improvement_penalty,
            example=_rule,
            edges={
                "one token": lambda: {
                    "position_weight": xp.ones(1),
                    "threshold": xp.full(1, 0.15),
                },
                "equal weights": lambda: {
                    "position_weight": xp.ones(4),
                    "threshold": xp.full(4, 0.15),
                },
                "nothing allowed": lambda: {
                    "position_weight": xp.ones(3),
                    "threshold": xp.zeros(3),
                },
            },
            settings={
                "default": {},
                "probe": {"mean_radius": 0.3, "reward_bound": 2.5},
            },
            brute_force=_penalty_by_loop,
            refused={
                "a weight next to 0": {"position_weight": 1e-7},
                "weights that fall too fast": {
                    "position_weight": lambda position_weight: (
                        0 * position_weight + [1.0, 0.1, 0.1, 0.1]
                    )
                },
            },
        ),
    ),
)
