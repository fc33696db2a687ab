"""Where the examples of transport come from, and the certificate of its solvers."""

import math

from trref.backend import linalg, xp
from trref.catalog import Interface

__all__ = ["CERTIFICATE", "DUAL", "FAR", "TRANSPORT", "arrays", "optimality"]


def optimality(result, cost, a, b, reg, tol=1e-9, **_):
    """Certificate of a transport solver: feasible to tol, and the plan that its potentials give, down to 1e-100.

    Only the optimal plan is both. The potentials may be shifted by a common constant.
    """
    P = result.plan
    error = abs(P.sum(1) - a / a.sum()).sum() + abs(P.sum(0) - b / b.sum()).sum()
    exponent = (result.f[:, None] + result.g - cost) / reg - 1
    off = reg * abs(
        xp.log(xp.maximum(P, 1e-100)) - xp.maximum(exponent, math.log(1e-100))
    )
    return {
        "marginal error over its target": float(error) / tol,
        "plan off its potentials, relative to the cost": float(
            off.max() / (reg + abs(cost).max())
        ),
    }


def honest(result, cost, a, b, reg, **_):
    """However early a solver stops, its plan is that of its potentials, and its error is right."""
    off = optimality(result, cost, a, b, reg)[
        "plan off its potentials, relative to the cost"
    ]
    P = result.plan
    error = abs(P.sum(1) - a / a.sum()).sum() + abs(P.sum(0) - b / b.sum()).sum()
    return {
        "plan off its potentials, relative to the cost": (off, 1e-9),
        "marginal error misreported": (
            abs(float(error) - result.marginal_errors[-1]),
            1e-12,
        ),
    }


def potentials_of(plan, cost, a, b, reg, **_):
    """The potentials that give a plan, up to a shift: least squares over its entries above 1e-100."""
    n, m = plan.shape
    i, j = xp.nonzero(plan > 1e-100)
    sums = xp.zeros((len(i), n + m))
    sums[xp.arange(len(i)), i] = 1
    sums[xp.arange(len(i)), n + j] = 1
    both = linalg.lstsq(sums, cost[i, j] + reg * (xp.log(plan[i, j]) + 1), rcond=None)[
        0
    ]
    return {"f": both[:n], "g": both[n:]}


CERTIFICATE = {
    "certificate": optimality,
    "complete": potentials_of,
    "tolerances": {
        "marginal error over its target": 1.001,
        "plan off its potentials, relative to the cost": 1e-9,
    },
    "agreement": 1e-6,
    "remains": honest,
    "failures": {
        "three iterations for a small regularisation": lambda: (
            TRANSPORT.edges["two optimal plans"](),
            {"reg": 0.02, "max_iter": 3, "tol": 1e-12},
        ),
        "five iterations where mass must go far": lambda: (
            FAR(),
            {"reg": 0.1, "max_iter": 5},
        ),
    },
}


def arrays(**values):
    """Return an edge: a function without arguments that gives these lists as arrays."""
    return lambda: {
        name: xp.array(value, dtype=float) for name, value in values.items()
    }


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
    return {
        "cost": rng.choice((0.05, 0.4, 1.5)) * cost,
        "a": _masses(rng, n),
        "b": _masses(rng, m),
    }


TRANSPORT = Interface(
    "transport",
    example=_example,
    edges={
        "constant cost": arrays(
            cost=[[0.3] * 3] * 2, a=[0.25, 0.75], b=[0.5, 0.25, 0.25]
        ),
        "one source": arrays(cost=[[0.1, -0.2, 0.4]], a=[1.0], b=[0.5, 0.25, 0.25]),
        "one point each": arrays(cost=[[0.7]], a=[1.0], b=[1.0]),
        "two optimal plans": arrays(
            cost=[[0.0, 1.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]],
            a=[1 / 3] * 3,
            b=[1 / 3] * 3,
        ),
        "a nearly empty point": arrays(
            cost=[[0.0, 1.0], [1.0, 0.2]], a=[1 - 1e-12, 1e-12], b=[0.5, 0.5]
        ),
        "a large common cost": arrays(
            cost=[[50.0, 50.3], [50.2, 50.1]], a=[0.5, 0.5], b=[0.375, 0.625]
        ),
    },
)
"""``solve(cost (n m), a (n), b (m), *, reg, tol, max_iter) -> TransportResult``; a and b sum to 1."""


FAR = arrays(
    cost=[[0.0, 30.0, 0.0], [30.0, 0.0, 30.0]], a=[0.5, 0.5], b=[0.125, 0.75, 0.125]
)
"""Potentials that move far from where they start."""


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


def _dual_example(rng, size):
    problem = TRANSPORT.example(rng, size)
    n, m = problem["cost"].shape
    drawn = {"f": 0.1 * rng.standard_normal(n), "g": 0.1 * rng.standard_normal(m) - 0.2}
    drawn |= {"u": rng.standard_normal(n), "v": rng.standard_normal(m)}
    plan = problem["a"][:, None] * problem["b"] * rng.exponential(1.0, (n, m))
    return {**drawn, "plan": plan, **problem}


DUAL = Interface(
    "dual",
    example=_dual_example,
    edges={name: arrays(**numbers) for name, numbers in NUMBERS.items()},
)
"""Potentials f (n) and g (m), a problem, a direction (u, v), and a plan."""
