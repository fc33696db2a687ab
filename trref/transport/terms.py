r"""What the methods of transport share, and the one convention of the family.

With regularisation :math:`\varepsilon` (``reg``; other texts write :math:`\eta = 1/\varepsilon`), cost :math:`C` and
marginals :math:`a, b` of total mass 1, everywhere in this family: the entropy term is
:math:`\varepsilon \sum P \log P`, the plan of two potentials is
:math:`P_{ij} = \exp((f_i + g_j - C_{ij})/\varepsilon - 1)`, and the marginal error is
:math:`\|P 1 - a\|_1 + \|P^\top 1 - b\|_1`.
"""

import math
import warnings
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import xp
from trref.signature import M, N, Real

Regularisation = Annotated[float, "[1e-15, inf)"]


class TransportResult(NamedTuple):
    """Plan and potentials, and the marginal error after each iteration."""

    plan: Real[N, M]
    f: Real[N]
    g: Real[M]
    marginal_errors: list[float]
    iterations: int
    converged: bool


def coupling(x, y, scaled_cost):
    """Return ``exp(x_i + y_j - scaled_cost_ij - 1)``, the plan of potentials in units of the regularisation.

    The exponent is clipped where the square of the result would leave the range of normal numbers: below, because
    numbers next to zero make every operation slow; above, so that a trial point never overflows.
    """
    limit = -math.log(xp.finfo(scaled_cost.dtype).tiny) / 2
    exponent = x[:, None] - scaled_cost
    exponent += y - 1
    xp.clip(exponent, -limit, limit, out=exponent)
    return xp.exp(exponent, out=exponent)


def log_plan(f, g, cost, reg):
    """The logarithm of the plan of two potentials."""
    return (f[:, None] + g - cost) / reg - 1


def squared_distances(x, z):
    """Squared distances (n, m) of points x (n, d) and z (m, d)."""
    return ((x[:, None] - z) ** 2).sum(-1)


def finish(name, plan, a, b, errors, tol):
    """Replace the last error by the true one of the plan; return whether it is small enough, and warn if not."""
    true = abs(plan.sum(1) - a).sum() + abs(plan.sum(0) - b).sum()
    errors[-1] = float(true)
    converged = errors[-1] <= tol
    if not converged:
        message = (
            f"{name} stopped after {len(errors)} iterations at a marginal error of"
            f" {errors[-1]:.2e}, above {tol:g}"
        )
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=4)
    return converged


# ---- what is asked of the arguments beside their signature, as `also`


def bounded_plan(f, g, cost, reg, **_):
    """Potentials that make an entry of the plan too large."""
    bound = math.log(validate.LARGEST[f.dtype.itemsize])
    value = cost if callable(cost) else lambda: cost
    return [
        (
            lambda: (log_plan(f, g, value(), reg) <= bound).all(),
            "f and g make an entry of the plan too large",
        )
    ]


def masses(a, b, **_):
    """Masses that do not sum to 1 (to 1e-5), or are smaller than 1e-100 (float32: 1e-15)."""
    smallest = 1 / validate.LARGEST[a.dtype.itemsize]
    flags = []
    for name, mass in (("a", a), ("b", b)):
        flags += [
            (
                lambda mass=mass: abs(mass.sum() - 1) <= 1e-5,
                f"{name} must sum to 1 (to 1e-5)",
            ),
            (
                lambda mass=mass: (mass >= smallest).all(),
                f"{name} must be at least {smallest:g}: leave out empty points",
            ),
        ]
    return flags


def problem(cost, a, b, reg, **_):
    """Masses that do not sum to 1 (to 1e-5), or are smaller than 1e-100 (float32: 1e-15). A cost of more than 6.7e7
    times `reg` (float32: 2.9e3), beyond which rounding leaves the plan no right digit.
    """
    largest = float(xp.finfo(cost.dtype).eps ** -0.5)
    flag = (
        lambda: xp.maximum(cost.max(), -cost.min()) <= largest * reg,
        f"cost must be at most {largest:.1e} times reg",
    )
    return [flag, *masses(a, b)]
