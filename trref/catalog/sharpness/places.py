"""Special inputs at which sharpness-aware methods become others."""

from trref.backend import xp
from trref.problems.convex import Quadratic

__all__ = ["a_quadratic"]


def a_quadratic(inputs):
    """the loss is quadratic"""
    theta = inputs["theta"]
    n = len(theta)
    scale = 0.5 + xp.arange(n, dtype=theta.dtype) / n
    A = xp.diag(scale) + xp.ones((n, n), dtype=theta.dtype) / n
    return {**inputs, "loss_and_grad": Quadratic(A, xp.ones_like(theta))}
