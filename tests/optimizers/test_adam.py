"""Theorems and limits of Adam."""

import math

import numpy as np
import pytest

from trref.optimizers.adam import init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


def test_a_plain_loop_in_scalars():
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((50, 3))
    path = _run(gradients, np.ones(3), lr=0.01, beta1=0.8, beta2=0.95, eps=1e-4)
    for i in range(3):
        theta, m, v = 1.0, 0.0, 0.0
        for t, g in enumerate(gradients[:, i].tolist(), start=1):
            m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
            theta -= 0.01 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-4)
            assert path[t, i] == pytest.approx(theta, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_first_step_has_the_length_of_the_rate(scale):
    path = _run([scale * np.array([1.0, -2.0])], np.zeros(2), lr=0.01, eps=1e-300)
    assert np.allclose(path[1], [-0.01, 0.01], rtol=1e-12)


def test_the_path_does_not_depend_on_any_coordinate_s_scale():
    gradients = np.random.default_rng(1).standard_normal((30, 4))
    a, b = (_run(c * gradients, np.zeros(4), eps=1e-300) for c in (1.0, np.array([1e-4, 1.0, 3.0, 1e6])))
    assert np.allclose(a, b, rtol=1e-10)


def test_constant_gradient_moves_at_the_rate():
    path = _run([np.array([3.0])] * 100, np.zeros(1), lr=0.01, eps=1e-300)
    assert np.allclose(np.diff(path[:, 0]), -0.01, rtol=1e-10)


def test_steps_are_bounded():
    """|step| <= lr (1 - beta1) / sqrt(1 - beta2) after a long time of zeros, and no larger bound is reached."""
    gradients = [np.zeros(1)] * 5000 + [np.array([1.0])]
    step = abs(np.diff(_run(gradients, np.zeros(1), lr=1.0, eps=1e-12)[-2:, 0]))[0]
    assert step == pytest.approx(0.1 / math.sqrt(0.001), rel=1e-2)


def test_no_momentum_and_no_memory_is_the_sign():
    path = _run([np.array([5.0, -0.1]), np.array([-2.0, 3.0])], np.zeros(2), lr=0.5, beta1=0.0, beta2=0.0, eps=1e-300)
    assert np.allclose(np.diff(path, axis=0), [[-0.5, 0.5], [0.5, -0.5]])


def test_state_is_not_changed():
    start = [np.ones(2)]
    state = init(start)
    update(start, [np.ones(2)], state)
    assert state.step == 0 and not state.m[0].any() and start[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"lr": -1.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
