"""What methods of policies share: the root of a function that falls, found for each state at once."""

from trref.backend import xp


def bisected(too_low, low, high, halvings):
    """Return brackets of roots, halved so many times; ``too_low(x)`` says where a root lies above x."""
    for _ in range(halvings):
        middle = (low + high) / 2
        above = too_low(middle)
        low, high = xp.where(above, middle, low), xp.where(above, high, middle)
    return low, high
