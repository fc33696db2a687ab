"""Losses of a model's outputs: ``loss(z (N, K)) -> (value, gradient (N, K))``, a mean over rows.

For target_surrogates, which asks for a loss of the outputs apart from the network.
"""

import dataclasses
from typing import Any

from trref.backend import special, xp
from trref.nn import losses

__all__ = ["BinaryTargets", "SoftmaxTargets", "SquaredTargets"]


@dataclasses.dataclass(frozen=True)
class SquaredTargets:
    """Half the squared distance from y (N, K), whose gradient has the Lipschitz constant 1/N."""

    y: Any

    def __call__(self, z):
        """Return the loss and its gradient."""
        return losses.squared_error(z, self.y)

    def on(self, rows):
        """Return the loss of some rows: a slice or an integer array."""
        return SquaredTargets(self.y[rows])


@dataclasses.dataclass(frozen=True)
class SoftmaxTargets:
    """Cross-entropy of the softmax of each row with labels (N,); the Lipschitz constant is 1/(2 N)."""

    labels: Any

    def __call__(self, z):
        """Return the loss and its gradient."""
        return losses.softmax_cross_entropy(z, self.labels)

    def on(self, rows):
        """Return the loss of some rows: a slice or an integer array."""
        return SoftmaxTargets(self.labels[rows])


@dataclasses.dataclass(frozen=True)
class BinaryTargets:
    """The logistic loss ``softplus(z) - y z`` for y (N, K) of 0 and 1; the Lipschitz constant is 1/(4 N)."""

    y: Any

    def __call__(self, z):
        """Return the loss and its gradient."""
        value = (xp.logaddexp(xp.zeros_like(z), z) - self.y * z).sum() / len(z)
        return value, (special.expit(z) - self.y) / len(z)

    def on(self, rows):
        """Return the loss of some rows: a slice or an integer array."""
        return BinaryTargets(self.y[rows])
