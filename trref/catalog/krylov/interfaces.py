"""Where the examples of linear solvers come from, and their certificate."""

import itertools
import math

from trref.backend import linalg, xp
from trref.catalog.record import Interface
from trref.krylov.terms import norm
from trref.problems.convex import DenseOperator, spd_matrix, spectrum

__all__ = [
    "FAILURES",
    "GENERAL_SOLVER",
    "NOT_DEFINITE",
    "NOT_SYMMETRIC",
    "NO_SOLUTION",
    "REFUSED",
    "SPD_SOLVER",
    "SYMMETRIC_SOLVER",
    "TOLERANCES",
    "best_so_far",
    "norm_misreported",
    "relative_residual",
]


def _example(rng, size):
    eigenvalues = rng.choice((0.1, 1.0, 30.0)) * spectrum(
        size, rng.choice((2.0, 30.0, 1000.0))
    )
    A = spd_matrix(rng, eigenvalues)
    given = rng.random() < 0.5
    return {
        "matvec": DenseOperator(A),
        "b": rng.standard_normal(size),
        "x0": rng.standard_normal(size) if given else None,
        "preconditioner": DenseOperator(xp.diag(1 / xp.diag(A))) if given else None,
    }


def _edge(A, b, x0=None, preconditioner=None):
    to_array = lambda v: None if v is None else xp.array(v, dtype=float)  # noqa: E731
    return {
        "matvec": DenseOperator(to_array(A)),
        "b": to_array(b),
        "x0": to_array(x0),
        "preconditioner": None
        if preconditioner is None
        else DenseOperator(to_array(preconditioner)),
    }


def _symmetric_example(rng, size):
    """Eigenvalues of both signs, well away from zero."""
    scale, condition = rng.choice((0.1, 1.0, 30.0)), rng.choice((2.0, 10.0, 30.0))
    A = spd_matrix(
        rng, scale * spectrum(size, condition) * rng.choice((-1.0, 1.0), size)
    )
    given = rng.random() < 0.5
    return {
        "matvec": DenseOperator(A),
        "b": rng.standard_normal(size),
        "x0": rng.standard_normal(size) if given else None,
        "preconditioner": DenseOperator(spd_matrix(rng, spectrum(size, 3.0) / scale))
        if given
        else None,
    }


def _general_example(rng, size):
    """A positive definite symmetric part, so that restarts of any length make progress."""
    scale = rng.choice((0.1, 1.0, 30.0))
    skew = rng.standard_normal((size, size)) / math.sqrt(size)
    A = scale * (
        spd_matrix(rng, spectrum(size, rng.choice((2.0, 10.0)))) + 0.3 * (skew - skew.T)
    )
    given = rng.random() < 0.5
    return {
        "matvec": DenseOperator(A),
        "b": rng.standard_normal(size),
        "x0": rng.standard_normal(size) if given else None,
        "preconditioner": DenseOperator(xp.diag(1 / xp.diag(A))) if given else None,
    }


A3 = [[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]]
EDGES = {
    "zero right-hand side": lambda: _edge(A3, [0, 0, 0], x0=[1, 2, 3]),
    "start at the solution": lambda: _edge(A3, [5, 5, 3], x0=[1, 1, 1]),
    "repeated eigenvalues": lambda: _edge(
        xp.diag(xp.array([2.0, 2.0, 2.0, 5.0])), [1, 2, 3, 4]
    ),
    "singular, consistent": lambda: _edge(
        xp.diag(xp.array([2.0, 1.0, 0.0])), [1, 1, 0], x0=[0, 0, 7]
    ),
    "one unknown": lambda: _edge([[2.5]], [-1.0]),
    "small right-hand side": lambda: _edge(A3, [1e-9, -2e-9, 3e-9]),
    "small matrix": lambda: _edge(1e-15 * xp.array(A3), [1, -2, 3]),
    "large right-hand side": lambda: _edge(A3, [1e9, -2e9, 3e9]),
    "the inverse as preconditioner": lambda: _edge(
        A3, [1, 2, 3], preconditioner=xp.linalg.inv(xp.array(A3))
    ),
}
SYMMETRIC_EDGES = {
    "eigenvalues of both signs": lambda: _edge(
        xp.diag(xp.array([1.0, -1.0, 2.0])), [1, 1, 1]
    ),
    "zero curvature along the first direction": lambda: _edge([[0, 1], [1, 0]], [1, 0]),
    "negative definite": lambda: _edge(-xp.array(A3), [1, 2, 3]),
}
GENERAL_EDGES = {
    "a rotation": lambda: _edge([[0.6, -0.8], [0.8, 0.6]], [1, 0]),
    "a Jordan block": lambda: _edge([[2, 1, 0], [0, 2, 1], [0, 0, 2]], [1, 1, 1]),
}

HILBERT = [
    [1 / (i + j + 1) for j in range(6)] for i in range(6)
]  # solutions are so large that A x is rounded to 1e-10

FAILURES = {
    "two iterations for three unknowns": lambda: (
        _edge(A3, [1, -2, 5], x0=[1, 2, 3]),
        {"max_iter": 2},
    ),
    "no solution": lambda: (_edge(xp.diag(xp.array([2.0, 1.0, 0.0])), [1, 1, 1]), {}),
    "beyond rounding": lambda: (_edge(HILBERT, [1] * 6), {"rtol": 1e-15}),
}
"""What a linear solver for symmetric semi-definite systems cannot do."""


def _path(n):
    """The Laplacian of a path of n points: singular along (1, …, 1)."""
    A = 2 * xp.eye(n) - xp.eye(n, k=1) - xp.eye(n, k=-1)
    A[0, 0] = A[-1, -1] = 1.0
    return A


NO_SOLUTION = {
    **{
        f"no solution on a path of {n}": lambda n=n: (
            _edge(_path(n), xp.arange(1.0, n + 1) ** 2),
            {},
        )
        for n in (4, 15, 24)
    },
    "no solution on a path, from elsewhere": lambda: (
        _edge(_path(5), [3, 1, 4, 1, 5], x0=[9, -2, 6, 5, 3]),
        {},
    ),
    "no solution, of both signs": lambda: (
        _edge(xp.diag(xp.array([3.0, -2.0, 0.5, 0.0])), [1, 2, 3, 4]),
        {},
    ),
    "no matrix at all": lambda: (_edge(xp.zeros((2, 2)), [1, 2]), {}),
}
"""Singular systems without a solution: the residual ends at its smallest, and x stays near."""

NOT_SYMMETRIC = {
    "not symmetric": lambda: (_edge([[2, 1], [0, 2]], [1, 2]), {}),
    "a product of another length": lambda: (
        _edge([[1, 0], [0, 1], [0, 0]], [1, 2]),
        {},
    ),
    "products that are not finite": lambda: (
        _edge([[1, 0], [0, math.nan]], [1, 2]),
        {},
    ),
    "a preconditioner that is not definite": lambda: (
        _edge(A3, [1, 2, 3], preconditioner=-xp.eye(3)),
        {},
    ),
}
"""What a solver for symmetric systems must not take."""

NOT_DEFINITE = {
    "negative curvature": lambda: (_edge([[1, 0], [0, -1]], [1, 2]), {}),
    "no curvature along the first direction": lambda: (
        _edge([[1, 0], [0, -1]], [1, 1]),
        {},
    ),
}
REFUSED = NOT_SYMMETRIC | NOT_DEFINITE
"""What a solver for symmetric positive definite systems must not take."""

SPD_SOLVER = Interface("spd_solver", example=_example, edges=EDGES)
"""``solver(matvec, b, *, x0, preconditioner, rtol, max_iter) -> KrylovResult`` for a symmetric positive definite A."""

SYMMETRIC_SOLVER = Interface(
    "symmetric_solver", example=_symmetric_example, edges=EDGES | SYMMETRIC_EDGES
)
"""The same for a symmetric A, definite or not; the preconditioner is symmetric positive definite."""

GENERAL_SOLVER = Interface(
    "general_solver", example=_general_example, edges=EDGES | GENERAL_EDGES
)
"""The same for a square A."""


def relative_residual(result, matvec, b, x0=None, rtol=1e-8, **_):
    """Certificate of a linear solver: the true residual ‖b - Ax‖, relative to what was asked for, rtol ‖b‖.

    For b = 0 the first residual takes its place. The last norm reported is that of the same residual.
    """
    target = rtol * (norm(b) or (norm(matvec(x0)) if x0 is not None else 0.0))
    residual = norm(b - matvec(result.x))
    relative = lambda size: size / target if target else math.inf if size else 0.0  # noqa: E731
    return {
        "residual over its target": relative(residual),
        "error of the last norm reported": relative(
            abs(residual - result.residual_norms[-1])
        ),
    }


def norm_misreported(result, matvec, b):
    """How far the last norm reported is from that of the true residual, and its bound: the rounding of the products."""
    residual = norm(b - matvec(result.x))
    return abs(residual - result.residual_norms[-1]), 1e-14 * (
        norm(matvec(abs(result.x))) + norm(b)
    )


def best_so_far(result, matvec, b, x0=None, max_iter=None, **_):
    """However early it stops: a residual no larger than at the start and as reported; no norm rises. With a singular
    matrix, symmetric here, and all the iterations that it wants it ends with a least-squares solution, A (b - A x) = 0.
    """
    start = norm(b - matvec(x0)) if x0 is not None else norm(b)
    misreported, rounding = norm_misreported(result, matvec, b)
    rises = [
        after - before for before, after in itertools.pairwise(result.residual_norms)
    ]
    figures, residual = {}, b - matvec(result.x)
    sizes = linalg.svd(xp.stack([matvec(e) for e in xp.eye(len(b))]))[1]
    if max_iter is None and sizes[-1] <= 1e-12 * sizes[0]:
        left = norm(matvec(residual)), 1e-7 * float(sizes[0]) * norm(residual)
        figures["distance from a least-squares solution"] = left
    return {
        **figures,
        "residual over that of the start": (norm(residual) / start, 1 + 1e-12),
        "rise of the norms reported": (max(rises, default=0.0), 0.0),
        "error of the last norm reported": (misreported, rounding),
    }


TOLERANCES = {
    "residual over its target": 1.001,
    "error of the last norm reported": 1.001,
}
