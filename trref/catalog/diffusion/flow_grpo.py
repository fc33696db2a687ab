"""What is known of `trref.diffusion.flow_grpo`."""

import dataclasses
import math
import statistics

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, Transform
from trref.catalog.diffusion.interfaces import FLOW_POLICY, no_noise
from trref.diffusion.flow_grpo import (
    flow_advantage,
    flow_grpo,
    flow_sde_gain,
    flow_sde_mean,
    flow_sde_std,
    flow_sde_step,
    step_kl,
    step_log_prob,
)

LEVELS = {"default": {}, "probe": {"noise_level": 0.55}}

# ---- derivatives and brute force


def _mean_jvp(x, velocity, u, next_u, tangent, *, noise_level=0.7):
    """A number for each row, so that the vjp is the same."""
    return -flow_sde_gain(u, next_u, noise_level=noise_level)[:, None] * tangent


def _mean_vjp(x, velocity, u, next_u, cotangent, *, noise_level=0.7):
    return _mean_jvp(x, velocity, u, next_u, cotangent, noise_level=noise_level)


def _step_jvp(x, velocity, z, u, next_u, tangent, *, noise_level=0.7):
    return _mean_jvp(x, velocity, u, next_u, tangent, noise_level=noise_level)


def _step_vjp(x, velocity, z, u, next_u, cotangent, *, noise_level=0.7):
    return _mean_jvp(x, velocity, u, next_u, cotangent, noise_level=noise_level)


def _spread(u, next_u, a):
    """The standard deviation a unit of time, and that of the step."""
    seen = next_u if u == 1 else u
    rate = a * math.sqrt(u / (1 - seen))
    return rate, rate * math.sqrt(u - next_u)


def _each_std(u, next_u, *, noise_level=0.7):
    pairs = zip(u.tolist(), next_u.tolist(), strict=True)
    return [_spread(a, b, noise_level)[1] for a, b in pairs]


def _mean(x, v, u, next_u, a):
    """One row by the score of its estimates of the data and of the noise."""
    rate, _ = _spread(u, next_u, a)
    means = []
    for x_d, v_d in zip(x, v, strict=True):
        data = x_d - u * v_d
        score = -(x_d - (1 - u) * data) / u**2
        means.append(x_d - (u - next_u) * (v_d - rate**2 / 2 * score))
    return means


def _each_gain(u, next_u, *, noise_level=0.7):
    """The mean of a step from 0 with the velocity -1."""
    pairs = zip(u.tolist(), next_u.tolist(), strict=True)
    return [_mean([0.0], [-1.0], a, b, noise_level)[0] for a, b in pairs]


def _each_log_prob(x, next_x, velocity, u, next_u, *, noise_level=0.7):
    values = []
    rows = zip(*(a.tolist() for a in (x, next_x, velocity, u, next_u)), strict=True)
    for start, end, v, a, b in rows:
        _, s = _spread(a, b, noise_level)
        normal = [
            math.log(s) + math.log(2 * math.pi) / 2 + (there - mean) ** 2 / (2 * s * s)
            for there, mean in zip(end, _mean(start, v, a, b, noise_level), strict=True)
        ]
        values.append(-statistics.fmean(normal))
    return values


def _each_kl(velocity, ref_velocity, u, next_u, *, noise_level=0.7):
    """Of two Gaussians with means at steps from 0."""
    values = []
    rows = zip(*(a.tolist() for a in (velocity, ref_velocity, u, next_u)), strict=True)
    for v, w, a, b in rows:
        zero, (_, s) = [0.0] * len(v), _spread(a, b, noise_level)
        means = (_mean(zero, y, a, b, noise_level) for y in (v, w))
        apart = sum((p - q) ** 2 for p, q in zip(*means, strict=True))
        values.append(apart / (2 * s * s))
    return values


def _prompt_by_prompt(reward, group, *, largest=5.0):
    reward, group = reward.tolist(), group.tolist()
    result = []
    for r, g in zip(reward, group, strict=True):
        peers = [x for x, other in zip(reward, group, strict=True) if other == g]
        if min(peers) == max(peers):
            result.append(0.0)
        else:
            deviation = statistics.pstdev(peers) + 1e-4
            A = (r - statistics.fmean(peers)) / deviation
            result.append(max(-largest, min(largest, A)))
    return result


# ---- examples


def _rewards(rng, size):
    return {
        "reward": float(rng.choice((1e-3, 1.0, 30.0))) * rng.standard_normal(size),
        "group": rng.integers(0, max(size // 4, 1), size),
    }


def _reward(reward, group=None):
    group = [7] * len(reward) if group is None else group
    return {"reward": xp.array(reward), "group": xp.array(group)}


def _on_the_bounds():
    steps = FLOW_POLICY.edges["far apart"]()
    steps = {**steps, "advantage": xp.array([1.0, 1.0, -1.0, -1.0])}
    seen = {n: steps[n] for n in ("x", "next_x", "velocity", "u", "next_u")}
    ratio = xp.log(xp.array([1.2, 0.8, 1.2, 0.8]))
    return {**steps, "old_log_prob": step_log_prob(**seen) - ratio}


POLICY = dataclasses.replace(
    FLOW_POLICY,
    edges={
        **FLOW_POLICY.edges,
        "on the clip bounds": _on_the_bounds,
        "no reference": lambda: {
            **FLOW_POLICY.edges["far apart"](),
            "ref_velocity": None,
        },
    },
)

# ---- limits


def _of_the_old_policy(inputs):
    """the reference is the policy"""
    return inputs | {"ref_velocity": inputs["velocity"]}


# ---- deviations


def _penalty_of_the_code(
    x,
    next_x,
    velocity,
    old_log_prob,
    advantage,
    u,
    next_u,
    ref_velocity=None,
    *,
    noise_level=0.7,
    clip=1e-4,
    kl_weight=0.04,
):
    L, dL = flow_grpo(
        x,
        next_x,
        velocity,
        old_log_prob,
        advantage,
        u,
        next_u,
        noise_level=noise_level,
        clip=clip,
    )
    if ref_velocity is None:
        return L, dL
    N, D = x.shape
    share = (u - next_u) / D
    K = step_kl(velocity, ref_velocity, u, next_u, noise_level=noise_level)
    scale = (
        share
        * (
            flow_sde_gain(u, next_u, noise_level=noise_level)
            / flow_sde_std(u, next_u, noise_level=noise_level)
        )
        ** 2
    )
    pull = scale[:, None] * (velocity - ref_velocity)
    return L + kl_weight * (share * K).sum() / N, dL + kl_weight * pull / N


def _batch_deviation(reward, group, *, largest=5.0):
    same = (group[:, None] == group).astype(reward.dtype)
    centred = reward - same @ reward / same.sum(1)
    spread = xp.sqrt(((reward - reward.mean()) ** 2).mean()) + 1e-4
    return xp.clip(centred / spread, -largest, largest)


def _substitute_in_both(u, next_u, *, noise_level=0.7):
    seen = xp.where(u == 1, next_u, u)
    # where the step begins at 1 and ends at 0 there is no noise in such code
    seen = xp.maximum(seen, 1e-3)
    return noise_level * xp.sqrt(seen / (1 - seen) * (u - next_u))


PENALTY_OF_THE_CODE = Deviation(
    "the divergence times the step's length, averaged over dimensions",
    _penalty_of_the_code,
    seen_in="yifan123/flow_grpo scripts/train_sd3.py and those that follow it",
    computes="squares of the means' difference averaged over dimensions and divided by 2ς², without δ",
)
BATCH_DEVIATION = Deviation(
    "the deviation of the whole batch",
    _batch_deviation,
    seen_in="yifan123/flow_grpo flow_grpo/stat_tracking.py with global_std=True",
    computes="rewards less the mean of their prompt, divided by the deviation of all rewards",
    documented=True,
)
SUBSTITUTE_IN_BOTH = Deviation(
    "the substitute in numerator and denominator",
    _substitute_in_both,
    seen_in="an early sigma_schedule.py of TeleBoost, whose later version names the difference",
    computes="at the first step ς of the time after the step, in the place of its denominator alone",
)


STEP_TOO_SHORT = {
    "a step that is too short": {"u": 0.5, "next_u": 0.5},
}


METHOD = Method(
    key="liu2025flow",
    provenance={
        "confirmed": ("std", "mean", "gain", "step", "log-prob", "advantage"),
        "partly": ("objective", "kl"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=flow_grpo,
            interface=POLICY,
            wrt="velocity",
            settings={
                "default": {},
                "a wide interval": {"clip": 0.2},
                "no penalty": {"kl_weight": 0.0},
                "probe": {"noise_level": 0.55, "clip": 0.35, "kl_weight": 0.3},
            },
            deviations=(PENALTY_OF_THE_CODE,),
            refused={
                "a step that is too short": {"u": 0.5, "next_u": 0.5},
                "log-probabilities far apart": {
                    "old_log_prob": lambda old_log_prob: old_log_prob - 40
                },
            },
        ),
        Transform(
            f=flow_sde_mean,
            interface=FLOW_POLICY,
            wrt="velocity",
            jvp=_mean_jvp,
            vjp=_mean_vjp,
            settings=LEVELS,
            refused=STEP_TOO_SHORT,
        ),
        Transform(
            f=flow_sde_step,
            interface=FLOW_POLICY,
            wrt="velocity",
            jvp=_step_jvp,
            vjp=_step_vjp,
            settings=LEVELS,
            limits=(Limit("flow_grpo.flow_sde_mean", {}, where=no_noise),),
            refused=STEP_TOO_SHORT,
        ),
        Estimator(
            f=flow_sde_std,
            interface=FLOW_POLICY,
            settings=LEVELS,
            brute_force=_each_std,
            deviations=(SUBSTITUTE_IN_BOTH,),
            refused=STEP_TOO_SHORT,
        ),
        Estimator(
            f=flow_sde_gain,
            interface=FLOW_POLICY,
            settings=LEVELS,
            brute_force=_each_gain,
            refused=STEP_TOO_SHORT,
        ),
        Estimator(
            f=step_log_prob,
            interface=FLOW_POLICY,
            settings=LEVELS,
            brute_force=_each_log_prob,
            refused=STEP_TOO_SHORT,
        ),
        Estimator(
            f=step_kl,
            interface=FLOW_POLICY,
            settings=LEVELS,
            brute_force=_each_kl,
            refused=STEP_TOO_SHORT,
        ),
        Estimator(
            f=flow_advantage,
            example=_rewards,
            edges={
                "equal rewards": lambda: _reward([0.3, 0.3, 0.3]),
                "one sample": lambda: _reward([2.0]),
                "two prompts, one of them constant": lambda: _reward(
                    [1.0, 0.0, 0.5, 0.5, 4.0], [2, 2, 5, 5, 2]
                ),
                "one of forty": lambda: _reward([1.0] + [0.0] * 39),
            },
            settings={"default": {}, "probe": {"largest": 1.3}},
            brute_force=_prompt_by_prompt,
            limits=(
                Limit(
                    "grpo.group_advantage",
                    {"largest": 1e14},
                    {"std": "population", "eps": 1e-4},
                ),
            ),
            deviations=(BATCH_DEVIATION,),
        ),
    ),
)
