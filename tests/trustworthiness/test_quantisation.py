"""Quantisation: levels by hand, the exact error of GPTQ, all grids by brute force, and limits in which all agree."""

import itertools

import numpy as np
import pytest

from trref.trustworthiness.quantisation import awq, clip_range, gptq, inverse_factor, layer_error, round_to_grid


def _layer(seed, M=4, K=8, N=60, noise=0.1):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((K, 2)) @ rng.standard_normal((2, N)) + noise * rng.standard_normal((K, N))
    return rng.standard_normal((M, K)), X


def test_levels_by_hand():
    """From -1 to 2 with two bits: a step of 1, and 0 is a level."""
    W = np.array([[-1.0, 2.0, 0.4, 0.6, 1.5, -0.2]])
    assert round_to_grid(W, bits=2).tolist() == [[-1, 2, 0, 1, 2, 0]], "1.5 is a tie and goes to the even level"
    symmetric = round_to_grid(np.array([[-3.0, 1.4, 0.0]]), bits=3, levels="symmetric")
    assert symmetric.tolist() == [[-3, 1, 0]]
    assert round_to_grid(np.array([[0.5, 0.75, 8.0, 2.0]]), bits=1, group=2).tolist() == [[0.75, 0.75, 8, 0]]


def test_rounding_is_off_by_half_a_step_and_repeats_itself():
    W, _ = _layer(0, M=200)
    for bits in (2, 3, 8):
        rounded = round_to_grid(W, bits=bits)
        step = (np.maximum(W.max(1), 0) - np.minimum(W.min(1), 0)) / (2**bits - 1)
        # the zero point is rounded, too, so that the ends may be off by half a step more
        assert (abs(rounded - W) <= (1 + 1e-12) * step[:, None]).all()
        assert (abs(rounded - W) <= 0.5001 * step[:, None]).mean() > 0.9
        assert round_to_grid(rounded, bits=bits) == pytest.approx(rounded, abs=1e-12)
    fine = abs(round_to_grid(W, bits=14) - W).max()
    assert fine < 1e-3


def test_what_gptq_leaves_is_the_sum_of_its_errors():
    W, X = _layer(1)
    H = X @ X.T
    result = gptq(W, H, bits=3, damping=1e-9)
    _, U = inverse_factor(W, H, 1e-9)
    current, total = W.copy(), 0.0
    for j in range(8):
        e = (current[:, j] - result[:, j]) / U[j, j]
        current -= np.outer(e, U[j])
        total += (e**2).sum()
    unit = H.diagonal().mean()  # the factor is that of H over its mean diagonal
    assert layer_error(W, result, X) == pytest.approx(unit * total, rel=1e-5)


def test_the_factor():
    W, X = _layer(2)
    H = X @ X.T / (X @ X.T).diagonal().mean() + 0.01 * np.eye(8)
    _, U = inverse_factor(W, X @ X.T, 0.01)
    for j in range(8):
        inverse = np.linalg.inv(H[j:, j:])
        assert U[j, j] ** 2 == pytest.approx(inverse[0, 0], rel=1e-9)
        assert U[j, j:] / U[j, j] == pytest.approx(inverse[0] / inverse[0, 0], rel=1e-7, abs=1e-9)


def test_no_grid_is_better_than_the_best():
    W, X = _layer(3, M=1, K=5)
    for bits in (1, 2):
        low, high = min(W.min(), 0), max(W.max(), 0)
        step = (high - low) / (2**bits - 1)
        zero = np.round(-low / step)
        levels = step * (np.arange(2**bits) - zero)
        best = min(layer_error(W, np.array([q]), X) for q in itertools.product(levels, repeat=5))
        nearest = layer_error(W, round_to_grid(W, bits=bits), X)
        passed = layer_error(W, gptq(W, X @ X.T, bits=bits), X)
        assert best <= min(nearest, passed) * (1 + 1e-12)


def test_correlated_inputs_gain_by_passing_the_error_on():
    """On average over layers: that it is never worse is no theorem."""
    gains = []
    for seed in range(20):
        W, X = _layer(10 + seed)
        gains.append(layer_error(W, gptq(W, X @ X.T, bits=3), X) / layer_error(W, round_to_grid(W, bits=3), X))
    assert np.median(gains) < 0.7


def test_awq_and_the_range_are_never_worse_than_rounding():
    for seed in range(5):
        W, X = _layer(30 + seed)
        X[2] *= 20
        nearest = layer_error(W, round_to_grid(W, bits=3), X)
        scaled = awq(W, X, bits=3)
        assert layer_error(W, scaled.weights, X) <= nearest * (1 + 1e-12)
        assert layer_error(W, clip_range(W, X, bits=3, group=0), X) <= nearest * (1 + 1e-12)
    equal = np.ones((8, 3))
    assert awq(W, equal, bits=3).weights == pytest.approx(round_to_grid(W, bits=3), rel=1e-12)


def test_dead_inputs_have_no_weights():
    W, X = _layer(4)
    X[5] = 0
    assert not gptq(W, X @ X.T)[:, 5].any()


def test_what_is_refused():
    W, X = _layer(5)
    with pytest.raises(ValueError, match="group must divide the row's length 8, not 3"):
        round_to_grid(W, group=3)
    with pytest.raises(ValueError, match="H must be symmetric"):
        gptq(W, np.triu(X @ X.T))
