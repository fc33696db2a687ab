"""What is known of `trref.policy.carl`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method
from trref.policy.carl import (
    Penalties,
    additive_reward,
    carl_reward,
    completion,
    route_progress,
    soft_penalties,
)


def _drive(rng, size):
    D, corners = int(rng.integers(2, 4)), int(rng.integers(2, 7))
    route = xp.cumsum(rng.standard_normal((corners, D)), axis=0)
    return {"position": 1.5 * rng.standard_normal((size, D)), "route": route}


def _place(position, route):
    return {"position": xp.array(position), "route": xp.array(route)}


def _nearest(position, route):
    """Segment by segment; of equally near points the first."""
    found, corners = [], route.tolist()
    for x in position.tolist():
        best, done, at = math.inf, 0.0, 0.0
        for a, b in itertools.pairwise(corners):
            length = math.dist(a, b)
            along = (
                sum((p - q) * (r - q) for p, q, r in zip(x, a, b, strict=True)) / length
            )
            along = min(max(along, 0.0), length)
            foot = [q + along / length * (r - q) for q, r in zip(a, b, strict=True)]
            if math.dist(x, foot) < best:
                best, at = math.dist(x, foot), done + along
            done += length
        found.append(at)
    return found


def _way(rng, size):
    steps = float(rng.choice((0.5, 5.0))) * rng.standard_normal(size + 1)
    return {"arc_length": abs(xp.cumsum(steps + 0.3))}


def _newly(arc_length, *, length=100.0):
    s, found, farthest = arc_length.tolist(), [], -math.inf
    for t in range(1, len(s)):
        farthest = max(farthest, s[t - 1])
        found.append(max(0.0, s[t] - farthest) * 100 / length)
    return found


def _ticks(rng, size):
    def some(*shape, share=0.3):
        return (rng.random(shape) < share).astype(float)

    broken = some(size, int(rng.integers(1, 7)), share=0.2)
    return {
        "outside": some(size, share=0.1),
        "distance": rng.exponential(0.8, size),
        "junction": some(size),
        "speed": 12 + 3 * rng.standard_normal(size),
        "limit": xp.full(size, 12.0),
        "collision_course": some(size, share=0.15),
        "discomfort": broken,
    }


def _tick(**changed):
    one = xp.ones(3)
    base = {
        "outside": 0 * one,
        "distance": 0.5 * one,
        "junction": 0 * one,
        "speed": 10 * one,
        "limit": 10 * one,
        "collision_course": 0 * one,
        "discomfort": xp.zeros((3, 6)),
    }
    return base | {name: xp.array(value) for name, value in changed.items()}


TICKS = Interface(
    "ticks",
    example=_ticks,
    edges={
        "nothing wrong": lambda: _tick(),
        "on the edge of the lane, and beyond": lambda: _tick(
            distance=[1.75, 1.74, 9.0]
        ),
        "in the lane's middle": lambda: _tick(distance=[0.0, 0.0, 0.0]),
        "on the limit, and far above": lambda: _tick(speed=[10.0, 12.23, 40.0]),
        "all of comfort broken once": lambda: _tick(
            discomfort=[[1.0] * 6, [0.0] * 6, [0.0] * 6]
        ),
        "on course for a collision at first": lambda: _tick(
            collision_course=[1.0, 0.0, 0.0]
        ),
    },
)


def _penalties_by_loops(
    outside,
    distance,
    junction,
    speed,
    limit,
    collision_course,
    discomfort,
    *,
    lane_width=3.5,
    slack=0.0,
    slope=1.0,
    span=2.23,
    lasting=500,
):
    rows = []
    for t in range(len(speed)):
        recent = slice(max(0, t - lasting + 1), t + 1)
        share = (float(distance[t]) - slack) / (lane_width / 2 - slack)
        share = 0.0 if junction[t] else min(max(share, 0.0), 1.0)
        broken = [bool(discomfort[recent, k].any()) for k in range(discomfort.shape[1])]
        rows.append(
            (
                0.0 if outside[t] else 1.0,
                1 - slope * share,
                max(0.0, 1 - max(float(speed[t] - limit[t]), 0.0) / span),
                0.5 if collision_course[recent].any() else 1.0,
                1 - sum(broken) / len(broken) / 2,
            )
        )
    return Penalties(*xp.array(rows).T)


def _constant_speeding(
    outside,
    distance,
    junction,
    speed,
    limit,
    collision_course,
    discomfort,
    *,
    lane_width=3.5,
    slack=0.0,
    slope=1.0,
    span=2.23,
    lasting=500,
):
    result = soft_penalties(
        outside,
        distance,
        junction,
        speed,
        limit,
        collision_course,
        discomfort,
        lane_width=lane_width,
        slack=slack,
        slope=slope,
        span=span,
        lasting=lasting,
    )
    return result._replace(speed=xp.where(speed > limit, 0.84375, 1.0))


CARLABEV = "CarlaBEV (danielmtzbarba/carlabev-env) CarlaBEV/src/deeprl/carl_reward_fn.py, CaRLRewardFn"
CONSTANT_SPEEDING = Deviation(
    "a constant factor for speeding",
    _constant_speeding,
    seen_in=CARLABEV,
    computes="0.84375 as soon as the limit is exceeded",
)


def _clipped_completion(completed, penalty, crash, ended, *, crash_cost=1.0):
    return carl_reward(
        xp.minimum(completed, 1), penalty, crash, ended, crash_cost=crash_cost
    )


CLIPPED_COMPLETION = Deviation(
    "each tick's completion clipped to 1",
    _clipped_completion,
    seen_in=CARLABEV,
    computes="at most one per cent of the route a tick",
)


def _episode(rng, size):
    K = int(rng.integers(1, 6))
    # an episode of many ticks has few major infractions
    rare = (rng.random((2, size)) < 1.5 / size).astype(float)
    return {
        "completed": rng.exponential(1.0, size),
        "penalty": rng.random((size, K)),
        "crash": rare[0],
        "ended": rare[1],
    }


def _short(crash, ended, penalty=0.5):
    n = len(crash)
    return {
        "completed": xp.linspace(0.5, 2.0, n),
        "penalty": xp.full((n, 2), penalty),
        "crash": xp.array(crash),
        "ended": xp.array(ended),
    }


def _reward_by_ticks(completed, penalty, crash, ended, *, crash_cost=1.0):
    found, over = [], False
    for t in range(len(crash)):
        factor = math.prod(penalty[t].tolist())
        cost = crash_cost if crash[t] else 0.0
        found.append(0.0 if over else float(completed[t]) * factor - cost)
        over = over or bool(crash[t]) or bool(ended[t])
    return found


def _additive_example(rng, size):
    masks = (rng.random((3, size)) < 0.4).astype(float)
    names = ("collision_course", "speeding", "discomfort")
    return {
        "completed": rng.exponential(1.0, size),
        **dict(zip(names, masks, strict=True)),
    }


def _additive_by_ticks(
    completed, collision_course, speeding, discomfort, *, horizon=2000
):
    rows = zip(completed, collision_course, speeding, discomfort, strict=True)
    shares = (5 / 16, 4 / 16, 2 / 16)
    return [
        5 / 16 * float(c)
        + sum(w for w, wrong in zip(shares, wrongs, strict=True) if not wrong)
        * 100
        / horizon
        for c, *wrongs in rows
    ]


METHOD = Method(
    key="jaeger2025carl",
    provenance={
        "partly": ("completion", "penalties", "reward", "additive"),
        "reconstructed": ("progress",),
    },
    functions=(
        Estimator(
            f=route_progress,
            example=_drive,
            edges={
                "on the corners, and beyond the ends": lambda: _place(
                    [[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [-1.0, -1.0], [3.0, 5.0]],
                    [[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]],
                ),
                "equally near to two": lambda: _place(
                    [[1.0, 1.0]], [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]]
                ),
                "one segment": lambda: _place([[0.25, 3.0]], [[0.0, 0.0], [1.0, 0.0]]),
            },
            brute_force=_nearest,
            refused={
                "a point twice in a row": {"route": 0},
            },
        ),
        Estimator(
            f=completion,
            example=_way,
            edges={
                "standing": lambda: {"arc_length": xp.array([2.0, 2.0, 2.0])},
                "back and forth": lambda: {
                    "arc_length": xp.array([0.0, 5.0, 1.0, 5.0, 6.0])
                },
                "one tick": lambda: {"arc_length": xp.array([1.0, 4.0])},
            },
            settings={"default": {}, "probe": {"length": 35.0}},
            brute_force=_newly,
        ),
        Estimator(
            f=soft_penalties,
            interface=TICKS,
            settings={
                "default": {},
                "two ticks": {"lasting": 2},
                "probe": {
                    "lane_width": 3.0,
                    "slack": 0.4,
                    "slope": 0.7,
                    "span": 1.5,
                    "lasting": 3,
                },
            },
            brute_force=_penalties_by_loops,
            deviations=(CONSTANT_SPEEDING,),
        ),
        Estimator(
            f=carl_reward,
            example=_episode,
            edges={
                "a crash in the middle": lambda: _short(
                    [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]
                ),
                "both at once": lambda: _short([1.0, 0.0], [1.0, 0.0]),
                "an end without a crash": lambda: _short(
                    [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]
                ),
                "nothing earned": lambda: _short([0.0, 0.0], [0.0, 0.0], 0.0),
                "one tick": lambda: _short([0.0], [0.0]),
            },
            settings={"default": {}, "probe": {"crash_cost": 2.5}},
            brute_force=_reward_by_ticks,
            deviations=(CLIPPED_COMPLETION,),
        ),
        Estimator(
            f=additive_reward,
            example=_additive_example,
            edges={
                "standing well": lambda: {
                    n: xp.zeros(2)
                    for n in ("completed", "collision_course", "speeding", "discomfort")
                }
            },
            settings={"default": {}, "probe": {"horizon": 300}},
            brute_force=_additive_by_ticks,
        ),
    ),
)
