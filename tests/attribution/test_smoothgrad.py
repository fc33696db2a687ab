"""Maps by hand, for linear and quadratic scores, and against the blurred score of one hidden layer."""

import numpy as np
import pytest
from scipy import integrate, stats

from trref.attribution.smoothgrad import blurred_score, gradient_variance, smooth_gradient, squared_gradient
from trref.problems.convex import spd_matrix
from trref.problems.rows import LinearScore, QuadraticScore, ReluScore


def test_numbers_by_hand():
    """Range 2 and level 0.25: noise of 0.5; the kink at 1 is passed by one copy of four."""
    score = ReluScore(np.array([[1.0, 0.0]]), np.array([-1.0]), np.array([8.0]))
    x, noise = np.array([[0.0, 2.0]]), np.zeros((4, 1, 2))
    noise[:, 0, 0] = [1.9, 2.1, -3.0, 0.0]
    assert np.allclose(smooth_gradient(score, x, noise, level=0.25), [[2.0, 0.0]], rtol=1e-9)
    assert np.allclose(squared_gradient(score, x, noise, level=0.25), [[16.0, 0.0]], rtol=1e-9)
    assert np.allclose(gradient_variance(score, x, noise, level=0.25), [[12.0, 0.0]], rtol=1e-9)


def test_each_row_has_noise_of_its_own_range():
    """The gradient of -|x|²/2 is -x: a copy's map says where the copy lies."""
    score, x = QuadraticScore(np.eye(2), np.zeros(2)), np.array([[0.0, 1.0], [0.0, 10.0], [3.0, 3.0]])
    noise = np.ones((1, 3, 2))
    assert np.allclose(smooth_gradient(score, x, noise) + x, -0.15 * np.array([[1.0], [10.0], [0.0]]), rtol=1e-9)


def test_without_noise_it_is_the_gradient():
    rng = np.random.default_rng(0)
    score = ReluScore(rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(5))
    x, noise = rng.random((4, 3)), rng.standard_normal((3, 4, 3))
    assert np.allclose(smooth_gradient(score, x, noise, level=0.0), score(x)[1], rtol=1e-14)
    assert np.array_equal(gradient_variance(score, x, noise, level=0.0), np.zeros((4, 3)))


def test_of_a_linear_score_all_copies_agree():
    rng = np.random.default_rng(1)
    w, x, noise = rng.standard_normal(4), rng.random((3, 4)), rng.standard_normal((7, 3, 4))
    assert np.allclose(smooth_gradient(LinearScore(w), x, noise, level=2.0), w, rtol=1e-14)
    assert np.array_equal(gradient_variance(LinearScore(w), x, noise, level=2.0), np.zeros((3, 4)))


def test_of_a_quadratic_score_the_mean_of_the_noise_decides():
    """The gradient is -A(x - c): its mean is that at the mean copy, its variance that of A times the noise."""
    rng = np.random.default_rng(2)
    A, c, x = spd_matrix(rng, np.array([0.5, 1.0, 4.0])), rng.random(3), rng.random((5, 3))
    noise, sigma = rng.standard_normal((9, 5, 3)), 0.3 * np.ptp(x, axis=1, keepdims=True)
    score = QuadraticScore(A, c)
    expected = -(x + sigma * noise.mean(0) - c) @ A
    assert np.allclose(smooth_gradient(score, x, noise, level=0.3), expected, rtol=0, atol=1e-13)
    assert np.allclose(gradient_variance(score, x, noise, level=0.3), (sigma * noise @ A).var(0), atol=1e-13, rtol=1e-9)


def test_the_squares_are_mean_and_variance():
    rng = np.random.default_rng(3)
    score = ReluScore(rng.standard_normal((6, 3)), 0.3 * rng.standard_normal(6), rng.standard_normal(6))
    x, noise = rng.random((4, 3)), rng.standard_normal((30, 4, 3))
    mean, squares, variance = (f(score, x, noise) for f in (smooth_gradient, squared_gradient, gradient_variance))
    assert np.allclose(squares, mean**2 + variance, rtol=1e-12) and variance.max() > 0.01


def test_the_blurred_score_by_quadrature():
    """In one dimension the expectation is an integral over the noise."""
    U, b, w, sigma = np.array([[1.5], [-0.7], [0.2]]), np.array([-0.3, 0.4, 1.0]), np.array([2.0, 1.0, -3.0]), 0.6
    score = ReluScore(U, b, w)
    for x in (-0.4, 0.2, 1.3):
        kinks = sorted(float(k) for k in (-b / U[:, 0] - x) / sigma if abs(k) < 9)
        value, gradient = blurred_score(U, b, w, np.array([x]), sigma=sigma)
        for k, mine in enumerate((value, gradient[0])):
            density = lambda e, k=k, x=x: float(score(np.array([[x + sigma * e]]))[k].item()) * stats.norm.pdf(e)  # noqa: E731
            expected = integrate.quad(density, -9, 9, points=kinks, limit=200)[0]
            assert mine == pytest.approx(expected, abs=1e-9)


def test_limits_of_little_and_of_much_noise():
    rng = np.random.default_rng(4)
    U, b, w, x = (rng.standard_normal(shape) for shape in ((6, 3), 6, 6, 3))
    value, gradient = blurred_score(U, b, w, x, sigma=1e-6)
    plain = ReluScore(U, b, w)(x[None])
    assert np.allclose(value, plain[0][0], atol=1e-9, rtol=1e-9) and np.allclose(
        gradient, plain[1][0], atol=1e-9, rtol=1e-9
    )
    assert np.allclose(blurred_score(U, b, w, x, sigma=1e9)[1], w @ U / 2, atol=1e-8, rtol=1e-9)


def test_a_unit_without_weights_is_a_constant():
    U, b, w = np.zeros((2, 2)), np.array([0.7, -0.4]), np.array([2.0, 3.0])
    value, gradient = blurred_score(U, b, w, np.array([0.2, 0.9]))
    assert value == pytest.approx(1.4, rel=1e-15) and np.array_equal(gradient, [0, 0])


def test_the_mean_estimates_the_gradient_of_the_blurred_score():
    """4,000 copies: every entry within 4.5 standard errors, for inputs of unlike range."""
    rng = np.random.default_rng(5)
    U, b, w = rng.standard_normal((8, 3)), 0.5 * rng.standard_normal(8), rng.standard_normal(8)
    x, noise = rng.random((3, 3)) * np.array([[0.5], [1.0], [3.0]]), rng.standard_normal((4000, 3, 3))
    mean = smooth_gradient(ReluScore(U, b, w), x, noise, level=0.5)
    error = np.sqrt(gradient_variance(ReluScore(U, b, w), x, noise, level=0.5) / 4000)
    exact = np.array([blurred_score(U, b, w, row, sigma=0.5 * float(np.ptp(row)))[1] for row in x])
    assert (abs(mean - exact) < 4.5 * error).all() and error.max() < 0.05


def test_the_blurred_gradient_is_lipschitz():
    """At most Σ |w| |u| / (sigma sqrt(2 pi)), unit by unit the slope of the normal law's distribution."""
    rng = np.random.default_rng(6)
    U, b, w = rng.standard_normal((8, 3)), rng.standard_normal(8), rng.standard_normal(8)
    bound = (abs(w) * np.linalg.norm(U, axis=1)).sum() / (0.2 * np.sqrt(2 * np.pi))
    for _ in range(50):
        x, y = rng.standard_normal((2, 3))
        change = blurred_score(U, b, w, x, sigma=0.2)[1] - blurred_score(U, b, w, y, sigma=0.2)[1]
        assert np.linalg.norm(change) <= bound * np.linalg.norm(x - y)


def test_bad_input():
    score, x, noise = LinearScore(np.ones(2)), np.array([[0.5, 0.7]]), np.zeros((3, 1, 2))
    with pytest.raises(ValueError, match="level must lie in"):
        smooth_gradient(score, x, noise, level=-0.1)
    with pytest.raises(ValueError, match="noise must have shape"):
        smooth_gradient(score, x, noise[:, 0])
    with pytest.raises(TypeError, match="score_and_grad must return a tuple"):
        smooth_gradient(lambda x: x, x, noise)
    with pytest.raises(ValueError, match="sigma must lie in"):
        blurred_score(np.ones((1, 2)), np.ones(1), np.ones(1), x[0], sigma=0.0)
