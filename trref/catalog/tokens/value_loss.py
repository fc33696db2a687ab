"""What is known of `trref.tokens.value_loss`."""

import dataclasses

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.tokens.terms import token_weights
from trref.tokens.value_loss import silent_share, value_loss


def _example(rng, B):
    T, scale = int(rng.integers(3, 8)), float(rng.choice((0.3, 1.0, 10.0)))
    mask = (xp.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    old, noise, target = rng.standard_normal((3, B, T))
    move = float(rng.choice((0.05, 0.3, 1.5))) * noise
    return {
        "value": scale * old + move,
        "old_value": scale * old,
        "value_target": scale * old + scale * target,
        "mask": mask,
    }


def _edge(value, target, mask=None):
    value = xp.array(value, dtype=float)
    return {
        "value": value,
        "old_value": xp.zeros_like(value),
        "value_target": xp.array(target, dtype=float) + xp.zeros_like(value),
        "mask": xp.ones_like(value) if mask is None else xp.array(mask, dtype=float),
    }


VALUES = Interface(
    "token_values",
    example=_example,
    edges={
        "all orders of old, clipped and new value and target": lambda: _edge(
            [[0.7] * 4 + [-0.7] * 4], [[-0.5, 0.1, 0.6, 2.0, 0.5, -0.1, -0.6, -2.0]]
        ),
        "on the bounds": lambda: _edge([[0.2, -0.2], [0.5, -0.5]], 1.0),
        "the old values": lambda: _edge([[0.0, 0.0, 0.0]] * 2, [[1.0, -1.0, 0.0]] * 2),
        "at the targets": lambda: _edge([[0.25, -2.0]], [[0.25, -2.0]]),
        "an answer without tokens": lambda: _edge(
            [[0.3, -0.1], [0.8, 0.1]], 0.5, [[1, 1], [0, 0]]
        ),
        "no tokens at all": lambda: _edge([[0.3, -0.1]], 0.5, [[0, 0]]),
        "one token": lambda: _edge([[0.9]], [[0.1]]),
    },
)


def not_halved(
    value,
    old_value,
    value_target,
    mask,
    *,
    clip=0.2,
    kind="max",
    aggregation="token_mean",
    max_length=1.0,
):
    half, gradient = value_loss.unchecked(
        value,
        old_value,
        value_target,
        mask,
        clip=clip,
        kind=kind,
        aggregation=aggregation,
        max_length=max_length,
    )
    return 2 * half, 2 * gradient


def signed_maximum(
    value,
    old_value,
    value_target,
    mask,
    *,
    clip=0.2,
    aggregation="token_mean",
    max_length=1.0,
):
    error, moved = value - value_target, value - old_value
    clipped = error - (moved - xp.clip(moved, -clip, clip))
    larger = xp.maximum(error, clipped)
    w = token_weights(mask, aggregation, max_length=max_length)
    return (w * larger**2).sum() / 2, w * error * (error >= clipped)


NOT_HALVED = Deviation(
    "the factor of one half is missing",
    not_halved,
    seen_in="THUDM/slime, August 2026, slime/backends/megatron_utils/loss.py, value_loss_function",
    computes="twice the loss, and twice its gradient",
)
SIGNED_MAXIMUM = Deviation(
    "the larger of the signed errors, squared",
    signed_maximum,
    seen_in="implementation-matters/code-for-paper src/policy_gradients/steps.py, there without the one half",
    computes="an error that is negative counts for less than one that is positive: low predictions are favoured",
)


def _share_by_loops(value, old_value, value_target, mask, *, clip=0.2):
    arrays = (value, old_value, value_target, mask)
    rows = zip(*(a.ravel().tolist() for a in arrays), strict=True)
    found = []
    for v, old, target, m in rows:
        moved = old + max(-clip, min(clip, v - old))
        if m:
            # of a value inside the bounds the two errors are one, up to rounding
            found.append(
                abs(v - old) > clip and (moved - target) ** 2 > (v - target) ** 2
            )
    return xp.asarray(sum(found) / max(len(found), 1))


def share_over_answers(value, old_value, value_target, mask, *, clip=0.2):
    silent = [
        silent_share.unchecked(*(x[i : i + 1] for x in rows), clip=clip)
        for rows in [(value, old_value, value_target, mask)]
        for i in range(len(mask))
    ]
    return xp.stack(silent).mean()


SHARE_OVER_ANSWERS = Deviation(
    "mean over answers",
    share_over_answers,
    seen_in="ROLL 0.3.0 roll/pipeline/base_worker.py, vf_clipfrac",
    computes="the mean over answers of each answer's share",
)


def at_the_old_value(inputs):
    """the values are the old ones"""
    return {**inputs, "value": inputs["old_value"]}


FREE = {"clip": 1e14}
METHOD = Method(
    key="engstrom2020implementation",
    provenance={"confirmed": ("clipped", "objective", "gradient", "share")},
    functions=(
        Objective(
            f=value_loss,
            interface=VALUES,
            wrt="value",
            settings={
                "default": {},
                "min": {"kind": "min"},
                "clipped": {"kind": "clipped"},
                "over answers": {"aggregation": "seq_mean"},
                "wide": {"clip": 0.5},
                "probe": {
                    "clip": 0.3,
                    "kind": "min",
                    "aggregation": "constant",
                    "max_length": 4.5,
                },
            },
            limits=(
                Limit("value_loss.value_loss", {"kind": "min"}, where=at_the_old_value),
                Limit(
                    "value_loss.value_loss", {"kind": "clipped"}, where=at_the_old_value
                ),
                Limit("value_loss.value_loss", {**FREE, "kind": "min"}, FREE),
                Limit("value_loss.value_loss", {**FREE, "kind": "clipped"}, FREE),
            ),
            deviations=(NOT_HALVED, SIGNED_MAXIMUM),
        ),
        Estimator(
            f=silent_share,
            interface=dataclasses.replace(
                VALUES,
                edges={**VALUES.edges, "one silent": lambda: _edge([[0.9]], [[2.0]])},
            ),
            settings={"default": {}, "probe": {"clip": 0.35}},
            brute_force=_share_by_loops,
            deviations=(SHARE_OVER_ANSWERS,),
        ),
    ),
)
