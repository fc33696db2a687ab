"""Functions of orthonormal frames, with their Euclidean gradients and Hessian-vector products, as callables."""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import xp

__all__ = ["AgentsPCA", "Brockett", "JointDiagonalisation", "Procrustes", "agents_pca"]


def _require_shape(x, shape):
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"x must have shape {tuple(shape)}, not {tuple(x.shape)}")


@dataclasses.dataclass(frozen=True)
class Brockett:
    """``f(x) = -tr(xᵀ A x N)/2`` with N = diag(weights), for symmetric A (n, n): its minimisers are eigenvectors."""

    A: Any
    weights: Any

    def __call__(self, x):
        _require_shape(x, (len(self.A), len(self.weights)))
        gradient = -(self.A @ x) * self.weights
        return (x * gradient).sum() / 2, gradient

    def hessian_vector(self, x, v):
        return -(self.A @ v) * self.weights


@dataclasses.dataclass(frozen=True)
class Procrustes:
    """``f(x) = ‖A x - B‖²/2`` for A (m, n) and B (m, p)."""

    A: Any
    B: Any

    def __call__(self, x):
        _require_shape(x, (self.A.shape[1], self.B.shape[1]))
        r = self.A @ x - self.B
        return (r * r).sum() / 2, self.A.T @ r

    def hessian_vector(self, x, v):
        return self.A.T @ (self.A @ v)


@dataclasses.dataclass(frozen=True)
class JointDiagonalisation:
    """``f(x) = -Σ_k ‖diag(xᵀ A_k x)‖²/4`` for symmetric matrices A (K, n, n): the frame that all nearly share."""

    A: Any

    def __call__(self, x):
        _require_shape(x, (self.A.shape[-1], x.shape[-1]))
        Ax = self.A @ x
        diagonals = (x * Ax).sum(-2)
        return -(diagonals**2).sum() / 4, -(Ax * diagonals[:, None, :]).sum(0)

    def hessian_vector(self, x, v):
        Ax, Av = self.A @ x, self.A @ v
        diagonals, moved = (x * Ax).sum(-2), 2 * (v * Ax).sum(-2)
        return -(Av * diagonals[:, None, :] + Ax * moved[:, None, :]).sum(0)


@dataclasses.dataclass(frozen=True)
class AgentsPCA:
    """One function an agent, ``f_i(x_i) = -tr(x_iᵀ C_i x_i)/2`` for symmetric C (agents, d, d).

    Called with frames x (agents, d, r) it gives the losses (agents,) and the gradients (agents, d, r).
    """

    C: Any

    def __call__(self, x):
        _require_shape(x, (*self.C.shape[:2], x.shape[-1]))
        gradient = -(self.C @ x)
        return (x * gradient).sum((-2, -1)) / 2, gradient


def agents_pca(rng, *, agents, dims, points=100, decay=0.8, spread=1.0):
    """Return an `AgentsPCA` on Gaussian rows split over the agents (host).

    Parameters
    ----------
    rng : numpy.random.Generator
    agents, dims : int
    points : int
        Rows an agent.
    decay : float
        The singular values of all rows together fall as ``decay^(j/2)``; the largest eigenvalue of the mean of the
        C_i is 1.
    spread : float
        The differences of the C_i from their mean are multiplied by it: 1 as drawn, 0 for identical functions.
    """
    U, _, Vt = np.linalg.svd(
        rng.standard_normal((agents * points, dims)), full_matrices=False
    )
    rows = ((U * decay ** (np.arange(dims) / 2)) @ Vt * np.sqrt(agents)).reshape(
        agents, points, dims
    )
    C = np.swapaxes(rows, 1, 2) @ rows
    mean = C.mean(0)
    return AgentsPCA(xp.asarray(mean + spread * (C - mean)))
