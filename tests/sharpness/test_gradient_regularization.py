"""Penalty and differences by hand, their orders, quadratics, stability, and flooding."""

import numpy as np
import pytest

from trref.nn import mlp
from trref.problems.convex import Quadratic, spd_matrix
from trref.problems.networks import random_classifier
from trref.sharpness.gradient_regularization import (
    ascent_direction,
    finite_difference_gradient,
    flooding,
    penalised_loss,
)


class Quartic:
    """x⁴, with slope 4 x³ and curvature 12 x²."""

    def __call__(self, theta):
        return (theta**4).sum(), 4 * theta**3

    def hessian_product(self, theta, v):
        return 12 * theta**2 * v


def _network(seed=0):
    rng = np.random.default_rng(seed)
    loss = random_classifier(rng, points=15, hidden=4)
    return loss, mlp.init(rng, loss.sizes)


def test_numbers_by_hand():
    """At 1 the slope is 4 and Hg = 48; a step of 0.1 · 4 leads to 1.4 and 0.6, with slopes 10.976 and 0.864."""
    theta = np.ones(1)
    value, gradient = penalised_loss(Quartic(), theta, penalty_weight=0.5)
    assert value == pytest.approx(1 + 0.25 * 16) and gradient[0] == pytest.approx(4 + 0.5 * 48)
    for scheme, difference, rise in (
        ("forward", (10.976 - 4) / 0.1, (1.4**4 - 1) / 0.1),
        ("backward", (4 - 0.864) / 0.1, (1 - 0.6**4) / 0.1),
        ("central", (10.976 - 0.864) / 0.2, (1.4**4 - 0.6**4) / 0.2),
    ):
        value, gradient = finite_difference_gradient(Quartic(), theta, penalty_weight=0.5, scheme=scheme)
        assert gradient[0] == pytest.approx(4 + 0.5 * difference, rel=1e-12), scheme
        assert value == pytest.approx(1 + 0.5 * rise, rel=1e-12), scheme


@pytest.mark.parametrize(("scheme", "ratio"), [("forward", 10), ("backward", 10), ("central", 100)])
def test_orders_of_the_differences(scheme, ratio):
    loss, theta = _network()
    exact = penalised_loss(loss, theta, penalty_weight=1.0)[1]
    error = [
        np.linalg.norm(
            finite_difference_gradient(loss, theta, penalty_weight=1.0, inner_lr=eps, scheme=scheme)[1] - exact
        )
        for eps in (1e-2, 1e-3)
    ]
    assert error[0] / error[1] == pytest.approx(ratio, rel=0.05)


def test_along_eigenvectors_of_a_quadratic_a_step_multiplies():
    """By 1 - lr λ (1 + γ λ): stable for lr λ (1 + γ λ) < 2."""
    rng = np.random.default_rng(1)
    H = spd_matrix(rng, np.array([4.0, 1.0, 0.3]))
    loss, (values, vectors) = Quadratic(H, np.zeros(3)), np.linalg.eigh(H)
    for lam, v in zip(values, vectors.T, strict=True):
        for scheme in ("forward", "backward", "central"):
            step = v - 0.2 * finite_difference_gradient(loss, v, penalty_weight=0.3, scheme=scheme)[1]
            assert np.allclose(step, (1 - 0.2 * lam * (1 + 0.3 * lam)) * v, rtol=0, atol=1e-13)


def test_with_equal_weights_it_is_the_loss_after_an_unnormalised_step():
    loss, theta = _network(2)
    there = loss(theta + 0.2 * loss(theta)[1])
    value, gradient = finite_difference_gradient(loss, theta, penalty_weight=0.2, inner_lr=0.2)
    assert value == pytest.approx(float(there[0]), rel=1e-13) and np.allclose(gradient, there[1], rtol=0, atol=1e-13)


def test_two_steps_of_flooding_are_a_step_along_a_difference():
    """Up and down: θ - η² Δ_F(η); down and up: θ - η² Δ_B(η)."""
    loss, theta, lr = *_network(3), 0.1
    low, high = 0.0, 10.0  # below the loss it falls, above it rises

    def step(theta, level):
        return theta - lr * flooding(loss, theta, level=level)[1]

    g = loss(theta)[1]
    for scheme, levels in (("forward", (high, low)), ("backward", (low, high))):
        difference = finite_difference_gradient(loss, theta, penalty_weight=1.0, inner_lr=lr, scheme=scheme)[1] - g
        end = step(step(theta, levels[0]), levels[1])
        assert np.allclose(end, theta - lr**2 * difference, rtol=0, atol=1e-13), scheme


def test_flooding_reflects_the_loss():
    loss = Quadratic(np.eye(1), np.zeros(1))
    for x, value, slope in ((2.0, 2.0, 2.0), (0.5, 0.875, -0.5), (1.0, 0.5, 0.0)):
        got = flooding(loss, np.array([x]), level=0.5)
        assert got[0] == pytest.approx(value) and got[1][0] == pytest.approx(slope)


def test_clipping_before_the_difference_spoils_it():
    """Far from the minimum both clipped gradients have length 1: for a slope along one axis nothing is left."""
    loss, theta = Quadratic(np.eye(1), np.zeros(1)), np.array([5.0])
    assert finite_difference_gradient(loss, theta, penalty_weight=1.0)[1][0] == pytest.approx(10.0)
    from trref import catalog

    record = catalog.find("gradient_regularization.finite_difference_gradient")
    clipped = next(d for d in record.deviations if "clipped" in d.name)
    assert clipped.f(loss, theta, penalty_weight=1.0)[1][0] == pytest.approx(1.0)


def test_the_direction_is_no_view_of_the_losss_memory():
    kept = np.array([1.0, 2.0])
    assert not np.shares_memory(ascent_direction(lambda theta: (0.0, kept), np.zeros(2)), kept)


def test_bad_input():
    loss, theta = Quadratic(np.eye(2), np.zeros(2)), np.ones(2)
    with pytest.raises(ValueError, match="inner_lr must lie in"):
        finite_difference_gradient(loss, theta, inner_lr=0.0)
    with pytest.raises(ValueError, match="scheme must be one of"):
        finite_difference_gradient(loss, theta, scheme="sideways")
    with pytest.raises(TypeError, match="hessian_product"):
        penalised_loss(lambda theta: loss(theta), theta)
