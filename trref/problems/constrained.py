"""Smooth problems under equality constraints, with second derivatives.

An objective gives its value (a scalar), gradient (N) and Hessian (N, N) when called; constraints give their values (M),
Jacobian (M, N) and Hessians (M, N, N), and are met where the values are 0.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from trref.backend import xp

__all__ = ["QuadraticConstraints", "WithHessian", "on_the_sphere"]


@dataclasses.dataclass(frozen=True)
class WithHessian:
    """An objective of `trref.problems.convex` and its Hessian of `trref.problems.curvature`, in one call."""

    loss_and_grad: Callable
    hessian: Callable

    def __call__(self, x):
        return *self.loss_and_grad(x), self.hessian(x)


@dataclasses.dataclass(frozen=True)
class QuadraticConstraints:
    """``c_i(x) = xᵀQ_i x/2 + A_i·x - b_i``, for A (M, N), b (M) and symmetric Q (M, N, N)."""

    A: Any
    b: Any
    Q: Any

    def __call__(self, x):
        if x.shape != self.A.shape[1:]:
            raise ValueError(
                f"x must have shape {tuple(self.A.shape[1:])}, not {tuple(x.shape)}"
            )
        bent = self.Q @ x
        return bent @ x / 2 + self.A @ x - self.b, bent + self.A, self.Q.copy()


def on_the_sphere(A, b):
    """Constraints ``‖x‖²/2 = 1/2`` and ``A x = b``; A may have no rows."""
    n = A.shape[1]
    rows = xp.concatenate([xp.zeros((1, n), dtype=A.dtype), A])
    bends = xp.zeros((len(rows), n, n), dtype=A.dtype)
    bends[0] = xp.eye(n, dtype=A.dtype)
    return QuadraticConstraints(
        rows, xp.concatenate([xp.full(1, 0.5, dtype=A.dtype), b]), bends
    )
