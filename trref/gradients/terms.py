"""What methods of this family share: directions of gradients of any length."""

from trref.backend import xp

__all__ = ["unit"]


def unit(gradients):
    """Return the gradients, along the last axis, at length 1; one that is 0 stays so."""
    largest = abs(gradients).max(-1, keepdims=True)
    # of no effect, but squares of tiny gradients would vanish
    u = gradients / xp.where(largest > 0, largest, 1)
    return u / xp.sqrt(xp.maximum((u * u).sum(-1, keepdims=True), 1))
