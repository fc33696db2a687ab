"""What is known of `trref.optimization.direct_search`."""

import dataclasses
import math
from typing import Any

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method
from trref.optimization.direct_search import (
    Searched,
    covering_steps,
    direct_search,
    poll_directions,
    search_step,
)
from trref.problems.maps import Composed, LinearMap, SquaredDistance


def _steps(rng, size):
    n = int(rng.integers(2, 5))
    return {
        "normal": rng.standard_normal((size, n)),
        "uniform": rng.random(size),
    }


def _one(rng, size):
    return {"normal": rng.standard_normal(size)}


AXES = {
    "along an axis": lambda: {"normal": xp.array([0.0, 3.0, 0.0])},
    "one number": lambda: {"normal": xp.array([-2.0])},
    "all equal": lambda: {"normal": xp.array([1.0, 1.0])},
}


def _reflected(normal, *, radius=1.0, kind="2n"):
    n, square = len(normal), math.fsum(float(v) ** 2 for v in normal)
    columns = []
    for i in range(n):
        e = [float(i == j) for j in range(n)]
        columns.append(
            [e[j] - 2 * float(normal[i]) * float(normal[j]) / square for j in range(n)]
        )
    if kind == "2n":
        rows = columns + [[-v for v in h] for h in columns]
    else:
        rows = [*columns, [-math.fsum(h[j] for h in columns) for j in range(n)]]
    return xp.array([[radius * v / max(map(abs, h)) for v in h] for h in rows])


def _singular(normal, *, radius=1.0, kind="2n"):
    """With the last rows of the matrix 0 from three dimensions on, and zero directions left as they are."""
    n = len(normal)
    if n < 3 or kind == "2n":
        return poll_directions(normal, radius=radius, kind=kind)
    H = _reflected(normal, radius=1.0, kind="2n")[:n]
    H = xp.where(xp.arange(n)[None] < max(2, n - 1), H, 0)
    rows = xp.concatenate([H, -H.sum(0, keepdims=True)])
    largest = abs(rows).max(1, keepdims=True)
    return radius * rows / xp.where(largest > 0, largest, 1)


SINGULAR = Deviation(
    "n + 1 directions from a matrix whose last rows are 0",
    _singular,
    seen_in="PierreYvesBouchet/Optimization-by-Directional-Attacks src/optimization_algorithms/tools, random_rotation",
    computes="directions that do not span from three dimensions on",
)


def _covered(normal, uniform, *, radius=1.0):
    rows = []
    for v, u in zip(normal.tolist(), uniform.tolist(), strict=True):
        length = radius * math.pow(u, 1 / len(v))
        rows.append([length * a / math.hypot(*v) for a in v])
    return xp.array(rows)


def _radius_inside(normal, uniform, *, radius=1.0):
    n = normal.shape[1]
    return covering_steps(normal, uniform, radius=1.0) * radius ** (1 / n)


RADIUS_INSIDE = Deviation(
    "a covering step of length (r U)^(1/n)",
    _radius_inside,
    seen_in="PierreYvesBouchet/Optimization-by-Directional-Attacks src/optimization_algorithms/tools",
    computes="steps that are uniform in a ball of another radius, near 1 in many dimensions",
)


def _farther(normal, *, radius=1.0, searches=0):
    length = radius * math.sqrt(searches + 1)
    return xp.array(
        [length * v / math.hypot(*normal.tolist()) for v in normal.tolist()]
    )


def _walk(rng, size):
    """A distance of linear outputs of many inputs, and a few iterations."""
    n, T = size, int(rng.integers(2, 6))
    network = LinearMap(rng.standard_normal((2, n)) / n**0.5)
    return {
        "value": Composed(network, SquaredDistance(rng.standard_normal(2))),
        "x0": rng.standard_normal(n),
        "covers": rng.standard_normal((T, n)),
        "seeks": rng.standard_normal((T, n)),
        "polls": rng.standard_normal((T, n)),
        "uniforms": rng.random(T),
    }


@dataclasses.dataclass(frozen=True)
class _Walled:
    """No value where the first entry is above a bound."""

    value: Any
    bound: Any

    def __call__(self, x):
        return xp.where(x[0] > self.bound, xp.nan, self.value(x))


def _before_a_wall():
    inputs = _still([0.9, 0.0], [3.0, 0.0], T=6)
    return {**inputs, "value": _Walled(inputs["value"], xp.asarray(1.0))}


def _still(x0, goal, T=4):
    x0 = xp.array(x0)
    n = len(x0)
    angles = xp.arange(3.0 * T * n).reshape(T, 3, n)
    return {
        "value": Composed(LinearMap(xp.eye(n)), SquaredDistance(xp.array(goal))),
        "x0": x0,
        "covers": (xp.cos(angles) + 0.1)[:, 0].copy(),
        "seeks": (xp.cos(angles) + 0.1)[:, 1].copy(),
        "polls": (xp.cos(angles) + 0.1)[:, 2].copy(),
        "uniforms": (xp.arange(T) + 0.5) / T,
    }


def _searched(
    value,
    x0,
    covers,
    seeks,
    polls,
    uniforms,
    *,
    radius=0.1,
    least=1e-5,
    largest=1.0,
    kind="2n",
):
    """All steps of an iteration are listed, and the first that is better is found among them."""
    x, best, r, n = x0, float(value(x0)), radius, len(x0)
    rows = [(x, best, r)]
    for searches, (v, u) in enumerate_searches(covers, seeks, polls, uniforms):
        cover = radius * float(u) ** (1 / n) * v[0] / np.linalg.norm(v[0])
        seek = radius * math.sqrt(searches.count + 1) * v[1] / np.linalg.norm(v[1])
        steps = [cover, seek, *_reflected(v[2], radius=r, kind=kind)]
        better = [k for k, step in enumerate(steps) if float(value(x + step)) > best]
        first = better[0] if better else None
        searches.count += first != 0
        if first is None:
            r = max(r / 2, least)
        else:
            x = x + steps[first]
            best = float(value(x))
            r = r if first == 0 else min(2 * r, largest)
        rows.append((x, best, r))
    points, values, lengths = zip(*rows, strict=True)
    return Searched(np.stack(points), np.array(values), np.array(lengths))


class _Counter:
    count = 0


def enumerate_searches(covers, seeks, polls, uniforms):
    """Each iteration's random numbers, with one counter of searches for all of them."""
    counter = _Counter()
    for *normals, uniform in zip(covers, seeks, polls, uniforms, strict=True):
        yield counter, (normals, uniform)


NO_DIRECTION = {
    "random vectors of length 0": {"normal": 0},
}


METHOD = Method(
    key="bouchet2025optimization",
    provenance={
        "confirmed": ("poll", "search", "radius"),
        "reconstructed": ("householder", "covering"),
    },
    functions=(
        Estimator(
            f=poll_directions,
            example=_one,
            edges=AXES,
            settings={
                "default": {},
                "n + 1": {"kind": "n+1"},
                "probe": {"kind": "n+1", "radius": 0.3},
            },
            deviations=(SINGULAR,),
            brute_force=_reflected,
            refused=NO_DIRECTION,
        ),
        Estimator(
            f=covering_steps,
            example=_steps,
            edges={
                "the centre and the rim": lambda: {
                    "normal": xp.array([[1.0, 2.0], [3.0, -1.0]]),
                    "uniform": xp.array([0.0, 1.0]),
                },
                "one number": lambda: {
                    "normal": xp.array([[-2.0]]),
                    "uniform": xp.array([0.25]),
                },
            },
            settings={"default": {}, "probe": {"radius": 0.3}},
            deviations=(RADIUS_INSIDE,),
            brute_force=_covered,
            refused=NO_DIRECTION,
        ),
        Estimator(
            f=search_step,
            example=_one,
            edges=AXES,
            settings={
                "default": {},
                "later": {"searches": 8},
                "probe": {"radius": 0.3, "searches": 5},
            },
            brute_force=_farther,
            refused=NO_DIRECTION,
        ),
        Estimator(
            f=direct_search,
            interface=Interface("direct", example=_walk),
            edges={
                "at the maximum": lambda: _still([0.5, -0.5], [0.5, -0.5]),
                "one number": lambda: _still([3.0], [0.0]),
                "far away": lambda: _still([30.0, 0.0, -20.0], [0.0, 0.0, 0.0], T=8),
                "before a wall": _before_a_wall,
                "one iteration": lambda: _still([1.0, 1.0], [0.0, 0.0], T=1),
            },
            settings={
                "default": {},
                "n + 1": {"kind": "n+1"},
                "narrow": {"radius": 0.01, "least": 0.008, "largest": 0.012},
                "probe": {
                    "radius": 0.3,
                    "least": 0.01,
                    "largest": 2.5,
                    "kind": "n+1",
                },
            },
            refused={
                "radii in another order": lambda: (
                    _still([1.0], [0.0]),
                    {"radius": 2.0},
                ),
            },
            brute_force=_searched,
        ),
    ),
)
