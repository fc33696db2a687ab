"""Consensus: the weights' theorems, the graphs, the contraction theorem and its sharpness."""

import math

import numpy as np
import pytest

from trref.manifolds.drcgd_consensus import (
    consensus_error,
    consensus_step,
    induced_mean,
    metropolis_weights,
    subspace_distance,
)
from trref.problems import graphs

GRAPHS = {
    "ring": graphs.ring(8),
    "path": graphs.path(6),
    "complete": graphs.complete(7),
    "sparse random": graphs.erdos_renyi(np.random.default_rng(0), 16, 0.3),
    "dense random": graphs.erdos_renyi(np.random.default_rng(1), 16, 0.6),
    "two": graphs.ring(2),
}


def _second(W):
    return np.linalg.svd(W, compute_uv=False)[1]


@pytest.mark.parametrize("name", GRAPHS)
def test_weights_are_doubly_stochastic_and_mix(name):
    A = GRAPHS[name]
    W = metropolis_weights(A)
    assert np.array_equal(W, W.T) and np.all(W >= 0)
    assert np.allclose(W.sum(0), 1, rtol=0, atol=1e-13)
    assert np.all((W > 0) == (A + np.eye(len(A)) > 0)), "weight exactly on the edges and the diagonal"
    assert np.all((np.diag(W) > 0) & (np.diag(W) < 1)) and _second(W) < 1


def test_weights_by_hand():
    assert np.allclose(metropolis_weights(graphs.ring(5))[0], [1 / 3, 1 / 3, 0, 0, 1 / 3], rtol=1e-9)
    assert np.allclose(metropolis_weights(graphs.path(3)), np.array([[2, 1, 0], [1, 1, 1], [0, 1, 2]]) / 3, rtol=1e-9)
    assert np.allclose(metropolis_weights(graphs.complete(4)), 1 / 4, rtol=1e-9)
    ring = np.linalg.eigvalsh(metropolis_weights(graphs.ring(8)))
    assert np.allclose(np.sort((1 + 2 * np.cos(2 * np.pi * np.arange(8) / 8)) / 3), ring, rtol=0, atol=1e-13)


def test_a_graph_in_two_parts_does_not_mix():
    parts = np.kron(np.eye(2), graphs.ring(3))
    assert _second(metropolis_weights(parts)) == pytest.approx(1, rel=1e-12)


def test_adjacency_is_checked():
    with pytest.raises(ValueError, match="adjacency must be symmetric"):
        metropolis_weights(np.array([[0.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="adjacency must have an empty diagonal"):
        metropolis_weights(np.eye(2))


def test_graphs():
    assert graphs.ring(5).sum() == 10 and np.all(graphs.ring(5).sum(0) == 2)
    assert graphs.path(5).sum() == 8 and graphs.complete(5).sum() == 20
    assert np.array_equal(graphs.ring(2), graphs.path(2)) and graphs.ring(1).sum() == 0
    for seed in range(20):
        A = graphs.erdos_renyi(np.random.default_rng(seed), 12, 0.25)
        laplacian = np.diag(A.sum(0)) - A
        assert np.array_equal(A, A.T) and np.linalg.eigvalsh(laplacian)[1] > 1e-9, "connected"
    mean = np.mean([graphs.erdos_renyi(np.random.default_rng(s), 16, 0.6).sum() / 240 for s in range(200)])
    assert mean == pytest.approx(0.6, abs=4 * math.sqrt(0.6 * 0.4 / (120 * 200)))
    with pytest.raises(ValueError, match="no connected graph"):
        graphs.erdos_renyi(np.random.default_rng(0), 5, 0.0, tries=3)


def _near(seed, agents, spread, d=8, r=3):
    rng = np.random.default_rng(seed)
    base = np.linalg.qr(rng.standard_normal((d, r)))[0]
    Z = base + spread * rng.standard_normal((agents, d, r))
    U, _, Vt = np.linalg.svd(Z, full_matrices=False)
    return U @ Vt


def _error_norm(x):
    return float(consensus_error(x)) * math.sqrt(len(x))


@pytest.mark.parametrize("name", [n for n in GRAPHS if n not in ("complete", "two")])
def test_theorem_of_contraction(name):
    """Theorem 7 of arXiv:2308.10547: sigma_2^t / (1 - gamma) bounds the factor once there are enough rounds."""
    W = metropolis_weights(GRAPHS[name])
    n, sigma, diameter = len(W), _second(W), 2 * math.sqrt(3)
    assert sigma < 1
    checked = 0
    for seed in range(30):
        x = _near(seed, n, (0.01, 0.05, 0.15)[seed % 3])
        gamma = 2 * float(np.linalg.norm(x.mean(0) - induced_mean(x))) * (1 + 1e-9) + 1e-12
        if not gamma < 1:
            continue
        rounds = max(
            math.log(1 - gamma) / math.log(sigma),
            math.ceil(math.log(gamma * (1 - gamma) / (4 * math.sqrt(n) * diameter)) / math.log(sigma)),
            1,
        )
        t = math.ceil(rounds)
        before = _error_norm(x)
        after = _error_norm(consensus_step(x, W, 0 * x, rounds=t))
        assert after <= sigma**t / (1 - gamma) * before + 1e-13
        checked += 1
    assert checked >= 20


def test_contraction_is_sharp():
    """Disagreement along the slowest mode of the graph shrinks by sigma_2^t, neither faster nor slower."""
    W = metropolis_weights(graphs.ring(8))
    values, vectors = np.linalg.eigh(W)
    slow = vectors[:, -2]
    base, tangent = np.eye(5)[:, :2], np.zeros((5, 2))
    tangent[3, 0] = tangent[4, 1] = 1e-3
    Z = base + slow[:, None, None] * tangent
    U, _, Vt = np.linalg.svd(Z, full_matrices=False)
    x = U @ Vt
    for t in (1, 3, 10):
        factor = _error_norm(consensus_step(x, W, 0 * x, rounds=t)) / _error_norm(x)
        assert factor == pytest.approx(values[-2] ** t, rel=1e-4)


def test_rounds_are_powers_of_the_weights():
    x, W = _near(0, 6, 0.1), metropolis_weights(graphs.path(6))
    direction = np.random.default_rng(1).standard_normal(x.shape)
    for t in (1, 2, 5):
        Wt = np.linalg.matrix_power(W, t)
        Z = np.array([sum(Wt[i, j] * x[j] for j in range(6)) + 0.3 * direction[i] for i in range(6)])
        U, _, Vt = np.linalg.svd(Z, full_matrices=False)
        assert np.allclose(consensus_step(x, W, direction, lr=0.3, rounds=t), U @ Vt, rtol=0, atol=1e-13)


def test_agreement_is_a_fixed_point():
    x = np.stack([_near(0, 1, 0.1)[0]] * 5)
    W = metropolis_weights(graphs.ring(5))
    assert np.allclose(consensus_step(x, W, 0 * x), x, rtol=0, atol=1e-13)
    assert float(consensus_error(x)) < 1e-13
    assert np.allclose(induced_mean(x), x[0], rtol=0, atol=1e-13)


def test_induced_mean_minimises_the_sum_of_squares():
    x = _near(3, 6, 0.3)
    mean, rng = induced_mean(x), np.random.default_rng(0)
    best = ((x - mean) ** 2).sum()
    for scale in (0.01, 0.1, 1.0):
        for _ in range(50):
            other = np.linalg.qr(mean + scale * rng.standard_normal(mean.shape))[0]
            assert best <= ((x - other) ** 2).sum() + 1e-12


def test_frames_of_one_subspace_may_be_far_apart():
    """Turned frames are other points: their average shrinks, opposite ones have none."""
    x = np.eye(4)[:, :2]
    pair = np.stack([x, -x])
    with pytest.raises(ValueError, match="x must have a mean of full rank"):
        induced_mean(pair)
    assert subspace_distance(x, -x) < 1e-14


def test_subspace_distance():
    rng = np.random.default_rng(5)
    x, y = (np.linalg.qr(rng.standard_normal((7, 3)))[0] for _ in range(2))
    Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    distance = float(subspace_distance(x, y))
    assert float(subspace_distance(x, y @ Q)) == pytest.approx(distance, rel=1e-13)
    assert float(subspace_distance(y, x)) == pytest.approx(distance, rel=1e-13)
    for _ in range(200):
        turned = y @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
        assert distance <= np.linalg.norm(x - turned) + 1e-12
    angle = 0.3
    line = np.array([[np.cos(angle)], [np.sin(angle)]])
    assert float(subspace_distance(np.eye(2)[:, :1], -line)) == pytest.approx(2 * np.sin(angle / 2), rel=1e-14)


def test_weights_are_checked():
    x = _near(0, 3, 0.1)
    for W in (np.eye(3) + 0.1, np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])):
        with pytest.raises(ValueError, match="weights must be symmetric and doubly stochastic"):
            consensus_step(x, W, 0 * x)
