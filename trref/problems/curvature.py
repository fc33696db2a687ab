"""Hessians of the smooth test problems, as callables: ``hessian(x) -> (n, n)``."""

import dataclasses
from typing import Any

from trref.backend import xp

__all__ = ["LogisticHessian", "QuadraticHessian", "RosenbrockHessian"]


@dataclasses.dataclass(frozen=True)
class QuadraticHessian:
    """Of `trref.problems.convex.Quadratic`: A, wherever."""

    A: Any

    def __call__(self, x):
        return self.A.copy()


@dataclasses.dataclass(frozen=True)
class LogisticHessian:
    """Of `trref.problems.convex.Logistic`."""

    X: Any
    y: Any
    l2: float = 0.0

    def __call__(self, w):
        margins = self.y * (self.X @ w)
        # p (1 - p) for the logistic function p of the margins, without overflow
        weight = xp.exp(
            -xp.logaddexp(xp.zeros_like(margins), margins)
            - xp.logaddexp(xp.zeros_like(margins), -margins)
        )
        return self.X.T @ (weight[:, None] * self.X) / len(self.y) + self.l2 * xp.eye(
            len(w), dtype=w.dtype
        )


@dataclasses.dataclass(frozen=True)
class RosenbrockHessian:
    """Of `trref.problems.convex.Rosenbrock`."""

    def __call__(self, x):
        diagonal = xp.zeros_like(x)
        diagonal[:-1] += 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
        diagonal[1:] += 200
        side = -400 * x[:-1]
        return xp.diag(diagonal) + xp.diag(side, 1) + xp.diag(side, -1)
