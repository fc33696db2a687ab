"""What is known of `trref.optimization.exact_merit`."""

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.optimization.exact_merit import (
    MeritGradient,
    exact_merit,
    kkt_residual,
    modified_hessian,
    newton_system,
)
from trref.problems.constrained import (
    QuadraticConstraints,
    WithHessian,
    on_the_sphere,
)
from trref.problems.convex import Logistic, Quadratic, spd_matrix
from trref.problems.curvature import LogisticHessian, QuadraticHessian

__all__ = ["constrained", "quadratic"]


def quadratic(A, b):
    """Return x·A x/2 - b·x with its Hessian."""
    A, b = xp.array(A), xp.array(b)
    return WithHessian(Quadratic(A, b), QuadraticHessian(A))


def constrained(rng, n, m):
    """Return a quadratic or a logistic loss and m bent constraints of n unknowns."""
    if rng.random() < 0.5:
        A = spd_matrix(rng, rng.choice((-0.5, 1.0, 2.0), n))
        objective = quadratic(A, rng.standard_normal(n))
    else:
        X, y = rng.standard_normal((n + 3, n)), rng.choice([-1.0, 1.0], n + 3)
        objective = WithHessian(Logistic(X, y, 0.1), LogisticHessian(X, y, 0.1))
    bends = 0.3 * rng.standard_normal((m, n, n))
    bends = bends + xp.swapaxes(bends, 1, 2)
    rows, levels = rng.standard_normal((m, n)), rng.standard_normal(m)
    return objective, QuadraticConstraints(rows, levels, bends)


def _point(rng, size):
    m = int(rng.integers(1, size + 1))
    objective, constraints = constrained(rng, size, m)
    return {
        "objective": objective,
        "constraints": constraints,
        "x": rng.choice((0.1, 1.0)) * rng.standard_normal(size),
        "multipliers": rng.standard_normal(m),
    }


def _at(A, b, rows, levels, x, multipliers):
    n = len(x)
    if rows is None:
        constraints = on_the_sphere(xp.zeros((0, n)), xp.zeros(0))
    else:
        bends = xp.zeros((len(rows), n, n))
        constraints = QuadraticConstraints(xp.array(rows), xp.array(levels), bends)
    return {
        "objective": quadratic(A, b),
        "constraints": constraints,
        "x": xp.array(x),
        "multipliers": xp.array(multipliers),
    }


ONE = [[1.0, 0.0], [0.0, 1.0]]
POINT = Interface(
    "constrained_point",
    example=_point,
    edges={
        "at a solution": lambda: _at(
            ONE, [0.0, 0.0], [[1.0, 1.0]], [2.0], [1.0, 1.0], [-1.0]
        ),
        "on a sphere": lambda: _at(
            [[2.0, 0.0], [0.0, -1.0]], [0.5, 1.0], None, None, [0.6, 0.8], [1.5]
        ),
        "at the centre": lambda: _at(ONE, [1.0, 2.0], None, None, [0.0, 0.0], [0.5]),
        "one unknown": lambda: _at([[3.0]], [1.0], [[2.0]], [1.0], [0.25], [-0.5]),
        "all is fixed": lambda: _at(
            ONE, [1.0, 2.0], [[1.0, 1.0], [1.0, -1.0]], [1.0, 3.0], [2.0, 0.5], [1, 0.5]
        ),
        "nothing curves": lambda: _at(
            [[0.0, 0.0], [0.0, 0.0]], [1.0, 2.0], [[1.0, 3.0]], [1.0], [2.0, 1.0], [0.0]
        ),
    },
)


def _residual(objective, constraints, x, multipliers):
    """The Lagrangian's gradient, constraint by constraint."""
    slope = np.array(objective(x)[1])
    values, rows, _ = constraints(x)
    for weight, row in zip(multipliers.tolist(), rows, strict=True):
        slope = slope + weight * row
    return np.linalg.norm(np.r_[slope, values])


def _objective_hessian(
    objective,
    constraints,
    x,
    multipliers,
    *,
    constraint_weight=1.0,
    gradient_weight=0.1,
):
    value, gradient = exact_merit(
        objective,
        constraints,
        x,
        multipliers,
        constraint_weight=constraint_weight,
        gradient_weight=gradient_weight,
    )
    _, rows, bends = constraints(x)
    g = objective(x)[1] + rows.T @ multipliers
    lost = (multipliers[:, None, None] * bends).sum(0) @ g
    return value, MeritGradient(
        gradient.x - gradient_weight * lost, gradient.multipliers
    )


OBJECTIVE_HESSIAN = Deviation(
    "Hessian of the objective",
    _objective_hessian,
    seen_in="IlgeeHong/AdaSketch-Newton CUTEst/AdaSketchNewtonRK: the merit's gradient takes the Hessian of f",
    computes="a gradient in x that lacks the constraints' curvature; the same where the constraints are linear",
)

# ---- matrices


def _matrices(rng, size):
    m = int(rng.integers(1, size + 1))
    hessian = rng.standard_normal((size, size))
    hessian = rng.choice((0.1, 1.0, 5.0)) * (hessian + hessian.T)
    return {
        "hessian": hessian,
        "jacobian": spd_matrix(rng, rng.choice((0.5, 1.0, 3.0), size))[:m],
        "curvature": hessian + 2 * xp.eye(size),
        "gradient": rng.standard_normal(size),
        "c": rng.choice((0.1, 10.0)) * rng.standard_normal(m),
    }


def _edge(hessian, jacobian, gradient=(1.0, -2.0)):
    H, G = xp.array(hessian), xp.array(jacobian)
    return {
        "hessian": H,
        "jacobian": G,
        "curvature": H + 3 * xp.eye(len(H)),
        "gradient": xp.array(gradient),
        "c": xp.arange(1.0, len(G) + 1),
    }


MATRICES = Interface(
    "newton_matrices",
    example=_matrices,
    edges={
        "negative across alone": lambda: _edge([[1.0, 0.0], [0.0, -4.0]], [[0.0, 2.0]]),
        "negative along": lambda: _edge([[-3.0, 0.0], [0.0, 4.0]], [[0.0, 2.0]]),
        "flat along": lambda: _edge([[0.0, 0.0], [0.0, 1.0]], [[0.0, 2.0]]),
        "nothing curves": lambda: _edge([[0.0, 0.0], [0.0, 0.0]], [[3.0, 4.0]]),
        "all is fixed": lambda: _edge([[-1.0, 0.0], [0.0, -2.0]], ONE),
        "just too little": lambda: _edge([[9.5e-7, 0.0], [0.0, 1.0]], [[0.0, 1.0]]),
        "just enough": lambda: _edge([[1.05e-6, 0.0], [0.0, 1.0]], [[0.0, 1.0]]),
        "one unknown": lambda: _edge([[-2.0]], [[0.5]], [3.0]),
    },
)


def _shifted(hessian, jacobian, *, shift=0.1):
    """With the kernel from a singular value decomposition."""
    n, kernel = len(hessian), np.linalg.svd(jacobian)[2][len(jacobian) :]
    along = np.linalg.eigvalsh(kernel @ hessian @ kernel.T)
    if len(along) and along.min() < 1e-6:
        return hessian + np.diag(np.full(n, shift + np.linalg.norm(hessian)))
    return hessian


def _dependent():
    return _edge(ONE, [[1.0, 2.0], [2.0, 4.0]])


METHOD = Method(
    key="hong2023constrained",
    provenance={
        "confirmed": ("residual", "value", "hessian", "system"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=exact_merit,
            wrt=("x", "multipliers"),
            interface=POINT,
            settings={
                "default": {},
                "classical": {"gradient_weight": 0.0},
                "probe": {"constraint_weight": 2.5, "gradient_weight": 0.3},
            },
            sizes=(2, 5, 12),
            deviations=(OBJECTIVE_HESSIAN,),
        ),
        Estimator(
            f=kkt_residual,
            interface=POINT,
            sizes=(2, 5, 12),
            brute_force=_residual,
        ),
        Estimator(
            f=modified_hessian,
            interface=MATRICES,
            settings={"default": {}, "probe": {"shift": 0.4}},
            sizes=(2, 5, 12),
            brute_force=_shifted,
            refused={
                "dependent rows": lambda: (
                    {k: _dependent()[k] for k in ("hessian", "jacobian")},
                    {},
                ),
            },
        ),
        Estimator(
            f=newton_system,
            interface=MATRICES,
            sizes=(2, 5, 12),
            brute_force=lambda curvature, jacobian, gradient, c: (
                np.block(
                    [[curvature, jacobian.T], [jacobian, np.zeros((len(c), len(c)))]]
                ),
                np.r_[-gradient, -c],
            ),
        ),
    ),
)
