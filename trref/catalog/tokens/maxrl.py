"""What is known of `trref.tokens.maxrl`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.tokens.maxrl import maxrl_advantage, maxrl_weight, truncated_weight
from trref.tokens.terms import group_mean


def _closed_form(p, *, order):
    found = []
    for x in p.tolist():
        missed = math.expm1(order * math.log1p(-x)) if x < 1 else -1.0
        found.append(-missed / x if x > 0 else float(order))
    return found


def _mean(i, reward, group):
    inside = [float(r) for r, g in zip(reward, group, strict=True) if g == group[i]]
    return sum(inside) / len(inside)


def _weights_by_loops(reward, group):
    means = [_mean(i, reward, group) for i in range(len(reward))]
    return [float(r) / m if m else 0.0 for r, m in zip(reward, means, strict=True)]


def _advantages_by_loops(reward, group, *, eps=0.0):
    means = [_mean(i, reward, group) for i in range(len(reward))]
    return [
        (float(r) - m) / (m + eps) if m else 0.0
        for r, m in zip(reward, means, strict=True)
    ]


def group_of_one_a_million(reward, group, *, eps=0.0):
    count = group_mean(reward, group)[1]
    ours = maxrl_advantage.unchecked(reward, group, eps=eps)
    return xp.where(count == 1, reward / 1e-6, ours)


def group_of_one_raw(reward, group, *, eps=0.0):
    count = group_mean(reward, group)[1]
    ours = maxrl_advantage.unchecked(reward, group, eps=eps)
    return xp.where(count == 1, reward, ours)


GROUP_OF_ONE_A_MILLION = Deviation(
    "a single right answer gets a million",
    group_of_one_a_million,
    seen_in="tajwarfahim/maxrl verl/trainer/ppo/core_algos.py, compute_maxrl_outcome_advantage",
    computes="for a group of one the reward over a mean of 0 plus 1e-6",
)
GROUP_OF_ONE_RAW = Deviation(
    "a group of one keeps its raw reward",
    group_of_one_raw,
    seen_in="SkyRL, August 2026, ppo_utils.py, its estimator maxrl",
    computes="for a group of one the reward in the place of 0",
)


def half_of_four(inputs):
    """two of four answers to each prompt are right"""
    four = xp.arange(4 * max(len(inputs["reward"]) // 4, 1))
    return {"reward": (four % 2).astype(inputs["reward"].dtype), "group": four // 4}


METHOD = Method(
    key="tajwar2026maximum",
    provenance="confirmed",
    functions=(
        Estimator(
            f=truncated_weight,
            example=lambda rng, size: {"p": rng.random(size) ** rng.choice((1, 4))},
            edges={
                "hopeless, certain and in between": lambda: {
                    "p": xp.array([0.0, 1.0, 0.5, 1e-9, 1 - 1e-9])
                },
                "one prompt": lambda: {"p": xp.array([0.25])},
            },
            settings={
                "default": {"order": 8},
                "reinforcement learning": {"order": 1},
                "probe": {"order": 3},
            },
            brute_force=_closed_form,
        ),
        Estimator(
            f=maxrl_weight, interface=TOKEN_OBJECTIVE, brute_force=_weights_by_loops
        ),
        Estimator(
            f=maxrl_advantage,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {},
                "the authors'": {"eps": 1e-6},
                "probe": {"eps": 0.3},
            },
            limits=(
                Limit(
                    "grpo.group_advantage",
                    {},
                    {"std": "population"},
                    where=half_of_four,
                ),
                Limit("dr_grpo.centred_advantage", {}, where=half_of_four, factor=2.0),
            ),
            deviations=(GROUP_OF_ONE_A_MILLION, GROUP_OF_ONE_RAW),
            brute_force=_advantages_by_loops,
        ),
    ),
)
