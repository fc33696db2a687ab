"""Entropies of Tsallis: SciPy's t distribution, and which law is the largest under which moments."""

import numpy as np
import pytest
from scipy import stats

from trref.statistics.robust_high_dimensional import escort, maximal_log_density, tsallis_entropy

STEP = 0.01
X = np.arange(-400, 400, STEP) + STEP / 2
VOLUME = np.full(len(X), STEP)


def _normalised(f):
    return f / (f * STEP).sum()


def _variance(f):
    return (f * X**2 * STEP).sum()


def _heavy(q):
    return _normalised(np.exp(maximal_log_density(X[:, None], np.eye(1), q=q)))


def _normal():
    return _normalised(stats.norm.pdf(X))


def _compact(power):
    """(1 - x²/c²)_+^power with the variance 1: c² = 2 power + 3."""
    return _normalised(np.maximum(1 - X**2 / (2 * power + 3), 0) ** power)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_t_distribution(k):
    """With ν = 2/(q - 1) - k and the scale Σ (ν - 2)/ν."""
    rng = np.random.default_rng(k)
    A = rng.standard_normal((k, k))
    covariance, points = A @ A.T + np.eye(k), 3 * rng.standard_normal((9, k))
    for q in (1.05, 1.2, (k + 4) / (k + 2) - 0.01):
        dof = 2 / (q - 1) - k
        law = stats.multivariate_t(shape=covariance * (dof - 2) / dof, df=dof)
        assert maximal_log_density(points, covariance, q=q) == pytest.approx(law.logpdf(points), rel=1e-10)


def test_near_one_it_is_normal():
    points = np.linspace(-3, 3, 7)[:, None]
    found = maximal_log_density(points, np.array([[2.0]]), q=1 + 1e-6)
    assert found == pytest.approx(stats.norm(0, 2**0.5).logpdf(points[:, 0]), abs=1e-4)


def test_shannon():
    """Of a normal law, log(2πe)/2; and the entropies nearby tend to it."""
    stated = np.log(2 * np.pi * np.e) / 2
    assert tsallis_entropy(_normal(), VOLUME, q=1.0) == pytest.approx(stated, rel=1e-9)
    assert tsallis_entropy(_normal(), VOLUME, q=1 + 1e-6) == pytest.approx(stated, rel=1e-5)


def test_who_has_the_largest_entropy_at_the_same_variance():
    """S_q for q > 1: cut tails win and heavy ones lose; S of index 2 - q: heavy tails win."""
    q = 1.3
    heavy, normal, compact = _heavy(q), _normal(), _compact(1 / (q - 1))
    assert [_variance(f) for f in (heavy, normal, compact)] == pytest.approx([1, 1, 1], rel=1e-3)
    above = [tsallis_entropy(f, VOLUME, q=q) for f in (heavy, normal, compact)]
    assert above[0] < above[1] < above[2]
    assert above == pytest.approx([1.0676, 1.1142, 1.1209], abs=2e-4), "by quadrature, elsewhere"
    below = [tsallis_entropy(f, VOLUME, q=2 - q) for f in (heavy, normal, compact)]
    assert below[0] > below[1] > below[2]
    assert below[:2] == pytest.approx([1.972, 1.915], abs=1e-3)


def test_stationary_among_neighbours():
    """Perturbations that keep mass and variance never raise the entropy of index 2 - q of the heavy law."""
    q, rng = 1.3, np.random.default_rng(0)
    f = _heavy(q)
    best = tsallis_entropy(f, VOLUME, q=2 - q)
    for _ in range(5):
        bump = sum(c * stats.norm.pdf(X, m, 0.7) for c, m in zip(rng.standard_normal(4), rng.uniform(-3, 3, 4)))  # noqa: B905
        held = np.stack([np.ones_like(X), X, X**2]) * stats.norm.pdf(X, 0, 2)
        moments = np.stack([np.ones_like(X), X, X**2])
        bump = bump - np.linalg.solve(moments @ held.T, moments @ bump) @ held
        g = f + 0.02 * bump / abs(bump / f).max()
        g = _normalised(g)
        assert (g >= 0).all() and tsallis_entropy(g, VOLUME, q=2 - q) < best


def test_largest_among_laws_of_its_escort_variance():
    """Each law is stretched until its escort has the variance that the heavy law's escort has."""
    q = 1.3
    heavy = _heavy(q)
    target = _variance(escort(heavy, VOLUME, q=q))
    entropies = {}
    for name, law in (("normal", stats.norm.pdf), ("laplace", stats.laplace.pdf), ("logistic", stats.logistic.pdf)):
        own = _variance(escort(_normalised(law(X)), VOLUME, q=q))
        scale = (target / own) ** 0.5
        entropies[name] = tsallis_entropy(_normalised(law(X / scale)), VOLUME, q=q)
    assert max(entropies.values()) < tsallis_entropy(heavy, VOLUME, q=q)


def test_escort_by_hand():
    assert escort(np.array([0.75, 0.25]), np.ones(2), q=2.0) == pytest.approx([0.9, 0.1], rel=1e-14)


def test_refused():
    with pytest.raises(ValueError, match=r"q must lie between 1 and 1\.5, not 1\.5"):
        maximal_log_density(np.zeros((1, 2)), np.eye(2), q=1.5)
    with pytest.raises(ValueError, match="density must have an integral of 1"):
        tsallis_entropy(np.ones(2), np.ones(2))
