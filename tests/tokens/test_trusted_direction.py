"""Projectors, the invariant of a whole run, principal angles, and what a projection guarantees and what not."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from trref.tokens.trusted_direction import (
    direction_similarity,
    dominant_directions,
    explained_share,
    project_gradient,
    weighted_projection,
)


def _pair(seed, M=6, N=9):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((M, N)), rng.standard_normal((M, N))


@pytest.mark.parametrize("rank", [0, 1, 3, 6])
def test_projector(rank):
    _, delta = _pair(0)
    P = project_gradient(np.eye(6, 9), delta, rank=rank)[:, :6]
    assert np.allclose(P, P.T, rtol=1e-9) and np.allclose(P @ P, P, rtol=1e-9) and np.trace(P) == pytest.approx(rank)


def test_nearest_matrix_with_columns_in_the_span():
    G, delta = _pair(1)
    U = dominant_directions(delta, 2).vectors
    assert np.allclose(project_gradient(G, delta), U @ np.linalg.lstsq(U, G, rcond=None)[0], rtol=1e-9)
    V = dominant_directions(delta.T, 2).vectors
    assert np.allclose(
        project_gradient(G, delta, side="input"), (V @ np.linalg.lstsq(V, G.T, rcond=None)[0]).T, rtol=1e-9
    )


def test_limits_of_the_rank():
    G, delta = _pair(2)
    assert (
        np.allclose(project_gradient(G, delta, rank=6), G, rtol=1e-9) and not project_gradient(G, delta, rank=0).any()
    )
    assert explained_share(G, delta, rank=6) == pytest.approx(1) and explained_share(G, delta, rank=0) == 0


def test_directions_in_which_nothing_has_moved_are_not_trusted():
    """A change of rank 1 has one direction, whatever the rank asked for; no change has none."""
    G, _ = _pair(5)
    u, v = np.random.default_rng(5).standard_normal(6), np.random.default_rng(6).standard_normal(9)
    for delta in (np.outer(u, v), 1e-25 * np.outer(u, v)):
        for f in (project_gradient, weighted_projection):
            assert np.allclose(f(G, delta, rank=3), np.outer(u, u) @ G / (u @ u), atol=1e-12, rtol=1e-9), (
                "one direction, not three"
            )
        one_sided = project_gradient(G, delta, rank=3, side="input")
        assert np.allclose(one_sided, G @ np.outer(v, v) / (v @ v), atol=1e-12, rtol=1e-9), "one direction, not three"
    assert not project_gradient(G, 0 * G).any() and explained_share(G, 0 * G) == 0


def test_scaling_and_rotating_inputs_change_nothing():
    G, delta = _pair(3)
    R = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 9)))[0]
    for other in (7 * delta, -delta, delta @ R):
        assert np.allclose(project_gradient(G, other), project_gradient(G, delta), atol=1e-12, rtol=1e-9)
        assert np.allclose(weighted_projection(G, other), weighted_projection(G, delta), atol=1e-12, rtol=1e-9)


def test_transposed_storage_exchanges_the_sides():
    G, delta = _pair(4)
    assert np.allclose(
        project_gradient(G.T, delta.T, side="input").T, project_gradient(G, delta), atol=1e-12, rtol=1e-9
    )


def test_similarity_is_the_cosines_of_the_principal_angles():
    for seed in range(3):
        a, b = _pair(seed)
        angles = subspace_angles(dominant_directions(a, 3).vectors, dominant_directions(b, 3).vectors)
        assert direction_similarity(a, b, rank=3) == pytest.approx(np.cos(angles[::-1]), abs=1e-12)
    assert direction_similarity(a, 3 * a) == pytest.approx([1, 1])


@pytest.mark.parametrize("seed", range(5))
def test_descent_and_share(seed):
    G, delta = _pair(seed)
    hard, weighted = project_gradient(G, delta), weighted_projection(G, delta)
    assert (G * hard).sum() == pytest.approx((hard**2).sum())
    assert explained_share(G, delta) == pytest.approx((hard**2).sum() / (G**2).sum())
    U, s = dominant_directions(delta, 2)
    assert (G * weighted).sum() == pytest.approx((s / s[0]) @ ((U.T @ G) ** 2).sum(1)) and (G * weighted).sum() > 0
    kept = weighted_projection(G, delta, keep_norm=True)
    assert np.linalg.norm(kept) == pytest.approx(np.linalg.norm(G))
    assert np.allclose(kept / np.linalg.norm(kept), weighted / np.linalg.norm(weighted), rtol=1e-9)


def test_no_guarantee_for_another_task():
    """Clean gradients that agree with the proxy's need not agree with its projection."""
    G, delta = _pair(6)
    trusted, rng = project_gradient(G, delta), np.random.default_rng(0)
    clean = [c for c in rng.standard_normal((100, *G.shape)) if (c * G).sum() > 0]
    agree = [(c * trusted).sum() > 0 for c in clean]
    assert any(agree) and not all(agree)


def _descend(project_step, steps=60):
    """Of ||W A - B||^2 with momentum: how far the part of W outside the span moves."""
    rng = np.random.default_rng(0)
    A, B, (W, delta) = rng.standard_normal((9, 12)), rng.standard_normal((6, 12)), _pair(7)
    start, velocity = W, rng.standard_normal(W.shape)
    for _ in range(steps):
        g = (W @ A - B) @ A.T / 12
        velocity = 0.9 * velocity + (g if project_step else project_gradient(g, delta))
        W = W - 0.02 * (project_gradient(velocity, delta) if project_step else velocity)
    moved = W - start
    return abs(moved - project_gradient(moved, delta)).max(), abs(moved).max(), np.linalg.matrix_rank(moved, tol=1e-9)


def test_a_run_stays_in_the_span_if_the_step_is_projected():
    outside, moved, rank = _descend(True)
    assert outside < 1e-10 and moved > 0.1 and rank <= 2
    assert _descend(False)[0] > 1e-2, "momentum from before leaks"


@pytest.mark.parametrize("bad", [-1, 1.5])
def test_ranks(bad):
    with pytest.raises((ValueError, TypeError), match="rank must"):
        project_gradient(*_pair(0), rank=bad)
