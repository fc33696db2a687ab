"""What is known of `trref.tokens.copo`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective, call
from trref.catalog.tokens.interfaces import GROUP_REWARD, TOKEN_OBJECTIVE, with_edges
from trref.catalog.tokens.places import OVER_ANSWERS, on_policy
from trref.tokens.copo import (
    consistency_entropy,
    copo,
    global_advantage,
    local_weight,
    prompt_reward,
)


def _members(group):
    return {
        g: [i for i, h in enumerate(group.tolist()) if h == g] for g in group.tolist()
    }


def _reward_by_loops(reward, group):
    R = {
        g: sum(float(reward[i]) for i in rows) / len(rows)
        for g, rows in _members(group).items()
    }
    return [R[g] for g in group.tolist()]


def _global_by_loops(reward, group, *, eps=0.0):
    R = dict(zip(group.tolist(), _reward_by_loops(reward, group), strict=True))
    mean = sum(R.values()) / len(R)
    std = math.sqrt(sum((x - mean) ** 2 for x in R.values()) / len(R))
    return [
        (R[g] - mean) / (std + eps) if std > 1e-12 * max(abs(mean), 1e-300) else 0.0
        for g in group.tolist()
    ]


def _entropy_by_counting(group, answer):
    H = {}
    for g, rows in _members(group).items():
        given = [int(answer[i]) for i in rows]
        shares = [given.count(a) / len(given) for a in set(given)]
        H[g] = -sum(f * math.log(f) for f in shares)
    return [max(H[g], 0.0) for g in group.tolist()]


def _weight_by_sigmoid(group, answer, *, gamma=20.0, threshold=1.5, unit="nats"):
    sizes = {g: len(rows) for g, rows in _members(group).items()}
    result = []
    for g, H in zip(group.tolist(), _entropy_by_counting(group, answer), strict=True):
        result.append(
            1
            / (
                1
                + math.exp(
                    -gamma
                    * (H - threshold * (math.log(sizes[g]) if unit != "nats" else 1))
                )
            )
        )
    return result


def _with_the_global_advantage(inputs):
    """the advantage is the global one"""
    return {**inputs, "advantage": call(global_advantage, inputs)}


def _rewards(reward, group):
    return {"reward": xp.array(reward), "group": xp.array(group)}


def _equal_prompts():
    """Two prompts with one right answer of three: the mean of both is not quite 1/3."""
    reward, old = xp.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), xp.full((6, 2), -1.25)
    return {
        "log_prob": old + xp.array([0.1, -0.1]),
        "old_log_prob": old,
        "advantage": reward - 0.4,
        "mask": xp.ones((6, 2)),
        "group": xp.arange(6) // 3,
        "reward": reward,
        "answer": xp.arange(6) % 2,
    }


def _all_wrong():
    """A prompt with three different wrong answers, whose advantages are not zero, beside one that is right once."""
    old = xp.full((6, 2), -1.25)
    return {
        "log_prob": old + xp.array([0.1, -0.3]),
        "old_log_prob": old,
        "advantage": xp.array([0.5, -0.25, -0.25, 0.0, 0.0, 1.5]),
        "mask": xp.ones((6, 2)),
        "group": xp.arange(6) // 3,
        "reward": xp.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        "answer": xp.arange(6),
    }


SCALES = {
    "prompts equal but for rounding": lambda: _rewards(
        [0.1, 0.2, 0.0, 0.1], [0, 0, 0, 1]
    ),
    "small rewards": lambda: _rewards([3e-20, 0.0, 1e-20], [0, 0, 1]),
}


def _blended(inputs):
    """the policies are equal, and REINFORCE has the blended advantages"""
    ours = on_policy(inputs)
    w, A_global = (
        call(local_weight, ours)[:, None],
        call(global_advantage, ours)[:, None],
    )
    A = ours["advantage"].reshape(len(w), -1) + xp.zeros_like(ours["mask"])
    return ours, {**ours, "advantage": w * A + (1 - w) * A_global}


PROBE = {"gamma": 3.5, "threshold": 0.6, "unit": "log_group"}
WEIGHTS = {
    "default": {},
    "share of the largest entropy": {"threshold": 0.84, "unit": "log_group"},
    "probe": PROBE,
}
METHOD = Method(
    key="han2025copo",
    provenance={
        "partly": ("reward", "global", "entropy", "weight"),
        "reconstructed": ("all-wrong", "objective", "blended"),
    },
    functions=(
        Estimator(
            f=prompt_reward, interface=GROUP_REWARD, brute_force=_reward_by_loops
        ),
        Estimator(
            f=global_advantage,
            interface=with_edges(GROUP_REWARD, *GROUP_REWARD.edges, **SCALES),
            settings={"default": {}, "probe": {"eps": 0.3}},
            brute_force=_global_by_loops,
        ),
        Estimator(
            f=consistency_entropy,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {}},
            brute_force=_entropy_by_counting,
        ),
        Estimator(
            f=local_weight,
            interface=TOKEN_OBJECTIVE,
            settings=WEIGHTS,
            brute_force=_weight_by_sigmoid,
        ),
        Objective(
            f=copo,
            interface=with_edges(
                TOKEN_OBJECTIVE,
                *TOKEN_OBJECTIVE.edges,
                **{"equal prompts": _equal_prompts, "all wrong": _all_wrong},
            ),
            wrt="log_prob",
            settings={
                "default": {},
                "blended advantages": {"blend": "advantages"},
                "global if all wrong": {"global_if_all_wrong": True, "threshold": 0.7},
                "probe": {
                    **PROBE,
                    "clip": 0.35,
                    "eps": 0.3,
                    "blend": "advantages",
                    "global_if_all_wrong": True,
                },
            },
            limits=(
                Limit("grpo.grpo", {"threshold": -1e6}),
                Limit("grpo.grpo", {"threshold": -1e6, "blend": "advantages"}),
                Limit(
                    "grpo.grpo", {"threshold": 1e6}, where=_with_the_global_advantage
                ),
                Limit(
                    "grpo.grpo",
                    {"threshold": 1e6, "blend": "advantages"},
                    where=_with_the_global_advantage,
                ),
                *(
                    Limit(
                        "reinforce.reinforce",
                        {"blend": blend},
                        OVER_ANSWERS,
                        where=_blended,
                        gradient_only=True,
                    )
                    for blend in ("losses", "advantages")
                ),
            ),
        ),
    ),
)
