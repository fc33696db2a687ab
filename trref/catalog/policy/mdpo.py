"""What is known of `trref.policy.mdpo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.nn.heads import GaussianGradient
from trref.policy.mdpo import (
    gaussian_objective,
    mdpo_objective,
    mirror_step,
    off_policy_loss,
    off_policy_solution,
    schedule,
    value_target,
)
from trref.problems.rewards import QuadraticReward


def _categorical(rng, size):
    K = int(rng.integers(2, 6))
    old = float(rng.choice((0.1, 1.5))) * rng.standard_normal((size, K))
    spread = float(rng.choice((0.05, 0.4, 1.5)))
    return {
        "logits": old + spread * rng.standard_normal((size, K)),
        "old_logits": old,
        "actions": rng.integers(0, K, size),
        "advantage": rng.standard_normal(size),
    }


def _choice(logits, old_logits, advantage):
    return {
        "logits": xp.array(logits, dtype=float),
        "old_logits": xp.array(old_logits, dtype=float),
        "actions": xp.zeros(len(logits), dtype=int),
        "advantage": xp.array(advantage, dtype=float),
    }


CATEGORICAL = Interface(
    "categorical_surrogate",
    example=_categorical,
    edges={
        "on-policy": lambda: _choice([[0.5, -1.0]] * 2, [[0.5, -1.0]] * 2, [1, -2]),
        "no advantages": lambda: _choice([[0.5, -1.0]], [[0.5, -1.0]], [0]),
        "all but deterministic": lambda: _choice([[5.0, 0.0]], [[-3.0, 0.0]], [1]),
    },
)
"""``f(logits (N K), old_logits (N K), actions (N), advantage (N), *, …) -> (loss, d loss / d logits)``."""


def _gaussian(rng, size):
    D = int(rng.integers(1, 4))
    old_mean, old_log_std = (
        rng.standard_normal((size, D)),
        0.3 * rng.standard_normal((size, D)),
    )
    spread = float(rng.choice((0.05, 0.4)))
    noise = rng.standard_normal((size, D))
    return {
        "mean": old_mean + spread * rng.standard_normal((size, D)),
        "log_std": old_log_std + spread * rng.standard_normal((size, D)),
        "old_mean": old_mean,
        "old_log_std": old_log_std,
        "actions": old_mean + xp.exp(old_log_std) * noise,
        "advantage": rng.standard_normal(size),
        "noise": rng.standard_normal((size, D)),
        "critic": QuadraticReward(xp.linspace(-1.0, 0.5, D), 0.7),
    }


def _one_gaussian(shift, log_std):
    """One dimension; the new mean is off by `shift`."""
    shift, log_std = xp.array(shift)[:, None], xp.array(log_std)[:, None]
    sign = xp.array([[1.0], [-1.0]])[: len(shift)]
    return {
        "mean": 0.5 + shift,
        "log_std": log_std,
        "old_mean": 0.5 + 0 * shift,
        "old_log_std": 0 * log_std,
        "actions": 0.5 + sign,
        "advantage": sign[:, 0],
        "noise": 0.75 * sign,
        "critic": QuadraticReward(xp.array([0.25]), 2.0),
    }


GAUSSIAN = Interface(
    "gaussian_surrogate",
    example=_gaussian,
    edges={
        "on-policy": lambda: _one_gaussian([0.0, 0.0], [0.0, 0.0]),
        "narrow": lambda: _one_gaussian([1.0, -1.0], [-1.5, -1.0]),
        "one sample": lambda: _one_gaussian([0.5], [0.25]),
    },
)


def _states(rng, size):
    K = int(rng.integers(2, 6))
    return {
        "old_logits": float(rng.choice((0.3, 1.5))) * rng.standard_normal((size, K)),
        "advantage": float(rng.choice((0.1, 1.0, 9.0)))
        * rng.standard_normal((size, K)),
    }


def _of_q(make):
    def states(*arguments):
        inputs = make(*arguments)
        return {"old_logits": inputs["old_logits"], "q_value": inputs["advantage"]}

    return states


STATES = {
    "no advantages": lambda: {
        "old_logits": xp.array([[0.5, -1.0, 2.0]]),
        "advantage": xp.zeros((1, 3)),
    },
    "one action": lambda: {
        "old_logits": xp.array([[0.5], [1.0]]),
        "advantage": xp.array([[1.0], [-3.0]]),
    },
}


def _judged(rng, size):
    M = int(rng.integers(1, 4))
    return {
        "q_value": 3 * rng.standard_normal((M, size)),
        "log_prob": 1.5 * rng.standard_normal(size),
    }


def _smallest_by_loops(q_value, log_prob, *, temperature=0.2):
    columns = zip(q_value.T.tolist(), log_prob.tolist(), strict=True)
    return [sorted(column)[0] - temperature * log_p for column, log_p in columns]


def _weighted(logits, exponent, value, rate):
    """Rows proportional to a power of probabilities times an exponential, by sums."""
    rows = []
    for z, v in zip(logits.tolist(), value.tolist(), strict=True):
        score = [exponent * a + rate * b for a, b in zip(z, v, strict=True)]
        top = max(score)
        total = top + math.log(sum(math.exp(x - top) for x in score))
        rows.append([x - total for x in score])
    return rows


def _shifted(step, *, steps=1000):
    return 1 - (step - 1) / steps


def _penalised_outputs(
    mean,
    log_std,
    old_mean,
    old_log_std,
    noise,
    critic,
    *,
    kl_weight=1.0,
    temperature=0.2,
):
    L, slope = off_policy_loss(
        mean,
        log_std,
        old_mean,
        old_log_std,
        noise,
        critic,
        kl_weight=kl_weight,
        temperature=temperature,
    )
    more = 1e-3 * ((mean**2).mean() + (log_std**2).mean())
    d = 2e-3 / mean.size
    return L + more, GaussianGradient(
        slope.mean + d * mean, slope.log_std + d * log_std
    )


SHIFTED = Deviation(
    "a schedule that is one ahead",
    _shifted,
    seen_in="Mirror-Descent-Policy-Optimization (manantomar) mdpo_on/mdpo.py",
    computes="1 - (k - 1)/K with k from 0",
)
PENALISED_OUTPUTS = Deviation(
    "penalties on mean and log standard deviation",
    _penalised_outputs,
    seen_in="Mirror-Descent-Policy-Optimization (manantomar) mdpo_off/mdpo.py, after Stable-Baselines' SAC",
    computes="10⁻³ times the mean squares of both are added",
)


def _as_a_mirror_step(inputs):
    """the advantage is Q"""
    q = inputs["q_value"]
    return inputs, {"old_logits": inputs["old_logits"], "advantage": q}


LENGTH = {"default": {}, "probe": {"lr": 0.35}, "long": {"lr": 4.0}}
METHOD = Method(
    key="tomar2020mirror",
    provenance={
        "confirmed": ("objective", "off-policy", "value-target"),
        "partly": ("schedule",),
        "reconstructed": (
            "exact",
            "gradient",
            "gaussian",
            "off-policy-gradient",
            "off-policy-exact",
        ),
    },
    functions=(
        Objective(
            f=mdpo_objective,
            interface=CATEGORICAL,
            wrt="logits",
            settings=LENGTH,
            limits=(
                Limit(
                    "ppo_penalty.kl_penalty_objective",
                    {"lr": 1e14},
                    {"kl_weight": 0.0},
                ),
            ),
            refused={
                "an action that there is not": {"actions": 99},
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
            },
        ),
        Objective(
            f=gaussian_objective,
            interface=GAUSSIAN,
            wrt=("mean", "log_std"),
            settings=LENGTH,
            refused={
                "log-probabilities far apart": {"mean": 1e4},
            },
        ),
        Objective(
            f=off_policy_loss,
            interface=GAUSSIAN,
            wrt=("mean", "log_std"),
            settings={
                "default": {},
                "SAC": {"temperature": 1.0},
                "no entropy": {"temperature": 0.0},
                "probe": {"kl_weight": 0.6, "temperature": 0.35},
            },
            deviations=(PENALISED_OUTPUTS,),
            refused={
                "a large log_std": {"log_std": 20.0},
                "a large old_log_std": {"old_log_std": 20.0},
            },
        ),
        Estimator(
            f=mirror_step,
            example=_states,
            edges=STATES,
            settings=LENGTH,
            brute_force=lambda old_logits, advantage, *, lr=1.0: _weighted(
                old_logits, 1.0, advantage, lr
            ),
        ),
        Estimator(
            f=off_policy_solution,
            example=_of_q(_states),
            edges={n: _of_q(make) for n, make in STATES.items()},
            settings={
                "default": {},
                "SAC": {"temperature": 1.0},
                "probe": {"kl_weight": 0.6, "temperature": 0.35},
            },
            brute_force=lambda old_logits, q_value, *, kl_weight=1.0, temperature=0.2: (
                _weighted(
                    old_logits, 1 - temperature / kl_weight, q_value, 1 / kl_weight
                )
            ),
            limits=(
                Limit(
                    "mdpo.mirror_step",
                    {"kl_weight": 2.0, "temperature": 0.0},
                    {"lr": 0.5},
                    where=_as_a_mirror_step,
                ),
            ),
        ),
        Estimator(
            f=value_target,
            example=_judged,
            edges={
                "equal critics": lambda: {
                    "q_value": xp.array([[1.0, -2.0], [1.0, -2.0]]),
                    "log_prob": xp.array([-0.5, 1.5]),
                },
                "one critic, one state": lambda: {
                    "q_value": xp.array([[0.5]]),
                    "log_prob": xp.array([-2.0]),
                },
            },
            settings={
                "default": {},
                "no entropy": {"temperature": 0.0},
                "probe": {"temperature": 0.35},
            },
            brute_force=_smallest_by_loops,
        ),
        Estimator(
            f=schedule,
            example=lambda rng, size: {
                "step": rng.integers(0, 100, size).astype(float)
            },
            edges={"the first and the last": lambda: {"step": xp.array([0.0, 100.0])}},
            settings={"default": {}, "probe": {"steps": 120}},
            brute_force=lambda step, *, steps=1000: [
                (steps - k) / steps for k in step.tolist()
            ],
            deviations=(SHIFTED,),
        ),
    ),
)
