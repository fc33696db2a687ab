"""Theorems and limits of AdaMomentum."""

import math

import numpy as np
import pytest

from trref.optimizers.adamomentum import expected_square, init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


def test_two_steps_by_hand():
    """β = ½, gradients 4 and 0: m = 2, 1 and v = 2 + 1, then (2 + 1)/2 + ½ + 1 = 3; corrected m̂ = 4, 4/3, v̂ = 6, 4."""
    path = _run([np.array([4.0]), np.array([0.0])], np.zeros(1), lr=0.3, beta1=0.5, beta2=0.5, eps=1.0)
    first = -0.3 * 4 / math.sqrt(6)
    assert path[:, 0] == pytest.approx([0.0, first, first - 0.3 * (4 / 3) / 2])


@pytest.mark.parametrize("g", [1e-4, 1.0, -50.0])
def test_the_first_step_in_closed_form(g):
    step = _run([np.array([g])], np.zeros(1), lr=0.01)[1, 0]
    assert step == pytest.approx(-0.01 * g / math.sqrt((0.1 * g) ** 2 + 1e-8 / 0.001))
    if abs(g) > 1:
        assert abs(step) == pytest.approx(0.1, rel=1e-4), "ten times the rate"


def test_epsilon_adds_the_same_at_every_step():
    params, state = [np.zeros(1)], init([np.zeros(1)])
    for t in range(1, 200):
        params, state = update(params, [np.zeros(1)], state)
        assert state.v[0][0] / (1 - 0.999**t) == pytest.approx(1e-8 / 0.001, rel=1e-9)
    assert params[0] == 0, "and zero gradients leave the parameters"


def test_alternating_gradients_in_the_limit():
    """m tends to ±a G, a = (1 - β₁)/(1 + β₁): steps of nearly the rate for large G; Adam's are a times as long."""
    gradients = [np.array([5.0 * (-1) ** t, 0.05 * (-1) ** t]) for t in range(20000)]
    last = np.diff(_run(gradients, np.zeros(2), lr=1.0)[-2:], axis=0)[0]
    aG = 0.1 / 1.9 * np.array([5.0, 0.05])
    assert abs(last) == pytest.approx(aG / np.sqrt(aG**2 + 1e-5), rel=1e-6)


def test_a_constant_gradient_moves_at_the_rate_in_the_end():
    path = _run([np.array([3.0])] * 20000, np.zeros(1), lr=0.01)
    assert path[-1, 0] - path[-2, 0] == pytest.approx(-0.01, rel=1e-6)


@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_the_law_of_noise(mean):
    """The second average of 4000 coordinates after 3000 steps, β₂ = 0.99.

    Its relative deviation within one coordinate is below 2 √((1 - β₂)·10) < 0.7 (m is correlated over some ten steps,
    so that the average counts about 10 of 200 as independent), its mean over 4000 coordinates good to 0.7 / √4000 =
    1.1 % (one standard deviation); 5 % allowed.
    """
    rng, params = np.random.default_rng(0), [np.zeros(4000)]
    state = init(params)
    for _ in range(3000):
        g = mean + 2.0 * rng.standard_normal(4000)
        params, state = update(params, [g], state, beta2=0.99)
    law = expected_square(np.asarray(mean), np.asarray(2.0), beta2=0.99)
    assert state.v[0].mean() == pytest.approx(float(law), rel=0.05)
    assert law == pytest.approx(mean**2 + 4 / 19 + 1e-6)


def test_decay_by_hand():
    path = _run([np.zeros(2)] * 3, np.array([1.0, -2.0]), lr=0.1, weight_decay=0.5)
    assert np.allclose(path[-1], 0.95**3 * path[0], rtol=1e-9)


def test_without_epsilon_the_scale_does_not_matter():
    gradients = np.random.default_rng(1).standard_normal((30, 4))
    a, b = (_run(c * gradients, np.zeros(4), eps=1e-200) for c in (1.0, 1e5))
    assert np.allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}, {"weight_decay": -1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
