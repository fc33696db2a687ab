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
    assert np.allclose(np.diff(path, axis=0), [[-0.5, 0.5], [0.5, -0.5]], rtol=1e-9)


def test_both_decays_by_hand():
    """Without memory the step is ±lr: apart 2 · (1 - 0.1 · 0.5) - 0.1; added, the sign of -1 + 0.5 · 3."""
    fixed = {"lr": 0.1, "beta1": 0.0, "beta2": 0.0, "eps": 1e-300}
    apart = _run([np.array([3.0])] * 2, np.array([2.0]), **fixed, weight_decay=0.5)
    assert apart[:, 0] == pytest.approx([2.0, 1.8, 1.61])
    added = _run([np.array([-1.0])] * 2, np.array([3.0]), **fixed, weight_decay=0.5, decoupled_weight_decay=False)
    assert added[:, 0] == pytest.approx([3.0, 2.9, 2.8])


@pytest.mark.parametrize("decoupled", [True, False])
def test_no_decay_is_adam_to_the_last_bit(decoupled):
    """Written out as it stands without decay, so that no factor of 1 may round."""
    rng, hyper = np.random.default_rng(3), {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-4}
    gradients = rng.standard_normal((30, 5))
    path = _run(gradients, np.ones(5), **hyper, weight_decay=0.0, decoupled_weight_decay=decoupled)
    theta, m, v = np.ones(5), np.zeros(5), np.zeros(5)
    for t, g in enumerate(gradients, start=1):
        m, v = 0.8 * m + (1 - 0.8) * g, 0.95 * v + (1 - 0.95) * g * g
        theta = theta - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-4)
        assert np.array_equal(path[t], theta)


def test_zero_gradients_leave_the_decoupled_decay_alone():
    """In closed form; the penalty takes steps of about the rate towards 0 instead, whatever its weight."""
    path = _run([np.zeros(2)] * 20, np.array([1.0, -3.0]), lr=0.1, weight_decay=0.4)
    assert np.allclose(path[-1], 0.96**20 * path[0], rtol=1e-13)
    for weight in (0.01, 10.0):
        first = _run([np.zeros(2)], path[0], lr=0.1, weight_decay=weight, decoupled_weight_decay=False)[1]
        assert np.allclose(first, [0.9, -2.9], rtol=1e-6)


def test_the_decoupled_decay_does_not_see_the_gradient_s_scale():
    gradients = np.random.default_rng(4).standard_normal((30, 3))
    paths = {
        apart: [
            _run(c * gradients, np.ones(3), eps=1e-300, weight_decay=0.5, decoupled_weight_decay=apart)
            for c in (1e-3, 1.0, 1e3)
        ]
        for apart in (True, False)
    }
    assert all(np.allclose(path, paths[True][0], rtol=1e-10) for path in paths[True])
    assert not np.allclose(paths[False][0], paths[False][2], rtol=1e-3)


def test_size_of_weights_under_noise():
    """White noise and small lr · λ: the mean square weight tends to lr / (2 λ), so four times the decay halves it.

    Steps have independent signs and unit size up to the noise of v. With 2000 coordinates the error of a root mean
    square is 1.6 % (one standard deviation): 5 % allowed.
    """
    rng, sizes = np.random.default_rng(5), []
    for decay in (0.5, 2.0):
        params = [np.zeros(2000)]
        state = init(params)
        for _ in range(600):
            hyper = {"lr": 0.02, "beta1": 0.0, "weight_decay": decay}
            params, state = update(params, [rng.standard_normal(2000)], state, **hyper)
        sizes.append(math.sqrt((params[0] ** 2).mean()))
    assert sizes == pytest.approx([math.sqrt(0.02 / (2 * decay)) for decay in (0.5, 2.0)], rel=0.05)


def test_state_is_not_changed():
    start = [np.ones(2)]
    state = init(start)
    update(start, [np.ones(2)], state)
    assert state.step == 0 and not state.m[0].any() and start[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "bad", [{"lr": 0.0}, {"lr": -1.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}, {"weight_decay": -1.0}]
)
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
