"""Theorems of the Stiefel manifold's tangent projection and QR retraction."""

import numpy as np
import pytest

from trref.manifolds.stiefel import project, retract_qr, retract_qr_jvp


def _frame(seed, n=7, p=3):
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((n, p)))[0]
    return x, rng.standard_normal((n, p)), rng


@pytest.mark.parametrize("seed", range(5))
def test_projection_is_tangent_idempotent_and_self_adjoint(seed):
    x, z, rng = _frame(seed)
    t, w = project(x, z), rng.standard_normal(z.shape)
    assert np.allclose(x.T @ t + t.T @ x, 0, rtol=0, atol=1e-13)
    assert np.allclose(project(x, t), t, rtol=0, atol=1e-13)
    assert np.sum(project(x, z) * w) == pytest.approx(np.sum(z * project(x, w)), rel=1e-12)


def test_projection_is_the_nearest_tangent_vector():
    x, z, rng = _frame(0)
    t = project(x, z)
    for _ in range(50):
        other = project(x, rng.standard_normal(z.shape))
        assert np.linalg.norm(z - t) <= np.linalg.norm(z - other)


def test_dimension_of_the_tangent_space():
    x, z, _ = _frame(1)
    basis = np.eye(z.size).reshape(-1, *z.shape)
    rank = np.linalg.matrix_rank(np.array([project(x, e).ravel() for e in basis]))
    assert rank == 7 * 3 - 3 * 4 // 2


@pytest.mark.parametrize("seed", range(5))
def test_retraction_lands_on_the_manifold(seed):
    x, z, _ = _frame(seed)
    y = retract_qr(x, project(x, z))
    assert np.allclose(y.T @ y, np.eye(3), rtol=0, atol=1e-13)


def test_retraction_of_zero_is_the_identity():
    """Without the sign fix it would not be."""
    for seed in range(20):
        x, z, _ = _frame(seed)
        assert np.allclose(retract_qr(x, 0 * z), x, rtol=0, atol=1e-13)


def test_first_order():
    """‖R(t ξ) - x - t ξ‖ falls by four when t is halved."""
    x, z, _ = _frame(2)
    t = project(x, z)
    error = [np.linalg.norm(retract_qr(x, h * t) - x - h * t) for h in (1e-3, 5e-4)]
    assert error[0] / error[1] == pytest.approx(4, rel=1e-2)
    assert np.allclose(retract_qr_jvp(x, 0 * t, t), t, rtol=0, atol=1e-13)


def test_differential_is_tangent_at_the_new_point():
    x, z, rng = _frame(3)
    t = project(x, z)
    y, moved = retract_qr(x, t), retract_qr_jvp(x, t, project(x, rng.standard_normal(z.shape)))
    assert np.allclose(y.T @ moved + moved.T @ y, 0, rtol=0, atol=1e-13)


def test_gram_schmidt_by_hand():
    """In the plane: x = e1, step e2; (1, 1) normalised."""
    y = retract_qr(np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]))
    assert np.allclose(y, np.array([[1.0], [1.0]]) / np.sqrt(2), rtol=1e-14)


def test_batches_are_independent():
    frames = [_frame(s)[:2] for s in range(4)]
    x, z = (np.stack(part) for part in zip(*frames, strict=True))
    together = retract_qr(x, z)
    for i, (xi, zi) in enumerate(frames):
        assert np.allclose(together[i], retract_qr(xi, zi), rtol=0, atol=1e-13)


def test_off_the_manifold():
    x, z, _ = _frame(0)
    for f in (project, retract_qr):
        with pytest.raises(ValueError, match="x must have orthonormal columns"):
            f(2 * x, z)


def test_rank_deficient_step():
    x = np.eye(4)[:, :2]
    with pytest.raises(ValueError, match="z must leave x \\+ z of full rank"):
        retract_qr(x, -x)
    with pytest.raises(ValueError, match="z must leave x \\+ z of full rank"):
        retract_qr(x, np.stack([x[:, 1], 0 * x[:, 1]], 1) - np.stack([0 * x[:, 0], x[:, 1] - x[:, 0] - x[:, 1]], 1))


def test_more_columns_than_rows():
    with pytest.raises(ValueError, match="x must have orthonormal columns"):
        project(np.eye(2, 3), np.zeros((2, 3)))
