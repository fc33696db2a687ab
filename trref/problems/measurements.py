"""Linear measurements of rows.

For dds (conjugate gradients on each row's normal equations) and optimal_gaussian_diffusion (goals of what is decoded).
"""

import dataclasses
from typing import Any

__all__ = ["GoalCost", "LinearMeasurement", "NormalOperator"]


@dataclasses.dataclass(frozen=True)
class LinearMeasurement:
    """``y = A x`` for every row x (N, D) and a matrix A (M, D)."""

    A: Any

    def __call__(self, x):
        """Return the measurements (N, M)."""
        _require_columns("x", x, self.A.shape[1])
        return x @ self.A.T

    def adjoint(self, y):
        """Return ``Aᵀ y`` (N, D) for every row of y (N, M)."""
        _require_columns("y", y, self.A.shape[0])
        return y @ self.A

    def normal(self, x):
        """Return ``AᵀA x`` (N, D) for every row."""
        return self.adjoint(self(x))

    def misfit(self, x, y):
        """Return ``‖A x - y‖²/2`` for every row (N,), and its gradients (N, D)."""
        r = self(x) - y
        return (r * r).sum(1) / 2, self.adjoint(r)


@dataclasses.dataclass(frozen=True)
class NormalOperator:
    """``shift x + AᵀA x`` for every row x (N, D): positive definite for a positive shift. For dds."""

    A: Any
    shift: float = 1.0

    def __call__(self, x):
        """Return the products (N, D)."""
        return self.shift * x + LinearMeasurement(self.A).normal(x)


@dataclasses.dataclass(frozen=True)
class GoalCost:
    """Mean squared distance of ``decoder x + offset`` from a goal (M,), for a decoder (M, D): a cost a row.

    For optimal_gaussian_diffusion, whose trajectories are decoded linearly.
    """

    decoder: Any
    offset: Any
    goal: Any

    def __call__(self, x):
        """Return costs (N,) and their gradients (N, D)."""
        r = LinearMeasurement(self.decoder)(x) + self.offset - self.goal
        M = len(self.goal)
        return (r * r).sum(1) / M, 2 / M * r @ self.decoder


def _require_columns(name, x, D):
    if x.ndim != 2 or x.shape[1] != D:
        raise ValueError(f"{name} must have shape (N, {D}), not {tuple(x.shape)}")
