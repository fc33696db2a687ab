"""Theorems of EDM's sampler: the grid's numbers, orders, marginals under churn, exact cases."""

import functools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trref.diffusion.edm_heun import churned_path, karras_levels, network_input, precondition
from trref.diffusion.noise_schedules import time_at
from trref.diffusion.score_models import ddim_step
from trref.problems.mixtures import GaussianMixture, MixtureDenoiser, three_components

MIXTURE = three_components()
MODEL = MixtureDenoiser(MIXTURE, "ve")
X, Z0 = np.random.default_rng(0).standard_normal((2, 3, 2))


def _line(data):
    """A denoiser of N(0, data) on a line: D = x data/(data + sigma²)."""
    return MixtureDenoiser(GaussianMixture(np.ones(1), np.zeros((1, 1)), np.full((1, 1, 1), data)), "ve")


def test_the_published_grid():
    """Eighteen levels, as the authors' code gives them."""
    levels = karras_levels(np.linspace(0, 1, 18))
    assert levels[[0, -1]] == pytest.approx([80, 0.002], rel=1e-12)
    assert np.allclose(levels[1:3], [57.586, 40.786], rtol=2e-5)
    assert np.allclose(levels[-3:-1], [0.022935, 0.007528], rtol=2e-4)


def test_roots_between_linear_and_geometric():
    p = np.linspace(0, 1, 7)
    assert np.allclose(karras_levels(p, rho=1.0, smallest=1.0, largest=4.0), np.linspace(4, 1, 7), rtol=1e-13)
    assert np.allclose(karras_levels(p, rho=100.0, smallest=1.0, largest=4.0), np.geomspace(4, 1, 7), rtol=0.01)


@functools.cache
def _exact():
    def speed(s, x):
        return (-s * MIXTURE.noised(1.0, s).score(x.reshape(3, 2))).ravel()

    return solve_ivp(speed, (5.0, 0.1), 5 * X.ravel(), rtol=1e-11, atol=1e-12).y[:, -1].reshape(3, 2)


@pytest.mark.parametrize(("rule", "order"), [("euler", 1), ("heun", 2)])
def test_order(rule, order):
    """Against SciPy, from the largest level to the smallest above 0."""
    errors = []
    for steps in (40, 80):
        levels = karras_levels(np.linspace(0, 1, steps + 1), smallest=0.1, largest=5.0)
        x = churned_path(MODEL, 5 * X, np.zeros((steps, 3, 2)), levels, rule=rule)
        errors.append(np.linalg.norm(x - _exact()))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize("churn", [0.3, 100.0])
def test_churn_keeps_the_marginal(churn):
    """Noise that is added and taken as added: one Euler step of a line of Gaussian data, by its numbers."""
    data, now, then = 0.25, 1.5, 1.4
    run = lambda x, z: churned_path(  # noqa: E731
        _line(data), x, z[None], np.array([now, then]), churn=churn, rule="euler"
    )[0, 0]
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    up = now * (1 + min(churn, np.sqrt(2) - 1))
    slope = 1 + (then - up) * up / (data + up**2)
    assert run(one, zero) == pytest.approx(slope, rel=1e-12)
    assert run(zero, one) == pytest.approx(slope * np.sqrt(up**2 - now**2), rel=1e-12)
    # before the step: data + now² + (up² - now²) is the variance of the level up
    variance = (run(one, zero) ** 2 * (data + now**2) + run(zero, one) ** 2) / slope**2
    assert variance == pytest.approx(data + up**2, rel=1e-12)


def test_the_last_step_is_the_denoiser():
    up = 0.7 * (1 + 0.2)
    moved = X + np.sqrt(up**2 - 0.49) * Z0
    t = time_at(np.full(3, -2 * np.log(up)), schedule="ve")
    ours = churned_path(MODEL, X, Z0[None], np.array([0.7, 0.0]), churn=0.2)
    assert np.allclose(ours, MODEL(moved, t), rtol=1e-9, atol=1e-11)


def test_point_data_are_found_exactly():
    """The slope is constant along the ray, so that any rule and any grid are exact."""
    point = MixtureDenoiser(GaussianMixture(np.ones(1), np.array([[1.0, -2.0]]), np.zeros((1, 2, 2))), "ve")
    start = np.array([[4.0, 4.0]])
    for rule in ("euler", "heun"):
        x = churned_path(point, start, np.zeros((2, 1, 2)), np.array([3.0, 2.0, 0.5]), rule=rule)
        assert np.allclose(x, [1, -2] + (start - [1, -2]) / 6, rtol=1e-12)


def test_one_step_of_heun_s_rule_by_hand():
    """D = x/(1 + s²) for standard normal data; from 2 to 1: d = 0.8, x' = 1.2, d' = 0.6."""
    x = churned_path(_line(1.0), 2 * np.ones((1, 1)), np.zeros((1, 1, 1)), np.array([2.0, 1.0]))
    assert x[0, 0] == pytest.approx(2 - (0.8 + 0.6) / 2, rel=1e-12)


def test_an_euler_step_is_one_of_ddim():
    """With y = x/sqrt(1 + s²), alpha_bar = 1/(1 + s²), and the slope as the noise."""
    now, then = 1.7, 0.4
    t = time_at(np.full(3, -2 * np.log(now)), schedule="ve")
    noise = (X - MODEL(X, t)) / now
    ddim = ddim_step(
        X / np.sqrt(1 + now**2), noise, 0 * X, alpha_bar=1 / (1 + now**2), next_alpha_bar=1 / (1 + then**2)
    )
    ours = churned_path(MODEL, X, Z0[None], np.array([now, then]), rule="euler")
    assert np.allclose(ours / np.sqrt(1 + then**2), ddim, rtol=1e-12, atol=1e-13)


def test_preconditioning_has_unit_variance():
    """Input and target of the network, over data of its deviation; noise alone is left at large levels."""
    rng = np.random.default_rng(4)
    x0, noise, sigma = 0.5 * rng.standard_normal((20000, 1)), rng.standard_normal((20000, 1)), 0.9
    x = x0 + sigma * noise
    zero, one = precondition(x, 0 * x, sigma=sigma), precondition(0 * x, 0 * x + 1, sigma=sigma)
    assert network_input(x, sigma=sigma).std() == pytest.approx(1, rel=0.03)
    assert ((x0 - zero) / one).std() == pytest.approx(1, rel=0.03)


def test_bad_input():
    with pytest.raises(ValueError, match="levels must not rise"):
        churned_path(MODEL, X, Z0[None], np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="levels must be positive before the end"):
        churned_path(MODEL, X, np.stack([Z0, Z0]), np.array([1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="model must give finite values"):
        churned_path(lambda x, t: x * np.nan, X, Z0[None], np.array([2.0, 1.0]))
    with pytest.raises(ValueError, match="largest must not be below"):
        karras_levels(np.zeros(1), smallest=2.0, largest=1.0)
