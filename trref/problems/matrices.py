"""Functions of a matrix X (m, n), as callables: ``f(X) -> (value, gradient)``.

For polargrad, fismo, noneuclidean_trust_region, muon (in polar_decomposition) and psgd_kronecker.
"""

import dataclasses
from typing import Any

from trref.backend import special, xp

__all__ = ["Completion", "MatrixLogistic", "MatrixQuadratic"]


@dataclasses.dataclass(frozen=True)
class MatrixQuadratic:
    """``‖A X B - C‖²/2``: the Hessian's eigenvalues are products of those of AᵀA and BBᵀ."""

    A: Any
    B: Any
    C: Any

    def __call__(self, X):
        """Return value and gradient."""
        _require_shape(X, (self.A.shape[1], self.B.shape[0]))
        r = self.A @ X @ self.B - self.C
        return (r * r).sum() / 2, self.A.T @ r @ self.B.T

    def hessian_product(self, X, V):
        """Return the derivative of the gradient along V."""
        return self.A.T @ (self.A @ V @ self.B) @ self.B.T


@dataclasses.dataclass(frozen=True)
class MatrixLogistic:
    """``Σ log(1 + exp(-C ∘ (A X B)))`` over all entries, for labels C of ±1."""

    A: Any
    B: Any
    C: Any

    def __call__(self, X):
        """Return value and gradient."""
        _require_shape(X, (self.A.shape[1], self.B.shape[0]))
        margins = self.C * (self.A @ X @ self.B)
        value = xp.logaddexp(xp.zeros_like(margins), -margins).sum()
        return value, -self.A.T @ (self.C * special.expit(-margins)) @ self.B.T

    def hessian_product(self, X, V):
        """Return the derivative of the gradient along V."""
        margins = self.C * (self.A @ X @ self.B)
        bend = special.expit(margins) * special.expit(-margins)
        return self.A.T @ (bend * (self.A @ V @ self.B)) @ self.B.T


@dataclasses.dataclass(frozen=True)
class Completion:
    """``‖mask ∘ (X - M)‖²/2``: only entries of M where the mask is 1 are known."""

    mask: Any
    M: Any

    def __call__(self, X):
        """Return value and gradient."""
        _require_shape(X, self.M.shape)
        r = self.mask * (X - self.M)
        return (r * r).sum() / 2, r

    def hessian_product(self, X, V):
        """Return the derivative of the gradient along V."""
        return self.mask * V


def _require_shape(X, shape):
    if tuple(X.shape) != tuple(shape):
        raise ValueError(f"X must have shape {tuple(shape)}, not {tuple(X.shape)}")
