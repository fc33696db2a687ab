"""The ascent by hand, SAM and unnormalised SAM as limits, the exact worst loss, and two wells."""

import numpy as np
import pytest

from trref.optimization.trust_region_subproblem import eigen_step
from trref.problems.convex import Quadratic, Rosenbrock, spd_matrix
from trref.problems.wells import GaussianWells
from trref.sharpness import sam
from trref.sharpness.adversarial_model_perturbation import perturbed_gradient, worst_perturbation


def test_numbers_by_hand():
    """L = x² + 2 y² at (3/2, 1): g = (3, 4). A step of 0.1 stays inside, of 1 it is cut to rho (3/5, 4/5)."""
    loss, theta = Quadratic(np.diag([2.0, 4.0]), np.zeros(2)), np.array([1.5, 1.0])
    assert np.allclose(worst_perturbation(loss, theta, inner_lr=0.1, rho=0.6), [0.3, 0.4], rtol=1e-14)
    assert np.allclose(worst_perturbation(loss, theta, inner_lr=1.0, rho=0.5), [0.3, 0.4], rtol=1e-14)
    value, gradient = perturbed_gradient(loss, theta, rho=0.5)
    assert value == pytest.approx(1.8**2 + 2 * 1.4**2, rel=1e-14) and np.allclose(gradient, [3.6, 5.6], rtol=1e-14)
    # the second step starts there: (0.3 + 0.36, 0.4 + 0.56), of length 1.165, is cut to 1
    second = np.array([0.66, 0.96]) / np.hypot(0.66, 0.96)
    assert np.allclose(worst_perturbation(loss, theta, inner_lr=0.1, rho=1.0, steps=2), second, rtol=1e-14)


def test_inside_the_ball_it_is_the_gradient_and_beyond_it_is_sam():
    loss, theta = Rosenbrock(), np.array([0.3, -0.4, 0.9])
    g = loss(theta)[1]
    length = float(np.linalg.norm(g))
    assert np.allclose(
        worst_perturbation(loss, theta, rho=0.1, inner_lr=0.099 / length), 0.099 * g / length, rtol=1e-13
    )
    beyond = worst_perturbation(loss, theta, rho=0.1, inner_lr=0.101 / length)
    assert np.allclose(beyond, sam.worst_perturbation(loss, theta, rho=0.1), rtol=1e-13)


def _worst(H, theta, rho):
    """The exact worst point in the ball of a quadratic: the trust-region subproblem of its negative."""
    return eigen_step(-H @ theta, -H, radius=rho).p


def test_many_steps_reach_the_exact_worst_point_of_a_quadratic():
    rng = np.random.default_rng(0)
    H = spd_matrix(rng, np.array([2.0, 1.0, 0.5, 0.1]))
    loss, theta, rho = Quadratic(H, np.zeros(4)), rng.standard_normal(4), 0.6
    exact = loss(theta + _worst(H, theta, rho))[0]
    values = [float(perturbed_gradient(loss, theta, rho=rho, steps=k)[0]) for k in (1, 2, 5, 500)]
    assert loss(theta)[0] < values[0] < exact and values[-1] == pytest.approx(float(exact), rel=1e-12)


def test_at_the_exact_worst_point_it_is_the_derivative_of_the_worst_loss():
    """Danskin's theorem, by differences."""
    rng = np.random.default_rng(1)
    H = spd_matrix(rng, np.array([2.0, 1.0, 0.3]))
    loss, theta, rho, h = Quadratic(H, np.zeros(3)), rng.standard_normal(3), 0.4, 1e-5
    at_worst = lambda theta: loss(theta + _worst(H, theta, rho))[0]  # noqa: E731
    slopes = [(at_worst(theta + h * e) - at_worst(theta - h * e)) / (2 * h) for e in np.eye(3)]
    ours = perturbed_gradient(loss, theta, rho=rho, perturbation=_worst(H, theta, rho))[1]
    assert np.allclose(slopes, ours, rtol=0, atol=1e-8)


def test_nobody_leaves_the_ball():
    rng = np.random.default_rng(2)
    for steps in (1, 3, 20):
        moved = worst_perturbation(Rosenbrock(), rng.standard_normal(5), rho=0.2, inner_lr=0.01, steps=steps)
        assert np.linalg.norm(moved) <= 0.2 * (1 + 1e-14)


def test_sizes_that_overflow_when_squared():
    loss, theta = Quadratic(np.eye(2) * 1e90, np.zeros(2)), np.array([3.0, 4.0])
    assert np.allclose(worst_perturbation(loss, theta, rho=0.5, inner_lr=1e14), [0.3, 0.4], rtol=1e-14)
    tiny = worst_perturbation(Quadratic(np.eye(2) * 1e-200, np.zeros(2)), theta, rho=1e-210 * 5, inner_lr=1.0)
    assert np.allclose(tiny, [3e-210, 4e-210], rtol=1e-13)


def test_the_least_worst_loss_of_a_well():
    """C - A exp(-rho² sigma² / 2) at the centre, and more anywhere else."""
    well, rho = GaussianWells(np.array([1.3]), np.zeros((1, 2)), np.array([4.0]), offset=2.0), 0.4
    circle = rho * np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 400)), np.sin(t)], 1)
    disc = np.concatenate([s * circle for s in (0.25, 0.5, 0.75, 1.0)])
    worst = lambda theta: well(theta + disc)[0].max()  # noqa: E731
    least = 2 - 1.3 * np.exp(-(rho**2) * 4 / 2)
    assert worst(np.zeros(2)) == pytest.approx(least, rel=1e-13)
    for theta in ([0.05, 0.0], [-0.2, 0.3], [1.0, 1.0]):
        assert worst(np.array(theta)) > least


def test_where_the_wide_well_overtakes_the_narrow_one():
    """Far apart, at rho² = 2 ln(A_1/A_2) / (sigma_1² - sigma_2²)."""
    depths, precisions = np.array([1.0, 0.7]), np.array([1 / 0.3**2, 1.0])
    wells = GaussianWells(depths, np.array([[-6.0], [6.0]]), precisions)
    threshold = np.sqrt(2 * np.log(1 / 0.7) / (precisions[0] - precisions[1]))

    def least_worst(centre, rho):
        """On the line the worst point of a ball around a centre is an end."""
        thetas = centre + np.linspace(-0.2, 0.2, 81)
        ends = [wells((thetas + s * rho)[:, None])[0] for s in (-1, 1)]
        return np.maximum(*ends).min()

    for factor, narrow_wins in ((0.98, True), (1.02, False)):
        rho = factor * threshold
        assert (least_worst(-6.0, rho) < least_worst(6.0, rho)) == narrow_wins


def test_bad_input():
    loss = Quadratic(np.eye(2), np.zeros(2))
    with pytest.raises(ValueError, match="inner_lr must lie in"):
        perturbed_gradient(loss, np.ones(2), inner_lr=-1.0)
    with pytest.raises(ValueError, match="steps must lie in"):
        worst_perturbation(loss, np.ones(2), steps=0)
    with pytest.raises(TypeError, match="loss_and_grad must be callable"):
        perturbed_gradient(1.0, np.ones(2))
