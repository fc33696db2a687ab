"""Landscapes with a narrow and a wide well, as callables on points x (..., D): values (...) and gradients (..., D).

A single point (D,) gives a scalar and its gradient, as a loss does; many points give one value each.

For adversarial_model_perturbation and gam (which well a minimiser ends in), entropy_sgd (which one is lower after
smoothing).
"""

import dataclasses
from typing import Any

from trref.backend import xp

__all__ = ["GaussianWells", "TwoParabolas"]


@dataclasses.dataclass(frozen=True)
class GaussianWells:
    """``offset - Σ_k depth_k exp(-precision_k ‖x - centre_k‖²/2)``: depths and precisions (K,), centres (K, D)."""

    depths: Any
    centres: Any
    precisions: Any
    offset: float = 0.0

    def __call__(self, x):
        """Return values (...) and gradients (..., D) at x (..., D)."""
        _require_dimension(x, self.centres.shape[1])
        away = x[..., None, :] - self.centres
        wells = self.depths * xp.exp(-self.precisions / 2 * (away * away).sum(-1))
        return self.offset - wells.sum(-1), (
            (wells * self.precisions)[..., None] * away
        ).sum(-2)


@dataclasses.dataclass(frozen=True)
class TwoParabolas:
    """``min(2 (x + 2)², 0.08 (x - 2)² + 0.15)`` on the line: the narrow well at -2 is lower, by `rise`.

    Points are (..., 1); where the two are equal the gradient is that of the narrow one.
    """

    narrow: float = 2.0
    wide: float = 0.08
    rise: float = 0.15

    def __call__(self, x):
        """Return values (...) and gradients (..., 1) at x (..., 1)."""
        _require_dimension(x, 1)
        first, second = self.narrow * (x + 2) ** 2, self.wide * (x - 2) ** 2 + self.rise
        slope = xp.where(
            first <= second, 2 * self.narrow * (x + 2), 2 * self.wide * (x - 2)
        )
        return xp.minimum(first, second)[..., 0], slope


def _require_dimension(x, D):
    if x.ndim < 1 or x.shape[-1] != D:
        raise ValueError(f"x must have shape (..., {D}), not {tuple(x.shape)}")
