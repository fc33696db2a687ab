"""Where the examples of policy surrogates come from."""

import math

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["SURROGATE"]


def _example(rng, size):
    spread = rng.choice((0.05, 0.4, 1.5))
    old_log_prob = -rng.exponential(1.5, size)
    return {
        "log_prob": old_log_prob + spread * rng.standard_normal(size),
        "old_log_prob": old_log_prob,
        "advantage": rng.standard_normal(size),
    }


def _edge(log_ratio, advantage):
    old_log_prob = xp.full(len(log_ratio), -1.25)
    return {
        "log_prob": old_log_prob + log_ratio,
        "old_log_prob": old_log_prob,
        "advantage": xp.array(advantage, dtype=float),
    }


def _on_the_clip_bounds():
    # 1.25 and 0.75 are exact in binary, 1.2 and 0.8 are the customary bounds
    bounds = [math.log(r) for r in (1.2, 0.8, 1.25, 0.75)]
    return _edge(xp.array(2 * bounds), [1.0] * 4 + [-1.0] * 4)


SURROGATE = Interface(
    "surrogate",
    example=_example,
    edges={
        "on the clip bounds": _on_the_clip_bounds,
        "outside the clip bounds, both signs": lambda: _edge(
            xp.array([0.7, 0.7, -0.7, -0.7]), [1.5, -1.5, 1.5, -1.5]
        ),
        "on-policy": lambda: _edge(xp.zeros(4), [1.0, -2.0, 0.5, 0.0]),
        "equal advantages": lambda: _edge(xp.array([0.3, -0.1, 0.02]), [0.7, 0.7, 0.7]),
        "zero advantages": lambda: _edge(xp.array([0.3, -0.1]), [0.0, 0.0]),
        "one sample": lambda: _edge(xp.array([0.1]), [-0.4]),
        "certain and all but impossible actions": lambda: {
            "log_prob": xp.array([0.0, -20.0, -1e-12]),
            "old_log_prob": xp.array([-1e-12, -18.0, -4.0]),
            "advantage": xp.array([1.0, -1.0, 0.5]),
        },
    },
)
"""``f(log_prob (N), old_log_prob (N), advantage (N), *, …) -> (loss, d loss / d log_prob)``, a mean over N."""
