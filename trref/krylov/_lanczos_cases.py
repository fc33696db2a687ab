"""Examples, edges and brute force of the Lanczos recurrence and its quadrature."""

from trref.backend import linalg, xp
from trref.krylov.terms import norm
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.problems.spectral import Exponential, Logarithm, Polynomial


def brute_force(matvec, v, f, *, steps=20):
    """The same rule from an orthonormal basis of v, Av, A²v, … without any recurrence."""
    A = xp.stack([matvec(e) for e in xp.eye(len(v))], 1)
    powers = [v / norm(v)]
    for _ in range(min(steps, len(v)) - 1):
        powers.append(A @ powers[-1] / norm(A @ powers[-1]))
    Q = linalg.qr(xp.stack(powers, 1))[0]
    theta, S = linalg.eigh(Q.T @ A @ Q)
    return (v @ Q @ S) ** 2 @ f(theta)


def brute_force_trace(matvec, probes, f, *, steps=20):
    return sum(brute_force(matvec, v, f, steps=steps) for v in probes) / len(probes)


def example(rng, size):
    A = spd_matrix(rng, rng.choice((0.1, 1.0, 5.0)) * spectrum(size, rng.choice((2.0, 30.0))))
    return {"matvec": DenseOperator(A), "v": rng.standard_normal(size)}


def quadrature_example(rng, size):
    f = (Logarithm(), Exponential(-0.5), Polynomial(xp.array([1.0, -2.0, 0.5])))[rng.integers(3)]
    return {**example(rng, size), "f": f}


def trace_example(rng, size):
    given = quadrature_example(rng, size)
    probes = xp.where(xp.asarray(rng.random((3, size))) < 0.5, -1.0, 1.0)
    return {"matvec": given["matvec"], "probes": probes, "f": given["f"]}


def _edge(eigenvalues, v):
    return {"matvec": DenseOperator(xp.diag(xp.array(eigenvalues))), "v": xp.array(v)}


EDGES = {
    "repeated eigenvalues": lambda: _edge([2.0, 2.0, 2.0, 5.0], [1.0, 2.0, 3.0, 4.0]),
    "an eigenvector": lambda: _edge([2.0, 1.0, 3.0], [0.0, -4.0, 0.0]),
    "one unknown": lambda: _edge([2.5], [-1.0]),
}
SIGNED_EDGES = {
    "eigenvalues of both signs": lambda: _edge([1.0, -1.0, 0.0], [1.0, 1.0, 1.0]),
    "small eigenvalues": lambda: _edge([2e-15, 1e-15, 3e-15], [1.0, 2.0, 3.0]),
}


def one_probe():
    return {"matvec": _edge([1.0, 4.0], [1.0])["matvec"], "probes": xp.array([[1.0, -1.0]]), "f": Logarithm()}
