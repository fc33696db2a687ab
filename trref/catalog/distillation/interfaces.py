"""Examples of token objectives with a teacher; what the arguments mean stands in `trref.glossary`."""

import dataclasses

from trref.backend import xp
from trref.catalog.tokens.interfaces import (
    FULL_DISTRIBUTION,
    SPREADS,
    TOKEN_OBJECTIVE,
)

__all__ = ["TAUGHT", "TAUGHT_DISTRIBUTION"]


def _taught_example(rng, size):
    tokens = TOKEN_OBJECTIVE.example(rng, size)
    away = float(rng.choice((*SPREADS, 4.0)))
    teacher = tokens["log_prob"] + away * rng.standard_normal(tokens["mask"].shape)
    return tokens | {"teacher_log_prob": -abs(teacher) - 1e-3}


def _taught_edge(make, shift):
    """The teacher is off by `shift`, token by token."""

    def edge():
        tokens = make()
        row = xp.arange(tokens["mask"].shape[1])[None, :]
        teacher = tokens["old_log_prob"] + shift * xp.cos(1.7 * row)
        return tokens | {"teacher_log_prob": teacher}

    return edge


def _likes_and_dislikes():
    """Each token three times: the teacher agrees, likes it more, likes it less."""
    tokens = TOKEN_OBJECTIVE.edges["on-policy"]()
    shift = xp.array([0.0, 2.0, -2.0])
    return tokens | {"teacher_log_prob": tokens["old_log_prob"] + shift}


def _on_the_clamp():
    """Log-ratios to the teacher of exactly ±1, and one to the old policy of 0."""
    tokens = TOKEN_OBJECTIVE.edges["on-policy"]()
    shift = xp.array([0.5, 1.0, -1.0])
    return tokens | {"teacher_log_prob": tokens["log_prob"] + shift}


def _absurd():
    """The teacher gives a token a probability of e⁻²⁸."""
    tokens = TOKEN_OBJECTIVE.edges["on-policy"]()
    return tokens | {"teacher_log_prob": tokens["log_prob"] - xp.array([0.5, 26.75, 0])}


TAUGHT = dataclasses.replace(
    TOKEN_OBJECTIVE,
    name="token_objective with a teacher",
    example=_taught_example,
    edges={
        **{
            name: _taught_edge(make, 0.3)
            for name, make in TOKEN_OBJECTIVE.edges.items()
        },
        "the teacher agrees, likes more, likes less": _likes_and_dislikes,
        "one from the teacher, on the log scale": _on_the_clamp,
        "absurd to the teacher": _absurd,
    },
)
"""`TOKEN_OBJECTIVE` with ``teacher_log_prob (B T)``."""


def _vocabulary_example(rng, size):
    tokens = FULL_DISTRIBUTION.example(rng, size)
    away = float(rng.choice((0.1, 1.0, 4.0)))
    shape = tokens["logits"].shape
    teacher = tokens["logits"] + away * rng.standard_normal(shape)
    accepted = (rng.random(shape[:2]) < 0.6).astype(float)
    written = rng.integers(0, shape[1], (shape[0], 1))
    return tokens | {
        "teacher_logits": xp.clip(teacher, tokens["logits"] - 9, tokens["logits"] + 9),
        "accepted": accepted,
        "prefix": (xp.arange(shape[1]) < written).astype(float),
    }


def _vocabulary_edge(make, scale=1.0):
    def edge():
        tokens = make()
        B, T, K = tokens["logits"].shape
        row, column = xp.arange(B)[:, None], xp.arange(T)[None, :]
        wave = scale * xp.sin(1.3 * xp.arange(K) + row[..., None])
        return tokens | {
            "teacher_logits": tokens["logits"] + wave,
            "accepted": ((row + column) % 2).astype(float),
            "prefix": (column < row % 2).astype(float),
        }

    return edge


def _all_prefix():
    tokens = _vocabulary_edge(FULL_DISTRIBUTION.edges["equal rewards"])()
    return tokens | {"prefix": xp.ones_like(tokens["mask"])}


def _ties():
    """Tokens equally likely to the teacher: of three, two are among the top two."""
    tokens = _vocabulary_edge(FULL_DISTRIBUTION.edges["equal rewards"])()
    flat = xp.zeros_like(tokens["logits"])
    return tokens | {"teacher_logits": flat, "accepted": 0 * tokens["accepted"]}


def _forbidden():
    """The teacher all but forbids the first token."""
    tokens = _vocabulary_edge(FULL_DISTRIBUTION.edges["equal rewards"])()
    K = tokens["logits"].shape[2]
    away = -24.0 * (xp.arange(K) == 0)
    return tokens | {"teacher_logits": tokens["logits"] + away}


TAUGHT_DISTRIBUTION = dataclasses.replace(
    FULL_DISTRIBUTION,
    name="full_distribution with a teacher",
    example=_vocabulary_example,
    edges={
        **{
            name: _vocabulary_edge(make)
            for name, make in FULL_DISTRIBUTION.edges.items()
        },
        "the teacher forbids a token": _forbidden,
        "equally likely to the teacher, all rejected": _ties,
        "the teacher wrote it all": _all_prefix,
    },
)
"""`FULL_DISTRIBUTION` with ``teacher_logits (B T V)`` ``accepted (B T)`` and ``prefix (B T)``."""
