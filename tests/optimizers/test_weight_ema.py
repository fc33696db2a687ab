"""Theorems and limits of averages of weights."""

import math

import numpy as np
import pytest

from trref.optimizers.weight_ema import (
    average_path,
    blend,
    half_life_decays,
    memory,
    rescaled_decays,
    variance_left,
    warm_decays,
)


def _column(*values):
    return np.array(values, float)[:, None]


def test_four_updates_by_hand():
    """5, 1, 2, 3 at 0.9: copied 5, 4.6, 4.34, 4.206; from zero 0.5, … , over 0.1, 0.19, 0.271, 0.3439."""
    path, decays = _column(5, 1, 2, 3), np.full(4, 0.9)
    zero, shares = np.array([0.5, 0.55, 0.695, 0.9255]), np.array([0.1, 0.19, 0.271, 0.3439])
    assert average_path(path, decays)[:, 0] == pytest.approx([5, 4.6, 4.34, 4.206], rel=1e-13)
    assert average_path(path, decays, start="zero")[:, 0] == pytest.approx(zero, rel=1e-13)
    assert average_path(path, decays, start="debiased")[:, 0] == pytest.approx(zero / shares, rel=1e-13)


@pytest.mark.parametrize("start", ["copy", "debiased"])
def test_weights_at_rest_stay(start):
    decays = np.random.default_rng(0).uniform(0, 1, 30)
    assert np.allclose(average_path(np.full((30, 2), 7.0), decays, start=start), 7.0, rtol=1e-13, atol=0)


def test_the_power_that_is_the_plain_mean():
    path = np.random.default_rng(1).standard_normal((40, 3))
    decays = warm_decays(np.arange(40.0), decay=1.0, warmup="power", gamma=1.0, power=1.0)
    means = np.cumsum(path, axis=0) / np.arange(1, 41)[:, None]
    assert np.allclose(average_path(path, decays, start="zero"), means, rtol=1e-12, atol=1e-14)


def test_warm_decays_by_hand():
    seen = np.arange(4.0)
    assert warm_decays(seen, warmup="tensorflow") == pytest.approx([0.1, 2 / 11, 0.25, 4 / 13])
    assert warm_decays(seen, warmup="power", power=1.0, gamma=2.0) == pytest.approx([0, 1 / 3, 1 / 2, 3 / 5])
    assert warm_decays(np.array([7.0]), warmup="power", power=2 / 3) == pytest.approx([0.75])
    assert warm_decays(np.array([0.0, 1e9]), warmup="tensorflow", decay=0.9) == pytest.approx([0.1, 0.9])


def test_half_lives_by_hand():
    """Nothing seen: a copy. Then half-lives of 10, 20 and 40 images at a batch of 20: 1/4, 1/2, 0.707."""
    found = half_life_decays(np.array([0.0, 200.0, 400.0, 1e6]), batch=20, half_life=40.0)
    assert found == pytest.approx([0, 1 / 4, 1 / 2, math.sqrt(0.5)], rel=1e-12)
    assert half_life_decays(np.zeros(1), batch=20, half_life=40.0, ramp=None) == pytest.approx([math.sqrt(0.5)])


def test_a_half_life_halves():
    found = memory(np.array([0.9, 0.999]))
    assert np.allclose(np.array([0.9, 0.999]) ** found.half_life, 0.5, rtol=1e-11)
    assert found.horizon == pytest.approx([10, 1000], rel=1e-11)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_lag_behind_a_drift(decay):
    """After 400 steps what the start leaves is 0.9^400 = 5e-19."""
    path = _column(*(3.0 * np.arange(400)))
    lag = path[-1] - average_path(path, np.full(400, decay))[-1]
    assert lag == pytest.approx(3 * memory(np.array([decay])).lag, rel=1e-11)


def test_one_update_in_the_place_of_four():
    """On weights that stay for four steps, one update with the decay's fourth power is four updates."""
    path, decay = np.random.default_rng(2).standard_normal((9, 2)), np.array([0.8])
    slow = average_path(path, np.repeat(rescaled_decays(decay, factor=4.0), 9))
    fast = average_path(np.repeat(path, 4, axis=0), np.repeat(decay, 36))
    assert np.allclose(slow, fast[3::4], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("correlation", [0.0, 0.7, -0.5])
def test_the_variance_by_the_law_of_the_last_weights(correlation):
    """Var = w' C w with the shares w of 600 weights and their correlations C: the rest weighs 0.9^600."""
    shares = 0.1 * 0.9 ** np.arange(600)
    lags = abs(np.subtract.outer(np.arange(600), np.arange(600)))
    found = variance_left(np.array([0.9]), correlation=correlation)
    assert found == pytest.approx([shares @ float(correlation) ** lags @ shares], rel=1e-9)


def test_the_variance_by_simulation():
    """20,000 runs: the variance has a relative standard error of sqrt(2/20000) = 0.01; four of them."""
    rng = np.random.default_rng(3)
    theta = average = rng.standard_normal(20000)
    for _ in range(120):
        theta = 0.7 * theta + math.sqrt(1 - 0.49) * rng.standard_normal(20000)
        average = blend(average, theta, decay=0.9)
    assert average.var() == pytest.approx(variance_left(np.array([0.9]), correlation=0.7)[0], rel=0.04)
    assert variance_left(np.array([0.9])) == pytest.approx([1 / 19])


def test_what_is_refused():
    path = _column(1, 2)
    with pytest.raises(ValueError, match="decays must begin below 1"):
        average_path(path, np.array([1.0, 0.5]), start="debiased")
    with pytest.raises(ValueError, match="decays must lie between 0 and 1"):
        memory(np.array([0.5, 1.0]))
    with pytest.raises(ValueError, match="decay must lie in"):
        blend(path[0], path[1], decay=1.5)
