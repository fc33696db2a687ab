"""What is known of `trref.distillation.tropd`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, Sampler
from trref.catalog.distillation.interfaces import TAUGHT, TAUGHT_DISTRIBUTION
from trref.distillation.tropd import (
    accept,
    k1_reward,
    prefix_length,
    tropd,
    trust_probability,
)
from trref.nn.heads import categorical_kl, log_softmax
from trref.tokens.terms import token_mean
from trref.tokens.tre import region


def _whole_vocabulary(
    logits,
    teacher_logits,
    actions,
    accepted,
    prefix,
    mask,
    *,
    outlier="forward_kl",
    top_k=64,
    tau=None,
    guidance_weight=0.001,
):
    """The accepted tokens' divergence in the place of their reward."""
    none = xp.zeros_like(mask)
    L, dL = tropd(
        logits,
        teacher_logits,
        actions,
        accepted,
        prefix,
        mask,
        outlier=outlier,
        top_k=top_k,
        tau=tau,
        guidance_weight=guidance_weight,
        reward=none if outlier != "clip" else None,
    )
    if outlier == "clip":
        off, d_off = tropd(
            logits,
            teacher_logits,
            actions,
            accepted,
            prefix,
            mask * accepted,
            outlier="mask",
            guidance_weight=0.0,
        )
        count = xp.maximum((mask * (1 - prefix)).sum(), 1)
        share = (mask * accepted * (1 - prefix)).sum() / count
        L, dL = L - share * off, dL - share * d_off
    kl, d_kl, _ = categorical_kl(logits, teacher_logits)
    w = token_mean(mask * (1 - prefix)) * accepted
    return L + (w * kl).sum(), dL + w[..., None] * d_kl


def _renormalised(
    logits,
    teacher_logits,
    actions,
    accepted,
    prefix,
    mask,
    *,
    outlier="forward_kl",
    top_k=64,
    tau=None,
    guidance_weight=0.001,
):
    """Teacher and student given that a token is on the teacher's list."""
    how = {"tau": tau, "guidance_weight": guidance_weight}
    data = logits, teacher_logits, actions, accepted, prefix, mask
    if outlier != "forward_kl":
        return tropd(*data, outlier=outlier, **how)
    L, dL = tropd(*data, outlier="mask", **how)
    keep = region(teacher_logits, "top_k", top_k, 1.0) == 1
    q, p = (log_softmax(xp.where(keep, z, -1e4)) for z in (logits, teacher_logits))
    F = (xp.exp(p) * xp.where(keep, p - q, 0)).sum(-1)
    w = token_mean(mask * (1 - prefix)) * (1 - accepted)
    return L + (w * F).sum(), dL + w[..., None] * (xp.exp(q) - xp.exp(p))


RENORMALISED = Deviation(
    "the list is renormalised",
    _renormalised,
    seen_in="TRL 1.16.0 trl/experimental/iw_opd/iw_opd_trainer.py, generalized_jsd_loss with beta=0, top_k and "
    "add_tail=False; here on rejected tokens",
    computes="the forward divergence of teacher and student given that a token is on the teacher's list",
    documented=True,
)
WHOLE_VOCABULARY = Deviation(
    "the whole divergence on accepted tokens",
    _whole_vocabulary,
    seen_in="Strongich/trl, a branch of TRL's GOLD trainer",
    computes="KL(student‖teacher) over the vocabulary in the place of the sampled token's reward",
)


def _chances(log_prob, teacher_log_prob):
    return [
        [min(1.0, math.exp(t - s)) for s, t in zip(*rows, strict=True)]
        for rows in zip(log_prob.tolist(), teacher_log_prob.tolist(), strict=True)
    ]


def _log_prob(logits, action):
    largest = max(logits)
    return (
        logits[action] - largest - math.log(sum(math.exp(z - largest) for z in logits))
    )


def _rewards(logits, teacher_logits, actions):
    student, teacher, tokens = (x.tolist() for x in (logits, teacher_logits, actions))
    return [
        [
            _log_prob(theirs, y) - _log_prob(ours, y)
            for ours, theirs, y in zip(*rows, strict=True)
        ]
        for rows in zip(student, teacher, tokens, strict=True)
    ]


def _accepted(draws, log_prob, teacher_log_prob):
    """How many are accepted, of those that the teacher likes less, and of the others."""
    chance = xp.array(_chances(log_prob, teacher_log_prob))
    doubtful = chance < 1
    variance = float((chance * (1 - chance)).sum())
    return {
        "of those liked less": (
            float((draws * doubtful).sum()),
            float((chance * doubtful).sum()),
            5 * variance**0.5 + 1e-12,
        ),
        "of those liked more": (
            float((draws * ~doubtful).sum()),
            float((~doubtful).sum()),
            0,
        ),
    }


def _cosine(length, *, step=0, steps=200):
    """The mean over the remaining share of a half-turn's height."""
    height = math.cos(math.pi * step / steps / 2) ** 2 if step < steps else 0.0
    return [x * height for x in length.tolist()]


def _only_rejected(inputs):
    """all tokens are the student's and rejected"""
    now = {**inputs, "accepted": xp.zeros_like(inputs["mask"])}
    now["prefix"] = now["accepted"]
    return now, {**inputs, "old_logits": inputs["teacher_logits"]}


REFUSED = {
    "an action that there is not": {"actions": 99},
    "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
}


METHOD = Method(
    key="xing2026trust",
    provenance={
        "confirmed": ("reward", "trust", "forward"),
        "partly": ("loss", "prefix"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=tropd,
            interface=TAUGHT_DISTRIBUTION,
            wrt="logits",
            stopped={"reward": k1_reward},
            settings={
                "default": {},
                "three tokens": {"top_k": 3},
                "mask": {"outlier": "mask"},
                "clip": {"outlier": "clip", "tau": 0.5},
                "probe": {
                    "outlier": "clip",
                    "tau": 2.5,
                    "top_k": 3,
                    "guidance_weight": 0.3,
                },
                "strong guidance, two tokens": {"top_k": 2, "guidance_weight": 0.7},
            },
            limits=(
                Limit(
                    "f_divergences.divergence",
                    {},
                    {"kind": "forward_kl"},
                    where=_only_rejected,
                ),
            ),
            deviations=(WHOLE_VOCABULARY, RENORMALISED),
            refused=REFUSED,
        ),
        Estimator(f=trust_probability, interface=TAUGHT, brute_force=_chances),
        Sampler(f=accept, interface=TAUGHT, moments=_accepted),
        Estimator(
            f=k1_reward,
            interface=TAUGHT_DISTRIBUTION,
            brute_force=_rewards,
            refused=REFUSED,
        ),
        Estimator(
            f=prefix_length,
            example=lambda rng, size: {
                "length": rng.integers(0, 40, size).astype(float)
            },
            edges={"an answer of no tokens": lambda: {"length": xp.array([0.0, 3.0])}},
            settings={
                "default": {},
                "halfway": {"step": 100},
                "over": {"step": 250},
                "probe": {"step": 35, "steps": 150},
            },
            brute_force=_cosine,
        ),
    ),
)
