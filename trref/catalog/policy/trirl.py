"""What is known of `trref.policy.trirl`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Solver,
)
from trref.nn.heads import log_softmax
from trref.policy.trirl import (
    Projected,
    SoftStep,
    Trirl,
    discriminator_loss,
    dual,
    function_space_update,
    gaussian_projection,
    irl_objective,
    reward_correction,
    trirl,
    trust_region_soft_update,
)
from trref.problems.mdp import TabularMDP, occupancy, random_mdp, soft_values
from trref.tokens.troll_projection import project_rows


def _imitation(rng, size):
    A = int(rng.integers(2, 4))
    mdp = random_mdp(rng, states=size, actions=A, gamma=float(rng.choice((0.5, 0.9))))
    soft = soft_values(mdp, 1.5 * rng.standard_normal((size, A)))
    return {
        "reward": float(rng.choice((0.1, 1.0))) * rng.standard_normal((size, A)),
        "expert": occupancy(mdp, xp.exp(soft.log_action_prob)),
        "old_log_prob": log_softmax(rng.standard_normal((size, A))),
        "log_prob": log_softmax(rng.standard_normal((size, A))),
        "log_ratio": rng.standard_normal((size, A)),
        "multiplier": xp.array(float(rng.choice((0.0, 0.7, 12.0)))),
        "mdp": mdp,
    }


def _small(reward, old, multiplier=0.5):
    mdp = TabularMDP(
        xp.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.1, 0.9]]]),
        xp.zeros((2, 2)),
        xp.array([0.75, 0.25]),
        0.8,
    )
    reward, old = xp.array(reward), log_softmax(xp.array(old))
    return {
        "reward": reward,
        "expert": xp.array([[0.2, 0.3], [0.1, 0.4]]),
        "old_log_prob": old,
        "log_prob": old,
        "log_ratio": 0.5 + reward,
        "multiplier": xp.array(multiplier),
        "mdp": mdp,
    }


def _unreached():
    """From the first state every action leads back to it."""
    example = _small([[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.5]])
    there = xp.array([[[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.1, 0.9]]])
    mdp = TabularMDP(there, xp.zeros((2, 2)), xp.array([1.0, 0.0]), 0.8)
    return {
        name: {**example, "mdp": mdp}[name] for name in ("log_prob", "expert", "mdp")
    }


IMITATION = Interface(
    "imitation",
    example=_imitation,
    edges={
        "no reward": lambda: _small(
            [[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.5]], 0.0
        ),
        "a region that does not bind": lambda: _small(
            [[0.2, 0.0], [0.0, 0.1]], [[0.0, 0.0], [0.0, 0.0]]
        ),
        "far outside": lambda: _small(
            [[4.0, 0.0], [0.0, -4.0]], [[0.0, 2.0], [1.0, 0.0]], 30.0
        ),
    },
)


def _soft_policy(mdp, reward):
    """By policies that are evaluated with their entropy, until nothing moves."""
    log_p = xp.full(reward.shape, -math.log(reward.shape[1]))
    for _ in range(40):
        p = xp.exp(log_p)
        onward = xp.eye(len(p)) - mdp.gamma * xp.einsum("sa,sat->st", p, mdp.transition)
        V = xp.linalg.inv(onward) @ (p * (reward - log_p)).sum(1)
        Q = reward + mdp.gamma * mdp.transition @ V
        top = Q.max(1, keepdims=True)
        following = Q - top - xp.log(xp.exp(Q - top).sum(1, keepdims=True))
        if float(abs(following - log_p).max()) < 1e-14:
            break
        log_p = following
    return following


def _flow(mdp, policy):
    """Normalised occupancy."""
    onward = xp.einsum("sa,sat->ts", policy, mdp.transition)
    visits = xp.linalg.inv(xp.eye(len(policy)) - mdp.gamma * onward) @ mdp.start
    return (1 - mdp.gamma) * visits[:, None] * policy


def _region_by_halving(reward, old_log_prob, mdp, *, delta=0.01):
    def step(t):
        log_p = _soft_policy(mdp, t * reward + (1 - t) * old_log_prob)
        return log_p, float((_flow(mdp, xp.exp(log_p)) * (log_p - old_log_prob)).sum())

    low, high = 0.0, 1.0
    if step(1.0)[1] <= delta:
        return SoftStep(step(1.0)[0], 0.0, step(1.0)[1])
    for _ in range(48):
        t = (low + high) / 2
        low, high = (t, high) if step(t)[1] <= delta else (low, t)
    return SoftStep(step(low)[0], 1 / low - 1, step(low)[1])


def _corrected(reward, log_ratio, multiplier, *, share=0.5, beta=2.0):
    whole = reward - share / (1 + float(multiplier)) * (reward - beta * log_ratio)
    return whole


def _without_a_multiplier(inputs):
    """the trust region does not bind"""
    still = {**inputs, "multiplier": xp.zeros_like(inputs["multiplier"])}
    return still, {name: inputs[name] for name in ("reward", "log_ratio")}


def _fits(result, expert, mdp, *, beta=2.0, **_):
    """Whether the dual rose, the policy is not the reward's, or the duals are not the rewards'."""
    best = _soft_policy(mdp, result.reward)
    G = float(dual(result.reward, expert, mdp, beta=beta)[0])
    rises = [b - a for a, b in itertools.pairwise(result.duals)]
    scale = max(1.0, abs(result.duals[0]))
    return {
        "rise of the dual": max(0.0, *rises) / scale,
        "policy that is not the reward's": float(
            abs(xp.exp(best) - xp.exp(result.log_prob)).max()
        ),
        "dual misreported": abs(G - result.duals[-1]) / scale,
        "negative multiplier": max(0.0, -min(result.multipliers)),
    }


def _sampled(rng, size):
    return {
        "log_ratio": float(rng.choice((0.3, 4.0))) * rng.standard_normal(size),
        "expert": (rng.random(size) < 0.5).astype(float),
    }


def _gaussians(rng, size):
    D = int(rng.integers(1, 4))
    spread = float(rng.choice((0.03, 0.5)))
    old_mean, old_log_std = (
        rng.standard_normal((size, D)),
        0.4 * rng.standard_normal((size, D)),
    )
    return {
        "mean": old_mean + spread * rng.standard_normal((size, D)),
        "log_std": old_log_std + spread * rng.standard_normal((size, D)),
        "old_mean": old_mean,
        "old_log_std": old_log_std,
    }


def _gaussian(shift, growth):
    shift, growth = xp.array([shift]), xp.array([growth])
    return {
        "mean": 0.5 + shift,
        "log_std": -0.25 + growth,
        "old_mean": 0.5 + 0 * shift,
        "old_log_std": -0.25 + 0 * growth,
    }


def _projected_by_halving(
    mean, log_std, old_mean, old_log_std, *, mean_radius=0.05, std_radius=0.005
):
    fields = [[], [], [], []]
    for row in range(len(mean)):
        m, s, m0, s0 = (x[row].tolist() for x in (mean, log_std, old_mean, old_log_std))
        far = (
            sum(
                (a - b) ** 2 * math.exp(-2 * c)
                for a, b, c in zip(m, m0, s0, strict=True)
            )
            / 2
        )
        eta = max(math.sqrt(far / mean_radius) - 1, 0.0)

        def spread(t, s=s, s0=s0):
            pairs = zip(s, s0, strict=True)
            return [
                1 / (t * math.exp(-2 * a) + (1 - t) * math.exp(-2 * b))
                for a, b in pairs
            ]

        def away(t, spread=spread, s0=s0):
            ratios = [v * math.exp(-2 * b) for v, b in zip(spread(t), s0, strict=True)]
            return sum(r - 1 - math.log(r) for r in ratios) / 2

        low, high = 0.0, 1.0
        for _ in range(60 if away(1.0) > std_radius else 0):
            t = (low + high) / 2
            low, high = (t, high) if away(t) <= std_radius else (low, t)
        t = 1.0 if away(1.0) <= std_radius else low
        fields[0].append(
            [(a + eta * b) / (1 + eta) for a, b in zip(m, m0, strict=True)]
        )
        fields[1].append([math.log(v) / 2 for v in spread(t)])
        fields[2].append(eta)
        fields[3].append(1 / t - 1)
    return Projected(*map(xp.array, fields))


def _state_by_state(expert, mdp, *, beta=2.0, share=0.5, delta=0.01, steps=20):
    """Each state has a ball of its own, and each state's reward is corrected by the multiplier of its ball."""
    reward = xp.zeros_like(expert)
    log_p = log_softmax(reward)
    duals, multipliers = [float(dual(reward, expert, mdp, beta=beta)[0])], []
    for _ in range(steps):
        log_ratio = xp.log(expert / occupancy(mdp, xp.exp(log_p)))
        proposed = function_space_update(reward, log_ratio, share=share, beta=beta)
        best = soft_values(mdp, proposed).log_action_prob
        log_p, kept = project_rows(best, log_p, delta)  # 1 / (1 + multiplier)
        smaller = share * kept[:, None]
        reward = (1 - smaller) * reward + smaller * beta * log_ratio
        duals.append(float(dual(reward, expert, mdp, beta=beta)[0]))
        multipliers.append(float((1 / kept - 1).max()))
    return Trirl(reward, log_p, duals, multipliers, steps, True)


STATE_BY_STATE = Deviation(
    "a multiplier for each state",
    _state_by_state,
    seen_in="RL-X (anishhdiwan/RL-X) rl_x/algorithms/trirl_dtrl: flax/reward_correction.py without maximum_eta, "
    "pytorch/trirl_dtrl.py with on_demand_etas; here with the projection of a table in the place of Gaussians'",
    computes="a ball around each state's old policy, and a step of the reward that differs from state to state",
    documented=True,
)

BALLS = {"default": {}, "probe": {"mean_radius": 0.2, "std_radius": 0.03}}
METHOD = Method(
    key="diwan2026trust",
    provenance={
        "confirmed": ("discriminator", "update", "region", "correction", "gaussian"),
        "reconstructed": ("dual", "gradient", "primal"),
    },
    functions=(
        Objective(
            f=dual,
            interface=IMITATION,
            wrt="reward",
            sizes=(4, 8),
            settings={"default": {}, "probe": {"beta": 0.7}},
        ),
        Objective(
            f=irl_objective,
            interface=IMITATION,
            edges={"a state that nobody reaches": _unreached},
            wrt="log_prob",
            sizes=(4, 8),
            settings={"default": {}, "probe": {"beta": 0.7}},
        ),
        Objective(
            f=discriminator_loss,
            example=_sampled,
            edges={
                "no idea": lambda: {
                    "log_ratio": xp.zeros(2),
                    "expert": xp.array([1.0, 0.0]),
                },
                "sure, right and wrong": lambda: {
                    "log_ratio": xp.array([20.0, -20.0, 20.0]),
                    "expert": xp.array([1.0, 1.0, 0.0]),
                },
            },
            wrt="log_ratio",
        ),
        Estimator(
            f=function_space_update,
            interface=IMITATION,
            settings={"default": {}, "probe": {"share": 0.3, "beta": 0.7}},
            brute_force=lambda reward, log_ratio, *, share=0.5, beta=2.0: _corrected(
                reward, log_ratio, 0.0, share=share, beta=beta
            ),
        ),
        Estimator(
            f=reward_correction,
            interface=IMITATION,
            settings={"default": {}, "probe": {"share": 0.3, "beta": 0.7}},
            brute_force=_corrected,
            limits=(
                Limit(
                    "trirl.function_space_update",
                    {},
                    where=_without_a_multiplier,
                ),
            ),
        ),
        Estimator(
            f=trust_region_soft_update,
            interface=IMITATION,
            sizes=(4, 8),
            seeds=(0,),
            settings={"default": {}, "probe": {"delta": 0.2}},
            brute_force=_region_by_halving,
            tolerance=1e-9,
        ),
        Estimator(
            f=gaussian_projection,
            example=_gaussians,
            edges={
                "the same": lambda: _gaussian([0.0], [0.0]),
                "narrower by far": lambda: _gaussian([0.0, 1.0], [-2.0, 0.0]),
                "inside": lambda: _gaussian([0.01], [0.01]),
            },
            settings=BALLS,
            brute_force=_projected_by_halving,
            refused={
                "a large log_std": {"log_std": 20.0},
                "a large old_log_std": {"old_log_std": 20.0},
            },
        ),
        Solver(
            f=trirl,
            interface=IMITATION,
            sizes=(4, 6),
            seeds=(0,),
            settings={
                "default": {"steps": 2},
                "probe": {"beta": 0.7, "share": 0.3, "delta": 0.05, "steps": 3},
            },
            certificate=_fits,
            tolerances={
                "rise of the dual": 1e-12,
                "policy that is not the reward's": 1e-7,
                "dual misreported": 1e-12,
                "negative multiplier": 0.0,
            },
            direct=True,  # as many steps as are asked for
            agreement=1e-6,
            deviations=(STATE_BY_STATE,),
        ),
    ),
)
