"""What is known of `trref.krylov.krylov_solvers`."""

from trref.backend import linalg, xp
from trref.catalog import Estimator, Limit, Method
from trref.catalog.krylov.interfaces import GENERAL_SOLVER, NOT_SYMMETRIC
from trref.krylov.krylov_solvers import galerkin, krylov_basis, least_residual
from trref.problems.convex import DenseOperator


def _dense(matvec, b):
    return xp.stack([matvec(e) for e in xp.eye(len(b))], 1)


def _basis(matvec, b, *, steps=3):
    """The columns of the QR factors of [b, Ab, …], with the signs of Gram-Schmidt; zero from where the rank ends."""
    A, powers = _dense(matvec, b), [b / (abs(b).max() + (abs(b).max() == 0))]
    for _ in range(steps - 1):
        v = A @ powers[-1]
        powers.append(v / (abs(v).max() + (abs(v).max() == 0)))
    rank = 0
    for k in range(1, min(steps, len(b)) + 1):
        sizes = linalg.svd(xp.stack(powers[:k], 1))[1]
        if sizes[-1] <= 1e-13 * sizes[0] or sizes[0] == 0:
            break
        rank = k
    V = xp.zeros((len(b), steps))
    if rank:
        Q, R = linalg.qr(xp.stack(powers[:rank], 1))
        V[:, :rank] = Q * xp.sign(xp.diag(R))
    return V


def _least_residual(matvec, b, *, steps=3):
    V = _basis(matvec, b, steps=steps)
    return V @ linalg.lstsq(_dense(matvec, b) @ V, b, rcond=1e-12)[0]


def _galerkin(matvec, b, *, steps=3):
    V = _basis(matvec, b, steps=steps)
    return V @ linalg.lstsq(V.T @ _dense(matvec, b) @ V, V.T @ b, rcond=1e-12)[0]


def _example(rng, size):
    """A positive definite symmetric part: then V'AV is never singular."""
    return GENERAL_SOLVER.of(GENERAL_SOLVER.example(rng, size), ("matvec", "b"))


def _edge(A, b):
    matrix = xp.array(A, dtype=float)
    return {"matvec": DenseOperator(matrix), "b": xp.array(b, dtype=float)}


EDGES = {
    "zero right-hand side": lambda: _edge([[2, 1], [1, 3]], [0, 0]),
    "one unknown": lambda: _edge([[2.5]], [-1]),
    "an eigenvector": lambda: _edge([[2, 0], [0, 3]], [0, -4]),
    "repeated eigenvalues": lambda: _edge(
        xp.diag(xp.array([2.0, 2.0, 2.0, 5.0])), [1, 2, 3, 4]
    ),
    "a singular matrix with a solution": lambda: _edge([[2, 0], [0, 0]], [3, 0]),
    "no matrix at all": lambda: _edge([[0, 0], [0, 0]], [1, 2]),
    "a Jordan block": lambda: _edge([[2, 1, 0], [0, 2, 1], [0, 0, 2]], [1, 1, 1]),
    "a right-hand side whose square underflows": lambda: _edge(
        [[4, 1, 0], [1, 3, 1], [0, 1, 2]], [0, 3e-170, 1e-170]
    ),
    "a small matrix": lambda: _edge([[4e-15, 1e-15], [1e-15, 3e-15]], [1e9, -2e9]),
}


SINGULAR_EDGES = {
    "no solution": lambda: _edge([[2, 0], [0, 0]], [3, 1]),
}


REFUSED = {
    name: lambda name=name: (
        {key: NOT_SYMMETRIC[name]()[0][key] for key in ("matvec", "b")},
        {},
    )
    for name in ("a product of another length",)
}


SETTINGS = {"default": {"steps": 3}, "one": {"steps": 1}, "probe": {"steps": 2}}


def _multiple(inputs):
    """a multiple of the identity, for which one vector is enough"""
    scale = 2.0 + abs(inputs["b"][:1])
    return {
        "matvec": DenseOperator(scale * xp.eye(len(inputs["b"]))),
        "b": inputs["b"],
    }


METHOD = Method(
    key="saad2003iterative",
    provenance="confirmed",
    functions=(
        Estimator(
            f=krylov_basis,
            example=_example,
            edges=EDGES | SINGULAR_EDGES,
            settings=SETTINGS,
            refused=REFUSED,
            brute_force=_basis,
        ),
        Estimator(
            f=least_residual,
            example=_example,
            edges=EDGES | SINGULAR_EDGES,
            settings=SETTINGS,
            refused=REFUSED,
            brute_force=_least_residual,
            limits=(
                Limit(
                    "krylov_solvers.galerkin",
                    {"steps": 2},
                    {"steps": 2},
                    where=_multiple,
                ),
            ),
        ),
        Estimator(
            f=galerkin,
            example=_example,
            edges=EDGES,
            settings=SETTINGS,
            refused=REFUSED,
            brute_force=_galerkin,
        ),
    ),
)
