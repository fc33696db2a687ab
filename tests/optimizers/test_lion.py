"""Theorems and limits of Lion."""

import numpy as np
import pytest

from trref.optimizers.lion import init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


def test_three_steps_by_hand():
    """β₁ = 0.5, β₂ = 0.75: m = 0, 1, 0.25; c = 2, then (1 - 2)/2 < 0, then (0.25 + 0)/2 > 0."""
    gradients = [np.array([a]) for a in (4.0, -2.0, 0.0)]
    path = _run(gradients, np.array([3.0]), lr=0.1, beta1=0.5, beta2=0.75)
    assert path[:, 0] == pytest.approx([3.0, 2.9, 3.0, 2.9])


def test_the_step_sees_the_average_of_yesterday():
    """With yesterday's m = 0.01 the mixture is 0.009 - 0.00895 > 0; with today's it would be negative."""
    path = _run([np.array([1.0]), np.array([-0.0895])], np.zeros(1), lr=1.0)
    assert path[:, 0].tolist() == [0.0, -1.0, -2.0]


def test_weights_of_the_gradients():
    """In the mixture today's gradient counts 1 - β₁, the one k days before β₁ (1 - β₂) β₂^(k-1)."""
    g = np.random.default_rng(0).standard_normal((30, 200))
    weights = np.array([0.1] + [0.9 * 0.01 * 0.99**k for k in range(29)])[::-1]
    last = np.diff(_run(g, np.zeros(200), lr=1.0), axis=0)[-1]
    assert (last == -np.sign(weights @ g)).all()


def test_all_coordinates_move_by_the_rate_and_zero_stays():
    gradients = np.random.default_rng(1).standard_normal((20, 5)) * np.array([1e-8, 1.0, 1e8, 1.0, 0.0])
    steps = np.diff(_run(gradients, np.zeros(5), lr=0.5), axis=0)
    assert (abs(steps[:, :4]) == 0.5).all() and not steps[:, 4].any()


def test_the_scale_does_not_matter():
    gradients = np.random.default_rng(2).standard_normal((30, 6))
    assert np.array_equal(_run(gradients, np.ones(6)), _run(1024 * gradients, np.ones(6)))


def test_decay_by_hand_and_its_box():
    path = _run([np.array([1.0, -1.0])], np.array([2.0, 2.0]), lr=0.1, weight_decay=0.5)
    assert path[1] == pytest.approx([1.8, 2.0])
    gradients = np.random.default_rng(3).standard_normal((400, 3)) - 1
    far = _run(gradients, np.array([0.0, 5.0, -5.0]), lr=0.1, weight_decay=0.5)
    assert (abs(far) <= np.maximum(abs(far[0]), 2) + 1e-12).all()
    assert far[-1] == pytest.approx([2, 2, 2], abs=0.3)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"weight_decay": -1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
