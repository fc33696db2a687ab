"""Theorems and limits of Adan."""

import math

import numpy as np
import pytest

from trref.optimizers.adan import init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


def test_two_steps_by_hand():
    """All β = ½, gradients 2 and 3: m = 1, 2; v = 0, ½; n = 2, 1 + 3.5²/2; corrected m 8/3, v 2/3, n 7.125 / ¾."""
    path = _run([np.array([2.0]), np.array([3.0])], np.zeros(1), lr=0.1, beta1=0.5, beta2=0.5, beta3=0.5, eps=1e-300)
    second = (8 / 3 + 0.5 * 2 / 3) / math.sqrt(7.125 / 0.75)
    assert path[:, 0] == pytest.approx([0.0, -0.1, -0.1 - 0.1 * second])


@pytest.mark.parametrize("d", [0.5, -3.0])
def test_the_second_momentum_in_closed_form(d):
    """(β₁ g + g + d)/(1 + β₁) + β₂ d/(1 + β₂); the root of the square likewise, from the state."""
    b1, b2, b3, g = 0.98, 0.92, 0.99, 1.5
    path = _run([np.array([g]), np.array([g + d])], np.zeros(1), lr=1.0, eps=1e-300)
    momentum = (b1 * g + g + d) / (1 + b1) + b2 * d / (1 + b2)
    square = (b3 * g * g + (g + d + b2 * d) ** 2) / (1 + b3)
    assert path[2, 0] - path[1, 0] == pytest.approx(-momentum / math.sqrt(square))


def test_constant_gradients_move_at_the_rate():
    path = _run([np.array([4.0, -0.1])] * 20, np.zeros(2), lr=0.1, eps=1e-300)
    assert np.allclose(np.diff(path, axis=0), [-0.1, 0.1], rtol=1e-9)


def test_one_rate_is_nesterov_s_form_but_for_the_start():
    """With β₁ = β₂ = β and a first change of g₁, v_t = m_t - m_{t-1}; the missing one adds β^(t-1) (1 - β) g₁."""
    beta, gradients = 0.7, np.random.default_rng(0).standard_normal((12, 3))
    params, state, before = [np.zeros(3)], init([np.zeros(3)]), np.zeros(3)
    for t, g in enumerate(gradients, start=1):
        params, state = update(params, [g], state, beta1=beta, beta2=beta)
        missing = beta ** (t - 1) * (1 - beta) * gradients[0]
        assert np.allclose(state.v[0] + missing, state.m[0] - before, rtol=0, atol=1e-13)
        before = state.m[0]


def test_both_decays_by_hand():
    """Zero gradients: divided by 1.05, or multiplied by 0.95; and the step is divided, too."""
    zero = [np.zeros(1)]
    assert _run(zero, np.ones(1), lr=0.1, weight_decay=0.5)[1] == pytest.approx(1 / 1.05)
    assert _run(zero, np.ones(1), lr=0.1, weight_decay=0.5, proximal=False)[1] == pytest.approx(0.95)
    one = [np.ones(1)]
    assert _run(one, np.ones(1), lr=0.1, weight_decay=0.5)[1] == pytest.approx(0.9 / 1.05)
    assert _run(one, np.ones(1), lr=0.1, weight_decay=0.5, proximal=False)[1] == pytest.approx(0.85)


def test_the_scale_does_not_matter():
    gradients = np.random.default_rng(1).standard_normal((30, 4))
    a, b = (_run(c * gradients, np.ones(4), eps=1e-300) for c in (1.0, 1e5))
    assert np.allclose(a, b, rtol=1e-10)


def test_the_state_holds_a_copy_of_the_gradient():
    g, p = np.array([1.0]), [np.zeros(1)]
    p, state = update(p, [g], init(p))
    g[:] = 5.0
    assert state.previous[0].tolist() == [1.0]


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"beta3": -0.1}, {"eps": 0.0}, {"weight_decay": -1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
