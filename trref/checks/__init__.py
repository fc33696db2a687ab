"""Gradient checks, and the contracts that every catalogued function keeps.

`check_gradient` compares a gradient written by hand with differences of the function; `check_record` runs all contracts
of a record. Third parties can use both on their own code. (All names here are functions and figures, `cases` and
`gradient` too, though modules of the package have the same names.)
"""

from trref.checks.cases import *  # noqa: F403
from trref.checks.contracts import *  # noqa: F403
from trref.checks.gradient import *  # noqa: F403
