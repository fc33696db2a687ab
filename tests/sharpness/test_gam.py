"""The slope's gradient by hand and by differences, flatness of quadratics, and the four gradients written out."""

import numpy as np
import pytest

from trref.experiments.training import Counted
from trref.nn import mlp
from trref.problems.convex import Quadratic, Rosenbrock, spd_matrix
from trref.problems.networks import random_classifier
from trref.sharpness import sam
from trref.sharpness.gam import (
    four_displacements,
    gam,
    gam_accelerated,
    gradient_norm,
    gradient_overlap,
    steep_displacement,
)


def _network(seed=0):
    rng = np.random.default_rng(seed)
    loss = random_classifier(rng, points=15, hidden=4)
    return loss, mlp.init(rng, loss.sizes)


def test_numbers_by_hand():
    """L = x² + 2 y² at (3/2, 1): the gradient is (3, 4), and f = (2 · 3/5, 4 · 4/5)."""
    loss, theta = Quadratic(np.diag([2.0, 4.0]), np.zeros(2)), np.array([1.5, 1.0])
    slope, f = gradient_norm(loss, theta)
    assert slope == pytest.approx(5.0, rel=1e-14) and np.allclose(f, [1.2, 3.2], rtol=1e-14)
    moved = 0.2 * np.array([1.2, 3.2]) / np.hypot(1.2, 3.2)
    assert np.allclose(steep_displacement(loss, theta), moved, rtol=1e-14)
    there = np.array([2.0, 4.0]) * (theta + moved)
    value, gradient = gam(loss, theta, alpha=0.5)
    assert value == pytest.approx(4.25 + 0.1 * np.linalg.norm(there), rel=1e-14)
    assert np.allclose(gradient, [3, 4] + 0.1 * np.array([2.0, 4.0]) * there / np.linalg.norm(there), rtol=1e-14)


def test_one_dimension_of_the_accelerated_method_by_hand():
    """On L = x² at 1 all steps go up: points 1, 1.1, 1.2 and 1.3, slopes twice that, and c = h- / h+."""
    loss, theta = Quadratic(np.array([[2.0]]), np.zeros(1)), np.ones(1)
    how = {"rho": 0.2, "inner_rho": 0.1}
    assert np.allclose(four_displacements(loss, theta, **how), [[0.1], [0.2], [0.3]], rtol=1e-12)
    ahead, behind = 0.6 * 2.2 + 0.4 * 2.6, 0.5 * 2.0 + 0.5 * 2.4
    assert gradient_overlap(loss, theta, **how) == pytest.approx(behind / ahead, rel=1e-13)
    # in one dimension nothing is orthogonal
    value, gradient = gam_accelerated(loss, theta, gamma=0.7, **how)
    assert gradient[0] == pytest.approx(ahead, rel=1e-13)
    up, down = 0.6 * 1.21 + 0.4 * 1.69, 0.5 * 1.0 + 0.5 * 1.44
    assert value == pytest.approx(up - 0.7 * (down - behind / ahead * up), rel=1e-13)


def test_four_gradients_written_out():
    loss, theta = _network()
    rho, inner, alpha, beta, gamma = 0.2, 0.1, 0.3, 0.7, 0.4
    u = lambda v: v / np.linalg.norm(v)  # noqa: E731
    g0 = loss(theta)[1]
    g1 = loss(theta + inner * u(g0))[1]
    second = theta + rho * u(g1 - g0)
    g2 = loss(second)[1]
    g3 = loss(second + inner * u(g2))[1]
    ahead, behind = alpha * g1 + (1 - alpha) * g3, beta * g0 + (1 - beta) * g2
    orthogonal = behind - (behind @ ahead) / (ahead @ ahead) * ahead
    assert abs(orthogonal @ ahead) < 1e-13
    how = {"rho": rho, "inner_rho": inner, "alpha": alpha, "beta": beta, "gamma": gamma}
    assert np.allclose(gam_accelerated(loss, theta, **how)[1], ahead - gamma * orthogonal, rtol=0, atol=1e-12)


def test_it_takes_four_gradients():
    loss, theta = _network(1)
    counted = Counted(loss, len(loss))
    gam_accelerated(counted, theta)
    assert counted.gradients == pytest.approx(4)


def test_without_ascent_it_is_sam():
    """At rho = 0 and gamma = 0, whatever alpha."""
    loss, theta = _network(2)
    ours = gam_accelerated(loss, theta, rho=0.0, gamma=0.0, inner_rho=0.3, alpha=0.4)
    theirs = sam.perturbed_gradient(loss, theta, rho=0.3)
    assert ours[0] == pytest.approx(float(theirs[0]), rel=1e-13) and np.allclose(ours[1], theirs[1], rtol=0, atol=1e-13)


def test_differences_along_the_gradient_tend_to_the_slope_s_gradient():
    """(g_1 - g_0) / rho' = f + O(rho')."""
    loss, theta = _network(3)
    f, g = gradient_norm(loss, theta)[1], loss(theta)[1]
    error = [
        np.linalg.norm((loss(theta + r * g / np.linalg.norm(g))[1] - g) / r - f) / np.linalg.norm(f)
        for r in (1e-3, 1e-4)
    ]
    assert error[0] / error[1] == pytest.approx(10, rel=0.02)


def test_no_rise_in_the_ball_is_larger_than_the_flatness():
    """R0 <= R1; at the minimum of a quadratic rho² lambda/2 and rho² lambda."""
    rng, rho = np.random.default_rng(4), 0.3
    H = spd_matrix(rng, np.array([3.0, 1.0, 0.2]))
    loss, ball = Quadratic(H, np.zeros(3)), rng.standard_normal((4000, 3))
    ball = rho * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    top = rho * np.linalg.eigh(H)[1][:, -1]
    ball = np.concatenate([ball, [top]])
    rise = max(loss(e)[0] for e in ball)
    slope = max(gradient_norm(loss, e)[0] for e in ball)
    assert rise == pytest.approx(rho**2 * 3 / 2, rel=1e-12) and rho * slope == pytest.approx(rho**2 * 3, rel=1e-12)
    for theta in rng.standard_normal((5, 3)):
        rises = max(Rosenbrock()(theta + e)[0] for e in ball) - Rosenbrock()(theta)[0]
        slopes = max(gradient_norm(Rosenbrock(), theta + e * s)[0] for e in ball[::40] for s in (0.25, 0.5, 0.75, 1))
        assert rises <= rho * slopes * 1.05  # a sample of the ball finds nearly the largest slope


def test_the_step_goes_where_the_slope_is_larger():
    for seed in range(5):
        loss, theta = _network(seed)
        moved = steep_displacement(loss, theta, rho=0.1)
        assert np.linalg.norm(moved) == pytest.approx(0.1, rel=1e-13)
        assert gradient_norm(loss, theta + moved)[0] > gradient_norm(loss, theta)[0]


def test_at_a_minimum_nothing_moves():
    loss, theta = Quadratic(np.eye(3), np.zeros(3)), np.zeros(3)
    assert not four_displacements(loss, theta).any() and gradient_overlap(loss, theta) == 0
    for f in (gradient_norm, gam, gam_accelerated):
        assert not f(loss, theta)[1].any()


def test_slopes_whose_squares_vanish_or_overflow():
    for scale in (1e-200, 1e90):
        loss = Quadratic(np.eye(2) * scale, np.zeros(2))
        assert gradient_norm(loss, np.array([3.0, 4.0]))[0] == pytest.approx(5 * scale, rel=1e-14)


def test_bad_input():
    loss, theta = Quadratic(np.eye(2), np.zeros(2)), np.ones(2)
    with pytest.raises(ValueError, match="displacements must have 3 rows, not 2"):
        gam_accelerated(loss, theta, displacements=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="alpha must lie in"):
        gam_accelerated(loss, theta, alpha=1.1)
    with pytest.raises(TypeError, match="hessian_product"):
        gam(lambda theta: loss(theta), theta)


def test_displacements_may_be_given():
    loss, theta = _network(5)
    given = gam_accelerated(loss, theta, displacements=four_displacements(loss, theta))
    found = gam_accelerated(loss, theta)
    assert given[0] == found[0] and np.array_equal(given[1], found[1])
