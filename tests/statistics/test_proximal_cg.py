"""Proximal conjugate gradients: the Lasso of scikit-learn, linear equations without a penalty, no rise of the value."""

import numpy as np
import pytest

from trref.problems.convex import Quadratic, spd_matrix
from trref.problems.samples import LinearSamples
from trref.statistics.accelerated_gradient import accelerated_gradient
from trref.statistics.proximal_cg import gradient_mapping, proximal_cg


def _regression(seed, n=60, p=20):
    rng = np.random.default_rng(seed)
    X = 0.7 * rng.standard_normal((n, p)) + 0.7 * rng.standard_normal((n, 1))
    loss = LinearSamples(X, X[:, :3] @ [2.0, -1.5, 1.0] + 0.3 * rng.standard_normal(n))
    return loss, np.linalg.eigvalsh(X.T @ X / n)[-1]


def test_the_lasso():
    linear_model = pytest.importorskip("sklearn.linear_model")
    for seed in range(3):
        loss, smoothness = _regression(seed)
        found = proximal_cg(loss, np.zeros(20), smoothness=smoothness, penalty="l1", penalty_weight=0.2, gtol=1e-9)
        peer = linear_model.Lasso(alpha=0.2, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(loss.X, loss.y)
        assert found.x == pytest.approx(peer.coef_, rel=1e-6, abs=1e-7)


def test_without_a_penalty_it_solves_equations_in_fewer_steps_than_descent():
    rng = np.random.default_rng(0)
    A = spd_matrix(rng, np.geomspace(0.01, 1, 12))
    loss = Quadratic(A, A @ np.ones(12))
    found = proximal_cg(loss, np.zeros(12), np.zeros(12), penalty="l1", gtol=1e-6)
    descent = accelerated_gradient(loss, np.zeros(12), np.zeros(12), penalty="l1", gtol=1e-6, acceleration="none")
    assert found.x == pytest.approx(np.ones(12), abs=2e-4)
    assert found.iterations < descent.iterations / 4


@pytest.mark.parametrize("penalty", ["mcp", "scad"])
def test_values_never_rise(penalty):
    for seed in range(3):
        loss, smoothness = _regression(seed, n=25)
        found = proximal_cg(loss, np.ones(20), smoothness=smoothness, penalty=penalty, penalty_weight=0.3, gtol=1e-8)
        assert found.converged
        assert (np.diff(found.values) <= 1e-14 * found.values[0]).all()
        assert found.residuals[-1] <= 1e-8


def test_the_mapping_by_hand():
    """At (1, 0.05) with gradient (1, 0.05), t = 1/2, λ = 0.1: steps to 0.45 and to 0."""
    loss = Quadratic(np.eye(2), np.zeros(2))
    found = gradient_mapping(loss, np.array([1.0, 0.05]), lr=0.5, penalty="l1", penalty_weight=0.1)
    assert found == pytest.approx([1.1, 0.1], rel=1e-13)
    free = gradient_mapping(loss, np.array([1.0, 0.05]), np.zeros(2), lr=0.5, penalty="mcp")
    assert free == pytest.approx([1.0, 0.05], rel=1e-13)
