"""Losses that do not change when weights are multiplied by a positive number, so that gradients are orthogonal to them.

For adamp (the norm grows without use) and weight_conditioning (normalised rows).
"""

import dataclasses
from typing import Any

__all__ = ["RayleighQuotient"]


@dataclasses.dataclass(frozen=True)
class RayleighQuotient:
    """``wᵀA w / wᵀw`` for symmetric A (n, n) and w ≠ 0: between the smallest and the largest eigenvalue."""

    A: Any

    def __call__(self, w):
        """Return value and gradient ``2 (A w - value w) / wᵀw``."""
        if w.shape != (len(self.A),):
            raise ValueError(
                f"w must have shape ({len(self.A)},), not {tuple(w.shape)}"
            )
        square, Aw = (w * w).sum(), self.A @ w
        value = (w * Aw).sum() / square
        return value, 2 * (Aw - value * w) / square
