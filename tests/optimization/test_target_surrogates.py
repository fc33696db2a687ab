"""Target-based surrogates: majorisation and descent, both ends of the number of inner steps, and the linear case."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.nn.heads import log_softmax
from trref.optimization.target_surrogates import (
    adagrad_eta,
    armijo_eta,
    decaying_eta,
    inner_minimize,
    linear_minimiser,
    mirror_surrogate,
    sso,
    surrogate,
)
from trref.problems.networks import ClassifierLoss
from trref.problems.target_losses import BinaryTargets, SoftmaxTargets, SquaredTargets

N, K = 12, 3


def _task(seed, sizes=(2, 4, K)):
    rng = np.random.default_rng(seed)
    network = ClassifierLoss(rng.standard_normal((N, 2)), np.zeros(N, int), sizes)
    theta = rng.standard_normal(sum((a + 1) * b for a, b in itertools.pairwise(sizes)))
    losses = {
        4 * N: BinaryTargets(rng.integers(0, 2, (N, K)) * 1.0),
        2 * N: SoftmaxTargets(rng.integers(0, K, N)),
        N: SquaredTargets(rng.standard_normal((N, K))),
    }
    return network, theta, losses, rng


def test_by_hand():
    """Output 2 w + b at w = b = 1 is 3; targets 1, gradient 1/2, eta 4: value 1 + 1/2, slope (1/2 + 1/2) (2, 1)."""
    network = ClassifierLoss(np.array([[2.0]]), np.zeros(1, int), (1, 1))
    value, slope = surrogate(network, np.ones(2), np.array([[1.0]]), np.array([[0.5]]), eta=4.0)
    assert value == pytest.approx(1.5) and np.allclose(slope, [2, 1])


@pytest.mark.parametrize("constant", [N, 2 * N, 4 * N])
def test_majorises_everywhere(constant):
    """With eta = 1/L, for thousands of parameters, and touching at the start."""
    network, theta, losses, rng = _task(0)
    loss = losses[constant]
    z = network.logits(theta)
    value, g = loss(z)
    assert surrogate(network, theta, z, g, eta=float(constant))[0] == 0
    for _ in range(1000):
        other = theta + 10 ** rng.uniform(-3, 1) * rng.standard_normal(len(theta))
        bound = value + surrogate(network, other, z, g, eta=float(constant))[0]
        # for squared errors they are equal, up to rounding
        assert bound >= loss(network.logits(other))[0] - 1e-12 * max(1, abs(bound))


@pytest.mark.parametrize("method", ["gradient", "armijo", "lbfgs"])
def test_the_loss_falls_in_every_round(method):
    network, theta, losses, _ = _task(1)
    for constant, loss in losses.items():
        etas = np.full(8, float(constant))
        path = sso(network, loss, theta, etas, steps=20, lr=0.01, method=method)
        values = [float(loss(network.logits(point))[0]) for point in path]
        assert (np.diff(values) < 0).all()


def test_one_inner_step_is_gradient_descent():
    network, theta, losses, _ = _task(2)
    for loss in losses.values():
        path, point = sso(network, loss, theta, np.full(3, 7.0), steps=1, lr=0.3, method="gradient"), theta
        for k in range(3):
            point = point - 0.3 * network.logits_vjp(point, loss(network.logits(point))[1])
            assert np.allclose(path[k + 1], point, rtol=1e-12)


def test_many_inner_steps_are_the_projection():
    """Linear outputs: the minimum by lstsq, a gradient step of the outputs projected on the range."""
    network, theta, losses, _ = _task(3, sizes=(2, K))
    loss = losses[2 * N]
    X = np.c_[network.X, np.ones(N)]
    z = network.logits(theta)
    g = loss(z)[1]
    wanted = linear_minimiser(X, np.reshape(theta, (3, K)), g, eta=20.0)
    found = inner_minimize(network, theta, z, g, eta=20.0, steps=100, method="lbfgs")
    # the inner iteration ends at a gradient of 1e-6; the curvature is at least that of X, over eta
    least = np.linalg.svd(X)[1][-1] ** 2 / 20
    assert np.linalg.norm(found - wanted.ravel()) <= 1e-6 / least
    Q = np.linalg.qr(X)[0]
    assert np.allclose(X @ wanted, Q @ (Q.T @ (z - 20 * g)), rtol=0, atol=1e-12 * abs(g).max() * 20 + 1e-12)
    gradient = surrogate(network, wanted.ravel(), z, g, eta=20.0)[1]
    assert np.linalg.norm(gradient) < 1e-12


def test_newton_of_squared_errors():
    """Mean squared error: eta = N is the least squares fit in one step, eta = 1 is not; the sum takes eta = 1."""
    rng = np.random.default_rng(4)
    X, y, theta = rng.standard_normal((N, 3)), rng.standard_normal((N, 1)), rng.standard_normal((3, 1))
    fit = np.linalg.lstsq(X, y, rcond=None)[0]
    mean = SquaredTargets(y)(X @ theta)[1]
    assert np.allclose(linear_minimiser(X, theta, mean, eta=float(N)), fit, rtol=1e-12)
    assert np.linalg.norm(linear_minimiser(X, theta, mean, eta=1.0) - fit) > 0.1
    assert np.allclose(linear_minimiser(X, theta, N * mean, eta=1.0), fit, rtol=1e-12)


def test_more_parameters_than_rows_are_gradient_descent_on_the_outputs():
    rng = np.random.default_rng(5)
    X, theta, g = rng.standard_normal((3, 7)), rng.standard_normal((7, 2)), rng.standard_normal((3, 2))
    assert np.allclose(X @ linear_minimiser(X, theta, g, eta=0.7), X @ theta - 0.7 * g, rtol=1e-11)


def test_inner_minimum_by_scipy():
    network, theta, losses, rng = _task(6)
    z = network.logits(theta)
    g = losses[2 * N](z)[1]
    best = minimize(lambda t: surrogate(network, t, z, g, eta=20.0), theta, jac=True, method="L-BFGS-B")
    near = best.x + 0.02 * rng.standard_normal(len(theta))
    for method, steps in (("lbfgs", 100), ("armijo", 1000)):
        found = inner_minimize(network, near, z, g, eta=20.0, steps=steps, method=method)
        value = surrogate(network, found, z, g, eta=20.0)[0]
        assert value < surrogate(network, near, z, g, eta=20.0)[0] and value == pytest.approx(best.fun, rel=1e-4)


def test_distributions():
    """A table of logits: the minimum is p exp(-eta g), normalised, a step of mirror descent on a policy."""
    rng = np.random.default_rng(7)
    network = ClassifierLoss(np.eye(4), np.zeros(4, int), (4, K))
    logits, g = rng.standard_normal((4, K)), rng.standard_normal((4, K))
    target = log_softmax(log_softmax(logits) - 0.6 * g)
    best = np.r_[target.ravel(), np.zeros(K)]
    value, slope = mirror_surrogate(network, best, logits, g, eta=0.6)
    p, q = np.exp(log_softmax(logits)), np.exp(target)
    assert value == pytest.approx((g * (q - p)).sum() + (q * np.log(q / p)).sum() / 0.6)
    assert np.linalg.norm(slope) < 1e-14
    # the minimum is minus the log of the normaliser, over eta, less the mean of g
    closed = -np.log((p * np.exp(-0.6 * g)).sum(1)).sum() / 0.6 - (p * g).sum()
    assert value == pytest.approx(closed)
    for _ in range(20):
        assert mirror_surrogate(network, best + rng.standard_normal(len(best)), logits, g, eta=0.6)[0] > value


def test_search():
    """Every eta up to 1/L passes at c = 1/2, so the result is at least 0.9/L, where the search begins above."""
    _, _, losses, rng = _task(8)
    for constant, loss in losses.items():
        for _ in range(20):
            z = 10 ** rng.uniform(-1, 1) * rng.standard_normal((N, K))
            eta = float(armijo_eta(loss, z, eta=1e3))
            value, g = loss(z)
            assert eta >= 0.9 * constant and loss(z - eta * g)[0] <= value - eta / 2 * (g * g).sum()
    # squared errors: equality at 1/L, so the first length of the grid that is not above N
    grid = 1800 * 0.9 ** np.arange(100)
    z = rng.standard_normal((N, K))
    assert float(armijo_eta(losses[N], z, eta=1e3)) == pytest.approx(grid[grid <= N][0])
    assert float(armijo_eta(losses[N], z, eta=0.5)) == pytest.approx(0.9)


def test_falling_lengths():
    assert np.allclose(decaying_eta(np.array([1.0, 4.0, 9.0]), eta=3.0), [3, 1.5, 1])
    ends = decaying_eta(np.array([50.0, 100.0]), kind="exponential", horizon=100)
    assert np.allclose(ends, [0.1, 0.01])
    assert np.allclose(adagrad_eta(np.array([0.0, 9.0, 16.0]), eta=2.0), [0, 2 / 3, 2 / 5])


def test_batches():
    """Only the rows of a batch are looked at."""
    network, theta, losses, rng = _task(9)
    loss, batches = losses[2 * N], rng.integers(0, N, (3, 4))
    path = sso(network, loss, theta, np.full(3, 8.0), batches, steps=3)
    point = theta
    for batch in batches:
        model, part = network.on(batch), loss.on(batch)
        z = model.logits(point)
        point = inner_minimize(model, point, z, part(z)[1], eta=8.0, steps=3)
    assert np.array_equal(path[-1], point)
    with pytest.raises(ValueError, match="batches must be less than 12"):
        sso(network, loss, theta, np.ones(1), np.array([[12]]))
    with pytest.raises(TypeError, match=r"target_loss must have on\(\)"):
        sso(network, lambda z: loss(z), theta, np.ones(1), np.array([[1]]))
