"""What is known of `trref.preferences.trpa`."""

import inspect

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.preferences.trpa import pair_loss, preference_levels, trpa

# ---- examples and brute force


def _rules(rng, size):
    return {
        name: (rng.random(size) < p).astype(float)
        for name, p in (("format_ok", 0.7), ("complete", 0.7), ("correct", 0.5))
    }


def _levels_by_rules(format_ok, complete, correct):
    found = []
    for form, whole, right in zip(format_ok, complete, correct, strict=True):
        if not form:
            found.append(4)
        elif not whole:
            found.append(3)
        else:
            found.append(1 if right else 2)
    return np.array(found)


def _example(rng, size):
    """Prompts with four answers of different lengths, and a last one with fewer."""
    width, spread = int(rng.integers(2, 8)), rng.choice((0.05, 0.4, 1.0))
    old = -rng.exponential(1.2, (size, width))
    return {
        "log_prob": old + spread * rng.standard_normal(old.shape),
        "old_log_prob": old,
        "ref_log_prob": old + spread * rng.standard_normal(old.shape),
        "mask": (xp.arange(width) < rng.integers(1, width + 1, size)[:, None]).astype(
            float
        ),
        "level": rng.integers(1, 5, size),
        "group": xp.arange(size) // 4,
        "log_ratio": spread * rng.standard_normal(size),
    }


def _answers(level, group, ratio=0.25, mask=None):
    B = len(level)
    old = -1.0 - 0.125 * xp.arange(3 * B, dtype=float).reshape(B, 3)
    mask = xp.ones((B, 3)) if mask is None else xp.array(mask)
    moved = ratio * xp.array([1.0, -0.5, 0.75])
    return {
        "log_prob": old + moved,
        "old_log_prob": old,
        "ref_log_prob": old - 0.5,
        "mask": mask,
        "level": xp.array(level),
        "group": xp.array(group),
        "log_ratio": ratio * xp.arange(B, dtype=float),
    }


SAMPLED_LEVELS = Interface(
    "sampled_levels",
    example=_example,
    edges={
        "on-policy": lambda: _answers([1, 2, 4], [0, 0, 0], ratio=0.0),
        "all of one level": lambda: _answers([2, 2, 2], [0, 0, 0]),
        "all right": lambda: _answers([1, 1], [0, 0]),
        "no pair within a prompt": lambda: _answers([1, 3, 1, 2], [0, 1, 2, 3]),
        "an answer without tokens": lambda: _answers(
            [1, 3], [0, 0], mask=[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
        ),
        "no tokens": lambda: _answers([1, 3], [0, 0], mask=[[0.0] * 3] * 2),
        "far from the old policy": lambda: _answers([1, 3, 2], [0, 0, 0], ratio=-4.0),
        "one token, just beyond the clamp": lambda: _answers(
            [1, 3], [0, 0], ratio=-2.65, mask=[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
        ),
        "one answer": lambda: _answers([1], [7]),
    },
)
"""Log-probabilities of tokens (B T) by the policy, the old policy and a reference; levels and prompts (B)."""


def by_micro_batches(
    log_prob,
    old_log_prob,
    ref_log_prob,
    mask,
    level,
    group,
    *,
    beta=0.1,
    winner_weight=2.5,
    kl_weight=0.001,
    form="pair",
    penalty="mean",
):
    given = {
        n: v for n, v in locals().items() if n in inspect.signature(trpa).parameters
    }
    arrays = {n: v for n, v in given.items() if hasattr(v, "shape")}
    hyper = {n: v for n, v in given.items() if n not in arrays}
    parts = [
        {n: v[i : i + 2] for n, v in arrays.items()} for i in range(0, len(level), 2)
    ]
    results = [trpa(**part, **hyper) for part in parts]
    return sum(loss for loss, _ in results) / len(parts), xp.concatenate(
        [g for _, g in results]
    ) / len(parts)


SETTINGS = {
    "default": {},
    "plain": {"winner_weight": 1.0},
    "the paper's form": {"form": "answer"},
    "probe": {"beta": 0.35, "winner_weight": 1.7, "form": "answer"},
}

METHOD = Method(
    key="su2025trust",
    provenance={
        "confirmed": (
            "levels",
            "log-ratio",
            "pairs",
            "gradient",
            "fallback",
            "penalty",
            "loss",
            "root",
        ),
        "reconstructed": ("answers",),
    },
    functions=(
        Estimator(
            f=preference_levels,
            example=_rules,
            edges={
                "every level": lambda: {
                    "format_ok": xp.array([1.0, 1.0, 1.0, 0.0]),
                    "complete": xp.array([1.0, 1.0, 0.0, 1.0]),
                    "correct": xp.array([1.0, 0.0, 1.0, 1.0]),
                },
                "one answer": lambda: dict.fromkeys(
                    ("format_ok", "complete", "correct"), xp.array([1.0])
                ),
            },
            brute_force=_levels_by_rules,
        ),
        Objective(
            f=pair_loss, interface=SAMPLED_LEVELS, wrt="log_ratio", settings=SETTINGS
        ),
        Objective(
            f=trpa,
            interface=SAMPLED_LEVELS,
            wrt="log_prob",
            settings={
                **SETTINGS,
                "no trust region": {"kl_weight": 0.0},
                "probe": {**SETTINGS["probe"], "kl_weight": 0.3, "penalty": "root"},
            },
            deviations=(
                Deviation(
                    "by micro-batches",
                    by_micro_batches,
                    seen_in="XueruiSu/Trust-Region-Preference-Approximation verl/workers/actor/dp_actor.py, "
                    "here with micro-batches of 2",
                    computes="the mean over pairs, and whether there are any, in each micro-batch; then their mean",
                ),
            ),
        ),
    ),
)
