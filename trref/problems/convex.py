"""Smooth test problems as callables: linear operators, quadratics, logistic regression, and Rosenbrock's function.

The functions give value and gradient when called, and have ``hessian_product(x, v)``, which gradient_regularization,
gam, oasis and psgd need.
"""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import xp

__all__ = [
    "DenseOperator",
    "Logistic",
    "PoissonOperator",
    "Quadratic",
    "Rosenbrock",
    "logistic",
    "spd_matrix",
    "spectrum",
]


def _require_length(name, v, n):
    if v.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), not {tuple(v.shape)}")


@dataclasses.dataclass(frozen=True)
class DenseOperator:
    """``operator(v) = A v`` for a matrix A (n, n)."""

    A: Any

    def __call__(self, v):
        _require_length("v", v, self.A.shape[1])
        return self.A @ v


@dataclasses.dataclass(frozen=True)
class PoissonOperator:
    """The 5-point Laplacian (positive definite) on a grid × grid square with zero boundary, on vectors (grid²,)."""

    grid: int

    def __call__(self, v):
        _require_length("v", v, self.grid**2)
        u = v.reshape(self.grid, self.grid)
        w = 4 * u
        w[1:] -= u[:-1]
        w[:-1] -= u[1:]
        w[:, 1:] -= u[:, :-1]
        w[:, :-1] -= u[:, 1:]
        return w.ravel()


@dataclasses.dataclass(frozen=True)
class Quadratic:
    """``f(x) = xᵀAx/2 - bᵀx`` with its gradient, for symmetric A (n, n)."""

    A: Any
    b: Any

    def __call__(self, x):
        _require_length("x", x, len(self.b))
        r = self.A @ x - self.b
        return (x * (r - self.b)).sum() / 2, r

    def hessian_product(self, x, v):
        """``A v``, wherever."""
        _require_length("v", v, len(self.b))
        return self.A @ v


@dataclasses.dataclass(frozen=True)
class Logistic:
    """Mean logistic loss with labels ±1 and an L2 penalty ``l2/2 ‖w‖²``: ``f(w) -> (value, gradient)``."""

    X: Any
    y: Any
    l2: float = 0.0

    def __call__(self, w):
        _require_length("w", w, self.X.shape[1])
        margins = self.y * (self.X @ w)
        loss = (
            xp.logaddexp(xp.zeros_like(margins), -margins).mean()
            + self.l2 / 2 * (w * w).sum()
        )
        # the logistic function of -margins, without overflow
        p = xp.exp(-xp.logaddexp(xp.zeros_like(margins), margins))
        return loss, -(self.X.T @ (self.y * p)) / len(self.y) + self.l2 * w

    def hessian_product(self, w, v):
        """``Xᵀ diag(p (1 - p)) X v / N + l2 v``, p the probabilities of the labels."""
        _require_length("w", w, self.X.shape[1])
        margins = self.y * (self.X @ w)
        slope = xp.exp(
            -xp.logaddexp(xp.zeros_like(margins), margins)
            - xp.logaddexp(xp.zeros_like(margins), -margins)
        )
        return self.X.T @ (slope * (self.X @ v)) / len(self.y) + self.l2 * v


@dataclasses.dataclass(frozen=True)
class Rosenbrock:
    """``sum 100 (x_{i+1} - x_i²)² + (1 - x_i)²`` for x (n,), n ≥ 2, with its gradient; the minimum is at 1."""

    def __call__(self, x):
        a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
        g = xp.zeros_like(x)
        g[1:] += 200 * a
        g[:-1] += -400 * x[:-1] * a - 2 * b
        return (100 * a**2 + b**2).sum(), g

    def hessian_product(self, x, v):
        """The tridiagonal Hessian times v."""
        product = xp.zeros_like(x)
        product[:-1] += (1200 * x[:-1] ** 2 - 400 * x[1:] + 2) * v[:-1] - 400 * x[
            :-1
        ] * v[1:]
        product[1:] += 200 * v[1:] - 400 * x[:-1] * v[:-1]
        return product


def spectrum(n, condition):
    """Return n eigenvalues from 1 down to 1/condition, in geometric progression (host)."""
    return condition ** -np.linspace(0.0, 1.0, n) if n > 1 else np.ones(1)


def spd_matrix(rng, eigenvalues):
    """Return a symmetric matrix with the given eigenvalues and random eigenvectors (host)."""
    Q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))
    A = (Q * eigenvalues) @ Q.T
    return (A + A.T) / 2


def logistic(rng, *, points, dims, l2=1e-3):
    """Return a `Logistic` on random points with labels from a noisy linear rule (host)."""
    X = rng.standard_normal((points, dims))
    y = np.where(
        X @ rng.standard_normal(dims) + 0.5 * rng.standard_normal(points) > 0, 1.0, -1.0
    )
    return Logistic(X, y, l2)
