"""Where examples of the family come from: confidences, and whether the answers are right."""

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["ANSWERS"]


def _answers(rng, size):
    """Confidences off the edges of 8, 10 and 20 bins, low, high or mixed; mostly too high."""
    low = rng.choice((0.0, 0.5, 0.8))
    fine = rng.integers(round(low * 1000), 1000, size)
    confidence = (fine + 0.43) / 1000
    right = rng.random(size) < confidence * rng.uniform(0.3, 1.0)
    repetitions = int(rng.integers(1, 5))
    return {
        "confidence": confidence,
        "correct": right.astype(float),
        "uniform": rng.random((repetitions, size)),
        "query": (rng.integers(0, 1000, size // 2 + 1) + 0.43) / 1000,
    }


def _given(confidence, correct):
    confidence = xp.array(confidence)
    n = len(confidence)
    return {
        "confidence": confidence,
        "correct": xp.array(correct),
        "uniform": ((xp.arange(3.0 * n) * 0.37) % 1).reshape(3, n),
        "query": xp.array([0.0, 0.5, 0.77, 1.0]),
    }


ANSWERS = Interface(
    "answers",
    example=_answers,
    edges={
        "all right": lambda: _given([0.77, 0.31, 1.0], [1.0, 1.0, 1.0]),
        "all wrong": lambda: _given([0.77, 0.93, 0.21], [0.0, 0.0, 0.0]),
        "a constant confidence": lambda: _given([0.5] * 4, [1.0, 0.0, 1.0, 1.0]),
        "on the edges of bins": lambda: _given(
            [0.0, 0.25, 0.5, 0.75, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
        ),
        "bins that err in both directions": lambda: _given(
            [0.15, 0.15, 0.95, 0.95], [1.0, 0.0, 1.0, 0.0]
        ),
        "nobody is sure": lambda: _given([0.55, 0.62, 0.12], [1.0, 0.0, 1.0]),
        "nearly equal": lambda: _given([0.7375, 0.7376], [1.0, 0.0]),
        "hardly above nothing": lambda: _given(
            [1e-200, 3e-200, 2e-200], [0.0, 1.0, 1.0]
        ),
        "one answer": lambda: _given([0.95], [0.0]),
    },
)
"""``f(confidence (N), correct (N), …)``, with uniform (M, N) and query (M) where asked for."""
