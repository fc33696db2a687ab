"""Means over shards, exact surrogates, targets of long stays, and the stationary law of the chain."""

import numpy as np
import pytest

from trref.federated.fsgld import (
    conducive_gradients,
    conducive_targets,
    fit_surrogate,
    global_surrogate,
    langevin_step,
    local_targets,
    shard_drift,
    stationary_covariance,
)


def _shards(seed=0, S=4, P=3):
    rng = np.random.default_rng(seed)
    A = np.stack([(B := rng.standard_normal((P, P + 2))) @ B.T for _ in range(S)])
    return rng, rng.standard_normal((S, P)), A, rng.dirichlet(np.full(S, 4.0))


def test_numbers_by_hand():
    """Precisions 1 and 3 at 0 and 4: 4 at 3; at 1, (1 - 0)/0.25 - 4 (1 - 3) and 3 (1 - 4)/0.75 + 8."""
    means, precisions = np.array([[0.0], [4.0]]), np.array([[[1.0]], [[3.0]]])
    q = global_surrogate(means, precisions)
    assert np.allclose(q.mean, [3], rtol=1e-9) and np.allclose(q.precision, [[4]], rtol=1e-9)
    c = conducive_gradients(np.array([1.0]), means, precisions, np.array([0.25, 0.75]))
    assert np.allclose(c, [[12], [-4]], rtol=1e-9)
    assert np.allclose(shard_drift(np.array([1.0]), np.array([[2.0], [4.0]]), count=10, share=0.5), [61], rtol=1e-9)
    assert np.allclose(langevin_step(np.array([1.0]), np.array([2.0]), np.array([3.0]), lr=0.04), [1.64], rtol=1e-9)


def test_over_shards_conducive_gradients_are_0():
    rng, means, A, shares = _shards()
    for _ in range(5):
        c = conducive_gradients(10 * rng.standard_normal(3), means, A, shares)
        assert np.allclose(shares @ c, 0, atol=1e-11, rtol=1e-9)
    assert np.allclose(conducive_gradients(np.ones(3), means[:1], A[:1], np.ones(1)), 0, atol=1e-13, rtol=1e-9)
    same = np.stack([A[0]] * 2), np.stack([means[0]] * 2)
    assert np.allclose(conducive_gradients(np.ones(3), same[1], same[0], np.full(2, 0.5)), 0, atol=1e-12, rtol=1e-9)


def test_exact_surrogates_give_every_shard_the_whole_gradient():
    rng, m, A, shares = _shards(1)
    theta, prior = rng.standard_normal(3), 0.2 * np.eye(3)
    each = -np.einsum("sij,sj->si", A, theta - m)
    whole = -prior @ theta + each.sum(0)
    drifts = np.stack(
        [shard_drift(-prior @ theta, g[None], count=1, share=f) for g, f in zip(each, shares, strict=True)]
    )
    assert np.allclose(shares @ drifts, whole, atol=1e-11, rtol=1e-9)
    corrected = drifts + conducive_gradients(theta, m, A, shares)
    assert np.allclose(corrected, whole, atol=1e-10, rtol=1e-9) and np.ptp(drifts, 0).max() > 1
    off = drifts + conducive_gradients(theta, m + 0.02, 1.01 * A, shares)
    assert ((off - whole) ** 2).sum() < 0.05 * ((drifts - whole) ** 2).sum()


def test_long_stays():
    """Where the drift is 0 lies the mean of the target; with exact surrogates all targets are the posterior."""
    _, m, A, shares = _shards(2)
    prior = 0.2 * np.eye(3)
    local = local_targets(m, A, prior, shares)
    for s in range(4):
        g = -A[s] @ (local.means[s] - m[s])
        assert np.allclose(
            shard_drift(-prior @ local.means[s], g[None], count=1, share=shares[s]), 0, atol=1e-10, rtol=1e-9
        )
    exact = conducive_targets(m, A, m, A, prior, shares)
    precision = prior + A.sum(0)
    mean = np.linalg.solve(precision, np.einsum("sij,sj->i", A, m))
    assert np.allclose(exact.precisions, precision, rtol=1e-9) and np.allclose(exact.means, mean, rtol=1e-9)
    off = conducive_targets(m, A, m + 0.05, 0.95 * A, prior, shares)
    for s in range(4):
        g = -A[s] @ (off.means[s] - m[s])
        drift = shard_drift(-prior @ off.means[s], g[None], count=1, share=shares[s])
        assert np.allclose(
            drift + conducive_gradients(off.means[s], m + 0.05, 0.95 * A, shares)[s], 0, atol=1e-10, rtol=1e-9
        )


def test_a_surrogate_from_draws_leaves_the_prior_out():
    rng = np.random.default_rng(3)
    A, m, prior = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, -2.0]), np.eye(2)
    C = np.linalg.inv(A + prior)
    draws = rng.multivariate_normal(C @ A @ m, C, size=200000)
    q = fit_surrogate(draws, prior)
    assert np.allclose(q.precision, A, atol=0.08, rtol=1e-9) and np.allclose(q.mean, m, atol=0.02, rtol=1e-9)


def test_the_stationary_law_of_the_chain():
    A, h, rng = np.array([[3.0, 1.0], [1.0, 2.0]]), 0.4, np.random.default_rng(4)
    C = stationary_covariance(A, lr=h)
    M = np.eye(2) - h / 2 * A
    assert np.allclose(M @ C @ M.T + h * np.eye(2), C, rtol=1e-12)
    theta = np.zeros((20000, 2))
    for _ in range(40):
        theta = theta - h / 2 * theta @ A + np.sqrt(h) * rng.standard_normal(theta.shape)
    assert np.allclose(np.cov(theta.T), C, atol=0.02, rtol=1e-9)
    assert np.allclose(stationary_covariance(A, lr=1e-9), np.linalg.inv(A), rtol=1e-8)


def test_bad_input():
    with pytest.raises(ValueError, match="eigenvalues below 4/lr"):
        stationary_covariance(np.eye(2), lr=4.1)
    with pytest.raises(ValueError, match="sum to a positive definite"):
        global_surrogate(np.ones((1, 2)), np.zeros((1, 2, 2)))
