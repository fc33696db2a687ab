"""Losses on the unit sphere with a hidden direction, and what their gradients are on average over the sphere.

``model(theta) -> (loss, gradient)`` for theta (D,), of any length. For langevin_averaging.
"""

import dataclasses
import itertools
import math
from typing import Any

from trref.backend import xp

__all__ = ["SingleIndex", "TensorPCA"]


@dataclasses.dataclass(frozen=True)
class TensorPCA:
    """``-Σ T_ijk θ_i θ_j θ_k`` for a symmetric tensor T (D, D, D)."""

    tensor: Any

    @classmethod
    def draw(cls, rng, direction, strength):
        """The direction's third power, and symmetric noise whose entries have a standard deviation of about 1."""
        D = len(direction)
        noise = rng.standard_normal((D, D, D))
        orders = list(itertools.permutations(range(3)))
        noise = sum(noise.transpose(order) for order in orders) / math.sqrt(6)
        power = direction[:, None, None] * direction[:, None] * direction
        return cls(xp.asarray(strength * power + noise))

    def __call__(self, theta):
        """Return the loss and its gradient (D,)."""
        pulled = (self.tensor @ theta) @ theta
        return -(pulled @ theta), -3 * pulled


@dataclasses.dataclass(frozen=True)
class SingleIndex:
    """``-mean y h(xᵀθ)`` for samples X (N, D), outputs y (N,), the normalised Hermite polynomial h of degree 3 or 4."""

    X: Any
    y: Any
    degree: int

    def __call__(self, theta):
        """Return the loss and its gradient (D,)."""
        value, slope = hermite(self.X @ theta, self.degree)
        N = len(self.y)
        return -(self.y @ value) / N, -(self.y * slope) @ self.X / N


def hermite(t, degree):
    """The normalised Hermite polynomial of degree 3 or 4, and its derivative."""
    if degree == 3:
        return (t**3 - 3 * t) / math.sqrt(6), (3 * t**2 - 3) / math.sqrt(6)
    return (t**4 - 6 * t**2 + 3) / math.sqrt(24), (4 * t**3 - 12 * t) / math.sqrt(24)
