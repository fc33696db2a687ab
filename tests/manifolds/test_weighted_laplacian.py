"""Weighted Laplacian: a linear function has its slope, the form is the penalty, and the minimum is one."""

import numpy as np
import pytest

from trref.manifolds.weighted_laplacian import (
    exact_primal,
    heat_weights,
    laplacian,
    local_slopes,
    smoothing_objective,
    steepest_slopes,
)


def _graph(seed, N=9):
    rng = np.random.default_rng(seed)
    w = np.triu(rng.exponential(1, (N, N)), 1)
    share = rng.dirichlet(np.ones(N))
    labelled = np.zeros(N)
    labelled[:3] = 1
    return rng, w + w.T, share, labelled


def test_a_linear_function_has_its_squared_slope():
    """Many points of a square, away from its border: weights are normalised by the mean degree, so only on average."""
    rng = np.random.default_rng(0)
    X = rng.random((1500, 2))
    a = np.array([2.0, -1.0])
    g = local_slopes(X @ a, heat_weights(X, t=0.001, cutoff=0.0))
    inside = ((X > 0.2) & (X < 0.8)).all(1)
    # near the border points have fewer neighbours: the mean degree is below that inside, by the share of what lies
    # within reach of the border, whose width is of the order of the square root of 2 t
    assert g[inside].mean() == pytest.approx(a @ a, rel=0.15)
    assert steepest_slopes(X @ a, X).max() <= a @ a * (1 + 1e-9)
    assert steepest_slopes(X @ a, X).mean() == pytest.approx(a @ a, rel=0.01)


def test_the_form_is_the_penalty():
    rng, w, share, _ = _graph(1)
    L = laplacian(w, share)
    for _ in range(5):
        f = rng.standard_normal(9)
        assert f @ L @ f == pytest.approx(share @ local_slopes(f, w), rel=1e-13)
    assert abs(L @ np.ones(9)).max() < 1e-14
    assert np.linalg.eigvalsh(L)[0] > -1e-14


def test_equal_shares_are_ordinary_regularisation():
    _, w, _, _ = _graph(2)
    plain = np.diag(w.sum(1)) - w
    assert laplacian(w, np.full(9, 1 / 9)) == pytest.approx(2 / 9 * plain, rel=1e-13, abs=1e-15)


def test_by_hand():
    """Two points, w = 2, f = (0, 1), shares (1/4, 3/4), a label of 3 on the first."""
    w = np.array([[0.0, 2.0], [2.0, 0.0]])
    share, target, labelled = np.array([0.25, 0.75]), np.array([3.0, 0.0]), np.array([1.0, 0.0])
    value, gradient = smoothing_objective(np.array([0.0, 1.0]), w, share, target, labelled, mu=0.5)
    assert value == 0.5 * 9 + 2
    assert gradient.tolist() == [0.5 * -6 - 4, 4]
    assert exact_primal(w, share, target, labelled) == pytest.approx([3, 3], rel=1e-14)


def test_the_minimum():
    rng, w, share, labelled = _graph(3)
    target = rng.standard_normal(9)
    f = exact_primal(w, share, target, labelled, mu=2.0)
    value, gradient = smoothing_objective(f, w, share, target, labelled, mu=2.0)
    assert abs(gradient).max() < 1e-13
    for _ in range(20):
        other = f + 0.1 * rng.standard_normal(9)
        assert smoothing_objective(other, w, share, target, labelled, mu=2.0)[0] > value
    moved = exact_primal(w, share, target + 5, labelled, mu=2.0)
    assert moved == pytest.approx(f + 5, rel=1e-12), "constants cost nothing"


def test_a_label_pulls_harder_with_mu():
    rng, w, share, labelled = _graph(4)
    target = rng.standard_normal(9)
    off = [abs(labelled * (exact_primal(w, share, target, labelled, mu=mu) - target)).sum() for mu in (0.1, 1, 10, 1e6)]
    assert (np.diff(off) < 0).all() and off[-1] < 1e-4


def test_what_is_refused():
    _, w, share, labelled = _graph(5)
    f = np.zeros(9)
    with pytest.raises(ValueError, match="weights must be symmetric"):
        local_slopes(f, np.triu(w))
    with pytest.raises(ValueError, match="weights must be 0 on the diagonal"):
        laplacian(w + np.eye(9), share)
    with pytest.raises(ValueError, match="labelled must be 1 somewhere"):
        smoothing_objective(f, w, share, f, 0 * labelled)
    with pytest.raises(ValueError, match="X must not have equal rows"):
        steepest_slopes(np.zeros(2), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="X must have two rows within reach"):
        heat_weights(np.array([[0.0], [10.0]]))
