"""The signature that linear solvers share."""

from typing import Any, NamedTuple

from trref.backend import xp
from trref.catalog import Input, Interface
from trref.problems.convex import DenseOperator, spd_matrix, spectrum

__all__ = ["SPD_SOLVER", "KrylovResult", "relative_residual"]


class KrylovResult(NamedTuple):
    """Solution (n,), the norm of the residual at the start and after each iteration, their number, and the verdict."""

    x: Any
    residual_norms: list[float]
    iterations: int
    converged: bool


def _example(rng, size):
    eigenvalues = rng.choice((0.1, 1.0, 30.0)) * spectrum(size, rng.choice((2.0, 30.0, 1000.0)))
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
        "preconditioner": None if preconditioner is None else DenseOperator(to_array(preconditioner)),
    }


A3 = [[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]]
SPD_SOLVER = Interface(
    "spd_solver",
    inputs={
        "matvec": Input("", "callable"),
        "b": Input("N"),
        "x0": Input("N", optional=True),
        "preconditioner": Input("", "callable", optional=True),
    },
    example=_example,
    edges={
        "zero right-hand side": lambda: _edge(A3, [0, 0, 0], x0=[1, 2, 3]),
        "start at the solution": lambda: _edge(A3, [5, 5, 3], x0=[1, 1, 1]),
        "repeated eigenvalues": lambda: _edge(xp.diag(xp.array([2.0, 2.0, 2.0, 5.0])), [1, 2, 3, 4]),
        "singular, consistent": lambda: _edge(xp.diag(xp.array([2.0, 1.0, 0.0])), [1, 1, 0], x0=[0, 0, 7]),
        "one unknown": lambda: _edge([[2.5]], [-1.0]),
        "the inverse as preconditioner": lambda: _edge(A3, [1, 2, 3], preconditioner=xp.linalg.inv(xp.array(A3))),
    },
)
"""``solver(matvec, b, *, x0, preconditioner, rtol, max_iter) -> KrylovResult`` for a symmetric positive definite A."""


def relative_residual(result, matvec, b, rtol=1e-8, **_):
    """Certificate of a linear solver: the true residual ‖b - Ax‖, relative to what was asked for, rtol ‖b‖."""
    target = rtol * float(xp.sqrt((b * b).sum()))
    residual = b - matvec(result.x)
    norm = float(xp.sqrt((residual * residual).sum()))
    return {"residual over its target": norm / target if target else norm}
