"""Sum-log-concave losses: the tangent inequality, the guarantee of XGD, and what it converges to."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.optimization.sum_log_concave import (
    convexity_gap,
    cross_gradient,
    posterior,
    regularised_loss,
    slc_loss,
    xgd,
    xgd_bound,
)
from trref.problems.samples import LinearSamples, LogisticSamples, QuadraticSamples


def _parts(seed, S=5, n=3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((S, n))
    kind = seed % 3
    if kind == 0:
        return LinearSamples(X, 2 * rng.standard_normal(S)), rng
    if kind == 1:
        return LogisticSamples(3 * X, rng.choice([-1.0, 1.0], S)), rng
    return QuadraticSamples(X**2 + 0.1, X), rng


@dataclasses.dataclass(frozen=True)
class _Xor:
    """The two ways in which two decisions are even: both succeed, or both fail."""

    def each(self, z):
        sp = lambda u: np.logaddexp(0, u)  # noqa: E731
        s = 1 / (1 + np.exp(-z))
        losses = np.array([sp(-z[0]) + sp(-z[1]), sp(z[0]) + sp(z[1])])
        return losses, np.stack([s - 1, s])

    def __call__(self, z):
        losses, gradients = self.each(z)
        return losses.mean(), gradients.mean(0)

    def on(self, rows: Any):
        return self

    def __len__(self):
        return 2


def test_by_hand():
    """exp(-l) = 1/4 and 3/4 of slopes 1 and -1: F = 0, posterior (1/4, 3/4), gradient -1/2."""

    class Parts(_Xor):
        def each(self, theta):
            return -np.log([0.25, 0.75]), np.array([[1.0], [-1.0]])

    value, gradient = slc_loss(Parts(), np.zeros(1))
    assert value == pytest.approx(0, abs=1e-15) and np.allclose(gradient, -0.5)
    assert np.allclose(posterior(Parts(), np.zeros(1)), [0.25, 0.75])
    assert np.allclose(cross_gradient(Parts(), np.zeros(1), np.array([1.0, 0.0])), 1)
    assert regularised_loss(Parts(), np.zeros(1), np.array([0.0, 1.0]))[0] == pytest.approx(-np.log(0.75))


def test_the_tangent_inequality():
    """For thousands of points and mixtures; at the posterior of the other point its last term is 0."""
    for seed in range(1500):
        parts, rng = _parts(seed)
        theta, other = rng.choice([0.3, 3.0]) * rng.standard_normal((2, 3))
        mixture = rng.dirichlet(np.ones(5) * rng.choice([0.2, 2.0]))
        scale = 1e-12 * (1 + abs(slc_loss(parts, theta)[0]) + abs(slc_loss(parts, other)[0]))
        assert convexity_gap(parts, theta, other, mixture) >= -10 * scale
        if seed < 50:
            seen = posterior(parts, other)
            log_q = np.log(posterior(parts, theta))
            divergence = (seen * (np.log(seen) - log_q)).sum()
            tangent = cross_gradient(parts, theta, seen) @ (other - theta)
            direct = slc_loss(parts, other)[0] - slc_loss(parts, theta)[0] - tangent - divergence
            assert convexity_gap(parts, theta, other, seen) == pytest.approx(direct, abs=1e-8 * (1 + abs(direct)))


def test_loss_and_divergence():
    for seed in range(20):
        parts, rng = _parts(seed)
        theta, mixture = rng.standard_normal(3), rng.dirichlet(np.ones(5))
        value, gradient = regularised_loss(parts, theta, mixture)
        q = posterior(parts, theta)
        assert value == pytest.approx(slc_loss(parts, theta)[0] + (mixture * np.log(mixture / q)).sum())
        assert np.array_equal(gradient, cross_gradient(parts, theta, mixture))


def test_linear_under_sums():
    """Two samples: the parts of the total are pairs, their losses add, their weights multiply."""
    (first, rng), (second, _) = _parts(0), _parts(3)
    theta, mu, nu = rng.standard_normal(3), rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5))
    (a, da), (b, db) = first.each(theta), second.each(theta)
    pairs = (mu[:, None] * nu).ravel() @ (da[:, None] + db).reshape(25, 3)
    assert np.allclose(pairs, cross_gradient(first, theta, mu) + cross_gradient(second, theta, nu))
    total = -np.log(np.exp(-(a[:, None] + b)).sum())
    assert total == pytest.approx(slc_loss(first, theta)[0] + slc_loss(second, theta)[0])


@pytest.mark.parametrize("schedule", ["constant", "root"])
def test_the_guarantee(schedule):
    """Against a point whose posterior is the mixture: first the point, then the mixture."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((4, 3))
        parts = LogisticSamples(X, rng.choice([-1.0, 1.0], 4))
        lipschitz = np.linalg.norm(X, axis=1).max()
        theta, other = 2 * rng.standard_normal((2, 3))
        how = {"lr": 0.3, "steps": 200, "schedule": schedule}
        path = xgd(parts, theta, posterior(parts, other), **how)
        lengths = np.array([0.3 / np.sqrt(t) if schedule == "root" else 0.3 for t in range(1, 201)])
        excess = np.array([slc_loss(parts, x)[0] for x in path.points[:-1]]) - slc_loss(parts, other)[0]
        mean = lengths @ excess / lengths.sum()
        assert mean <= xgd_bound(theta, other, lipschitz=float(lipschitz), **how)
        assert np.allclose(path.average, lengths @ path.points[:-1] / lengths.sum())


def test_where_it_converges():
    """The minimum of the mixed losses: for two decisions and mu = (σ(1), 1 - σ(1)) the point (1, 1), off the line
    z1 + z2 = 1 on which the posterior is mu, and below all of it."""
    parts, share = _Xor(), 1 / (1 + np.exp(-1.0))
    mixture = np.array([share, 1 - share])
    assert np.allclose(posterior(parts, np.array([0.3, 0.7])), mixture)
    end = xgd(parts, np.array([0.3, -0.5]), mixture, lr=1.0, steps=300, schedule="constant").points[-1]
    assert np.allclose(end, 1, atol=1e-6)
    line = [slc_loss(parts, np.array([t, 1 - t]))[0] for t in np.linspace(-20, 20, 401)]
    assert slc_loss(parts, end)[0] < min(line)
    for seed in (0, 2, 3):
        more, rng = _parts(seed)
        mixture = rng.dirichlet(np.ones(5))
        best = minimize(lambda x, m=more, w=mixture: regularised_loss(m, x, w), np.zeros(3), jac=True, method="BFGS")
        path = xgd(more, np.zeros(3), mixture, lr=0.3, steps=3000, schedule="constant")
        assert regularised_loss(more, path.points[-1], mixture)[0] == pytest.approx(best.fun, rel=1e-4)


def test_one_part_is_gradient_descent_and_the_saddle():
    parts, _rng = _parts(0, S=1)
    path = xgd(parts, np.zeros(3), np.ones(1), lr=0.1, steps=5, schedule="constant")
    x = np.zeros(3)
    for k in range(5):
        x = x - 0.1 * parts(x)[1]
        assert np.allclose(path.points[k + 1], x)
    # at 0 the two ways are equally likely and pull in opposite directions
    assert np.allclose(slc_loss(_Xor(), np.zeros(2))[1], 0)
    assert np.linalg.norm(cross_gradient(_Xor(), np.zeros(2), np.array([0.9, 0.1]))) > 0.1
