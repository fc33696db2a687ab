"""The t mixed model: SciPy's multivariate t and normal, derivatives by differences, and what an outlier does."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from trref.statistics.t_mixed_model import robustness_weights, t_log_likelihood


def _data(seed, K=5, n=4, p=3, q=2):
    rng = np.random.default_rng(seed)
    X, Z = rng.standard_normal((K, n, p)), rng.standard_normal((K, n, q))
    beta, factor = rng.standard_normal(p), 0.4 * rng.standard_normal((q, q))
    return beta, np.asarray(0.3), factor, X, Z, 3 * rng.standard_normal((K, n))


def _covariances(log_variance, factor, Z):
    L = np.tril(factor, -1) + np.diag(np.exp(np.diag(factor)))
    return [z @ L @ L.T @ z.T + math.exp(log_variance) * np.eye(len(z)) for z in Z]


@pytest.mark.parametrize("dof", [1.0, 4.0, 30.0, None])
def test_scipy(dof):
    for seed in range(3):
        beta, log_variance, factor, X, Z, y = _data(seed)
        expected = 0.0
        for x, V, row in zip(X, _covariances(log_variance, factor, Z), y, strict=True):
            law = stats.multivariate_normal(x @ beta, V) if dof is None else stats.multivariate_t(x @ beta, V, df=dof)
            expected += law.logpdf(row)
        assert t_log_likelihood(beta, log_variance, factor, X, Z, y, dof=dof)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dof", [2.5, None])
def test_derivatives_by_differences(dof):
    beta, log_variance, factor, X, Z, y = _data(7)
    value = lambda b, v, f: t_log_likelihood(b, np.asarray(v), f, X, Z, y, dof=dof)  # noqa: E731
    gradient, h = value(beta, log_variance, factor)[1], 1e-6
    for j, e in enumerate(np.eye(3)):
        slope = (value(beta + h * e, 0.3, factor)[0] - value(beta - h * e, 0.3, factor)[0]) / (2 * h)
        assert gradient.beta[j] == pytest.approx(slope, rel=1e-6, abs=1e-7)
    slope = (value(beta, 0.3 + h, factor)[0] - value(beta, 0.3 - h, factor)[0]) / (2 * h)
    assert gradient.log_variance == pytest.approx(slope, rel=1e-6, abs=1e-7)
    for place in ((0, 0), (1, 0), (1, 1), (0, 1)):
        E = np.zeros((2, 2))
        E[place] = h
        slope = (value(beta, 0.3, factor + E)[0] - value(beta, 0.3, factor - E)[0]) / (2 * h)
        assert gradient.factor[place] == pytest.approx(slope, rel=1e-6, abs=1e-7)
    assert gradient.factor[0, 1] == 0


def test_many_degrees_of_freedom_are_normal():
    """At ν = 10⁶ the distance to the normal log-likelihood is of the order of δ²/ν."""
    data = _data(2)
    t, normal = (t_log_likelihood(*data, dof=dof) for dof in (1e6, None))
    distances = [w - 1 for w in robustness_weights(*data, dof=1e6)]
    assert t[0] == pytest.approx(normal[0], abs=1e-2) and max(map(abs, distances)) < 1e-3
    assert t[1].beta == pytest.approx(normal[1].beta, rel=1e-3)


def test_an_outlier_loses_its_weight():
    """One residual in one cluster: w = (ν + 1)/(ν + r²/σ²), and its pull falls with the distance."""
    one, nothing = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    pulls = []
    for r in (1.0, 10.0, 100.0):
        given = (np.zeros(1), np.asarray(0.0), np.zeros((1, 1)), one, nothing, np.array([[r]]))
        assert robustness_weights(*given, dof=4.0) == pytest.approx([5 / (4 + r**2)], rel=1e-14)
        pulls.append(float(t_log_likelihood(*given)[1].beta[0]))
    assert pulls == pytest.approx([5 * r / (4 + r * r) for r in (1, 10, 100)], rel=1e-14)


def test_at_the_maximum_the_weighted_residuals_vanish():
    """A maximum by SciPy with these gradients: Σ w Xᵀ V⁻¹ r = 0, computed apart."""
    beta, _, factor, X, Z, y = _data(5, K=20)
    lower = np.tril_indices(2)

    def negative(flat):
        C = np.zeros((2, 2))
        C[lower] = flat[4:]
        value, g = t_log_likelihood(flat[:3], np.asarray(flat[3]), C, X, Z, y, dof=5.0)
        return -value, -np.concatenate([g.beta, [g.log_variance], g.factor[lower]])

    start = np.concatenate([beta, [0.3], factor[lower]])
    found = optimize.minimize(negative, start, jac=True, method="BFGS", options={"gtol": 1e-7})
    C = np.zeros((2, 2))
    C[lower] = found.x[4:]
    total = np.zeros(3)
    for x, V, row in zip(X, _covariances(found.x[3], C, Z), y, strict=True):
        r = row - x @ found.x[:3]
        s = np.linalg.solve(V, r)
        total += 9 / (5 + r @ s) * x.T @ s
    assert abs(total).max() < 1e-4
