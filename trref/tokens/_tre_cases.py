"""Examples, special inputs and an oracle for `trref.tokens.tre`."""

import math

from trref.backend import xp

__all__ = ["ROWS", "drift_by_loops", "large", "of_one_length", "rows", "without_advantage"]


def without_advantage(inputs):
    """all advantages are 0"""
    return {**inputs, "advantage": xp.zeros_like(inputs["advantage"])}


def of_one_length(inputs):
    """answers of one length"""
    return {**inputs, "mask": xp.ones_like(inputs["mask"]), "ref_logits": inputs["old_logits"]}


def large(edges):
    """One more edge: a logit near 800, whose exponential overflows."""

    def make():
        batch = edges["equal rewards"]()
        first = 800.0 * (xp.arange(batch["logits"].shape[-1]) == 0)
        return {name: value + first if name.endswith("logits") else value for name, value in batch.items()}

    return {**edges, "a large logit": make}


def rows(rng, size):
    """Logits of several spreads."""
    return {"logits": float(rng.choice((0.5, 1.5, 4.0))) * rng.standard_normal((size, 6))}


ROWS = {
    "uniform": lambda: {"logits": xp.zeros((1, 4))},
    "one token": lambda: {"logits": xp.zeros((1, 1))},
    "large logits": lambda: {"logits": xp.array([[801.0, 800.5, 799.0], [800.0, 0.5, 0.0]])},
}


def drift_by_loops(logits, *, rule="top_k", K=2, P=0.99):
    """The chain rule, token by token."""
    drift = []
    for z in logits.tolist():
        p = [math.exp(x - max(z)) for x in z]
        p = [x / sum(p) for x in p]
        inside, outside, before = [], [], 0.0
        for rank, x in enumerate(sorted(p, reverse=True)):
            chosen = rule == "all" or (rank < K if rule == "top_k" else before < P)
            (inside if chosen else outside).append(x)
            before += x
        M = sum(inside)
        q = [x / M for x in inside]
        H = -sum(x * math.log(x) for x in q if x)
        dM, dH = [x * sum(outside) for x in inside], [-x * (math.log(x) + H) if x else 0.0 for x in q]
        drift.append(sum(a * b for a, b in zip(dM, dH, strict=True)))
    return drift
