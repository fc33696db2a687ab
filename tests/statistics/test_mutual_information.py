"""Mutual information: normal variables, nearest neighbours of scikit-learn, tables by hand, and a quadratic."""

import math

import numpy as np
import pytest

from trref.statistics.mutual_information import (
    bin_scores,
    binned_joint,
    gaussian_mi,
    kde_by_class,
    kde_joint,
    linfoot,
    mutual_information,
)


def _normal(seed, rho, n=1500):
    a, noise = np.random.default_rng(seed).standard_normal((2, n))
    return a, rho * a + math.sqrt(1 - rho**2) * noise


def test_normal_variables():
    """Near the closed form for weak dependence; never far above it, as a kernel smooths."""
    for rho, low, high in ((0.0, 0.0, 0.03), (0.3, 0.02, 0.08), (0.6, 0.13, 0.25), (0.9, 0.45, 0.85)):
        estimate = mutual_information(kde_joint(*_normal(0, rho)))
        assert low <= estimate <= high, (rho, estimate, gaussian_mi(np.array([rho])))


def test_against_nearest_neighbours():
    feature_selection = pytest.importorskip("sklearn.feature_selection")
    rng = np.random.default_rng(1)
    X = rng.standard_normal((600, 4))
    y = X[:, 0] ** 2 + 0.5 * X[:, 1] + 0.3 * rng.standard_normal(600)
    peer = feature_selection.mutual_info_regression(X, y, random_state=0)
    ours = np.array([mutual_information(kde_joint(x, y)) for x in X.T])
    assert set(np.argsort(peer)[2:]) == set(np.argsort(ours)[2:]) == {0, 1}
    assert ours == pytest.approx(peer, abs=0.35)


def test_tables_by_hand():
    assert mutual_information(np.eye(2)) == pytest.approx(math.log(2), rel=1e-14)
    assert mutual_information(np.outer([1.0, 2], [3.0, 1, 1])) == pytest.approx(0, abs=1e-15)
    # p = 1/2, 1/4, 1/4 and 0: log 2 + 3/4 log 4/3 ... by its entropies 2 H(3/4, 1/4) - H(1/2, 1/4, 1/4)
    entropies = -2 * (0.75 * math.log(0.75) + 0.25 * math.log(0.25)) - 1.5 * math.log(2)
    assert mutual_information(np.array([[2.0, 1], [1, 0]])) == pytest.approx(entropies, rel=1e-13)


def test_invariance():
    """Units do not matter, nor which variable comes first."""
    a, b = _normal(2, 0.5, 200)
    estimate = mutual_information(kde_joint(a, b))
    assert mutual_information(kde_joint(b, 7 - 1e3 * a)) == pytest.approx(estimate, rel=1e-9)


def test_classes():
    """Far apart, the class is known: log 2; with the same law, nothing is known but by chance."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 300)
    x = rng.standard_normal(600)
    assert mutual_information(kde_by_class(x + 20 * labels, labels)) == pytest.approx(math.log(2), rel=1e-6)
    assert mutual_information(kde_by_class(x, labels)) < 0.02
    assert kde_by_class(x, labels).sum(1) == pytest.approx([0.5, 0.5], rel=1e-12)


def test_bins():
    """One bin for uniform samples in most draws; several for two far groups."""
    rng = np.random.default_rng(4)
    uniform = [1 + bin_scores(rng.random(300)).argmax() for _ in range(20)]
    assert np.mean(np.array(uniform) == 1) > 0.7
    assert 1 + bin_scores(np.concatenate([rng.random(100), 9 + rng.random(100)])).argmax() >= 3
    # counts 1 and 3: 3 log 3 + 4 log 2 - 1 - log^2.5 2
    score = 3 * math.log(3) + 4 * math.log(2) - 1 - math.log(2) ** 2.5
    assert bin_scores(np.array([0.0, 0.6, 0.7, 1.0]), most=2)[1] == pytest.approx(score, rel=1e-14)


def test_binned_table_against_numpy():
    a, b = _normal(5, 0.5, 400)
    counts = np.histogram2d(a, b, bins=(6, 9))[0]
    assert binned_joint(a, b, bins_a=6, bins_b=9) == pytest.approx(counts / 400, abs=1e-15)


def test_linfoot_is_the_correlation():
    rho = np.array([-0.9, 0.0, 1e-5, 0.5])
    assert linfoot(gaussian_mi(rho)) == pytest.approx(abs(rho), rel=1e-9)


def test_a_quadratic_is_found():
    rng = np.random.default_rng(6)
    X = rng.standard_normal((300, 30))
    y = X[:, 0] ** 2 + 0.3 * rng.standard_normal(300)
    scores = [mutual_information(kde_joint(x, y, grid=24)) for x in X.T]
    assert np.argmax(scores) == 0


def test_refused():
    with pytest.raises(ValueError, match="a must not be constant"):
        kde_joint(np.ones(4), np.arange(4.0))
    with pytest.raises(ValueError, match="grid must be finer or bandwidth larger"):
        kde_joint(np.arange(4.0), np.arange(4.0), bandwidth=0.01)
