"""What is known of `trref.diffusion.grpo_guard`."""

import dataclasses

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.diffusion.interfaces import FLOW_POLICY, flow_steps
from trref.diffusion.flow_grpo import (
    flow_sde_gain,
    flow_sde_mean,
    flow_sde_std,
    step_kl,
    step_log_prob,
)
from trref.diffusion.grpo_guard import grpo_guard, log_ratio_norm, ratio_moments
from trref.policy.ppo import clipped_surrogate

# ---- brute force


def _by_quadrature(velocity, old_velocity, u, next_u, *, noise_level=0.7):
    """Average log-probabilities of steps from 0 over the noise along the move; across it both policies agree."""
    node = xp.linspace(-14.0, 14.0, 561)
    weight = xp.exp(-(node**2) / 2)
    weight = weight / weight.sum()
    moments = []
    for row in range(len(u)):
        many = {
            "x": xp.zeros((len(node), velocity.shape[1])),
            "u": xp.full(len(node), u[row]),
            "next_u": xp.full(len(node), next_u[row]),
            "noise_level": noise_level,
        }
        new, old = (xp.tile(v[row], (len(node), 1)) for v in (velocity, old_velocity))
        times = {n: many[n] for n in ("u", "next_u", "noise_level")}
        away = new[:1] - old[:1]
        length = xp.sqrt((away**2).sum())
        ahead = away / length if length else xp.zeros_like(away)
        mean = flow_sde_mean(velocity=old, **many)
        end = mean + flow_sde_std(**times)[:, None] * node[:, None] * ahead
        log_ratio = step_log_prob(next_x=end, velocity=new, **many) - step_log_prob(
            next_x=end, velocity=old, **many
        )
        average = weight @ log_ratio
        variance = weight @ (log_ratio - average) ** 2
        moments.append((average, xp.sqrt(variance), weight @ xp.exp(log_ratio)))
    return tuple(xp.array(moments).T)


def _by_definition(x, next_x, velocity, old_velocity, u, next_u, *, noise_level=0.7):
    """The difference of log-probabilities, the quadratic term added, times the step's deviation."""
    times = {"u": u, "next_u": next_u, "noise_level": noise_level}
    s = flow_sde_std(**times)
    new, old = (step_log_prob(x, next_x, v, **times) for v in (velocity, old_velocity))
    return s * (new - old + step_kl(velocity, old_velocity, **times) / x.shape[1])


# ---- hard cases


def _on_the_bounds():
    """In one dimension: where the policy must be for given normalised ratios."""
    u, next_u = xp.array([0.6, 0.5, 0.4, 0.3]), xp.array([0.5, 0.4, 0.3, 0.2])
    z, zero = xp.array([[1.0], [-1.0], [0.5], [2.0]]), xp.zeros((4, 1))
    log_ratio = xp.log(xp.array([1.2, 0.8, 1.2, 0.8]))
    gain = flow_sde_gain(u, next_u)
    return flow_steps(
        x=zero + 0.5,
        z=z,
        old_velocity=zero,
        velocity=-(log_ratio / gain)[:, None] / z,
        u=u,
        next_u=next_u,
        advantage=[1, 1, -1, -1],
    )


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


def _moved(rng, size):
    """A policy far enough from the old one that differences of log-probabilities keep their digits."""
    steps = FLOW_POLICY.example(rng, size)
    return {**steps, "velocity": steps["ref_velocity"]}


MOVED = dataclasses.replace(POLICY, example=_moved)


# ---- limits


def _one_step_on_policy(inputs):
    """one step, on-policy"""
    one = {n: a[:1] for n, a in inputs.items() if a is not None and n != "ref_velocity"}
    seen = {n: one[n] for n in ("x", "next_x", "velocity", "u", "next_u")}
    old = {"old_velocity": one["velocity"], "old_log_prob": step_log_prob(**seen)}
    return one | old | {"ref_velocity": None}


def _louder(inputs):
    """times the step's deviation over its length"""
    u, next_u = inputs["u"], inputs["next_u"]
    return float(flow_sde_std(u, next_u)[0] / (u - next_u)[0])


# ---- deviations


def _averaged(
    x,
    next_x,
    velocity,
    old_velocity,
    advantage,
    u,
    next_u,
    ref_velocity=None,
    *,
    noise_level=0.7,
    clip=2e-6,
    kl_weight=0.0,
):
    times = {"u": u, "next_u": next_u, "noise_level": noise_level}
    N, D = x.shape
    root, s, gain = xp.sqrt(u - next_u), flow_sde_std(**times), flow_sde_gain(**times)
    length, both = root.mean(), (s / root).mean() * root.mean()
    z = (next_x - flow_sde_mean(x, old_velocity, **times)) / s[:, None]
    g = -gain[:, None] * (velocity - old_velocity)
    plain = z / s[:, None] - g / (2 * s * s)[:, None] + g / (2 * both**2)
    slope = z / s[:, None] - g / (s * s)[:, None] + g / both**2
    log_ratio = both * (g * plain).mean(1)
    L, d_log_ratio = clipped_surrogate(
        log_ratio, xp.zeros_like(log_ratio), advantage / length**2, clip=clip
    )
    dL = -(d_log_ratio * gain * both / D)[:, None] * slope
    if ref_velocity is not None:
        L = L + kl_weight * step_kl(velocity, ref_velocity, **times).sum() / N
        pull = (gain / s)[:, None] ** 2 * (velocity - ref_velocity)
        dL = dL + kl_weight * pull / N
    return L, dL


def _penalty_of_the_code(
    x,
    next_x,
    velocity,
    old_velocity,
    advantage,
    u,
    next_u,
    ref_velocity=None,
    *,
    noise_level=0.7,
    clip=2e-6,
    kl_weight=0.0,
):
    steps = (x, next_x, velocity, old_velocity, advantage, u, next_u)
    L, dL = grpo_guard(*steps, noise_level=noise_level, clip=clip)
    if ref_velocity is None:
        return L, dL
    N, D = x.shape
    times = {"u": u, "next_u": next_u, "noise_level": noise_level}
    share = (u - next_u) / D
    gain, s = flow_sde_gain(**times), flow_sde_std(**times)
    pull = (share * (gain / s) ** 2)[:, None] * (velocity - ref_velocity)
    K = share * step_kl(velocity, ref_velocity, **times)
    return L + kl_weight * K.sum() / N, dL + kl_weight * pull / N


AVERAGED = Deviation(
    "scales averaged over the minibatch",
    _averaged,
    seen_in="TeleBoost (compute_ratio_norm_bias), and Qwen-Image and Flux trainers that follow Flow-GRPO's script",
    computes="the means over the minibatch of ς and of √δ in the place of each step's: another loss where the steps"
    " of a minibatch are at different times",
)
PENALTY_OF_THE_CODE = Deviation(
    "the divergence times the step's length, averaged over dimensions",
    _penalty_of_the_code,
    seen_in="Qwen-Image and Flux trainers that follow Flow-GRPO's script",
    computes="squares of the means' difference averaged over dimensions and divided by 2ς², without δ",
)


STEP_TOO_SHORT = {
    "a step that is too short": {"u": 0.5, "next_u": 0.5},
}


METHOD = Method(
    key="wang2025grpo",
    provenance={
        "confirmed": ("ratio-norm", "objective"),
        "reconstructed": ("moments", "gradient"),
    },
    functions=(
        Objective(
            f=grpo_guard,
            interface=POLICY,
            wrt="velocity",
            settings={
                "default": {},
                "a wide interval": {"clip": 0.2},
                "with a penalty": {"clip": 1e-3, "kl_weight": 0.04},
                "probe": {"noise_level": 0.55, "clip": 0.35, "kl_weight": 0.3},
            },
            limits=(
                Limit(
                    "flow_grpo.flow_grpo",
                    {},
                    where=_one_step_on_policy,
                    gradient_only=True,
                    factor=_louder,
                ),
            ),
            deviations=(AVERAGED, PENALTY_OF_THE_CODE),
            refused={
                "a step that is too short": {"u": 0.5, "next_u": 0.5},
                "velocities far apart": {"velocity": 1e6},
            },
        ),
        Estimator(
            f=log_ratio_norm,
            interface=MOVED,
            settings={"default": {}, "probe": {"noise_level": 0.55}},
            brute_force=_by_definition,
            refused=STEP_TOO_SHORT,
        ),
        Estimator(
            f=ratio_moments,
            interface=MOVED,
            settings={"default": {}, "probe": {"noise_level": 0.55}},
            brute_force=_by_quadrature,
            refused=STEP_TOO_SHORT,
        ),
    ),
)
