"""What is known of `trref.policy.bpo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.catalog.policy.interfaces import SURROGATE
from trref.catalog.policy.trpo_improvement import COMPARISON, return_by_summation
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.nn.heads import log_softmax
from trref.policy.bpo import (
    asymmetric_solution,
    bounded_ratio_solution,
    bpo_loss,
    gbpo,
    group_target,
    improvement,
    median_value_loss,
    regulariser,
    soft_asymmetric_solution,
    soft_median,
    soft_target,
)


def _states(rng, size):
    K = int(rng.integers(2, 6))
    return {
        "logits": float(rng.choice((0.3, 1.5))) * rng.standard_normal((size, K)),
        "q_value": float(rng.choice((0.1, 1.0, 9.0))) * rng.standard_normal((size, K)),
    }


def _state(logits, q_value):
    return {"logits": xp.array(logits), "q_value": xp.array(q_value)}


STATES = {
    "equal values": lambda: _state([[0.5, -1.0, 0.2]], [[0.7, 0.7, 0.7]]),
    "a tie at the median": lambda: _state([[0.5, 0.0, 0.3]], [[1.0, 0.25, 0.25]]),
    "one action": lambda: _state([[0.5], [0.1]], [[1.0], [-2.0]]),
    "one action with most of the mass": lambda: _state(
        [[4.0, 0.0, 0.5]], [[0.0, 1.0, -1.0]]
    ),
}


def _gains(logits, q_value, mass):
    """The best actions take their mass one after the other, as long as there is some."""
    rows = []
    for z, q in zip(logits.tolist(), q_value.tolist(), strict=True):
        e = [math.exp(x - max(z)) for x in z]
        p, left, w = [x / sum(e) for x in e], mass, [0.0] * len(z)
        for a in sorted(range(len(q)), key=lambda a: (-q[a], a)):
            w[a] = min(left, p[a]) / p[a]
            left = max(left - p[a], 0.0)
        rows.append(w)
    return xp.array(rows)


def _solution(logits, q_value, *, radius=0.3):
    return 1 - radius + 2 * radius * _gains(logits, q_value, 0.5)


def _asymmetric(logits, q_value, *, lowest=0.0, highest=2.0):
    w = _gains(logits, q_value, (1 - lowest) / (highest - lowest))
    return highest * w + lowest * (1 - w)


def _improved_return(logits, mdp, *, radius=0.3):
    """The new policy followed step by step, after the old one's Q."""
    p = xp.exp(log_softmax(logits))
    V, discount = xp.zeros(len(p)), 1.0
    while discount > 1e-18:
        Q = mdp.reward + mdp.gamma * mdp.transition @ V
        V, discount = (p * Q).sum(1), discount * mdp.gamma
    Q = mdp.reward + mdp.gamma * mdp.transition @ V
    better = log_softmax(logits) + xp.log(_solution(logits, Q, radius=radius))
    return return_by_summation(better, logits, mdp)


def _with_a_target(make):
    def samples(*arguments):
        batch = make(*arguments)
        wave = xp.cos(1.7 * xp.arange(len(batch["advantage"])))
        return batch | {"target": 1 + 0.3 * wave}

    return samples


def _on_the_target():
    """Ratios of exactly 1, of which two are on their targets."""
    batch = SURROGATE.edges["on-policy"]()
    return batch | {"target": xp.array([1.0, 1.25, 0.75, 1.0])}


def _judged(rng, size):
    scale = float(rng.choice((0.5, 5.0)))
    q = scale * rng.standard_normal(size)
    return {"q_value": q, "threshold": q + 0.3 * rng.standard_normal(size)}


def _judgement(q_value, threshold):
    return {"q_value": xp.array(q_value), "threshold": xp.array(threshold)}


JUDGED = Interface(
    "judged",
    example=_judged,
    edges={
        "on the threshold": lambda: _judgement([0.5, 1.0], [0.5, 1.5]),
        "one sample": lambda: _judgement([0.5], [0.25]),
        "far from it": lambda: _judgement([40.0, -40.0], [0.0, 0.0]),
    },
)


def _sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _soft(q_value, threshold, *, radius=0.3, temperature=0.001):
    pairs = zip(q_value.tolist(), threshold.tolist(), strict=True)
    share = [_sigmoid((q - m) / temperature) for q, m in pairs]
    return [(1 - radius) * (1 - s) + (1 + radius) * s for s in share]


def _entropy_of_shares(ratio, *, radius=0.3):
    """2 ε log 2ε less 2 ε times the entropy of the share (ρ - 1 + ε) / 2ε."""
    values = []
    for r in ratio.tolist():
        w = (min(max(r - 1, -radius), radius) + radius) / (2 * radius)
        terms = [x * math.log(x) for x in (w, 1 - w) if x > 0]
        values.append(2 * radius * (math.log(2 * radius) + sum(terms)))
    return values


def _median_by_halving(logits, q_value, *, temperature=0.001):
    found = []
    for z, q in zip(logits.tolist(), q_value.tolist(), strict=True):
        e = [math.exp(x - max(z)) for x in z]
        low, high = min(q), max(q)
        while low < (low + high) / 2 < high:
            mu = (low + high) / 2
            up = sum(
                p * _sigmoid((x - mu) / temperature) for p, x in zip(e, q, strict=True)
            )
            down = sum(
                p * _sigmoid((mu - x) / temperature) for p, x in zip(e, q, strict=True)
            )
            low, high = (mu, high) if up > down else (low, mu)
        found.append(high)
    return found


def _soft_by_halving(logits, q_value, *, lowest=0.0, highest=2.0, temperature=0.1):
    """The threshold at which the ratios have the mean 1, row by row."""
    rows, start = [], math.log((1 - lowest) / (highest - 1))
    for z, q in zip(logits.tolist(), q_value.tolist(), strict=True):
        e = [math.exp(x - max(z)) for x in z]
        low, high = min(q), max(q)

        def shares(nu, q=q):
            return [_sigmoid((x - nu) / temperature + start) for x in q]

        while low < (low + high) / 2 < high:
            nu = (low + high) / 2
            mean = sum(a * s for a, s in zip(e, shares(nu), strict=True)) / sum(e)
            low, high = (
                (nu, high)
                if mean > (1 - lowest) / (highest - lowest)
                else (
                    low,
                    nu,
                )
            )
        rows.append([lowest * (1 - s) + highest * s for s in shares(high)])
    return xp.array(rows)


def _temperature_one(threshold, q_value, *, temperature=0.001):
    return median_value_loss(threshold, q_value, temperature=1.0)


TEMPERATURE_ONE = Deviation(
    "a temperature of 1",
    _temperature_one,
    seen_in="bounded-ratio-rl/bounded_ratio_rl src/sb3/BPO.py",
    computes="the soft median at temperature 1, whatever the temperature of the target is",
)


def _targets_by_sorting(reward, group, *, clip_low=0.2, clip_high=0.2, temperature=1.0):
    R, G, found = reward.tolist(), group.tolist(), []
    for r, g in zip(R, G, strict=True):
        mine = sorted(x for x, other in zip(R, G, strict=True) if other == g)
        n = len(mine)
        median = (mine[(n - 1) // 2] + mine[n // 2]) / 2 if n > 1 else 0.0
        mean = sum(mine) / n
        scale = (sum((x - mean) ** 2 for x in mine) / (n - 1)) ** 0.5 if n > 1 else 1.0
        share = _sigmoid((r - median) / (scale + 1e-6) / temperature)
        found.append(1 - clip_low + (clip_low + clip_high) * share)
    return found


RADIUS = {"default": {}, "probe": {"radius": 0.45}}
GROUPED = {
    "default": {},
    "uneven": {"clip_high": 0.28},
    "probe": {"clip_low": 0.15, "clip_high": 0.35, "temperature": 0.6},
}
METHOD = Method(
    key="ao2026bounded",
    provenance={
        "confirmed": (
            "solution",
            "improvement",
            "loss",
            "soft",
            "regulariser",
            "median",
            "median-loss",
            "group",
        ),
        "reconstructed": ("asymmetric", "soft-asymmetric", "group-gradient"),
    },
    functions=(
        Objective(
            f=bpo_loss,
            example=_with_a_target(SURROGATE.example),
            edges={
                **{n: _with_a_target(make) for n, make in SURROGATE.edges.items()},
                "on the target": _on_the_target,
            },
            wrt="log_prob",
        ),
        Estimator(
            f=bounded_ratio_solution,
            example=_states,
            edges=STATES,
            settings=RADIUS,
            brute_force=_solution,
            limits=(
                Limit(
                    "bpo.asymmetric_solution",
                    {"radius": 0.25},
                    {"lowest": 0.75, "highest": 1.25},
                ),
            ),
        ),
        Estimator(
            f=asymmetric_solution,
            example=_states,
            edges=STATES,
            settings={"default": {}, "probe": {"lowest": 0.4, "highest": 3.5}},
            brute_force=_asymmetric,
        ),
        Estimator(
            f=improvement,
            interface=COMPARISON,
            settings=RADIUS,
            brute_force=_improved_return,
        ),
        Estimator(
            f=soft_target,
            interface=JUDGED,
            settings={
                "default": {},
                "softer": {"temperature": 0.3},
                "probe": {"radius": 0.45, "temperature": 2.5},
            },
            brute_force=_soft,
        ),
        Estimator(
            f=regulariser,
            example=lambda rng, size: {"ratio": 1 + 0.29 * rng.uniform(-1, 1, size)},
            edges={
                "on the bounds, and at 1": lambda: {"ratio": xp.array([0.7, 1.0, 1.3])},
                "on other bounds": lambda: {"ratio": xp.array([0.55, 1.45])},
            },
            settings=RADIUS,
            brute_force=_entropy_of_shares,
        ),
        Estimator(
            f=soft_median,
            example=_states,
            edges={
                n: make
                for n, make in STATES.items()
                if n != "one action with most of the mass"
            },
            settings={
                "default": {},
                "probe": {"temperature": 0.3},
                "soft": {"temperature": 2.5},
            },
            brute_force=_median_by_halving,
        ),
        Estimator(
            f=soft_asymmetric_solution,
            example=_states,
            edges=STATES,
            settings={
                "default": {},
                "even": {"lowest": 0.7, "highest": 1.3, "temperature": 0.3},
                "probe": {"lowest": 0.4, "highest": 3.5, "temperature": 0.6},
            },
            brute_force=_soft_by_halving,
        ),
        Objective(
            f=median_value_loss,
            interface=JUDGED,
            wrt="threshold",
            settings={"default": {}, "probe": {"temperature": 0.3}},
            deviations=(TEMPERATURE_ONE,),
        ),
        Objective(
            f=gbpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings=GROUPED,
        ),
        Estimator(
            f=group_target,
            interface=TOKEN_OBJECTIVE,
            settings=GROUPED,
            brute_force=_targets_by_sorting,
        ),
    ),
)
