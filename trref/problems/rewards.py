"""Rewards of points, as callables: ``x (N, D) -> (values (N), gradients (N, D))``.

For alignprop, rocm and trqam (gradients through the reward), grpo_guard, sage_grpo, gardo and diff_instruct_star
(whether a trainer exploits what the reward gets wrong), mdpo (a critic of actions).
"""

import dataclasses
from typing import Any

from trref.backend import xp

__all__ = ["BumpReward", "QuadraticReward"]


@dataclasses.dataclass(frozen=True)
class QuadraticReward:
    """``-scale ‖x - goal‖²`` for a goal (D,)."""

    goal: Any
    scale: float = 1.0

    def __call__(self, x):
        """Return values (N,) and gradients (N, D)."""
        _require_columns(x, self.goal)
        away = x - self.goal
        return -self.scale * (away * away).sum(1), -2 * self.scale * away


@dataclasses.dataclass(frozen=True)
class BumpReward:
    """What a trainer sees: a true reward plus a spurious bump ``height exp(-‖x - centre‖²/(2 width²))``.

    ``reward.true(x)`` is what it should have been.

    Parameters
    ----------
    true : callable
        Such as `QuadraticReward`.
    centre : array (D,)
    height, width : float
    """

    true: Any
    centre: Any
    height: float = 1.0
    width: float = 0.3

    def bump(self, x):
        """Return values (N,) and gradients (N, D) of the bump alone."""
        _require_columns(x, self.centre)
        away = x - self.centre
        value = self.height * xp.exp(-(away * away).sum(1) / (2 * self.width**2))
        return value, -value[:, None] * away / self.width**2

    def __call__(self, x):
        """Return values (N,) and gradients (N, D)."""
        return tuple(a + b for a, b in zip(self.true(x), self.bump(x), strict=True))


def _require_columns(x, point):
    if x.ndim != 2 or x.shape[1] != len(point):
        raise ValueError(f"x must have shape (N, {len(point)}), not {tuple(x.shape)}")
