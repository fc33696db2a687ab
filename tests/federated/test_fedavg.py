"""The mean by hand, what it minimises, and one local step as gradient descent."""

import numpy as np
import pytest

from trref.experiments.federated import client_losses
from trref.federated.fedavg import average, objective
from trref.nn import mlp
from trref.problems.convex import Quadratic, spd_matrix
from trref.problems.networks import random_classifier


def test_numbers_by_hand():
    """Shares of a quarter and three quarters."""
    thetas = np.array([[1.0, -2.0, 0.0], [5.0, 2.0, 4.0]])
    assert np.allclose(average(thetas, np.array([10.0, 30.0])), [4.0, 1.0, 3.0], rtol=1e-15)
    assert objective(np.array([2.0, 6.0]), np.array([10.0, 30.0])) == pytest.approx(5.0, rel=1e-15)


def test_one_step_of_every_client_is_a_step_of_gradient_descent():
    rng = np.random.default_rng(0)
    loss = random_classifier(rng, points=40, hidden=5)
    theta, clients = mlp.init(rng, loss.sizes), client_losses(rng, loss, 4, 1.0)
    counts = np.array([float(len(client)) for client in clients])
    assert counts.min() >= 1 and np.ptp(counts) > 0
    ends = np.stack([theta - 0.3 * client(theta)[1] for client in clients])
    value, gradient = loss(theta)
    assert np.allclose(average(ends, counts), theta - 0.3 * gradient, rtol=0, atol=1e-14)
    losses = np.array([client(theta)[0] for client in clients])
    assert objective(losses, counts) == pytest.approx(float(value), rel=1e-13)


def test_it_minimises_the_weighted_distances():
    rng = np.random.default_rng(1)
    thetas, counts = rng.standard_normal((5, 3)), rng.uniform(0.5, 9.0, 5)
    gradient = (counts[:, None] * (average(thetas, counts) - thetas)).sum(0)
    assert np.allclose(gradient, 0, atol=1e-13, rtol=1e-9)


def test_order_and_unit_of_the_counts_do_not_matter():
    rng = np.random.default_rng(2)
    thetas, counts, order = rng.standard_normal((5, 3)), rng.uniform(0.5, 9.0, 5), rng.permutation(5)
    assert np.allclose(average(thetas[order], 7 * counts[order]), average(thetas, counts), rtol=1e-13)


def test_under_a_convex_loss_the_mean_is_no_worse_than_its_parts():
    """Jensen's inequality."""
    rng = np.random.default_rng(3)
    loss = Quadratic(spd_matrix(rng, np.array([3.0, 1.0, 0.2])), rng.standard_normal(3))
    thetas, counts = rng.standard_normal((6, 3)), rng.uniform(0.5, 9.0, 6)
    values = np.array([loss(theta)[0] for theta in thetas])
    assert loss(average(thetas, counts))[0] < objective(values, counts)


def test_bad_input():
    with pytest.raises(ValueError, match="counts must be positive"):
        average(np.ones((2, 3)), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="counts must have shape"):
        average(np.ones((2, 3)), np.ones(3))
