"""Where the examples of hard constraints come from: small equations with few basis functions."""

import numpy as np

from trref.backend import xp
from trref.catalog import Interface
from trref.problems.pde import PolynomialEquation

__all__ = ["EQUATION", "small_equation", "stationarity"]


def small_equation(rng, points, bent):
    """Two rows more than points, a residual that few functions do not reduce to 0, and nonlinear terms."""
    rows = points + 2
    linear = (
        xp.eye(rows, points) + 0.3 * rng.standard_normal((rows, points)) / points**0.5
    )
    diagonal = xp.eye(rows, points)
    return PolynomialEquation(
        linear,
        bent * rng.uniform(0.5, 1, rows)[:, None] * diagonal,
        bent * rng.uniform(0.5, 1, rows)[:, None] * diagonal,
        rng.standard_normal(rows),
    )


def _example(rng, size):
    N, K = min(int(rng.integers(2, 4)), size), int(rng.integers(1, 4))
    rows = (rng.random((K, size + 2)) < 0.7).astype(float)
    rows[:, : size + 1 : 2] = 1.0
    w0 = 0.3 * rng.standard_normal(N)
    return {
        "equation": small_equation(rng, size, float(rng.choice((0.05, 0.2)))),
        "basis": rng.standard_normal((size, N)),
        "w0": w0,
        "weights": w0 + 0.2,
        "output_gradient": rng.standard_normal(size),
        "owner": rng.integers(0, K, size),
        "rows": rows,
    }


def _fit(arguments, inputs):
    """One expert's rows where there are no experts."""
    if "rows" in inputs and "owner" not in inputs:
        return {**arguments, "rows": arguments["rows"][0]}
    return arguments


def _edge(basis, w0, bent=0.1, K=1, seed=0):
    basis = xp.array(basis)
    points = len(basis)
    rng = np.random.default_rng(seed)
    return {
        "equation": small_equation(rng, points, bent),
        "basis": basis,
        "w0": xp.array(w0),
        "weights": xp.array(w0) - 0.25,
        "output_gradient": xp.linspace(-1.0, 1.0, points) + 0.25,
        "owner": xp.arange(points) % K,
        "rows": xp.ones((K, points + 2)),
    }


EQUATION = Interface(
    "equation",
    example=_example,
    edges={
        "one function": lambda: _edge([[1.0], [0.5], [-1.0]], [0.5]),
        "linear": lambda: _edge(
            [[1.0, 0.0], [0.5, 1.0], [-1.0, 0.25]], [0.0, 0.5], bent=0.0
        ),
        "two experts": lambda: _edge(
            [[1.0, 0.0], [0.5, 1.0], [-1.0, 0.25], [0.0, 2.0]], [0.5, 0.5], K=2
        ),
        "bent, from far away": lambda: _edge(
            [[1.0, 0.5], [-0.5, 1.0], [1.5, -0.25]], [1.5, -2.0], bent=0.75
        ),
        "a function that is 0": lambda: _edge(
            [[1.0, 0.0], [0.5, 0.0], [-1.0, 0.0]], [0.5, 0.25]
        ),
    },
    fit=_fit,
)
"""``f(equation, basis, w0 or weights, …, rows)``, with the owner of each point where there are experts."""


def stationarity(equation, basis, w, rows, ridge):
    """Residual, Jacobian and gradient at weights, from dense matrices of the equation."""
    u = basis @ w
    r = rows * (
        equation.linear @ u
        + equation.quadratic @ u**2
        + equation.cubic @ u**3
        + equation.source
    )
    K = equation.linear + 2 * equation.quadratic * u + 3 * equation.cubic * u**2
    J = (rows[:, None] * K) @ basis
    return r, J, J.T @ r + ridge**2 * w
