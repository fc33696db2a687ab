"""Theorems and limits of TRQAM."""

import numpy as np
import pytest

from trref.diffusion.probability_flow import reverse_drift
from trref.diffusion.trqam import (
    adjoint_matching,
    lean_adjoint,
    memoryless_path,
    memoryless_rate,
    memoryless_step,
    pessimistic_target,
)
from trref.problems.denoisers import TimeNetwork
from trref.problems.mixtures import GaussianMixture, MixtureVelocity, three_components

M, S, B, TEMPERATURE = 0.6, 0.5, 1.5, 0.8
"""A Gaussian base on the line, and a critic Bx."""


def _grid(K):
    return np.linspace(1.0, 0.0, K + 1)


def _rate(times):
    return memoryless_rate(times[:-1], times[1:])


def _gaussian(mean):
    return MixtureVelocity(GaussianMixture(np.ones(1), np.array([[mean]]), np.array([[[S * S]]])))


BASE, TILTED = _gaussian(M), _gaussian(M + B * S * S / TEMPERATURE)


def _velocities(model, path, times):
    return np.stack([model(x, np.full(len(x), u)) for x, u in zip(path[:-1], times[:-1], strict=True)])


def _moments_of_the_end(policy, model, K):
    """Exactly, without a draw: the paths are affine in the noise, so that one path a coefficient tells all."""
    z = np.concatenate([np.zeros((K, 1, 1)), np.eye(K)[:, :, None]], 1)
    end = memoryless_path(policy, model, z, _grid(K))[-1, :, 0]
    return end[0], ((end[1:] - end[0]) ** 2).sum()


def test_numbers_by_hand():
    """Two steps: from noise 2(1 + h)/h, then 2(2h)/1; the first forgets where it began."""
    assert _rate(_grid(2)) == pytest.approx([6, 2])
    row = {"velocity": np.array([[0.25]]), "z": np.array([[2.0]])}
    for x in (-5.0, 0.0, 7.0):
        step = memoryless_step(np.array([[x]]), u=np.array([1.0]), next_u=np.array([0.5]), **row)
        assert step == pytest.approx(-0.25 + 2 * np.sqrt(3))
    step = memoryless_step(np.array([[3.0]]), u=np.array([0.5]), next_u=np.array([0.25]), **row)
    assert step == pytest.approx(3 - 0.25 * (0.5 + 4) + 2 * np.sqrt(0.25 * 2 * 0.75 / 0.75))


def test_short_steps_reverse_the_process_that_makes_noise():
    """Drift and noise against those of the probability flow with churn 1: they differ by the order of the step."""
    x, v, u = np.array([[1.0, -2.0]]), np.array([[0.5, 0.25]]), 0.6
    noise = x + (1 - u) * v
    rate = {"drift": -1 / (1 - u), "squared_diffusion": 2 * u / (1 - u), "sigma": u}
    drift, errors = reverse_drift(x, noise, churn=1.0, **rate), []
    for delta in (2e-3, 1e-3):
        step = memoryless_step(x, v, 0 * x, np.array([u]), np.array([u - delta]))
        errors.append(abs((x - step) / delta - drift).max())
    assert errors[1] < 0.02 and errors[0] == pytest.approx(2 * errors[1], rel=0.02)
    assert _rate(np.array([u, u - 2e-4])) == pytest.approx(rate["squared_diffusion"], rel=2e-3)


def test_the_adjoint_of_a_gaussian_base():
    """In closed form -b ∂x̂₁/∂x = -b t s²/(t² s² + (1-t)²), but for an error of the order of the step."""
    errors = []
    for K in (50, 100, 200):
        times = _grid(K)
        path = np.random.default_rng(K).standard_normal((K + 1, 2, 1))
        adjoint = lean_adjoint(BASE, path, np.full((2, 1), B), times)
        t = (1 - times[:-1])[:, None, None]
        errors.append(abs(adjoint + B * t * S**2 / (t**2 * S**2 + (1 - t) ** 2)).max())
    assert errors[2] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2) and errors[1] / errors[2] == pytest.approx(2, rel=0.2)


def test_the_adjoint_is_a_derivative():
    """Of the critic at the end of the base's noisy steps, by differences."""
    model, rng = MixtureVelocity(three_components()), np.random.default_rng(2)
    times, K = _grid(6), 6
    z, slope = rng.standard_normal((K, 3, 2)), rng.standard_normal((3, 2))

    def steps(x, start):
        path = [x]
        for k in range(start, K):
            u, next_u = np.full(3, times[k]), np.full(3, times[k + 1])
            path.append(memoryless_step(path[-1], model(path[-1], u), z[k], u, next_u))
        return path

    path = steps(z[0], 0)
    adjoint = lean_adjoint(model, np.stack(path), slope, times)
    for k in (1, 3, 5):
        ahead, h = rng.standard_normal((3, 2)), 1e-5
        ends = [steps(path[k] + sign * h * ahead, k)[-1] for sign in (1, -1)]
        by_differences = (slope * (ends[0] - ends[1])).sum(1) / (2 * h)
        assert -(adjoint[k] * ahead).sum(1) == pytest.approx(by_differences, rel=1e-6, abs=1e-8)
    assert abs(adjoint[0]).max() < 100 * abs(slope).max()


def test_what_the_regression_asks_for_is_the_velocity_of_the_tilted_law():
    errors = []
    for K in (50, 100, 200):
        times = _grid(K)
        path = np.random.default_rng(K).standard_normal((K + 1, 4, 1))
        adjoint = lean_adjoint(BASE, path, np.full((4, 1), B), times)
        g2 = _rate(times)[:, None, None]
        base = _velocities(BASE, path, times)
        wanted = base + g2 * adjoint / (2 * TEMPERATURE)
        loss, gradient = adjoint_matching(wanted, base, adjoint, times, temperature=TEMPERATURE)
        assert loss < 1e-20 and abs(gradient).max() < 1e-10
        inside = (
            abs(times[:-1] - 0.5) < 0.4
        )  # at the ends the offsets of the rate are as large as what they are added to
        tilted = _velocities(TILTED, path, times)
        errors.append((abs(wanted - tilted) / abs(tilted - base))[inside].max())
    assert errors[2] < 0.1
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2) and errors[1] / errors[2] == pytest.approx(2, rel=0.2)


def test_the_optimal_policy_ends_in_the_tilted_law():
    """N(m + b s²/λ, s²), but for an error of the order of the step."""
    errors = []
    for K in (100, 200, 400):
        mean, variance = _moments_of_the_end(TILTED, BASE, K)
        errors.append((abs(mean - M - B * S * S / TEMPERATURE), abs(variance - S * S)))
    errors = np.array(errors)
    assert (errors[2] < 0.01).all() and (errors[1:] < 0.6 * errors[:-1]).all(), errors


def test_two_temperatures_are_two_losses():
    """The residual at λ is made of both parts, scaled: λ r² = (2d)²λ²/g² - 4dλa + g² a²."""
    rng = np.random.default_rng(0)
    times, (v, a) = _grid(3), rng.standard_normal((2, 3, 5, 2))
    g2 = _rate(times)[:, None, None]
    for temperature in (0.1, 3.0):
        loss, gradient = adjoint_matching(v, 0 * v, a, times, temperature=temperature)
        by_parts = 4 * temperature * v**2 / g2 - 4 * v * a + g2 * a**2 / temperature
        assert loss == pytest.approx(by_parts.sum() / 5)
        assert np.allclose(gradient, (8 * temperature * v / g2 - 4 * a) / 5, rtol=1e-12, atol=1e-12)


def test_the_gradient_reaches_the_parameters():
    """Through a network, with states and adjoints held constant, by differences."""
    network, rng = TimeNetwork(2, (6,)), np.random.default_rng(1)
    times, theta = _grid(4), rng.standard_normal(TimeNetwork(2, (6,)).size)
    path, adjoint, base = rng.standard_normal((5, 3, 2)), *rng.standard_normal((2, 4, 3, 2))

    def loss(theta):
        rows, u = path[:-1].reshape(-1, 2), np.repeat(times[:-1], 3)
        v, cache = network.forward(theta, rows, u)
        value, slope = adjoint_matching(v.reshape(4, 3, 2), base, adjoint, times, temperature=0.7)
        return value, network.vjp(cache, slope.reshape(-1, 2))[0]

    ahead, h = rng.standard_normal(network.size), 1e-5
    slope = loss(theta)[1] @ ahead
    assert (loss(theta + h * ahead)[0] - loss(theta - h * ahead)[0]) / (2 * h) == pytest.approx(slope, rel=1e-6)


def test_the_critics_target():
    """Values 1 and 3 have the mean 2 and the deviation 1; an episode that ended is worth its reward."""
    values = np.array([[1.0, 1.0], [3.0, 3.0]])
    target = pessimistic_target(np.array([0.5, 0.5]), np.array([0.0, 1.0]), values, discount=0.9, horizon=2)
    assert target == pytest.approx([0.5 + 0.81 * 1.5, 0.5])


def test_refused():
    z = np.zeros((2, 3, 1))
    with pytest.raises(ValueError, match="times must fall"):
        memoryless_path(BASE, BASE, z, np.array([1.0, 0.5, 0.5]))
    with pytest.raises(ValueError, match="times must hold at least two"):
        lean_adjoint(BASE, z[:1], z[0], np.array([1.0]))
    with pytest.raises(ValueError, match="policy must return"):
        memoryless_path(lambda x, t: x[:1], BASE, z, _grid(2))
    with pytest.raises(TypeError, match="policy returns float64"):
        memoryless_path(BASE, BASE, z.astype("float32"), _grid(2).astype("float32"))
    with pytest.raises(ValueError, match="model must return finite"):
        memoryless_path(BASE, lambda x, t: x * np.nan, z, _grid(2))
