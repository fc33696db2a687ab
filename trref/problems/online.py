"""Losses of rounds, by their gradients: ``gradient(x (n,), t) -> (n,)`` for the number t of a round.

For optimistic_omd.
"""

import dataclasses
from typing import Any

__all__ = ["LinearLosses", "QuadraticLosses"]


def _round(values, t):
    if t >= len(values):
        raise ValueError(f"rounds must be numbers below {len(values)}, not {t}")
    return values[t]


@dataclasses.dataclass(frozen=True)
class LinearLosses:
    """``c_tᵀx`` for C (T, n)."""

    C: Any

    def __call__(self, x, t):
        """Return the gradient of round t."""
        return _round(self.C, t).copy()


@dataclasses.dataclass(frozen=True)
class QuadraticLosses:
    """``mu/2 ‖x - a_t‖²`` for goals a (T, n)."""

    goals: Any
    convexity: float = 1.0

    def __call__(self, x, t):
        """Return the gradient of round t at x."""
        if x.shape != self.goals.shape[1:]:
            shape = tuple(self.goals.shape[1:])
            raise ValueError(
                f"the gradient is for x of shape {shape}, not {tuple(x.shape)}"
            )
        return self.convexity * (x - _round(self.goals, t))
