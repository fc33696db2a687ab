"""What sharpness-aware methods share."""

from trref.backend import xp

__all__ = ["direction", "length"]


def length(v):
    """Return the Euclidean norm of v (P,), also where squares would vanish or overflow."""
    return (v * direction(v)).sum()


def direction(v):
    """Return v (P,) divided by its norm; 0 where v is 0."""
    largest = abs(v).max()
    u = v / xp.where(largest > 0, largest, 1)
    return u / xp.sqrt(xp.maximum((u * u).sum(), 1))
