"""Conjugacy, the Euclidean limit, integrals in two dimensions, scores that overflow if exponentiated."""

import numpy as np
import pytest
from scipy import integrate, special

from trref.shift.conjnorm import (
    bregman,
    class_means,
    conjnorm_score,
    duality_map,
    energy,
    log_density,
    log_partition,
    mahalanobis,
    max_softmax,
    normalised,
)

EXPONENTS = (1.2, 1.5, 2.0, 2.5, 3.0)


def _norm(x, q):
    return (abs(x) ** q).sum(-1) ** (1 / q)


def test_numbers_by_hand():
    """q = 3 of (1, 2): norm 9^(1/3), map (1, 4) / 9^(1/3)."""
    assert np.allclose(duality_map(np.array([[1.0, 2.0]]), q=3.0), np.array([[1.0, 4.0]]) / 9 ** (1 / 3), rtol=1e-9)
    assert np.array_equal(duality_map(np.array([[0.0, 0.0]]), q=1.5), [[0.0, 0.0]])
    assert np.allclose(duality_map(np.array([[0.0, -4.0]]), q=1.5), [[0.0, -4.0]], rtol=1e-9)


def test_the_map_is_the_gradient_of_half_a_squared_norm():
    x, step = np.random.default_rng(0).standard_normal((1, 4)), 1e-6
    for q in (1.5, 2.0, 3.5):
        ends = [[_norm(x[0] + s * step * e, q) ** 2 / 2 for e in np.eye(4)] for s in (1, -1)]
        slopes = (np.array(ends[0]) - ends[1]) / (2 * step)
        assert np.allclose(duality_map(x, q=q)[0], slopes, rtol=1e-6, atol=1e-9)


def test_conjugate_maps_are_inverse_and_exchange_norms():
    x = np.random.default_rng(1).standard_normal((6, 4))
    for p in EXPONENTS:
        q = p / (p - 1)
        eta = duality_map(x, q=q)
        assert np.allclose(duality_map(eta, q=p), x, rtol=1e-9, atol=1e-12)
        assert np.allclose(_norm(eta, p), _norm(x, q), rtol=1e-12)
        assert np.allclose((x * eta).sum(1), _norm(x, q) ** 2, rtol=1e-12)  # Euler


def test_the_divergence_is_that_of_the_conjugates():
    """Fenchel: phi(z) + psi(eta) - z . eta, and 0 only where z is the mean."""
    rng = np.random.default_rng(2)
    z, mu = rng.standard_normal((2, 5, 3))
    for p in EXPONENTS:
        q = p / (p - 1)
        eta = duality_map(mu, q=q)
        expected = _norm(z, q)[:, None] ** 2 / 2 + _norm(eta, p) ** 2 / 2 - z @ eta.T
        d = bregman(z, mu, p=p)
        assert np.allclose(d, expected, rtol=1e-10) and (d > 0).all()
        assert np.allclose(np.diag(bregman(z, z, p=p)), 0, atol=1e-14, rtol=1e-9)


def test_with_2_it_is_half_the_squared_distance():
    z, mu = np.random.default_rng(3).standard_normal((2, 4, 3))
    expected = ((z[:, None] - mu) ** 2).sum(2) / 2
    assert np.allclose(bregman(z, mu, p=2.0), expected, rtol=1e-12)
    unit = normalised(z, p=2.0)
    assert np.allclose(-bregman(unit, unit, p=2.0), unit @ unit.T - 1, atol=1e-14, rtol=1e-9)


def _integral(q, mu):
    p = q / (q - 1)
    mean = np.array([mu])
    f = lambda y, x: np.exp(-bregman(np.array([[x, y]]), mean, p=p)[0, 0])  # noqa: E731
    return integrate.dblquad(f, -9, 9, -9, 9, epsabs=1e-4, epsrel=1e-4)[0]


def test_the_integral_at_a_mean_of_0():
    """(2 Gamma(1/q + 1))^d / Gamma(d/q + 1) 2^(d/2) Gamma(d/2 + 1), in two dimensions."""
    for q in (1.5, 3.0):
        closed = (2 * special.gamma(1 / q + 1)) ** 2 / special.gamma(2 / q + 1) * 2
        assert _integral(q, [0.0, 0.0]) == pytest.approx(closed, rel=1e-3)


def test_the_integral_depends_on_the_mean_unless_q_is_2():
    closed = (2 * special.gamma(1 / 1.5 + 1)) ** 2 / special.gamma(2 / 1.5 + 1) * 2
    assert closed == pytest.approx(5.48, abs=0.01)
    assert _integral(1.5, [1.0, 0.5]) == pytest.approx(5.73, abs=0.02)
    assert _integral(2.0, [1.0, 0.5]) == pytest.approx(2 * np.pi, rel=1e-3)


def _data(seed=4, N=30, D=4, K=3):
    rng = np.random.default_rng(seed)
    y = np.arange(N) % K
    return abs(rng.standard_normal((K, D)))[y] + 0.2 * rng.standard_normal((N, D)), y


def test_normalisers_and_densities_with_scipy():
    f, y = _data()
    for p in (1.5, 2.5):
        z, mu = normalised(f, p=p), class_means(f, y, classes=3, p=p)
        q = p / (p - 1)
        s = (z @ duality_map(mu, q=q).T - _norm(z, q)[:, None] ** 2 / 2) / 0.05
        own = np.array([special.logsumexp(s[y == k, k]) for k in range(3)])
        phi = log_partition(z, y, mu, p=p, temperature=0.05)
        assert np.allclose(phi, own, rtol=1e-12)
        every = log_partition(z, y, mu, p=p, temperature=0.05, samples="all")
        assert np.allclose(every, special.logsumexp(s, axis=0), rtol=1e-12)
        found = log_density(z, mu, phi, p=p, temperature=0.05)
        assert np.allclose(found, special.logsumexp(s - own, axis=1), rtol=1e-11)
        assert conjnorm_score(z, mu, phi, p=p, temperature=0.05)[0] == pytest.approx(found.sum())


def test_a_constant_in_all_normalisers_is_one_in_all_densities():
    f, y = _data(5)
    mu = class_means(f, y, classes=3)
    phi = log_partition(f, y, mu)
    assert np.allclose(log_density(f, mu, phi + 3) + 3, log_density(f, mu, phi), rtol=1e-12)


def test_a_temperature_at_which_exponentials_overflow():
    """T = 0.0005, as the authors use it: s is in the thousands."""
    f, y = _data(6)
    z, mu = normalised(f), class_means(f, y, classes=3)
    how = {"temperature": 5e-4}
    density = log_density(z, mu, log_partition(z, y, mu, **how), **how)
    assert np.isfinite(density).all() and abs(density).max() < 1000


def test_entries_whose_powers_overflow():
    """q = 21: the 21st power of 1e60 is no number, the norm and the map are."""
    x = np.array([[1.0, -2.0]])
    assert np.allclose(duality_map(1e60 * x, q=21.0), 1e60 * duality_map(x, q=21.0), rtol=1e-12)


def test_coordinates_of_0():
    """Common after a ReLU: the map and the gradient are finite there for q below 2, too."""
    z, mu = np.array([[0.0, 1.0, 0.0]]), np.array([[0.5, 0.0, 0.5]])
    for p in EXPONENTS:
        assert np.isfinite(conjnorm_score(z, mu, np.zeros(1), p=p)[1]).all()


def test_class_means_are_of_raw_features():
    means = class_means(np.array([[8.0, 0.0], [0.0, 6.0]]), np.array([0, 0]), classes=2, p=2.0)
    assert np.allclose(means, [[0.8, 0.6], [0.0, 0.0]], rtol=1e-9)


def test_the_older_scores():
    logits = np.array([[1.0, 3.0, 0.0]])
    assert max_softmax(logits) == pytest.approx(special.softmax(logits[0]).max())
    assert energy(logits, temperature=2.0) == pytest.approx(2 * special.logsumexp(logits[0] / 2))
    f, y = np.array([[1.0, 0.0], [-1.0, 0.0], [5.0, 2.0], [5.0, -2.0]]), np.array([0, 0, 1, 1])
    means = np.array([[0.0, 0.0], [5.0, 0.0]])
    # the covariance is diag(1/2, 2); distances 4 / 0.5 from the first mean, 9 / 0.5 from the second
    assert mahalanobis(np.array([[2.0, 0.0]]), f, y, means, damping=1e-12) == pytest.approx([-8.0])


def test_bad_input():
    with pytest.raises(ValueError, match="p must lie in"):
        bregman(np.ones((1, 1)), np.ones((1, 1)), p=1.01)
    with pytest.raises(ValueError, match="labels must name the class of every mean"):
        log_partition(np.ones((1, 1)), np.array([0]), np.ones((2, 1)))
