"""What is known of `trref.krylov.lanczos`."""

import math

from trref.backend import linalg, xp
from trref.catalog import Estimator, Limit, Method, Solver
from trref.catalog.krylov.interfaces import NOT_SYMMETRIC
from trref.krylov.lanczos import (
    lanczos,
    lanczos_quadrature,
    stochastic_trace,
    tridiagonal,
)
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
    A = spd_matrix(
        rng, rng.choice((0.1, 1.0, 5.0)) * spectrum(size, rng.choice((2.0, 30.0)))
    )
    return {"matvec": DenseOperator(A), "v": rng.standard_normal(size)}


def quadrature_example(rng, size):
    f = (Logarithm(), Exponential(-0.5), Polynomial(xp.array([1.0, -2.0, 0.5])))[
        rng.integers(3)
    ]
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
    return {
        "matvec": _edge([1.0, 4.0], [1.0])["matvec"],
        "probes": xp.array([[1.0, -1.0]]),
        "f": Logarithm(),
    }


def _certificate(result, matvec, v, steps, reorthogonalise=2):
    """How far A V - V T is from β v_{k+1} e_k', V from orthonormal (without reorthogonalisation: neighbours), and the
    start from v/‖v‖; no β is negative, and fewer steps than asked for end with one that is zero.
    """
    V, T, k = result.basis, tridiagonal(result), result.iterations
    left = xp.stack([matvec(V[:, j]) for j in range(k)], 1) - V @ T
    size = max(float(abs(T).max()), result.off_diagonal[-1])
    gram = abs(V.T @ V - xp.eye(k))
    last = abs(float(xp.sqrt((left[:, -1] ** 2).sum())) - result.off_diagonal[-1])
    return {
        "three-term recurrence": max(
            float(abs(left[:, :-1]).max()) if k > 1 else 0.0, last
        )
        / size,
        "orthogonality": float(
            (gram if reorthogonalise else xp.tril(xp.triu(gram, -1), 1)).max()
        ),
        "start": float(abs(V[:, 0] - v / norm(v)).max()),
        "negative off-diagonal": -min(result.off_diagonal) / size,
        "steps left out": result.off_diagonal[-1] / size if k < steps else 0.0,
    }


def _one_probe(inputs):
    """one probe"""
    return {**inputs, "probes": inputs["probes"][:1], "v": inputs["probes"][0]}


def _refused(name):
    matvec = NOT_SYMMETRIC[name]()[0]["matvec"]
    return {"matvec": matvec, "v": xp.array([1.0, 2.0])}, {}


_REFUSED = {
    "no start": lambda: (_edge([1.0, 2.0], [0.0, 0.0]), {}),
    **{
        name: lambda name=name: _refused(name)
        for name in (
            "not symmetric",
            "a product of another length",
            "products that are not finite",
        )
    },
}


METHOD = Method(
    key="lanczos1950iteration",
    provenance="confirmed",
    functions=(
        Solver(
            f=lanczos,
            example=example,
            edges=EDGES | SIGNED_EDGES,
            direct=True,
            refused=_REFUSED,
            settings={
                "default": {"steps": 4},
                "plain": {"steps": 3, "reorthogonalise": 0},
                "once": {"steps": 3, "reorthogonalise": 1},
                "until the basis would lose its orthogonality": {"steps": 40},
                "probe": {"steps": 2, "reorthogonalise": 3},
            },
            certificate=_certificate,
            tolerances={
                "three-term recurrence": 1e-12,
                "orthogonality": 1e-12,
                "start": 1e-14,
                "negative off-diagonal": 0.0,
                "steps left out": 1e-12,
            },
        ),
        Estimator(
            f=lanczos_quadrature,
            example=quadrature_example,
            edges={
                name: lambda make=make: {**make(), "f": Logarithm()}
                for name, make in EDGES.items()
            },
            settings={"default": {}, "probe": {"steps": 3}},
            refused={
                "a function that is not finite": lambda: (
                    {
                        **_edge([1.0, 0.0], [0.0, 2.0]),
                        "f": Polynomial(xp.array([math.nan])),
                    },
                    {},
                )
            },
            brute_force=brute_force,
        ),
        Estimator(
            f=stochastic_trace,
            example=trace_example,
            edges={"one probe": one_probe},
            refused={
                "a probe of zero": lambda: (
                    {**one_probe(), "probes": xp.array([[1.0, -1.0], [0.0, 0.0]])},
                    {},
                )
            },
            settings={"default": {}, "probe": {"steps": 3}},
            brute_force=brute_force_trace,
            limits=(Limit("lanczos.lanczos_quadrature", {}, where=_one_probe),),
        ),
    ),
)
