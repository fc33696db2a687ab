"""Theorems and limits of gradient descent with momentum."""

import math

import numpy as np
import pytest

from trref.optimizers.sgd import init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


ONES = [np.ones(1)] * 3


@pytest.mark.parametrize(
    ("hyper", "steps"),
    [
        ({}, [1, 1, 1]),
        ({"momentum": 0.5}, [1, 1.5, 1.75]),
        ({"momentum": 0.5, "nesterov": True}, [1.5, 1.75, 1.875]),
        ({"momentum": 0.5, "averaging": "ema"}, [0.5, 0.75, 0.875]),
        ({"momentum": 0.5, "averaging": "ema", "nesterov": True}, [0.75, 0.875, 0.9375]),
        ({"momentum": 0.5, "averaging": "debiased_ema"}, [1, 1, 1]),
        ({"momentum": 0.5, "averaging": "debiased_ema", "nesterov": True}, [1, 1, 1]),
    ],
)
def test_steps_by_hand_of_a_gradient_of_one(hyper, steps):
    path = _run(ONES, np.array([2.0]), lr=0.1, **hyper)
    assert np.diff(path[:, 0]) == pytest.approx([-0.1 * s for s in steps])


def test_decay_by_hand():
    """Weights 2, gradients 1: decoupled 2 · (1 - 0.1 · 0.5) - 0.1, coupled a gradient of 1 + 0.5 · 2."""
    kept, coupled = (
        _run(ONES[:2], np.array([2.0]), lr=0.1, momentum=0.5, weight_decay=0.5, decoupled_weight_decay=apart)[:, 0]
        for apart in (True, False)
    )
    assert kept == pytest.approx([2.0, 1.8, 1.8 * 0.95 - 0.15])
    # second: momentum 0.5 · 2 + (1 + 0.5 · 1.8) = 2.9
    assert coupled == pytest.approx([2.0, 1.8, 1.8 - 0.29])


def test_without_momentum_both_decays_are_one():
    gradients = np.random.default_rng(0).standard_normal((20, 3))
    a, b = (_run(gradients, np.ones(3), weight_decay=0.3, decoupled_weight_decay=apart) for apart in (True, False))
    assert np.allclose(a, b, rtol=1e-13)


def test_zero_gradients_leave_decay_alone():
    path = _run([np.zeros(2)] * 10, np.array([1.0, -3.0]), lr=0.1, momentum=0.9, weight_decay=0.4)
    assert np.allclose(path[-1], 0.96**10 * path[0], rtol=1e-13)
    assert (_run([np.zeros(2)] * 10, np.ones(2), momentum=0.9) == 1).all()


@pytest.mark.parametrize("nesterov", [False, True])
def test_average_and_sum_take_one_path_at_rates_that_correspond(nesterov):
    gradients = np.random.default_rng(1).standard_normal((30, 4))
    total = _run(gradients, np.zeros(4), lr=0.02, momentum=0.8, nesterov=nesterov)
    average = _run(gradients, np.zeros(4), lr=0.1, momentum=0.8, nesterov=nesterov, averaging="ema")
    assert np.allclose(total, average, rtol=1e-12)


def test_nesterov_is_the_gradient_at_the_point_ahead():
    """Nesterov's own scheme keeps y and evaluates at θ = y + μ v; ours keeps θ."""
    A, lr, mu = np.diag([1.0, 0.3, 0.01]), 0.5, 0.9
    theta = np.array([1.0, -2.0, 0.5])
    params, state, y, v = [theta], init([theta]), theta.copy(), np.zeros(3)
    for _ in range(40):
        params, state = update(params, [A @ params[0]], state, lr=lr, momentum=mu, nesterov=True)
        v = mu * v - lr * A @ (y + mu * v)
        y = y + v
        assert np.allclose(params[0], y + mu * v, rtol=1e-11)


@pytest.mark.parametrize("condition", [25.0, 400.0])
def test_heavy_ball_contracts_at_the_root_of_the_condition_number(condition):
    """Polyak's constants: error t · √μᵗ up to a constant, with μ = ((√κ - 1)/(√κ + 1))²."""
    root = math.sqrt(condition)
    rate, curvature = (root - 1) / (root + 1), np.array([1.0, condition])
    x, errors = [np.ones(2)], []
    state, lr = init(x), 4 / (1 + root) ** 2
    for _ in range(401):
        x, state = update(x, [curvature * x[0]], state, lr=lr, momentum=rate**2)
        errors.append(abs(x[0]).max())
    # both eigenvalues are double: error = (a + b t) rate^t; the factor (a + b t) grows 2-fold at most from 200 to 400
    observed = (errors[400] / errors[200]) ** (1 / 200)
    assert rate * (1 - 1e-3) <= observed <= rate * 2 ** (1 / 200) * (1 + 1e-3)
    plain = (condition - 1) / (condition + 1)
    assert observed < plain, "gradient descent with its best rate contracts by (κ - 1)/(κ + 1)"


def test_state_is_not_changed():
    start = [np.ones(2)]
    state = init(start)
    update(start, [np.ones(2)], state, momentum=0.5)
    assert state.step == 0 and not state.m[0].any() and start[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": -1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
