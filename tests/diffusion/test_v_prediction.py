"""Theorems of velocity prediction: the angle, conversions, equal losses in three forms."""

import numpy as np
import pytest

from trref.diffusion.score_matching import convert_prediction, noise_matching
from trref.diffusion.score_models import ddim_step
from trref.diffusion.v_prediction import (
    angular_step,
    flow_velocity,
    min_snr_weight,
    velocity_loss,
    velocity_target,
)

DATA, NOISE, GUESS = np.random.default_rng(0).standard_normal((3, 5, 2))
LEVELS = np.array([0.05, 0.3, 0.5, 0.8, 0.99])
ALPHA, SIGMA = np.sqrt(LEVELS)[:, None], np.sqrt(1 - LEVELS)[:, None]
X = ALPHA * DATA + SIGMA * NOISE


def test_by_hand():
    """alpha 0.6, sigma 0.8: v = 0.6 · 2 - 0.8 · 1 = 0.4; an error of 1 and a weight of 3 over one row."""
    one, level = np.ones((1, 1)), np.array([0.36])
    assert velocity_target(one, 2 * one, level)[0, 0] == pytest.approx(0.4, rel=1e-14)
    loss, gradient = velocity_loss(1.4 * one, one, 2 * one, level, np.array([3.0]))
    assert loss == pytest.approx(3, rel=1e-13) and gradient[0, 0] == pytest.approx(6, rel=1e-13)


def test_the_derivative_by_the_angle():
    h = 1e-5
    phi = np.arccos(ALPHA)
    path = lambda phi: np.cos(phi) * DATA + np.sin(phi) * NOISE  # noqa: E731
    assert np.allclose(velocity_target(DATA, NOISE, LEVELS), (path(phi + h) - path(phi - h)) / (2 * h), rtol=1e-8)


def test_the_ends_need_no_division():
    ends = np.array([0.0, 1.0])
    assert np.allclose(velocity_target(DATA[:2], NOISE[:2], ends), [-DATA[0], NOISE[1]], rtol=1e-15)


def test_conversions_and_the_sum_of_squares():
    v = velocity_target(DATA, NOISE, LEVELS)
    assert np.allclose(ALPHA * X - SIGMA * v, DATA, rtol=1e-12, atol=1e-14)
    assert np.allclose(SIGMA * X + ALPHA * v, NOISE, rtol=1e-12, atol=1e-14)
    assert np.allclose(X**2 + v**2, DATA**2 + NOISE**2, rtol=1e-12)
    for k, level in enumerate(LEVELS):
        a, s = float(np.sqrt(level)), float(np.sqrt(1 - level))
        rates = {"alpha": a, "sigma": s, "alpha_rate": -s, "sigma_rate": a, "given": "velocity"}
        ours = convert_prediction(v[k : k + 1], X[k : k + 1], wanted="data", **rates)
        assert np.allclose(ours, DATA[k], rtol=1e-11)


def test_errors_in_three_forms():
    """Equation E5, and with Min-SNR's weights one loss and one gradient, whatever is predicted."""
    v_guess = velocity_target(DATA, NOISE, LEVELS) + GUESS
    data_guess, noise_guess = ALPHA * X - SIGMA * v_guess, SIGMA * X + ALPHA * v_guess
    squares = (GUESS**2).sum(1)
    assert np.allclose(((data_guess - DATA) ** 2).sum(1) / (1 - LEVELS), squares, rtol=1e-11)
    assert np.allclose(((noise_guess - NOISE) ** 2).sum(1) / LEVELS, squares, rtol=1e-9)
    by_v = velocity_loss(v_guess, DATA, NOISE, LEVELS, min_snr_weight(LEVELS))
    by_noise = noise_matching(noise_guess, NOISE, min_snr_weight(LEVELS, kind="noise"))
    by_data = noise_matching(data_guess, DATA, min_snr_weight(LEVELS, kind="data"))
    assert by_v[0] == pytest.approx(by_noise[0], rel=1e-10) and by_v[0] == pytest.approx(by_data[0], rel=1e-10)
    assert np.allclose(by_v[1], ALPHA * by_noise[1], rtol=1e-9, atol=1e-14)
    assert np.allclose(by_v[1], -SIGMA * by_data[1], rtol=1e-9, atol=1e-14)


def test_min_snr_weights():
    """SNR 4 and 9 under a cap of 5, and none at all."""
    level = np.array([0.8, 0.9])
    assert np.allclose(min_snr_weight(level, kind="data"), [4, 5], rtol=1e-13)
    assert np.allclose(min_snr_weight(level, kind="noise"), [1, 5 / 9], rtol=1e-13)
    assert np.allclose(min_snr_weight(level), [0.8, 0.5], rtol=1e-13)
    assert min_snr_weight(np.zeros(1))[0] == 0


def test_a_turn_by_an_angle_is_a_step_of_ddim():
    v = velocity_target(DATA, NOISE, LEVELS)
    for k, level in enumerate(LEVELS[:-1]):
        a, b = np.arccos(np.sqrt(level)), np.arccos(np.sqrt(0.95))
        x, velocity, noise = X[k : k + 1], v[k : k + 1] + 0.1, NOISE[k : k + 1] + 0.1 * np.sqrt(level)
        ddim = ddim_step(x, noise, 0 * x, alpha_bar=float(level), next_alpha_bar=0.95)
        assert np.allclose(angular_step(x, velocity, angle=float(a), next_angle=float(b)), ddim, rtol=1e-10)
        assert np.allclose(
            angular_step(x, v[k : k + 1], angle=float(a), next_angle=0.0), DATA[k], rtol=1e-11, atol=1e-13
        )
    assert np.array_equal(angular_step(X, v, angle=0.7, next_angle=0.7), X)


@pytest.mark.parametrize("u", [0.0, 0.3, 1.0])
def test_the_velocity_of_a_flow(u):
    n = np.hypot(1 - u, u)
    alpha, sigma = (1 - u) / n, u / n
    x, v = alpha * DATA + sigma * NOISE, alpha * NOISE - sigma * DATA
    assert np.allclose(flow_velocity(v, x, u=u), NOISE - DATA, rtol=1e-12, atol=1e-13)


def test_bad_input():
    with pytest.raises(ValueError, match="alpha_bar must be below 1"):
        min_snr_weight(np.ones(1))
    with pytest.raises(ValueError, match="alpha_bar must be positive"):
        min_snr_weight(np.zeros(1), kind="noise")
    with pytest.raises(ValueError, match="next_angle must lie in"):
        angular_step(X, X, next_angle=2.0)
    with pytest.raises(ValueError, match=r"alpha_bar must lie in \[0, 1\]"):
        velocity_target(DATA, NOISE, LEVELS + 1)
