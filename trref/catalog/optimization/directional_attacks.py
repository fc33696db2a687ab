"""What is known of `trref.optimization.directional_attacks`."""

import dataclasses
import math
from typing import Any

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.catalog.optimization.direct_search import enumerate_searches
from trref.optimization.direct_search import poll_directions
from trref.optimization.directional_attacks import (
    Attacked,
    attack,
    attack_gain,
    centred_outputs,
    hybrid,
    sufficient_increase,
)
from trref.problems.maps import Composed, Directed, LinearMap, Network, SquaredDistance

# ---- attacks


def _example(rng, size):
    D, M = int(rng.integers(2, 5)), int(rng.integers(2, 4))
    theta = rng.standard_normal((D + 1) * 4 + 5 * M)
    network = (LinearMap(rng.standard_normal((M, D))), Network(theta, (D, 4, M)))[
        int(rng.integers(0, 2))
    ]
    return {
        "network": network,
        "x": rng.standard_normal((size, D)),
        "delta": 0.3 * rng.standard_normal((size, D)),
        "inside": rng.random((size, D)),
        "direction": rng.choice((0.1, 3.0)) * rng.standard_normal((size, M)),
    }


def _edge(A, x, direction):
    x = xp.array(x)
    return {
        "network": LinearMap(xp.array(A)),
        "x": x,
        "delta": x[::-1] / 4,
        "inside": xp.clip(abs(x), 0, 1),
        "direction": xp.array(direction),
    }


ATTACKS = Interface(
    "directed_attacks",
    example=_example,
    edges={
        "one of each": lambda: _edge([[-2.0]], [[0.5]], [[1.0]]),
        "no direction": lambda: _edge([[1.0, 2.0]], [[0.5, 0.1]] * 2, [[0.0], [1.0]]),
        "an input that does nothing": lambda: _edge(
            [[1.0, 0.0, -1.0], [0.5, 0.0, 1.0]], [[0.5, 0.1, 0.9]], [[1.0, 0.2]]
        ),
        "all outputs alike": lambda: _edge(
            [[1.0, -2.0], [0.5, 1.0]], [[0.2, 0.3]], [[1.0, 1.0]]
        ),
    },
)


def _climbed(network, x, direction, *, radius=0.1, method="fgsm", steps=10):
    rows = []
    for point, d in zip(x, direction, strict=True):

        def slope(delta, point=point, d=d):
            return network.vjp((point + delta)[None], d[None])[0]

        delta = np.zeros_like(point)
        if method == "fgsm":
            delta = np.array(
                [math.copysign(radius, g) if g else 0.0 for g in slope(delta)]
            )
        elif method == "l2":
            g = slope(delta)
            delta = radius * g / np.linalg.norm(g) if g.any() else 0 * g
        else:
            for _ in range(steps):
                moved = delta + radius / 4 * np.sign(slope(delta))
                delta = np.array([max(-radius, min(radius, float(v))) for v in moved])
        rows.append(delta)
    return np.stack(rows)


def _cross_entropy(network, x, direction, *, radius=0.1, method="fgsm", steps=10):
    lost = direction - direction.mean(1, keepdims=True)
    return attack(network, x, lost, radius=radius, method=method, steps=steps)


CROSS_ENTROPY = Deviation(
    "the direction without its part along the ones",
    _cross_entropy,
    seen_in="PierreYvesBouchet/Optimization-by-Directional-Attacks src/attack_algorithms: a targeted attack with d as "
    "its label, by cross-entropy",
    computes="the attack along d less the mean of its entries, at the outputs 0; with one output none at all",
)


def _at_zero(inputs):
    """the points are 0"""
    x = 0 * inputs["x"]
    score = Directed(inputs["network"], inputs["direction"])
    return {**inputs, "x": x}, {"score_and_grad": score, "x": x, "start": x}


WIDE = {"radius": 0.1, "low": -1e3, "high": 1e3}


def _gained(network, x, delta, direction):
    before, after = network(x), network(x + delta)
    return xp.array(
        [float(d @ (b - a)) for d, a, b in zip(direction, before, after, strict=True)]
    )


def _placed(network, x, inside, *, radius=0.1):
    corner = x - radius
    return network(corner + 2 * radius * inside) - network(x)


def _risen(new, old, *, share=1e-3, floor=1e-6):
    pairs = zip(new.tolist(), old.tolist(), strict=True)
    return xp.array([float((b - a) / max(abs(a), floor) >= share) for b, a in pairs])


def _without_floor(new, old, *, share=1e-3, floor=1e-6):
    return ((new - old) / (abs(old) + 1e-10) >= share).astype(new.dtype)


WITHOUT_FLOOR = Deviation(
    "an increase over |old| + 1e-10",
    _without_floor,
    seen_in="PierreYvesBouchet/Optimization-by-Directional-Attacks src/optimization_algorithms",
    computes="that any increase is enough where the old value is near 0",
)


def _values(rng, size):
    old = rng.choice((0.0, 0.1, 30.0), size) * rng.standard_normal(size)
    return {"new": old + rng.choice((-0.1, 1e-4, 0.5), size), "old": old}


# ---- the hybrid


@dataclasses.dataclass(frozen=True)
class _Below:
    """The first output is at most a bound, and at most ten more, which says nothing."""

    bound: Any

    def __call__(self, y):
        return xp.concatenate([y[:1] - self.bound - 10, y[:1] - self.bound])


def _walk(rng, size):
    """A network of many inputs, and a few iterations."""
    n, T = size, int(rng.integers(2, 6))
    network = Network(rng.standard_normal((n + 1) * 4 + 10) / n**0.5, (n, 4, 2))
    x0 = rng.standard_normal(n)
    bound = network(x0[None])[0, 0] + 0.2
    return {
        "network": network,
        "objective": SquaredDistance(2 * rng.standard_normal(2)),
        "x0": x0,
        "covers": rng.standard_normal((T, n)),
        "seeks": rng.standard_normal((T, n)),
        "polls": rng.standard_normal((T, n)),
        "uniforms": rng.random(T),
        "constraint": _Below(xp.asarray(bound)) if rng.random() < 0.5 else None,
    }


def _still(A, x0, goal, bound=None, T=5):
    x0, A = xp.array(x0), xp.array(A)
    angles = xp.arange(3.0 * T * len(x0)).reshape(T, 3, len(x0))
    return {
        "network": LinearMap(A),
        "objective": SquaredDistance(xp.array(goal)),
        "x0": x0,
        "covers": (xp.cos(angles) + 0.1)[:, 0].copy(),
        "seeks": (xp.cos(angles) + 0.1)[:, 1].copy(),
        "polls": (xp.cos(angles) + 0.1)[:, 2].copy(),
        "uniforms": (xp.arange(T) + 0.5) / T,
        "constraint": None if bound is None else _Below(xp.asarray(bound)),
    }


EDGES = {
    "at the maximum": lambda: _still([[1.0, 0.0], [0.0, 1.0]], [0.5, 1.0], [0.5, 1.0]),
    "at the constraint": lambda: _still(
        [[1.0, 0.0], [0.0, 1.0]], [0.5, 0.0], [3.0, 2.0], 0.5
    ),
    "one number": lambda: _still([[2.0]], [3.0], [0.0], T=8),
    "one iteration": lambda: _still([[1.0, 1.0]], [3.0, 0.0], [1.0], T=1),
}


def _by_parts(
    network,
    objective,
    x0,
    covers,
    seeks,
    polls,
    uniforms,
    constraint=None,
    *,
    parts="hybrid",
    method="fgsm",
    kind="2n",
    radius=0.1,
    least=1e-5,
    largest=1.0,
    share=1e-3,
    floor=1e-6,
):
    def value(x):
        y = network(x[None])[0]
        if constraint is not None and (constraint(y) > 0).any():
            return -math.inf
        return float(objective(y)[0])

    x, n, r, a = x0, len(x0), radius, radius
    rows = [(x, value(x), a, r)]
    for counter, (v, u) in enumerate_searches(covers, seeks, polls, uniforms):
        old, enough = value(x), False
        if parts != "search":
            d = objective(network(x[None])[0])[1]
            step = _climbed(network, x[None], d[None], radius=a, method=method)[0]
            if parts == "random":
                step = a * v[0] / np.linalg.norm(v[0])
            new = value(x + step)
            enough = new - old >= share * max(abs(old), floor)
            factor = 1.3 if enough else 1.1 if new > old else 1 / 1.3
            a = min(max(a * factor, least), largest)
            x = x + step if new > old else x
        if parts in ("hybrid", "search") and not enough:
            steps = [
                radius * float(u) ** (1 / n) * v[0] / np.linalg.norm(v[0]),
                radius * math.sqrt(counter.count + 1) * v[1] / np.linalg.norm(v[1]),
                *poll_directions(v[2], radius=r, kind=kind),
            ]
            better = [k for k, s in enumerate(steps) if value(x + s) > value(x)]
            first = better[0] if better else None
            counter.count += first != 0
            x = x if first is None else x + steps[first]
            r = (
                max(r / 2, least)
                if first is None
                else r
                if first == 0
                else min(2 * r, largest)
            )
        rows.append((x, value(x), a, r))
    points, *numbers = zip(*rows, strict=True)
    return Attacked(np.stack(points), *map(np.array, numbers))


def _no_constraint(inputs):
    """nothing is forbidden"""
    value = Composed(inputs["network"], inputs["objective"])
    return {**inputs, "constraint": None}, {**inputs, "value": value}


METHOD = Method(
    key="bouchet2025optimization",
    provenance="confirmed",
    functions=(
        Estimator(
            f=attack,
            interface=ATTACKS,
            settings={
                "default": {},
                "pgd": {"method": "pgd"},
                "l2": {"method": "l2"},
                "probe": {"method": "pgd", "radius": 0.7, "steps": 3},
            },
            limits=(
                Limit("pgd.fgsm", {}, WIDE, where=_at_zero),
                Limit(
                    "pgd.pgd",
                    {"method": "pgd"},
                    {**WIDE, "lr": 0.025, "steps": 10},
                    where=_at_zero,
                ),
            ),
            deviations=(CROSS_ENTROPY,),
            brute_force=_climbed,
        ),
        Estimator(f=attack_gain, interface=ATTACKS, brute_force=_gained),
        Estimator(
            f=centred_outputs,
            interface=ATTACKS,
            settings={"default": {}, "probe": {"radius": 0.7}},
            brute_force=_placed,
        ),
        Estimator(
            f=sufficient_increase,
            example=_values,
            edges={
                "from 0": lambda: {
                    "new": xp.array([1e-12, 1e-6, 0.0, -1.0]),
                    "old": xp.zeros(4),
                },
                "one": lambda: {"new": xp.array([-0.5]), "old": xp.array([-1.0])},
            },
            settings={"default": {}, "probe": {"share": 0.3, "floor": 0.02}},
            deviations=(WITHOUT_FLOOR,),
            brute_force=_risen,
        ),
        Estimator(
            f=hybrid,
            interface=Interface("attacked", example=_walk, edges=EDGES),
            settings={
                "default": {},
                "attack": {"parts": "attack"},
                "attack by pgd": {"parts": "attack", "method": "pgd"},
                "search": {"parts": "search"},
                "random": {"parts": "random"},
                "hybrid by l2": {"method": "l2", "kind": "n+1"},
                "much is asked for": {"share": 0.4, "radius": 0.3},
                "narrow": {"radius": 0.01, "least": 0.009, "largest": 0.012},
                "probe": {
                    "parts": "attack",
                    "method": "pgd",
                    "kind": "n+1",
                    "radius": 0.3,
                    "least": 0.02,
                    "largest": 0.5,
                    "share": 0.03,
                    "floor": 0.2,
                },
            },
            limits=(
                Limit(
                    "direct_search.direct_search",
                    {"parts": "search"},
                    where=_no_constraint,
                    part="points",
                ),
            ),
            refused={
                "a start that is not allowed": lambda: (
                    _still([[1.0]], [3.0], [0.0], 0.5),
                    {},
                )
            },
            brute_force=_by_parts,
        ),
    ),
)
