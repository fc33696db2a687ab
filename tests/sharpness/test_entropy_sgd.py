"""Local entropy against quadrature and closed forms, its limits, and the law of the Langevin chain."""

import numpy as np
import pytest
from scipy.integrate import quad

from trref.problems.convex import Quadratic, spd_matrix
from trref.problems.rows import QuadraticScore
from trref.problems.wells import GaussianWells, TwoParabolas
from trref.sharpness.entropy_sgd import langevin_average, negative_local_entropy, negative_local_entropy_quadratic


def _wells():
    return GaussianWells(np.array([1.0, 0.6]), np.array([[-1.5], [1.0]]), np.array([6.0, 1.0]), offset=0.5)


@pytest.mark.parametrize(("stiffness", "beta"), [(1.0, 1.0), (0.3, 5.0), (8.0, 0.5)])
def test_against_scipys_quadrature(stiffness, beta):
    """The value, and the gradient as the pull to the local mean."""
    wells, how = _wells(), {"stiffness": stiffness, "inverse_temperature": beta}
    for x in (-1.2, 0.1, 2.0):
        weight = lambda t, x=x: np.exp(-beta * (wells(np.array([t]))[0] + stiffness / 2 * (x - t) ** 2))  # noqa: E731
        Z, M = (
            quad(f, x - 40, x + 40, points=[-1.5, 1.0, x], limit=500, epsabs=1e-13)[0]
            for f in (weight, lambda t, w=weight: t * w(t))
        )
        value, gradient = negative_local_entropy(wells, np.array([x]), **how)
        assert value == pytest.approx(-np.log(Z) / beta, rel=1e-9)
        assert gradient[0] == pytest.approx(stiffness * (x - M / Z), rel=1e-8, abs=1e-9)


def test_a_parabola_by_hand():
    """f = x²/2 at x = 2, gamma = 1, beta = 1: M = 2, the mean is 1, and -F = 2 - 1 + log(2)/2 - log(2 pi)/2."""
    value = 2 - 1 + np.log(2) / 2 - np.log(2 * np.pi) / 2
    closed = negative_local_entropy_quadratic(np.array([2.0]), np.array([[1.0]]), np.zeros(1))
    hill = QuadraticScore(-np.eye(1), np.zeros(1))

    def parabola(points):
        values, slopes = hill(points.reshape(-1, 1))
        return values.reshape(points.shape[:-1]), slopes.reshape(points.shape)

    for got in (closed, negative_local_entropy(parabola, np.array([2.0]))):
        assert got[0] == pytest.approx(value, rel=1e-12) and got[1][0] == pytest.approx(1.0, rel=1e-12)


def test_the_gradient_of_a_quadratic_is_filtered():
    """gamma (H + gamma)⁻¹ (H x - b)."""
    rng = np.random.default_rng(0)
    H = spd_matrix(rng, np.array([5.0, 1.0, 0.1, -0.2]))
    x, b = rng.standard_normal((2, 4))
    ours = negative_local_entropy_quadratic(x, H, b, stiffness=0.7, inverse_temperature=3.0)[1]
    assert np.allclose(ours, 0.7 * np.linalg.solve(H + 0.7 * np.eye(4), H @ x - b), rtol=1e-12)


def test_stiff_it_is_the_loss_and_soft_it_is_flat():
    """As gamma grows -F - f tends to the entropy of the weight, and the slope to that of f; as it falls, to 0."""
    wells, x = _wells(), np.array([0.3])
    f, slope = (part.ravel()[0] for part in wells(x[:, None]))
    for stiffness, allowed in ((1e3, 1e-2), (1e5, 1e-4)):
        value, gradient = negative_local_entropy(wells, x, stiffness=stiffness)
        assert float(value) + np.log(2 * np.pi / stiffness) / 2 == pytest.approx(f, abs=allowed)
        assert gradient[0] == pytest.approx(slope, abs=allowed)
    assert abs(negative_local_entropy(wells, x, stiffness=1e-4, nodes=40001)[1][0]) < 1e-3


def test_the_wide_well_wins_in_a_wide_scope_unless_it_is_cold():
    """Of min(2 (x + 2)², 0.08 (x - 2)² + 0.15), whose lowest point is at -2."""
    x = np.linspace(-4, 4, 321)
    for stiffness, beta, place in ((10.0, 5.0, -2), (1.0, 5.0, -2), (0.3, 5.0, 2), (0.3, 20.0, -2)):
        how = {"stiffness": stiffness, "inverse_temperature": beta, "nodes": 1601}
        values = [negative_local_entropy(TwoParabolas(), x[i : i + 1], **how)[0] for i in range(len(x))]
        assert x[int(np.argmin(values))] == pytest.approx(place, abs=0.15), (stiffness, beta)


def test_two_langevin_steps_by_hand():
    """f = x²/2 from 1, gamma = 0.5, eta' = 0.1, eps = 1, noise 0 and 1."""
    loss, theta = Quadratic(np.eye(1), np.zeros(1)), np.ones(1)
    first = 1 - 0.1 * 1
    second = first - 0.1 * (first - 0.5 * (1 - first)) + np.sqrt(0.1)
    mean = 0.25 * (0.25 * 1 + 0.75 * first) + 0.75 * second
    ours = langevin_average(loss, theta, np.array([[0.0], [1.0]]), stiffness=0.5, noise_scale=1.0)
    assert ours[0] == pytest.approx(mean, rel=1e-14)


def test_one_step_without_noise_is_gradient_descent():
    loss, theta = Quadratic(np.diag([1.0, 3.0]), np.ones(2)), np.array([0.5, -2.0])
    ours = langevin_average(loss, theta, np.zeros((1, 2)), noise_scale=0.0, alpha=1.0)
    assert np.allclose(theta - ours, 0.1 * loss(theta)[1], rtol=1e-13)


def test_many_steps_without_noise_are_a_proximal_step():
    loss, theta = Quadratic(np.diag([1.0, 3.0]), np.ones(2)), np.array([0.5, -2.0])
    ours = langevin_average(loss, theta, np.zeros((400, 2)), noise_scale=0.0, stiffness=0.5)
    assert np.allclose(ours, np.linalg.solve(loss.A + 0.5 * np.eye(2), loss.b + 0.5 * theta), rtol=1e-12)


def test_the_stationary_law_of_the_chain():
    """Of many chains at once: mean (b + γ x)/(λ + γ) and variance η' ε² / (1 - (1 - η' (λ + γ))²)."""
    chains, lam, stiffness, eps, lr = 4000, 1.5, 0.5, 0.8, 0.1
    loss = Quadratic(lam * np.eye(chains), np.full(chains, 0.7))
    noise = np.random.default_rng(1).standard_normal((60, chains))
    how = {"stiffness": stiffness, "noise_scale": eps, "inner_lr": lr}
    last = langevin_average(loss, np.ones(chains), noise, alpha=1.0, **how)
    mean, variance = (0.7 + stiffness) / (lam + stiffness), lr * eps**2 / (1 - (1 - lr * (lam + stiffness)) ** 2)
    assert last.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / chains))
    assert last.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / chains))


def test_bad_input():
    with pytest.raises(ValueError, match="hessian must be symmetric"):
        negative_local_entropy_quadratic(np.ones(2), np.array([[1.0, 1.0], [0.0, 1.0]]), np.ones(2))
    with pytest.raises(ValueError, match="positive definite"):
        negative_local_entropy_quadratic(np.ones(1), np.array([[-1.0]]), np.ones(1))
    with pytest.raises(ValueError, match="nodes must lie in"):
        negative_local_entropy(_wells(), np.ones(1), nodes=1)
    with pytest.raises(TypeError, match="landscape must return a tuple"):
        negative_local_entropy(lambda points: points, np.ones(1))
    with pytest.raises(ValueError, match="landscape must return float64 gradients of shape"):
        negative_local_entropy(lambda points: (points[..., 0], points[..., 0]), np.ones(1))
    with pytest.raises(ValueError, match="alpha must lie in"):
        langevin_average(Quadratic(np.eye(1), np.zeros(1)), np.ones(1), np.ones((1, 1)), alpha=1.5)
