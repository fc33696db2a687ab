"""Accelerated gradients: the Lasso of scikit-learn, stationary points of MCP, and fewer steps than the plain method."""

import numpy as np
import pytest

from trref.problems.convex import logistic
from trref.problems.samples import LinearSamples
from trref.statistics.accelerated_gradient import accelerated_gradient
from trref.validate import ConvergenceWarning


def _regression(seed, n=60, p=20):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    X = 0.7 * X + 0.7 * rng.standard_normal((n, 1))
    beta = np.zeros(p)
    beta[[0, 3, 7]] = 2, -1.5, 1
    return LinearSamples(X, X @ beta + 0.3 * rng.standard_normal(n)), beta


def _smoothness(loss):
    return np.linalg.eigvalsh(loss.X.T @ loss.X / len(loss.X))[-1]


def test_the_lasso():
    linear_model = pytest.importorskip("sklearn.linear_model")
    for seed in range(3):
        loss, _ = _regression(seed)
        found = accelerated_gradient(
            loss, np.zeros(20), smoothness=_smoothness(loss), penalty="l1", penalty_weight=0.2, gtol=1e-9
        )
        peer = linear_model.Lasso(alpha=0.2, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(loss.X, loss.y)
        assert found.x == pytest.approx(peer.coef_, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("penalty", ["mcp", "scad"])
def test_the_oracle(penalty):
    """With weak noise and strong signals, least squares on the right variables, without shrinkage."""
    loss, beta = _regression(3)
    found = accelerated_gradient(
        loss, np.zeros(20), smoothness=_smoothness(loss), penalty=penalty, penalty_weight=0.2, gtol=1e-9
    )
    kept = beta != 0
    least = np.linalg.lstsq(loss.X[:, kept], loss.y, rcond=None)[0]
    assert ((found.x != 0) == kept).all()
    assert found.x[kept] == pytest.approx(least, rel=1e-6)


def test_one_step_by_hand():
    """(x - 3)²/2 from 0 with γ = 1 and λ = 1: q' = 0 at 0, and x = 0.99·3 - 0.99."""
    loss = LinearSamples(np.ones((1, 1)), np.array([3.0]))
    with pytest.warns(ConvergenceWarning):
        found = accelerated_gradient(loss, np.zeros(1), gamma=1.0, penalty_weight=1.0, max_iter=1)
    assert found.x == pytest.approx([1.98], rel=1e-14)
    assert found.values == [4.5]


def test_damping_against_the_recursion():
    """Plain acceleration in one dimension without a penalty in reach, against a loop of scalars."""
    loss = LinearSamples(np.ones((1, 1)), np.array([3.0]))
    with pytest.warns(ConvergenceWarning):
        found = accelerated_gradient(
            loss,
            np.array([1.0]),
            np.zeros(1),
            smoothness=4.0,
            penalty="l1",
            acceleration="plain",
            max_iter=12,
            gtol=1e-12,
        )
    x = ag = alpha = 1.0
    for k in range(12):
        alpha = 2 / (1 + (1 + 4 / alpha**2) ** 0.5) if k else 1.0
        md = (1 - alpha) * ag + alpha * x
        x, ag = x - 0.2475 / alpha * (md - 3), md - 0.2475 * (md - 3)
    assert found.x == pytest.approx([ag], rel=1e-13)


def test_damping_wins():
    """Correlated variables: fewer steps than the proximal gradient method, and never another kind of point."""
    for seed in range(3):
        loss, _ = _regression(seed, n=40, p=30)
        how = {"smoothness": _smoothness(loss), "penalty_weight": 0.1, "max_iter": 20_000, "gtol": 1e-7}
        fast, slow = (
            accelerated_gradient(loss, np.zeros(30), acceleration=kind, **how) for kind in ("restarted", "none")
        )
        assert fast.iterations < slow.iterations


def test_the_largest_weight_keeps_everything_at_zero():
    loss, _ = _regression(4)
    largest = abs(loss(np.zeros(20))[1]).max()
    how = {"smoothness": _smoothness(loss), "gtol": 1e-9}
    assert (accelerated_gradient(loss, np.zeros(20), penalty_weight=1.0001 * largest, **how).x == 0).all()
    assert (accelerated_gradient(loss, np.zeros(20), penalty_weight=0.9 * largest, **how).x != 0).any()


def test_the_intercept_bears_no_penalty():
    loss = logistic(np.random.default_rng(0), points=50, dims=4, l2=0.0)
    X = np.hstack([np.ones((50, 1)), loss.X])
    loss = type(loss)(X, loss.y, 0.0)
    smoothness = np.linalg.eigvalsh(X.T @ X / 200)[-1]
    found = accelerated_gradient(
        loss, np.zeros(5), np.array([0.0, 1, 1, 1, 1]), smoothness=smoothness, penalty_weight=5.0, gtol=1e-9
    )
    positive = (loss.y > 0).mean()
    assert (found.x[1:] == 0).all()
    assert found.x[0] == pytest.approx(np.log(positive / (1 - positive)), abs=1e-7)
