"""The signature that transport solvers share, and the one convention of the family.

With regularisation :math:`\\varepsilon` (``reg``; other texts write :math:`\\eta = 1/\\varepsilon`), cost :math:`C` and
marginals :math:`a, b` of total mass 1, everywhere in this family: the entropy term is
:math:`\\varepsilon \\sum P \\log P`, the plan of two potentials is
:math:`P_{ij} = \\exp((f_i + g_j - C_{ij})/\\varepsilon - 1)`, and the marginal error is
:math:`\\|P 1 - a\\|_1 + \\|P^\\top 1 - b\\|_1`.
"""

import math
import warnings
from typing import Any, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Input, Interface

__all__ = [
    "CERTIFICATE",
    "TRANSPORT",
    "TransportResult",
    "arrays",
    "checked_problem",
    "coupling",
    "dual_cases",
    "finish",
    "mass_flags",
    "optimality",
    "squared_distances",
]


class TransportResult(NamedTuple):
    """Plan (n, m), potentials f (n,) and g (m,), the marginal error after each iteration, their number, the verdict."""

    plan: Any
    f: Any
    g: Any
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


def squared_distances(x, z):
    """Squared distances (n, m) of points x (n, d) and z (m, d)."""
    return ((x[:, None] - z) ** 2).sum(-1)


def mass_flags(**masses):
    """Return the flags (see `trref.validate.deferred`) of masses that sum to 1 and are no smaller than 1e-100."""
    flags = []
    for name, mass in masses.items():
        smallest = 1 / validate.LARGEST[mass.dtype.itemsize]
        flags += [
            (lambda mass=mass: abs(mass.sum() - 1) <= 1e-5, f"{name} must sum to 1 (to 1e-5)"),
            (
                lambda mass=mass, smallest=smallest: (mass >= smallest).all(),
                f"{name} must be at least {smallest:g}: leave out empty points",
            ),
        ]
    return flags


def checked_problem(cost, a, b, *, reg, tol, max_iter):
    """Check what a solver gets; return a and b with their masses exactly 1, to rounding."""
    validate.interval("(0, inf)", reg=reg, tol=tol)
    validate.integer("[1, inf)", max_iter=max_iter)
    _, flags = validate.deferred(TRANSPORT.inputs, cost, a, b)
    largest = xp.finfo(cost.dtype).eps ** -0.5
    flags.append(
        (
            lambda: xp.maximum(cost.max(), -cost.min()) <= float(largest) * reg,
            f"cost must be at most {float(largest):.1e} times reg",
        )
    )
    validate.require(*flags, *mass_flags(a=a, b=b))
    return a / a.sum(), b / b.sum()


def finish(name, plan, a, b, errors, tol):
    """Replace the last error by the true one of the plan; return whether it is small enough, and warn if not."""
    true = abs(plan.sum(1) - a).sum() + abs(plan.sum(0) - b).sum()
    errors[-1] = float(true)
    converged = errors[-1] <= tol
    if not converged:
        message = (
            f"{name} stopped after {len(errors)} iterations at a marginal error of {errors[-1]:.2e}, above {tol:g}"
        )
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return converged


def optimality(result, cost, a, b, reg, tol=1e-9, **_):
    """Certificate of a transport solver: feasible to tol, and the plan that its potentials give, down to 1e-100.

    Only the optimal plan is both. The potentials may be shifted by a common constant.
    """
    P = result.plan
    error = abs(P.sum(1) - a / a.sum()).sum() + abs(P.sum(0) - b / b.sum()).sum()
    exponent = (result.f[:, None] + result.g - cost) / reg - 1
    off = reg * abs(xp.log(xp.maximum(P, 1e-100)) - xp.maximum(exponent, math.log(1e-100)))
    return {
        "marginal error over its target": float(error) / tol,
        "plan off its potentials, relative to the cost": float(off.max() / (reg + abs(cost).max())),
    }


def potentials_of(plan, cost, a, b, reg, **_):
    """The potentials that give a plan, up to a shift: least squares over its entries above 1e-100."""
    n, m = plan.shape
    i, j = xp.nonzero(plan > 1e-100)
    sums = xp.zeros((len(i), n + m))
    sums[xp.arange(len(i)), i] = 1
    sums[xp.arange(len(i)), n + j] = 1
    both = linalg.lstsq(sums, cost[i, j] + reg * (xp.log(plan[i, j]) + 1), rcond=None)[0]
    return {"f": both[:n], "g": both[n:]}


CERTIFICATE = {
    "certificate": optimality,
    "complete": potentials_of,
    "tolerances": {
        "marginal error over its target": 1.001,
        "plan off its potentials, relative to the cost": 1e-9,
    },
    "agreement": 1e-6,
}


def arrays(**values):
    """Return an edge: a function without arguments that gives these lists as arrays."""
    return lambda: {name: xp.array(value, dtype=float) for name, value in values.items()}


def _masses(rng, n):
    weights = rng.exponential(1.0, n) + 0.05
    return weights / weights.sum()


def _example(rng, size):
    n, m = max(1, size - size // 4), size
    if rng.random() < 0.5:
        cost = rng.random((n, m))
    else:
        x, y = rng.standard_normal((n, 2)), rng.standard_normal((m, 2)) + 0.5
        cost = ((x[:, None] - y) ** 2).sum(-1) / 8
    return {"cost": rng.choice((0.05, 0.4, 1.5)) * cost, "a": _masses(rng, n), "b": _masses(rng, m)}


TRANSPORT = Interface(
    "transport",
    inputs={"cost": Input("N M"), "a": Input("N", "positive"), "b": Input("M", "positive")},
    example=_example,
    edges={
        "constant cost": arrays(cost=[[0.3] * 3] * 2, a=[0.25, 0.75], b=[0.5, 0.25, 0.25]),
        "one source": arrays(cost=[[0.1, -0.2, 0.4]], a=[1.0], b=[0.5, 0.25, 0.25]),
        "one point each": arrays(cost=[[0.7]], a=[1.0], b=[1.0]),
        "two optimal plans": arrays(
            cost=[[0.0, 1.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], a=[1 / 3] * 3, b=[1 / 3] * 3
        ),
        "a nearly empty point": arrays(cost=[[0.0, 1.0], [1.0, 0.2]], a=[1 - 1e-12, 1e-12], b=[0.5, 0.5]),
        "a large common cost": arrays(cost=[[50.0, 50.3], [50.2, 50.1]], a=[0.5, 0.5], b=[0.375, 0.625]),
    },
)
"""``solve(cost (n m), a (n), b (m), *, reg, tol, max_iter) -> TransportResult``; a and b sum to 1."""


NUMBERS = {
    "an empty entry of the plan": {
        "f": [0.1, -0.3],
        "g": [0.0, 0.2],
        "cost": [[0.0, 1.0], [0.5, 0.0]],
        "a": [0.5, 0.5],
        "b": [0.25, 0.75],
        "u": [1.0, 2.0],
        "v": [-1.0, -1.0],
        "plan": [[0.25, 0.25], [0.0, 0.5]],
    },
    "distant points": {
        "f": [0.1, -0.3],
        "g": [0.05],
        "cost": [[0.0], [200.0]],
        "a": [0.5, 0.5],
        "b": [1.0],
        "u": [1.0, 2.0],
        "v": [-0.5],
        "plan": [[0.5], [0.5]],
    },
}


def dual_cases(names):
    """Return example and edges with these of: potentials, cost and masses, a direction (u, v), a plan."""

    def example(rng, size):
        problem = TRANSPORT.example(rng, size)
        n, m = problem["cost"].shape
        drawn = {"f": 0.1 * rng.standard_normal(n), "g": 0.1 * rng.standard_normal(m) - 0.2}
        drawn |= {"u": rng.standard_normal(n), "v": rng.standard_normal(m)}
        drawn |= {"plan": problem["a"][:, None] * problem["b"] * rng.exponential(1.0, (n, m)), **problem}
        return {name: drawn[name] for name in names}

    def edge(numbers):
        return lambda: {name: xp.array(numbers[name]) for name in names}

    return {"example": example, "edges": {name: edge(numbers) for name, numbers in NUMBERS.items()}}
