"""Theorems of flow sampling: straight paths, orders, the group of shifts, published grids."""

import functools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trref.diffusion.flow_euler import (
    dynamic_mu,
    euler_step,
    shift,
    shifted_levels,
    stochastic_step,
    stretch,
    velocity_path,
)
from trref.problems.mixtures import GaussianMixture, MixtureVelocity, three_components

MIXTURE = three_components()
MODEL = MixtureVelocity(MIXTURE)
X, V, Z = np.random.default_rng(0).standard_normal((3, 4, 2))


def test_a_step_keeps_the_path_of_its_guesses():
    u, then = 0.7, 0.25
    data, noise = X - u * V, X + (1 - u) * V
    assert np.allclose(euler_step(X, V, u=u, next_u=then), (1 - then) * data + then * noise, rtol=1e-12)


def test_a_straight_path_takes_one_step():
    """Data at one point: from any noise, by one step and by many."""
    point = MixtureVelocity(GaussianMixture(np.ones(1), np.array([[1.0, -2.0]]), np.zeros((1, 2, 2))))
    assert np.allclose(velocity_path(point, X, np.array([1.0, 0.0])), [[1, -2]] * 4, rtol=1e-12)
    times = np.array([1.0, 0.6, 0.1])
    for rule in ("euler", "heun"):
        assert np.allclose(velocity_path(point, X, times, rule=rule), 0.9 * np.array([1, -2]) + 0.1 * X, rtol=1e-11)


@functools.cache
def _exact():
    def speed(u, x):
        x = x.reshape(4, 2)
        if u == 1:
            return (x - MIXTURE.mean()).ravel()
        score = MIXTURE.noised(1 - u, u).score(x)
        return (-(x + u * score) / (1 - u)).ravel()

    return solve_ivp(speed, (1.0, 0.05), X.ravel(), rtol=1e-11, atol=1e-12).y[:, -1].reshape(4, 2)


@pytest.mark.parametrize(("rule", "order"), [("euler", 1), ("heun", 2)])
def test_order(rule, order):
    """Against SciPy, with the velocity by the score; at pure noise it is x less the mean of the data."""
    errors = [
        np.linalg.norm(velocity_path(MODEL, X, np.linspace(1.0, 0.05, n + 1), rule=rule) - _exact()) for n in (80, 160)
    ]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.2)


def test_heun_s_rule_does_not_ask_at_the_data():
    asked = []

    def model(x, t):
        asked.append(float(t[0]))
        return MODEL(x, t)

    velocity_path(model, X, np.array([1.0, 0.5, 0.0]), rule="heun")
    assert asked == [1.0, 0.5, 0.5]


def test_all_noise_is_drawn_anew():
    """The law of a perfect guess is kept, whatever the noise was; the end is the guess."""
    data, noise = X - 0.7 * V, X + 0.3 * V
    assert np.allclose(stochastic_step(X, V, noise, u=0.7, next_u=0.4), euler_step(X, V, u=0.7, next_u=0.4), rtol=1e-12)
    assert np.allclose(stochastic_step(X, V, Z, u=0.7, next_u=0.0), data, rtol=1e-13)
    slope = stochastic_step(X, V, Z + 1, u=0.7, next_u=0.4) - stochastic_step(X, V, Z, u=0.7, next_u=0.4)
    assert np.allclose(slope, 0.4, rtol=1e-12)


def test_shifts_are_a_group():
    u = np.linspace(0, 1, 9)
    assert np.allclose(shift(shift(u, factor=2.5), factor=1.2), shift(u, factor=3.0), rtol=1e-13)
    assert np.allclose(shift(shift(u, factor=2.5), factor=0.4), u, rtol=1e-13)
    inside = u[1:-1]
    moved = shift(inside, factor=3.0)
    assert np.allclose(moved / (1 - moved), 3 * inside / (1 - inside), rtol=1e-13)
    assert shift(u, factor=7.0, power=2.0)[[0, -1]].tolist() == [0.0, 1.0]


def test_the_form_of_flux():
    """e^mu / (e^mu + (1/u - 1)^sigma)."""
    u = np.linspace(0.1, 1, 7)
    ours = shift(u, factor=float(np.exp(0.8)), power=1.4)
    assert np.allclose(ours, np.exp(0.8) / (np.exp(0.8) + (1 / u - 1) ** 1.4), rtol=1e-13)


def test_the_grids_of_the_card():
    """Ten levels, shift 3, from 1 to 1/1000: once as published, and the numbers that diffusers gives."""
    once = shifted_levels(np.linspace(0, 1, 10), smallest=0.001)
    assert once[-1] == pytest.approx(0.00299, abs=5e-6) and once[-2] == pytest.approx(0.2745, abs=5e-5)
    twice = shifted_levels(np.linspace(0, 1, 10), smallest=float(shift(np.array([0.001]))[0]))
    assert twice[-1] == pytest.approx(0.00893, abs=5e-6) and twice[-2] == pytest.approx(0.2780, abs=5e-5)
    assert np.allclose(shifted_levels(np.arange(5) / 4, factor=1.0), [1, 0.75, 0.5, 0.25, 0], atol=1e-15)


def test_the_line_and_the_stretch():
    assert np.allclose(dynamic_mu(np.array([256.0, 4096.0, 2176.0])), [0.5, 1.15, 0.825], rtol=1e-13)
    u = np.array([1.0, 0.8, 0.3])
    ours = stretch(u, terminal=0.1)
    assert ours[0] == 1 and ours[-1] == pytest.approx(0.1, rel=1e-13)
    assert np.allclose((1 - ours[1]) / (1 - ours[2]), (1 - u[1]) / (1 - u[2]), rtol=1e-13)


def test_bad_input():
    for step in (euler_step, lambda x, v, **times: stochastic_step(x, v, Z, **times)):
        with pytest.raises(ValueError, match="next_u must not be above"):
            step(X, V, u=0.2, next_u=0.3)
    with pytest.raises(ValueError, match="times must not rise"):
        velocity_path(MODEL, X, np.array([0.2, 0.3]))
    with pytest.raises(ValueError, match="model must give finite values"):
        velocity_path(lambda x, t: x * np.nan, X, np.array([0.3, 0.2]))
    with pytest.raises(ValueError, match="u must end below 1"):
        stretch(np.ones(2))
    with pytest.raises(ValueError, match="many must be above few"):
        dynamic_mu(np.ones(1), few=5.0, many=5.0)
