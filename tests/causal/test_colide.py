"""CoLiDE: numbers by hand, regression given the order, and a minimiser that knows nothing of Adam."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.causal.colide import (
    colide,
    log_det,
    noise_each,
    noise_equal,
    penalised_score,
    score_each,
    score_equal,
    to_dag,
)
from trref.problems.dags import erdos_renyi_dag, sample_sem, shd


def _model(seed, *, nodes=5, edges=5, points=200, scale=1.0):
    rng = np.random.default_rng(seed)
    W = erdos_renyi_dag(rng, nodes, edges)
    X = sample_sem(rng, W, points, scale=scale)
    return W, X - X.mean(0)


def test_numbers_by_hand():
    """Columns (3, -3) and (1, -1), weight 2 from the second to the first: residuals (1, -1) in both."""
    X, W = np.array([[3.0, 1], [-3, -1]]), np.array([[0.0, 0], [2, 0]])
    assert noise_equal(W, X) == 1.0 and (noise_each(W, X) == 1).all()
    value, gradient = score_equal(W, X)
    assert value == 2.0 and gradient == pytest.approx(np.array([[-3.0, -3], [-1, -1]]))
    assert score_equal(W, X, sigma=2.0)[0] == 2 / 4 + 2
    assert score_each(W, X, np.array([2.0, 0.5]))[0] == (1 / 2 + 2 + 1 / 0.5 + 0.5) / 2
    # det [[2 - 0.25, -1], [-0.5, 2]] = 3.5 - 0.5
    cycle = np.array([[0.5, 1.0], [0.5**0.5, 0.0]])
    assert log_det(cycle, s=2.0)[0] == pytest.approx(2 * np.log(2) - np.log(3.0), rel=1e-14)


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_where_the_score_is_smallest(seed):
    W, X = _model(seed)
    W, rng = W / 2, np.random.default_rng(seed)
    best, sigma = score_equal(W, X)[0], float(noise_equal(W, X))
    each, sigmas = score_each(W, X)[0], noise_each(W, X)
    assert best == pytest.approx(5 * sigma, rel=1e-13) and each == pytest.approx(sigmas.sum(), rel=1e-13)
    for factor in (0.7, 0.99, 1.01, 1.5):
        assert score_equal(W, X, sigma=factor * sigma)[0] > best
        assert score_each(W, X, sigmas * np.exp(0.1 * factor * rng.standard_normal(5)))[0] > each


def test_the_scores_are_jointly_convex():
    rng = np.random.default_rng(0)
    X = _model(0)[1]
    for _ in range(100):
        (A, B), (a, b) = rng.standard_normal((2, 5, 5)), np.exp(rng.standard_normal((2, 5)))
        middle = score_each((A + B) / 2, X, (a + b) / 2)[0]
        assert middle <= (score_each(A, X, a)[0] + score_each(B, X, b)[0]) / 2 * (1 + 1e-12)
        middle = score_equal((A + B) / 2, X, sigma=(a[0] + b[0]) / 2)[0]
        assert middle <= (score_equal(A, X, sigma=a[0])[0] + score_equal(B, X, sigma=b[0])[0]) / 2 * (1 + 1e-12)


def test_the_score_grows_as_the_data_do():
    W, X = _model(1)
    assert score_equal(W / 2, 7 * X)[0] == pytest.approx(7 * score_equal(W / 2, X)[0], rel=1e-12)
    assert score_each(W / 2, 7 * X)[0] == pytest.approx(7 * score_each(W / 2, X)[0], rel=1e-12)
    fixed = [score_equal(W / 2, c * X, sigma=1.0)[0] - 5 / 2 for c in (1, 7)]
    assert fixed[1] == pytest.approx(49 * fixed[0], rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_acyclic_is_where_the_barrier_is_0(seed):
    rng = np.random.default_rng(seed)
    W = erdos_renyi_dag(rng, 6, 11)
    h, gradient = log_det(W)
    assert abs(h) < 1e-12 and abs(gradient[W != 0]).max() < 1e-12
    i, j = np.argwhere(W != 0)[0]
    W[j, i] = 0.3 / W[i, j]
    assert log_det(W)[0] > 0.09


def test_the_domain_is_the_spectral_radius():
    """Refused exactly where the eigenvalues say so."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        W = rng.standard_normal((4, 4))
        W /= np.sqrt(abs(np.linalg.eigvals(W * W)).max())
        assert log_det(0.999 * W)[0] > 0
        with pytest.raises(ValueError, match="spectral radius"):
            log_det(1.001 * W)


@pytest.mark.parametrize("noise", ["equal", "each", "fixed"])
def test_the_path_ends_where_another_minimiser_does(noise):
    """L-BFGS on the last stage of the smooth objective, from the solution; and columns regressed in the true order."""
    truth, X = _model(3, nodes=4, edges=6, points=500)
    fit = colide(X, noise=noise, l1_weight=0.0, lr=3e-3, max_iter=1000, check_every=100, rtol=1e-7)

    def objective(flat):
        W = flat.reshape(4, 4)
        if abs(np.linalg.eigvals(W * W)).max() >= 0.7:
            return 1e10, 0 * flat
        value, gradient = penalised_score(W, X, noise=noise, mu=1e-3, s=0.7, l1_weight=0.0)
        return value, gradient.ravel()

    start = objective(fit.weights.ravel())[0]
    better = minimize(objective, fit.weights.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 20})
    assert start - better.fun < 1e-4 * start
    assert shd(fit.W, truth) == 0
    for j in range(4):
        parents = truth[:, j] != 0
        if parents.any():
            ordinary = np.linalg.lstsq(X[:, parents], X[:, j], rcond=None)[0]
            assert fit.W[parents, j] == pytest.approx(ordinary, abs=0.1)


def test_noises_are_found():
    rng = np.random.default_rng(4)
    truth, scale = erdos_renyi_dag(rng, 5, 5), np.array([0.5, 1.0, 2.0, 1.5, 0.8])
    X = sample_sem(rng, truth, 2000, scale=scale)
    fit = colide(X, noise="each", lr=1e-2, max_iter=300, check_every=50, rtol=1e-4)
    # 2000 samples: a standard error of 1/sqrt(4000) = 1.6 %; the penalty adds some
    assert fit.noise == pytest.approx(scale, rel=0.1)


def test_thresholds():
    W = np.array([[0.0, 0.4, 0.0], [0.0, 0.0, 1.0], [0.35, 0.2, 0.0]])
    expected = np.array([[0.0, 0.4, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert (to_dag(W) == expected).all()
    assert (to_dag(W, threshold=0.5) == np.where(W == 1, W, 0)).all()


def test_what_is_given_is_not_centred_in_place():
    X = np.random.default_rng(5).standard_normal((20, 2)) + 3
    kept = X.copy()
    fit = colide(X, max_iter=50, lr=0.05, check_every=10, rtol=0.05)
    again = colide(X - 1, max_iter=50, lr=0.05, check_every=10, rtol=0.05)
    assert (X == kept).all()
    assert np.allclose(fit.weights, again.weights, rtol=1e-9, atol=1e-12)
