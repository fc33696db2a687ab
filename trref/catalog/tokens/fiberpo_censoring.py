"""What is known of `trref.tokens.fiberpo_censoring`."""

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.tokens.fiberpo_censoring import apc, penalised_radius, tv_trpo_sample


def _example(rng, size):
    state = rng.integers(0, max(1, size // 4), size)
    spread = float(rng.choice((0.02, 0.2, 0.8)))
    return {
        "ratio": xp.exp(spread * rng.standard_normal(size)),
        "advantage": rng.standard_normal(size),
        "states": state + 3,
    }


def _edge(ratio, advantage, state):
    return {
        "ratio": xp.array(ratio),
        "advantage": xp.array(advantage),
        "states": xp.array(state),
    }


EDGES = {
    "on the budget": lambda: _edge(
        [1.25, 0.75, 1.25, 0.75], [1.0, -1.0, 0.5, -0.5], [0, 0, 0, 0]
    ),
    "rollback": lambda: _edge(
        [1.4, 0.8, 0.9, 1.1], [1.0, -1.0, 0.5, -0.5], [0, 0, 0, 0]
    ),
    "one sample a state": lambda: _edge([1.5, 0.6, 1.1], [1.0, 1.0, -1.0], [4, 2, 7]),
    "switched off": lambda: _edge(
        [3.0, 0.1, 2.5, 0.2], [1.0, -1.0, 0.3, 0.7], [0, 0, 1, 1]
    ),
    "on-policy": lambda: _edge([1.0, 1.0, 1.0], [1.0, -2.0, 1.0], [0, 0, 0]),
    "equal advantages": lambda: _edge([1.1, 0.9, 1.0], [0.5, 0.5, 0.5], [0, 0, 0]),
    "small advantages": lambda: _edge([1.1, 0.9, 1.05], [0.3, -0.2, 0.1], [0, 0, 0]),
    "no advantages": lambda: _edge([1.1, 0.9], [0.0, 0.0], [0, 1]),
    "one sample": lambda: _edge([1.1], [0.4], [0]),
}


def _states(example):
    return {name: example[name] for name in ("advantage", "states")}


def _solution_by_loops(advantage, states, *, radius):
    ratio = [1.0] * len(states)
    for s in set(states.tolist()):
        order = sorted(
            (i for i in range(len(states)) if states[i] == s),
            key=lambda i: float(advantage[i]),
        )
        budget = len(order) * radius / 2
        for i in order[:-1]:
            taken = min(budget, 1.0)
            ratio[i] -= taken
            ratio[order[-1]] += taken
            budget -= taken
    return ratio


def _gain(ratio, advantage, states, *, radius):
    """What the ratios earn, and how far they leave the constraints."""
    violation = -float(min(ratio))
    for s in set(states.tolist()):
        own = ratio[states == s]
        violation = max(violation, abs(float(own.mean()) - 1))
        violation = max(violation, float(abs(own - 1).mean()) - radius)
    return float(ratio @ advantage), violation


def _radius_by_loops(advantage, states, *, discount):
    rows = [
        [float(a) for a, t in zip(advantage, states, strict=True) if t == s]
        for s in set(states.tolist())
    ]
    M = sum((max(row) - min(row)) / 2 for row in rows) / len(rows)
    return (
        (1 - discount)
        * M
        / (8 * discount * (max(abs(float(a)) for a in advantage) or 1.0))
    )


ON_STATES = {
    "example": lambda rng, size: _states(_example(rng, size)),
    "edges": {name: lambda edge=edge: _states(edge()) for name, edge in EDGES.items()},
}


def _fresh(inputs):
    """the ratios are 1, and the samples answers of one token"""
    ones = xp.ones_like(inputs["ratio"])
    answers = {
        "log_prob": 0 * ones[:, None],
        "advantage": inputs["advantage"],
        "mask": ones[:, None],
    }
    return {**inputs, "ratio": ones}, answers


METHOD = Method(
    key="li2026fibration",
    provenance="confirmed",
    functions=(
        Objective(
            f=apc,
            example=_example,
            edges=EDGES,
            wrt="ratio",
            settings={
                "default": {"radius": 0.25},
                "tight": {"radius": 0.03},
                "probe": {"radius": 0.6},
            },
            limits=(
                Limit(
                    "reinforce.reinforce",
                    {"radius": 0.25},
                    where=_fresh,
                    gradient_only=True,
                ),
            ),
        ),
        Estimator(
            f=tv_trpo_sample,
            **ON_STATES,
            settings={"default": {"radius": 0.25}, "probe": {"radius": 1.3}},
            brute_force=_solution_by_loops,
            maximises=_gain,
        ),
        Estimator(
            f=penalised_radius,
            **ON_STATES,
            settings={"default": {"discount": 0.99}, "probe": {"discount": 0.6}},
            brute_force=_radius_by_loops,
        ),
    ),
)
