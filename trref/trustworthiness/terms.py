"""What several methods of the family share."""

from trref import validate
from trref.backend import xp


def unit(x):
    """Rows of unit length; 0 stays."""
    length = xp.sqrt((x**2).sum(1, keepdims=True))
    return x / xp.where(length > 0, length, 1)


def every_group(group, groups, **_):
    """A group beyond the last; one without members."""

    def all_there():
        return (group[:, None] == xp.arange(groups)).any(0).all()

    message = f"group must have a member of each of the {groups} groups"
    return [validate.labels(group, groups, "group"), (all_there, message)]
