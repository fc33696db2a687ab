"""Polar and Cayley retraction: orders, closed forms by other routes, and the projection on the manifold."""

import numpy as np
import pytest
import scipy.linalg

from trref.manifolds.stiefel import project
from trref.manifolds.stiefel_retraction import (
    nearest_frame,
    nearest_frame_jvp,
    retract_cayley,
    retract_cayley_jvp,
    retract_polar,
    retract_polar_jvp,
)

N, P = 7, 3


def _point(seed, n=N, p=P):
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((n, p)))[0]
    return x, project(x, rng.standard_normal((n, p))), rng


def _skew(x, z):
    half = np.eye(len(x)) - x @ x.T / 2
    return half @ z @ x.T - x @ z.T @ half


@pytest.mark.parametrize("seed", range(5))
def test_polar_is_scipys_polar_factor_and_the_formula_with_the_square_root(seed):
    x, z, _ = _point(seed)
    y = retract_polar(x, z)
    assert np.allclose(y, scipy.linalg.polar(x + z)[0], rtol=0, atol=1e-13)
    assert np.allclose(y, (x + z) @ np.linalg.inv(scipy.linalg.sqrtm(np.eye(P) + z.T @ z)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_cayley_with_the_full_inverse(seed):
    x, z, _ = _point(seed)
    W, one = _skew(x, z), np.eye(N)
    assert np.allclose(W + W.T, 0, rtol=0, atol=1e-13) and np.allclose(W @ x, z, rtol=0, atol=1e-13)
    full = np.linalg.solve(one - W / 2, (one + W / 2) @ x)
    assert np.allclose(retract_cayley(x, z), full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("retract", [retract_polar, retract_cayley])
def test_lands_on_the_manifold_and_stays_for_no_step(retract):
    for seed in range(10):
        x, z, _ = _point(seed)
        y = retract(x, z)
        assert abs(y.T @ y - np.eye(P)).max() < 1e-13
        assert np.allclose(retract(x, 0 * z), x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("retract", [retract_polar, retract_cayley])
def test_first_order(retract):
    x, z, _ = _point(2)
    error = [np.linalg.norm(retract(x, h * z) - x - h * z) for h in (1e-3, 5e-4)]
    assert error[0] / error[1] == pytest.approx(4, rel=1e-2)


def _acceleration(retract, x, z, h=1e-3):
    return (retract(x, h * z) - 2 * x + retract(x, -h * z)) / h**2


def test_polar_is_of_second_order_for_the_euclidean_metric():
    """No tangential acceleration; QR and Cayley have some."""
    x, z, _ = _point(3)
    assert np.linalg.norm(project(x, _acceleration(retract_polar, x, z))) < 1e-5
    assert np.linalg.norm(project(x, _acceleration(retract_cayley, x, z))) > 0.1


def test_nearest_frame_is_nearest():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((N, P))
    best = np.linalg.norm(Z - nearest_frame(Z))
    for _ in range(200):
        near = np.linalg.qr(nearest_frame(Z) + 0.1 * rng.standard_normal((N, P)))[0]
        assert best <= np.linalg.norm(Z - near) + 1e-12
        assert best <= np.linalg.norm(Z - np.linalg.qr(rng.standard_normal((N, P)))[0])


def test_nearest_frame_solves_orthogonal_procrustes():
    rng = np.random.default_rng(1)
    A, B = rng.standard_normal((6, 4)), rng.standard_normal((6, 4))
    assert np.allclose(nearest_frame(A.T @ B), scipy.linalg.orthogonal_procrustes(A, B)[0], rtol=0, atol=1e-13)


def test_nearest_frame_ignores_scale_and_moves_with_rotations():
    rng = np.random.default_rng(2)
    Z, Q = rng.standard_normal((N, P)), np.linalg.qr(rng.standard_normal((P, P)))[0]
    assert np.allclose(nearest_frame(3.7 * Z), nearest_frame(Z), rtol=0, atol=1e-13)
    assert np.allclose(nearest_frame(Z @ Q), nearest_frame(Z) @ Q, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("retract", "jvp"), [(retract_polar, retract_polar_jvp), (retract_cayley, retract_cayley_jvp)])
def test_differential_at_zero_is_the_identity_on_tangent_vectors(retract, jvp):
    x, z, rng = _point(5)
    assert np.allclose(jvp(x, 0 * z, z), z, rtol=0, atol=1e-13)
    w = project(x, rng.standard_normal((N, P)))
    y, moved = retract(x, z), jvp(x, z, w)
    assert np.allclose(y.T @ moved + moved.T @ y, 0, rtol=0, atol=1e-13)


def test_sylvester_part_against_scipy():
    rng = np.random.default_rng(4)
    Z, zeta = rng.standard_normal((N, P)), rng.standard_normal((N, P))
    Y, S = scipy.linalg.polar(Z)
    L = scipy.linalg.solve_sylvester(S, S, Y.T @ zeta - zeta.T @ Y)
    expected = Y @ L + (np.eye(N) - Y @ Y.T) @ zeta @ np.linalg.inv(S)
    assert np.allclose(nearest_frame_jvp(Z, zeta), expected, rtol=0, atol=1e-12)


def test_on_the_circle_by_hand():
    """From e1 along e2: the polar retraction goes to the angle arctan t, the Cayley one to 2 arctan(t / 2)."""
    x, t = np.array([[1.0], [0.0]]), 0.8
    z = np.array([[0.0], [t]])
    for y, angle in ((retract_polar(x, z), np.arctan(t)), (retract_cayley(x, z), 2 * np.arctan(t / 2))):
        assert np.allclose(y[:, 0], [np.cos(angle), np.sin(angle)], rtol=0, atol=1e-13)


def test_leading_axes_are_independent():
    rng = np.random.default_rng(6)
    x = np.linalg.qr(rng.standard_normal((2, 4, N, P)))[0]
    z = project(x, rng.standard_normal(x.shape))
    for retract in (retract_polar, retract_cayley):
        together = retract(x, z)
        for i, j in np.ndindex(2, 4):
            assert np.allclose(together[i, j], retract(x[i, j], z[i, j]), rtol=0, atol=1e-13)


def test_drift_of_many_cayley_steps_is_rounding():
    x, _, rng = _point(7)
    for _ in range(1000):
        x = retract_cayley(x, project(x, 0.3 * rng.standard_normal((N, P))))
    assert abs(x.T @ x - np.eye(P)).max() < 1e-12


def test_errors():
    x, _, _ = _point(0)
    with pytest.raises(ValueError, match="z must leave x \\+ z of full rank"):
        retract_polar(x, -x)
    with pytest.raises(ValueError, match="y must have full column rank"):
        nearest_frame(np.ones((4, 2)))
    with pytest.raises(ValueError, match="y must have at least as many rows as columns"):
        nearest_frame(np.ones((2, 3)))
