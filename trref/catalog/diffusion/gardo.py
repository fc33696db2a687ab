"""What is known of `trref.diffusion.gardo`."""

import dataclasses
import math
import statistics

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.diffusion.flow_grpo import POLICY
from trref.catalog.diffusion.interfaces import no_advantage
from trref.diffusion.flow_grpo import flow_sde_std
from trref.diffusion.gardo import (
    gardo,
    gardo_advantage,
    gated_kl,
    nearest_distance,
    reference_resets,
    risk_gate,
    risk_shares,
    uncertainty,
    win_rate,
)

# ---- brute force


def _rank_shares(reward):
    """From average ranks in the sorted list."""
    ordered = sorted(reward.tolist())
    last = max(len(ordered) - 1, 1)
    return [
        statistics.fmean(i for i, other in enumerate(ordered) if other == r) / last
        for r in reward.tolist()
    ]


def _less_the_mean_share(reward, auxiliary):
    own = _rank_shares(reward)
    others = [_rank_shares(row) for row in auxiliary]
    return [
        w - statistics.fmean(each)
        for w, each in zip(own, zip(*others, strict=True), strict=True)
    ]


def _above_the_percentile(risk, *, share=0.1):
    counted = risk[risk >= 0]
    if not len(counted):
        return xp.zeros(len(risk))
    return (risk > xp.percentile(counted, 100 * (1 - share))).astype(float)


def _round_by_round(
    risk, *, start=0.1, rate=0.1, window=20, smallest=0.02, largest=0.2
):
    seen, share, shares = [], start, []
    for value in risk.tolist():
        if seen and value > max(seen):
            share *= 1 + rate
        elif seen and value < min(seen):
            share *= 1 - rate
        share = min(max(share, smallest), largest)
        seen = [*seen, value][-window:]
        shares.append(share)
    return shares


def _unit(row):
    length = math.hypot(*row)
    return [a / length for a in row] if length else row


def _distances(features, group):
    units, group = [_unit(row) for row in features.tolist()], group.tolist()
    result = []
    for i, (own, g) in enumerate(zip(units, group, strict=True)):
        others = [
            math.dist(own, units[j]) ** 2 / 2
            for j in range(len(group))
            if group[j] == g and j != i
        ]
        result.append(min(others) if others else 0.0)
    return result


def _prompt_by_prompt(reward, features, group, *, largest=5.0):
    distance, reward, group = (
        _distances(features, group),
        reward.tolist(),
        group.tolist(),
    )
    result = []
    for r, d, g in zip(reward, distance, group, strict=True):
        peers = [i for i, other in enumerate(group) if other == g]
        rewards = [reward[i] for i in peers]
        centred = r - statistics.fmean(rewards) if min(rewards) < max(rewards) else 0.0
        mean = max(statistics.fmean(distance[i] for i in peers), 1e-6)
        A = centred * (d / mean if centred >= 0 else 1)
        result.append(max(-largest, min(largest, A)))
    return result


def _with_a_clock(divergence, *, threshold=3e-4, patience=15):
    last, resets = -1, []
    for k, value in enumerate(divergence.tolist()):
        resets.append(float(value > threshold or k - last > patience))
        last = k if resets[-1] else last
    return resets


# ---- examples


def _samples(rng, size):
    prompts = max(size // 4, 1)
    shape = (int(rng.integers(1, 4)), size)
    # rewards are often whole numbers, with ties
    reward = (
        rng.integers(0, 5, size) if rng.random() < 0.5 else rng.standard_normal(size)
    )
    auxiliary = reward + float(rng.choice((0.3, 2.0))) * rng.standard_normal(shape)
    return {
        "reward": reward.astype(float),
        "auxiliary": auxiliary,
        "features": rng.standard_normal((size, int(rng.integers(2, 6))))
        * rng.exponential(1.0, (size, 1)),
        "group": rng.integers(0, prompts, size),
        "risk": rng.integers(-4, 5, size) / 4.0
        if rng.random() < 0.5
        else rng.standard_normal(size) / 2,
    }


def _only(*names):
    def example(rng, size):
        samples = _samples(rng, size)
        return {name: samples[name] for name in names}

    return example


def _array(name, *values):
    return {name: xp.array(values)}


def _ranked(reward, auxiliary):
    return {"reward": xp.array(reward), "auxiliary": xp.array(auxiliary)}


def _looks(features, group=None, **more):
    group = [3] * len(features) if group is None else group
    return {
        **{name: xp.array(value) for name, value in more.items()},
        "features": xp.array(features),
        "group": xp.array(group),
    }


LOOKS = {
    "duplicates": [[1.0, 2.0], [2.0, 4.0], [0.0, -1.0]],
    "all the same": [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]],
    "one without features": [[0.0, 0.0], [3.0, 4.0], [0.0, -1e-9]],
    "opposite": [[1.0, 0.0], [-2.0, 0.0], [0.0, 5.0]],
}


def _gated(inputs, gate):
    N = len(inputs["u"])
    ref = inputs["ref_velocity"]
    return {
        **inputs,
        "gate": xp.resize(xp.array(gate), N),
        "ref_velocity": inputs["velocity"] + 0.5 if ref is None else ref,
    }


GATED = dataclasses.replace(
    POLICY,
    example=lambda rng, size: _gated(
        POLICY.example(rng, size), rng.integers(0, 2, size).astype(float)
    ),
    edges={
        **{
            name: lambda make=make: _gated(make(), [1.0, 0.0, 1.0])
            for name, make in POLICY.edges.items()
        },
        "nothing is gated": lambda: _gated(POLICY.edges["far apart"](), [0.0]),
        "all are gated": lambda: _gated(POLICY.edges["far apart"](), [1.0]),
    },
)


# ---- limits


def _nothing_gated(inputs):
    """nothing is gated"""
    return inputs | {"gate": 0 * inputs["gate"]}


# ---- deviations


def _ranks_from_the_best(reward, auxiliary):
    def rank(values):
        place = xp.argsort(-values, kind="stable")
        return 1 + xp.argsort(place, kind="stable").astype(values.dtype)

    others = [rank(row) for row in auxiliary]
    return rank(reward) - sum(others) / len(others)


def _louder_with_noise(
    x,
    next_x,
    velocity,
    old_log_prob,
    advantage,
    gate,
    ref_velocity,
    u,
    next_u,
    *,
    noise_level=0.7,
    clip=1e-5,
    kl_weight=0.04,
):
    rate = flow_sde_std(u, next_u, noise_level=noise_level) / xp.sqrt(u - next_u)
    return gardo(
        x,
        next_x,
        velocity,
        old_log_prob,
        advantage * rate / rate.mean(),
        gate,
        ref_velocity,
        u,
        next_u,
        noise_level=noise_level,
        clip=clip,
        kl_weight=kl_weight,
    )


RANKS_REVERSED = Deviation(
    "ranks from the best",
    _ranks_from_the_best,
    seen_in="tinnerhrhe/GARDO scripts/train_sd3_grpo_gardo.py",
    computes="the proxy's rank less the mean of the auxiliary ones, the best being 1: with the opposite sign, and n - 1"
    " times as large; ties are broken by the order of the samples",
)
LOUDER_WITH_NOISE = Deviation(
    "each step weighed by its noise",
    _louder_with_noise,
    seen_in="tinnerhrhe/GARDO scripts/train_sd3_grpo_gardo.py",
    computes="the surrogate of each step times ς over its mean in the minibatch",
)


METHOD = Method(
    key="he2025gardo",
    provenance={
        "confirmed": ("gate", "controller", "distance", "advantage", "kl", "reset"),
        "partly": ("objective",),
        "reconstructed": ("win-rate", "uncertainty"),
    },
    functions=(
        Objective(
            f=gardo,
            interface=GATED,
            wrt="velocity",
            settings={
                "default": {},
                "a wide interval": {"clip": 0.2},
                "no penalty": {"kl_weight": 0.0},
                "probe": {"noise_level": 0.55, "clip": 0.35, "kl_weight": 0.3},
            },
            limits=(
                Limit(
                    "flow_grpo.flow_grpo",
                    {"kl_weight": 0.0},
                    {"clip": 1e-5, "kl_weight": 0.0},
                ),
                Limit(
                    "flow_grpo.flow_grpo",
                    {},
                    {"clip": 1e-5, "kl_weight": 0.0},
                    where=_nothing_gated,
                ),
                Limit("gardo.gated_kl", {"kl_weight": 1.0}, where=no_advantage),
            ),
            deviations=(LOUDER_WITH_NOISE,),
            refused={
                "a step that is too short": {"u": 0.5, "next_u": 0.5},
                "log-probabilities far apart": {
                    "old_log_prob": lambda old_log_prob: old_log_prob - 40
                },
            },
        ),
        Objective(
            f=gated_kl,
            interface=GATED,
            wrt="velocity",
            settings={"default": {}, "probe": {"noise_level": 0.55}},
            refused={
                "a step that is too short": {"u": 0.5, "next_u": 0.5},
            },
        ),
        Estimator(
            f=gardo_advantage,
            example=_only("reward", "features", "group"),
            edges={
                **{
                    name: lambda rows=rows: _looks(rows, reward=[1.0, 2.0, -1.0])
                    for name, rows in LOOKS.items()
                },
                "equal rewards": lambda: _looks(
                    [[1.0, 0.0], [0.0, 1.0]], reward=[0.1, 0.1]
                ),
                "one sample": lambda: _looks([[1.0, 0.5]], reward=[2.0]),
                "a reward beyond all": lambda: _looks(
                    [[1.0, 0.0], [0.0, 1.0]], reward=[40.0, 0.0]
                ),
            },
            settings={"default": {}, "probe": {"largest": 0.8}},
            brute_force=_prompt_by_prompt,
        ),
        Estimator(
            f=nearest_distance,
            example=_only("features", "group"),
            edges={
                **{
                    name: lambda rows=rows: _looks(rows) for name, rows in LOOKS.items()
                },
                "one of its prompt": lambda: _looks(
                    [[1.0, 0.5], [0.5, 1.0], [2.0, -1.0]], [1, 1, 4]
                ),
            },
            brute_force=_distances,
        ),
        Estimator(
            f=win_rate,
            example=_only("reward"),
            edges={
                "all equal": lambda: _array("reward", 0.5, 0.5, 0.5),
                "one sample": lambda: _array("reward", 2.0),
                "two samples": lambda: _array("reward", 2.0, 1.5),
                "a tie at the top": lambda: _array("reward", 3.0, 1.0, 3.0, -2.0),
            },
            brute_force=_rank_shares,
        ),
        Estimator(
            f=uncertainty,
            example=_only("reward", "auxiliary"),
            edges={
                "one sample is over-rated": lambda: _ranked(
                    [9.0, 1.0, 2.0, 3.0],
                    [[0.0, 1.0, 2.0, 3.0], [-5.0, 1.0, 2.0, 3.0]],
                ),
                "ties": lambda: _ranked([1.0, 1.0, 2.0], [[0.0, 4.0, 4.0]]),
                "one sample": lambda: _ranked([1.0], [[3.0]]),
            },
            brute_force=_less_the_mean_share,
            deviations=(RANKS_REVERSED,),
        ),
        Estimator(
            f=risk_gate,
            example=_only("risk"),
            edges={
                "all equal": lambda: _array("risk", 0.25, 0.25, 0.25),
                "none of at least 0": lambda: _array("risk", -0.5, -0.25),
                "eleven in order": lambda: {"risk": xp.arange(11.0)},
                "one that is 0": lambda: _array("risk", 0.0, -0.5),
            },
            settings={
                "default": {},
                "all": {"share": 1.0},
                "none": {"share": 0.0},
                "probe": {"share": 0.35},
            },
            brute_force=_above_the_percentile,
        ),
        Estimator(
            f=risk_shares,
            example=lambda rng, size: {"risk": abs(rng.standard_normal(size)) / 4},
            edges={
                "rising for ever": lambda: {"risk": xp.linspace(0.1, 0.9, 12)},
                "falling for ever": lambda: {"risk": xp.linspace(0.9, 0.1, 24)},
                "one round": lambda: {"risk": xp.array([0.25])},
                "nothing changes": lambda: {"risk": xp.full(4, 0.25)},
                "the largest leaves the window": lambda: {
                    "risk": xp.array([1.0, *[0.25] * 21, 0.5])
                },
            },
            settings={
                "default": {},
                "probe": {
                    "start": 0.15,
                    "rate": 0.3,
                    "window": 3,
                    "smallest": 0.05,
                    "largest": 0.3,
                },
            },
            brute_force=_round_by_round,
            refused={
                "bounds in the wrong order": {"smallest": 0.2, "largest": 0.1},
            },
        ),
        Estimator(
            f=reference_resets,
            example=lambda rng, size: {
                "divergence": 1e-4 * rng.exponential(float(rng.choice((0.5, 2))), size)
            },
            edges={
                "never above": lambda: {"divergence": xp.zeros(40)},
                "always above": lambda: {"divergence": xp.full(3, 0.5)},
                "one round": lambda: {"divergence": xp.array([0.5])},
                "above once": lambda: {
                    "divergence": xp.array([0.0] * 5 + [1.0] + [0.0] * 17)
                },
            },
            settings={"default": {}, "probe": {"threshold": 1.5e-4, "patience": 4}},
            brute_force=_with_a_clock,
        ),
    ),
)
