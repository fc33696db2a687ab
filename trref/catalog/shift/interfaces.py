"""Where examples of the family come from: confidences, and whether the answers are right."""

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["CONFIDENCE"]


def _answers(rng, size):
    """Distinct confidences, better than chance."""
    confidence = rng.choice((0.1, 1.0, 30.0)) * rng.permutation(size) / size
    chance = rng.uniform(0.2, 0.9)
    right = rng.random(size) < chance + (1 - chance) * confidence / (
        confidence.max() or 1.0
    )
    return {"confidence": confidence, "correct": right.astype(float)}


def _given(confidence, correct):
    return {"confidence": xp.array(confidence), "correct": xp.array(correct)}


CONFIDENCE = Interface(
    "confidence",
    example=_answers,
    edges={
        "all right": lambda: _given([0.3, 0.1], [1.0, 1.0]),
        "all wrong": lambda: _given([0.3, 0.1, 0.2], [0.0, 0.0, 0.0]),
        "equal confidence": lambda: _given([0.5] * 4, [1.0, 0.0, 1.0, 1.0]),
        "a tie among others": lambda: _given(
            [0.9, 0.5, 0.5, 0.5, 0.1], [1.0, 0.0, 1.0, 1.0, 0.0]
        ),
        "one right, one wrong": lambda: _given([0.2, 0.7], [1.0, 0.0]),
        "an error between the 14th and the 15th of 25": lambda: _given(
            [v / 20 for v in range(28)], [0.0] * 2 + [1.0] * 11 + [0.0] + [1.0] * 14
        ),
        # 38 of 40 right answers are enough for a share of 0.95, and the last error is below them
        "an error before the last of forty": lambda: _given(
            [v / 50 for v in range(42)], [1.0, 0.0] + [1.0] * 38 + [0.0, 1.0]
        ),
        "one answer": lambda: _given([0.5], [1.0]),
    },
)
"""``f(confidence (N), correct (N), …)``."""
