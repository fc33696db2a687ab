"""Pruning: counts, the best single removal, all masks by brute force, and scores that agree in their limits."""

import itertools

import numpy as np
import pytest

from trref.trustworthiness.pruning import magnitude_mask, remove_weight, sparsegpt, wanda_mask
from trref.trustworthiness.quantisation import layer_error


def _layer(seed, M=4, K=8, N=60, noise=0.2):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((K, 2)) @ rng.standard_normal((2, N)) + noise * rng.standard_normal((K, N))
    return rng.standard_normal((M, K)), X


def test_counts():
    W, X = _layer(0)
    for sparsity in (0.0, 0.3, 0.5, 1.0):
        assert (magnitude_mask(W, sparsity=sparsity) == 0).sum() == int(sparsity * 32)
        assert ((wanda_mask(W, X, sparsity=sparsity) == 0).sum(1) == int(sparsity * 8)).all()
        assert (sparsegpt(W, X @ X.T, sparsity=sparsity) == 0).sum() == int(sparsity * 32)
    for mask in (magnitude_mask(W, pruned=2), wanda_mask(W, X, pruned=2), sparsegpt(W, X @ X.T, pruned=2) != 0):
        assert (np.asarray(mask).reshape(4, 2, 4).sum(2) == 2).all()


def test_by_hand():
    W = np.array([[3.0, -1.0, 2.0, 0.5], [0.1, 4.0, -0.2, 5.0]])
    assert magnitude_mask(W, sparsity=0.5).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    X = np.diag([1.0, 10.0, 1.0, 1.0])
    assert wanda_mask(W, X, sparsity=0.5).tolist() == [[1, 1, 0, 0], [0, 1, 0, 1]]
    assert magnitude_mask(np.ones((1, 4)), sparsity=0.5).tolist() == [[0, 0, 1, 1]], "of equal ones the first go"


def test_the_best_removal():
    """No other change of the row that makes the weight 0 has a smaller error."""
    W, X = _layer(1, noise=0.5)
    w, H, rng = W[0], X @ X.T, np.random.default_rng(2)
    removal = remove_weight(w, H)
    for p in range(8):
        assert w[p] + removal.change[p, p] == pytest.approx(0, abs=1e-12)
        assert removal.change[p] @ H @ removal.change[p] == pytest.approx(removal.cost[p], rel=1e-9)
        for _ in range(20):
            other = removal.change[p] + 0.1 * rng.standard_normal(8) * (np.arange(8) != p)
            assert other @ H @ other >= removal.cost[p]


def test_no_mask_is_better_than_the_best():
    """Of all masks that leave three of six, the best with its weights by least squares."""
    W, X = _layer(3, M=1, K=6)
    best = np.inf
    for stay in itertools.combinations(range(6), 3):
        fit = np.zeros((1, 6))
        fit[0, stay] = np.linalg.lstsq(X[list(stay)].T, (W @ X)[0], rcond=None)[0]
        best = min(best, layer_error(W, fit, X))
    for pruned in (W * magnitude_mask(W), W * wanda_mask(W, X), sparsegpt(W, X @ X.T, damping=1e-8)):
        assert best <= layer_error(W, pruned, X) * (1 + 1e-9)


def test_correcting_the_rest_gains_where_inputs_are_correlated():
    gains = []
    for seed in range(20):
        W, X = _layer(10 + seed)
        gains.append(layer_error(W, sparsegpt(W, X @ X.T), X) / layer_error(W, W * wanda_mask(W, X), X))
    assert np.median(gains) < 0.6


def test_without_correlation_sparsegpt_is_wanda_in_one_row():
    W, _ = _layer(4, M=1)
    lengths = np.array([1.0, 2, 0.5, 3, 1.5, 0.7, 2.5, 1.2])
    pruned = sparsegpt(W, np.diag(lengths**2), damping=1e-9)
    assert pruned == pytest.approx(W * wanda_mask(W, np.diag(lengths)), abs=1e-6)


def test_what_is_refused():
    W, X = _layer(5)
    with pytest.raises(ValueError, match="run must divide the row's length 8, not 3"):
        magnitude_mask(W, pruned=1, run=3)
    with pytest.raises(ValueError, match="pruned must be at most run = 4, not 5"):
        wanda_mask(W, X, pruned=5)
    with pytest.raises(ValueError, match="H must be positive definite"):
        remove_weight(np.ones(2), np.ones((2, 2)))
