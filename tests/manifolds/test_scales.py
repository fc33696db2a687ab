"""Frames and steps of every length, shape and rank: the result is a frame, and the one that its equations ask for."""

import numpy as np
import pytest
from scipy.linalg import expm

from trref.manifolds.stiefel import retract_qr
from trref.manifolds.stiefel_exponential import exponential
from trref.manifolds.stiefel_retraction import nearest_frame, retract_cayley, retract_polar
from trref.manifolds.stiefel_transport import transport_cayley

EPS = 2.0**-52
KINDS = ("any", "of rank one", "within the span", "nearly within the span", "out of the span", "none", "columns apart")


def _step(seed, shortest, longest):
    """A frame, and a tangent vector of one of the kinds with a norm between the powers of ten."""
    rng = np.random.default_rng(seed)
    n, kind = int(rng.integers(1, 7)), KINDS[seed % len(KINDS)]
    p = int(rng.integers(1, n + 1))
    x = np.linalg.qr(rng.standard_normal((n, p)))[0]
    z = rng.standard_normal((n, p))
    if kind == "of rank one":
        z = np.outer(z[:, 0], rng.standard_normal(p))
    if kind == "columns apart":
        z = z * 10 ** rng.uniform(-8, 0, p)
    M = x.T @ z
    within, out = x @ (M - M.T) / 2, z - x @ M
    share = {"within the span": (1, 0), "out of the span": (0, 1), "none": (0, 0), "nearly within the span": (1, 1e-9)}
    z = sum(s * part for s, part in zip(share.get(kind, (1, 1)), (within, out), strict=True))
    size = np.linalg.norm(z)
    return x, z * (10 ** rng.uniform(shortest, longest) / size) if size > 1e-14 else 0 * z


def _assert_frame(y):
    assert abs(y.T @ y - np.eye(y.shape[1])).max() <= 1e-12


def _generator(x, z):
    half = z - x @ (x.T @ z) / 2
    return half @ x.T - x @ half.T


def test_cayley_retractions():
    """(I - W/2) y = (I + W/2) x, up to the rounding of W; transports keep lengths."""
    for seed in range(3000):
        x, z = _step(seed, -300, 9.99)
        y = retract_cayley(x, z)
        _assert_frame(y)
        W = _generator(x, z)
        residual = np.linalg.norm((y - x) - W @ (y + x) / 2)
        assert residual <= 40 * EPS * (1 + np.linalg.norm(z))
        moved = transport_cayley(x, z, y)
        assert abs(moved.T @ moved - np.eye(y.shape[1])).max() <= 1e-12


@pytest.mark.parametrize("metric", ["canonical", "euclidean"])
def test_geodesics(metric):
    """exp(W) x by scaling and squaring of the n x n matrix, whose error grows with each squaring."""
    for seed in range(2500):
        x, z = _step(seed, -300, 9.99)
        _assert_frame(exponential(x, z, metric=metric))
        if np.linalg.norm(z) > 300:
            z = 300 * z / np.linalg.norm(z)
        A = x.T @ z
        A = (A - A.T) / 2
        W = _generator(x, z) + (x @ A @ x.T if metric == "euclidean" else 0)
        expected = expm(W) @ x @ (expm(-A) if metric == "euclidean" else np.eye(len(A)))
        assert abs(exponential(x, z, metric=metric) - expected).max() <= 200 * EPS * (10 + np.linalg.norm(z))


def test_projections():
    """Yᵀ(x + z) is upper triangular with a positive diagonal, or symmetric and positive semidefinite."""
    refusals = 0
    for seed in range(3000):
        x, z = _step(seed, -300, 99)
        Z = x + z
        size = np.linalg.norm(Z)
        for retract in (retract_qr, retract_polar):
            try:
                y = retract(x, z)
            except ValueError as error:
                # a tangent step leaves the smallest singular value at 1 or more: below rounding of a long one
                assert "z must leave x + z of full rank" in str(error) and size > 1e13
                refusals += 1
                continue
            _assert_frame(y)
            assert np.linalg.norm(Z - y @ (y.T @ Z)) <= 40 * EPS * size
            R = (y.T @ Z) / size
            if retract is retract_qr:
                assert abs(np.tril(R, -1)).max() <= 40 * EPS and (np.diag(R) > -40 * EPS).all()
            else:
                assert abs(R - R.T).max() <= 40 * EPS and np.linalg.eigvalsh(R + R.T)[0] >= -40 * EPS
    assert 100 < refusals < 2000


def test_nearest_frames():
    for seed in range(3000):
        x, _ = _step(seed, 0, 0)
        rng = np.random.default_rng(seed)
        S = rng.standard_normal((x.shape[1],) * 2)
        S = S @ S.T + 0.1 * np.eye(len(S))
        y = nearest_frame(x @ S * 10 ** rng.uniform(-280, 95))
        _assert_frame(y)
        assert abs(y - x).max() <= 1e-12


@pytest.mark.parametrize("norm", [1e10, 1e30])
def test_rotations_that_nobody_knows_are_refused(norm):
    x, z = np.eye(4)[:, :2], np.zeros((4, 2))
    z[2, 0] = 1.01 * norm
    for call in (lambda: retract_cayley(x, z), lambda: exponential(x, z)):
        with pytest.raises(ValueError, match=r"z must have a norm of at most 1e10"):
            call()
    with pytest.raises(ValueError, match=r"step must have a norm of at most 1e10"):
        transport_cayley(x, z, z)
    with pytest.raises(ValueError, match=r"z must have a norm of at most 1e10 \(float32: 1e3\)"):
        exponential(x.astype(np.float32), (z * 2e3 / norm).astype(np.float32))


def test_against_mpmath():
    """The transform and the exponential of one long mixed step, with 60 digits."""
    mpmath = pytest.importorskip("mpmath")
    x = np.eye(4)[:, :2]
    z = np.array([[0.0, -3e5], [3e5, 0.0], [2.0, 1e-3], [-1e2, 0.5]])
    with mpmath.workdps(60):
        X, Z, one = mpmath.matrix(x.tolist()), mpmath.matrix(z.tolist()), mpmath.eye(4)
        half = Z - X * (X.T * Z) / 2
        W = half * X.T - X * half.T
        for found, exact in (
            (retract_cayley(x, z), mpmath.inverse(one - W / 2) * (one + W / 2) * X),
            (exponential(x, z, metric="canonical"), mpmath.expm(W, method="taylor") * X),
        ):
            error = max(abs(found[i, j] - exact[i, j]) for i in range(4) for j in range(2))
            assert error <= 4 * EPS * np.linalg.norm(z)
