"""What is known of `trref.distillation.trapo`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import weighted
from trref.distillation.trapo import (
    population_loss,
    prefix_ratio,
    trapo,
    trsft_optimum,
    trust_region_sft,
)
from trref.tokens.terms import token_mean, token_weights


def _with_a_prefix(make):
    """The first tokens are the expert's, all or half of them supervised."""

    def batch(*arguments):
        tokens = make(*arguments)
        B, T = tokens["mask"].shape
        row, column = xp.arange(B)[:, None], xp.arange(T)[None, :]
        prefix = (column < row % 3).astype(float)
        return tokens | {"prefix": prefix, "supervised": prefix * ((row + column) % 2)}

    return batch


def _on_alpha():
    """Probabilities of exactly 1/8, and around it, on tokens of the expert and others."""
    p = xp.log(xp.array([[0.125, 0.05, 0.9]] * 2))
    one = xp.ones((2, 3))
    return {
        "log_prob": p,
        "old_log_prob": p - 0.1,
        "advantage": xp.array([1.0, -0.5]),
        "mask": one,
        "prefix": one * xp.array([[1.0], [0.0]]),
        "supervised": one,
    }


GUIDED = dataclasses.replace(
    TOKEN_OBJECTIVE,
    name="token_objective with a prefix",
    example=_with_a_prefix(TOKEN_OBJECTIVE.example),
    edges={
        **{n: _with_a_prefix(make) for n, make in TOKEN_OBJECTIVE.edges.items()},
        "around alpha": _on_alpha,
    },
)


def _surrogate_sft(log_prob, mask, *, alpha=0.1):
    p = xp.exp(log_prob)
    share = p / xp.maximum(p, alpha)
    return weighted(token_mean(mask), share, share)


def _surrogate(
    log_prob,
    old_log_prob,
    advantage,
    prefix,
    supervised,
    mask,
    *,
    max_length,
    alpha=0.1,
    clip=None,
):
    w = token_weights(mask, "constant", max_length=max_length)
    none = xp.zeros_like(prefix)
    p = xp.exp(log_prob)
    share = w * prefix * supervised * p / xp.maximum(p, alpha)
    _, gradient = trapo(
        log_prob,
        old_log_prob,
        advantage,
        prefix,
        supervised,
        mask,
        max_length=max_length,
        alpha=alpha,
        clip=clip,
    )
    own, _ = trapo(
        log_prob,
        old_log_prob,
        advantage,
        prefix,
        none,
        mask,
        max_length=max_length,
        clip=clip,
    )
    return own - share.sum(), gradient


def _whole_counts(reward, *, ratio=0.2, threshold=0.5):
    total = reward.sum(1)
    return ratio * (total < math.floor(threshold * reward.shape[1])).astype(float)


def _quarters(reward, *, ratio=0.2, threshold=0.5):
    shown = prefix_ratio(reward, ratio=ratio, threshold=threshold)
    return shown * (1.25 if ratio == 0.2 else 1.0)


SURROGATE_SFT, SURROGATE = (
    Deviation(
        "the surrogate's value",
        f,
        seen_in="TRAPO (Su-my/TRAPO) trapo_src/mix_core_alg.py",
        computes="the same gradient, and the value -1 on every token inside the region",
    )
    for f in (_surrogate_sft, _surrogate)
)
SUM_TRIGGER = Deviation(
    "a sum below a whole number",
    _whole_counts,
    seen_in="TRAPO (Su-my/TRAPO) trapo_src/mix_vllm_rollout.py, of the third group: the sum of six rewards below 4",
    computes="the threshold times the number of answers, rounded down, which a sum may equal and be below it",
)
QUARTERS = Deviation(
    "a first prefix of a quarter",
    _quarters,
    seen_in="TRAPO (Su-my/TRAPO) exp_scripts/train_trapo.sh",
    computes="a ratio of 0.25 where the paper has 0.2",
)


def _every_advantage_one(inputs):
    """every advantage is 1"""
    return {**inputs, "advantage": xp.ones(len(inputs["log_prob"]))}


def _without_a_prefix(inputs):
    """no token is the expert's"""
    return {**inputs, "prefix": xp.zeros_like(inputs["mask"])}


def _laws(rng, size):
    V = int(rng.integers(2, 8))
    e = rng.dirichlet(xp.ones(V) * float(rng.choice((0.3, 1.0, 5.0))), size)
    return {
        "logits": float(rng.choice((0.5, 3.0))) * rng.standard_normal((size, V)),
        "expert": e,
    }


def _law(expert):
    e = xp.array(expert)
    return {
        "logits": 0.5 * xp.cos(xp.arange(e.size) ** 2).reshape(e.shape),
        "expert": e,
    }


LAWS = {
    "equal modes": lambda: _law([[0.25] * 4, [0.4, 0.4, 0.1, 0.1]]),
    "certain": lambda: _law([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "one token to choose from": lambda: _law([[1.0], [1.0]]),
    "one on the edge": lambda: _law([[0.5, 0.25, 0.25], [0.7, 0.2, 0.1]]),
    "a long tail": lambda: _law([[0.55, 0.35, *[0.02] * 5]]),
    "a student near certain": lambda: {
        "logits": xp.array([[4.0, 0.0, -1.0]]),
        "expert": xp.array([[0.2, 0.5, 0.3]]),
    },
}


def _optimum_by_trying(expert, *, alpha=0.1):
    """Keep more and more of the modes, until the multiplier fits."""
    rows = []
    for e in expert.tolist():
        order = sorted(range(len(e)), key=lambda y: -e[y])
        q, held = [0.0] * len(e), 0.0
        for k, y in enumerate(order):
            if held and e[y] <= alpha * held:  # it and all others are dropped
                scale, filling = held, 0.0
                break
            if e[y] < alpha * (held + e[y]):  # it fills what the others leave
                scale = e[y] / alpha
                filling = 1 - held / scale
                break
            held, scale, filling, k = held + e[y], held + e[y], 0.0, k + 1
        for kept in order[:k]:
            q[kept] = e[kept] / scale
        if k < len(e):
            q[order[k]] = filling
        rows.append(q)
    return xp.array(rows)


def _ratio_by_counting(reward, *, ratio=0.2, threshold=0.5):
    return [ratio if sum(r) / len(r) < threshold else 0.0 for r in reward.tolist()]


ALPHA = {
    "default": {},
    "supervised": {"alpha": 0.0},
    "greedy": {"alpha": 1.0},
    "probe": {"alpha": 0.35},
    "an eighth": {"alpha": 0.125},
}
METHOD = Method(
    key="su2025adaptive",
    provenance={
        "confirmed": ("weight", "sft", "objective", "gradient", "schedule"),
        "partly": ("optimum",),
        "reconstructed": ("potential", "population"),
    },
    functions=(
        Objective(
            f=trapo,
            interface=GUIDED,
            wrt="log_prob",
            settings={
                "default": {"max_length": 6.5},
                "plain imitation": {"max_length": 6.5, "alpha": 0.0},
                "an eighth": {"max_length": 6.5, "alpha": 0.125},
                "probe": {"max_length": 12.5, "alpha": 0.35, "clip": 0.3},
            },
            limits=(
                Limit(
                    "dr_grpo.dr_grpo",
                    {"clip": 0.2, "max_length": 6.5},
                    {"max_length": 6.5},
                    where=_without_a_prefix,
                ),
            ),
            deviations=(SURROGATE,),
        ),
        Objective(
            f=trust_region_sft,
            interface=GUIDED,
            wrt="log_prob",
            settings=ALPHA,
            limits=(
                Limit("psft.sft", {"alpha": 0.0}),
                Limit(
                    "reinforce.reinforce",
                    {"alpha": 0.0},
                    {"aggregation": "token_mean"},
                    where=_every_advantage_one,
                ),
            ),
            deviations=(SURROGATE_SFT,),
        ),
        Objective(
            f=population_loss,
            example=_laws,
            edges={
                n: make for n, make in LAWS.items() if n != "one token to choose from"
            },
            wrt="logits",
            settings=ALPHA,
        ),
        Estimator(
            f=trsft_optimum,
            example=lambda rng, size: {"expert": _laws(rng, size)["expert"]},
            edges={
                n: lambda make=make: {"expert": make()["expert"]}
                for n, make in LAWS.items()
            },
            settings=ALPHA,
            brute_force=_optimum_by_trying,
        ),
        Estimator(
            f=prefix_ratio,
            example=lambda rng, size: {
                "reward": (
                    rng.random((size, int(rng.integers(3, 9)))) < rng.random((size, 1))
                ).astype(float)
            },
            edges={
                "all right, all wrong": lambda: {
                    "reward": xp.array([[1.0] * 4, [0.0] * 4])
                },
                "four of six, on the threshold": lambda: {
                    "reward": xp.array([[1.0, 1, 1, 1, 0, 0], [1.0, 1, 1, 0, 0, 0]])
                },
                "one answer": lambda: {"reward": xp.array([[0.25]])},
            },
            settings={
                "default": {},
                "the third group": {"ratio": 0.5, "threshold": 0.7},
                "probe": {"ratio": 0.35, "threshold": 0.7},
            },
            brute_force=_ratio_by_counting,
            deviations=(SUM_TRIGGER, QUARTERS),
        ),
    ),
)
