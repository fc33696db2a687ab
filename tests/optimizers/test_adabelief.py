"""Theorems and limits of AdaBelief."""

import math

import numpy as np
import pytest

from trref.optimizers import adam
from trref.optimizers.adabelief import init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path), state


def test_two_steps_by_hand():
    """All β = ½, gradients 2 and 3, ε = ¼: m = 1, 2; deviations 1 and 1; s = ¾, 9/8; corrected m 2, 8/3, s 3/2, 3/2."""
    path, state = _run([np.array([2.0]), np.array([3.0])], np.zeros(1), lr=0.1, beta1=0.5, beta2=0.5, eps=0.25)
    root = math.sqrt(1.5) + 0.25
    assert state.m[0] == 2.0 and state.s[0] == 1.125
    assert path[:, 0] == pytest.approx([0.0, -0.2 / root, -0.2 / root - 0.8 / 3 / root], rel=1e-13)


def test_not_stored_by_hand():
    """The same without: s = ½, ¾; epsilon is added to the corrected 1 and 1."""
    how = {"lr": 0.1, "beta1": 0.5, "beta2": 0.5, "eps": 0.25, "stored": False}
    path, state = _run([np.array([2.0]), np.array([3.0])], np.zeros(1), **how)
    root = math.sqrt(1.25) + 0.25
    assert state.s[0] == 0.75
    assert path[:, 0] == pytest.approx([0.0, -0.2 / root, -0.2 / root - 0.8 / 3 / root], rel=1e-13)


def test_the_first_step_is_longer_than_adam_s():
    """g - m = β₁ g: the step is η/β₁ but for epsilon."""
    path, _ = _run([np.array([4.0, -0.1])], np.zeros(2), lr=0.1)
    assert np.allclose(path[1], [-0.1 / 0.9, 0.1 / 0.9], rtol=1e-9)


def test_a_constant_gradient_s_step_grows_to_its_bound():
    """s holds ε/(1 - β₂) alone in the end: 2,000 steps of β₂ = 0.95 and ε = 1e-4, a bound of η g/sqrt(0.002)."""
    path, _ = _run([np.array([0.5])] * 2000, np.zeros(1), lr=0.01, beta2=0.95, eps=1e-4)
    steps = -np.diff(path[:, 0])
    assert steps[0] < 0.02 and np.all(np.diff(steps) > -1e-12)
    assert steps[-1] == pytest.approx(0.01 * 0.5 / (math.sqrt(1e-4 / 0.05) + 1e-4), rel=1e-9)
    params, state = [np.zeros(1)], adam.init([np.zeros(1)])
    for _ in range(50):
        before, (params, state) = params, adam.update(params, [np.array([0.5])], state, lr=0.01)
    assert before[0] - params[0] == pytest.approx(0.01, rel=1e-6), "Adam's stays at the rate"


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_the_law_of_stationary_noise(mean):
    """s → 2σ²β₁²/(1 + β₁), whatever the mean: 400 coordinates after 3,000 steps at β₂ = 0.999.

    One coordinate's s averages about 1,000 squares that are correlated over ten steps: a relative error of
    sqrt(2 · 20/1000) = 0.2 at most, of the mean over 400 of them 0.01; three times that, and the start's 5 %.
    """
    rng = np.random.default_rng(0)
    _, state = _run(mean + 2 * rng.standard_normal((3000, 400)), np.zeros(400))
    seen = state.s[0].mean() / (1 - 0.999**3000)
    assert seen == pytest.approx(2 * 4 * 0.81 / 1.9, rel=0.03)


def test_the_rectified_form_begins_with_momentum():
    """β₂ = 0.999: the second average has seen enough (ρ ≥ 5) from the sixth step on."""
    gradients = np.random.default_rng(1).standard_normal((8, 3))
    path, _ = _run(gradients, np.zeros(3), lr=0.1, rectified=True)
    m = np.zeros(3)
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        plain = np.allclose(path[t - 1] - path[t], 0.1 * m / (1 - 0.9**t), rtol=1e-10, atol=1e-14)
        assert plain == (t < 6)


def test_the_scale_matters_by_epsilon_alone():
    gradients = np.random.default_rng(2).standard_normal((30, 4))
    a, b = (_run(c * gradients, np.ones(4), eps=1e-60)[0] for c in (1.0, 1e5))
    assert np.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
