"""What several methods of the family share."""

from trref.backend import xp


def unit(x):
    """Rows of unit length; 0 stays."""
    length = xp.sqrt((x**2).sum(1, keepdims=True))
    return x / xp.where(length > 0, length, 1)
