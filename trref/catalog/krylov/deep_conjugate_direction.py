"""What is known of `trref.krylov.deep_conjugate_direction`."""

import numpy as np

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, Objective, Solver
from trref.catalog.krylov.interfaces import TOLERANCES, norm_misreported
from trref.catalog.krylov.interfaces import relative_residual as _residual
from trref.krylov.deep_conjugate_direction import (
    dcdm,
    direction_loss,
    training_vectors,
)
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.problems.stencil import Identity, Saturated, stencil_network


def _network(rng, A):
    """The inverse diagonal, a matrix near the inverse that is not symmetric, stencils, or what is not linear."""
    kind = (len(A) // 4 + 2 * rng.integers(2)) % 4
    if kind == 3:
        return Saturated(0.2)
    if kind == 0:
        return DenseOperator(xp.array(np.diag(1 / np.diag(A))))
    if kind == 1:
        near = np.linalg.inv(A) + 0.02 * rng.standard_normal(A.shape) / len(A)
        return DenseOperator(xp.array(near))
    return stencil_network(rng, levels=1, channels=2, scale=0.05)


def _example(rng, size):
    scale = rng.choice((0.1, 1.0, 30.0))
    A = spd_matrix(rng, scale * spectrum(size, rng.choice((2.0, 8.0))))
    residual = rng.standard_normal(size)
    rows, steps = int(rng.integers(2, 5)), min(size, int(rng.integers(6, 8)))
    return {
        "matvec": DenseOperator(A),
        "b": rng.choice((0.01, 100.0)) * rng.standard_normal(size),
        "network": _network(rng, A),
        "output": rng.choice((0.1, 10.0)) * rng.standard_normal(size),
        "residual": residual / np.linalg.norm(residual),
        "start": rng.standard_normal(size),
        "noise": rng.standard_normal((rows, steps)),
    }


def _edge(A, b, network, output, noise=((1.0, -2.0, 0.5),)):
    A, b, output = (np.array(v, dtype=float) for v in (A, b, output))
    given = {"matvec": DenseOperator(xp.array(A)), "b": xp.array(b), "network": network}
    given |= {"output": xp.array(output), "residual": xp.array(b), "start": 1 + abs(b)}
    return given | {"noise": xp.array(np.array(noise, dtype=float))}


A3 = [[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]]


def _dense(matrix):
    return DenseOperator(xp.array(np.array(matrix, dtype=float)))


LOOKS = Interface(
    name="directions of a network",
    example=_example,
    edges={
        "one unknown": lambda: _edge([[2.5]], [-1.0], Identity(), [3.0], [[1.0]]),
        "the inverse": lambda: _edge(
            A3, [1, 2, -3], _dense(np.linalg.inv(A3)), [1, 1, 1]
        ),
        "the opposite of the residual": lambda: _edge(
            A3, [1, -2, 3], _dense(-np.eye(3)), [-1, 2, -3]
        ),
        "nothing to do": lambda: _edge(A3, [0, 0, 0], Identity(), [1, 1, 1]),
        "one row of noise, a small matrix": lambda: _edge(
            1e-6 * np.array(A3), [1e-3, 2e-3, 0], Identity(), [0, 1e-4, 1e-4]
        ),
        "one Ritz value is too small": lambda: _edge(
            np.diag([3e-8, 2e-8, 5e-9]), [3, 1, 2], Identity(), [1, 2, 1]
        ),
        "all are": lambda: _edge(1e-9 * np.array(A3), [3, 1, 2], Identity(), [1, 2, 1]),
        "a network that saturates": lambda: _edge(
            A3, [30, -1, 2], Saturated(), [1, 2, 1], [[1e-3, 2e-3, -1e-3]]
        ),
    },
)


def identity_network(inputs):
    """the network is the identity."""
    ours = inputs | {"network": Identity()}
    theirs = {n: inputs[n] for n in ("matvec", "b")}
    return ours, theirs | {"x0": None, "preconditioner": None}


def definite_network(inputs):
    """the network is a positive definite matrix."""
    n = len(inputs["b"])
    matrix = DenseOperator(
        xp.diag(1 + xp.arange(n) / (2 * n)).astype(inputs["b"].dtype)
    )
    theirs = {n: inputs[n] for n in ("matvec", "b")}
    return inputs | {"network": matrix}, theirs | {"x0": None, "preconditioner": matrix}


def _by_eigenvectors(matvec, start, noise, *, boost=9.0, further=0):
    """The matrix seen on an orthonormal basis of the Krylov space, from powers of it."""
    A, size = np.asarray(matvec.A), len(start)
    v = A @ start
    basis, w = np.zeros((size, 0)), v / np.linalg.norm(v)
    while basis.shape[1] < noise.shape[1]:
        basis = np.concatenate([basis, w[:, None]], 1)
        w = A @ w
        before = np.linalg.norm(w)
        for _ in range(2):
            w = w - basis @ (basis.T @ w)
        if np.linalg.norm(w) <= 1e-13 * size * before:
            break
        w = w / np.linalg.norm(w)
    values, vectors = np.linalg.eigh(basis.T @ A @ basis)
    vectors = basis @ vectors
    vectors = vectors * np.where(v @ vectors < 0, -1, 1)
    rows = []
    for c in np.asarray(noise):
        r = np.zeros(size)
        for i, value in enumerate(values):
            weight = boost if i < len(values) // 2 + further else 1.0
            r += (weight * c[i] if value >= 1e-8 else 0.0) * vectors[:, i]
        rows.append(r / (np.linalg.norm(r) or 1.0))
    return np.array(rows)


def _certificate(result, matvec, b, network, rtol=1e-4, **_):
    return _residual(result, matvec, b, rtol=rtol)


def _error_falls(result, matvec, b, network, **_):
    """No step raises ½ x·A x - b·x, however early it stops."""
    energy = float(result.x @ matvec(result.x)) / 2 - float(b @ result.x)
    return {
        "rise of the energy": (energy, 0.0),
        "error of the last norm reported": norm_misreported(result, matvec, b),
    }


def _system(network, **hyper):
    given = LOOKS.of(
        _edge(A3, [1, -2, 5], network, [1, 1, 1]), ("matvec", "b", "network")
    )
    return lambda: (given, hyper)


METHOD = Method(
    key="kaneda2023deep",
    provenance={
        "confirmed": ("network", "orthogonal", "step", "loss", "ritz"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=direction_loss,
            wrt="output",
            interface=LOOKS,
            refused={
                "an output of zero": {"output": 0},
            },
        ),
        Estimator(
            f=training_vectors,
            interface=LOOKS,
            settings={"default": {}, "probe": {"boost": 3.0, "further": 2}},
            brute_force=_by_eigenvectors,
        ),
        Solver(
            f=dcdm,
            interface=LOOKS,
            settings={
                "default": {},
                "one": {"orthogonal": 1},
                "none": {"orthogonal": 0},
                "all": {"orthogonal": 1000},
                "probe": {"orthogonal": 3, "rtol": 1e-3, "max_iter": 400},
            },
            certificate=_certificate,
            tolerances=TOLERANCES,
            agreement=1e-2,
            limits=(
                Limit(
                    "cg.cg", {"orthogonal": 1}, {"rtol": 1e-4}, where=identity_network
                ),
                Limit(
                    "cg.cg", {"orthogonal": 2}, {"rtol": 1e-4}, where=definite_network
                ),
            ),
            failures={
                "two iterations for three unknowns": _system(
                    Identity(), max_iter=2, rtol=1e-8
                ),
                "always the same direction": _system(
                    _dense([[1, 1, 1], [0, 0, 0], [0, 0, 0]])
                ),
                "nothing": _system(_dense(np.zeros((3, 3)))),
            },
            remains=_error_falls,
            refused={
                "negative curvature": lambda: (
                    {
                        "matvec": _dense([[1, 0], [0, -1]]),
                        "b": xp.array([1.0, 2.0]),
                        "network": Identity(),
                    },
                    {},
                ),
                "an output of another length": lambda: (
                    {
                        "matvec": _dense(np.eye(2)),
                        "b": xp.array([1.0, 2.0]),
                        "network": _dense([[1, 0]]),
                    },
                    {},
                ),
            },
        ),
    ),
)
