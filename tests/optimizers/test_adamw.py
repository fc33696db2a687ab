"""Theorems and limits of AdamW in the paper's form."""

import math

import numpy as np
import pytest

from trref.optimizers import adam
from trref.optimizers.adamw import init, update


def _run(gradients, start, schedule=None, **hyper):
    params, state, path = [start], init([start]), [start]
    for k, g in enumerate(gradients):
        rate = {} if schedule is None else {"schedule": schedule[k]}
        params, state = update(params, [g], state, **rate, **hyper)
        path.append(params[0])
    return np.array(path), state


def test_one_step_by_hand():
    """Both β = 0: a step of the rate; weight 2, decay 0.1, schedule ½: 2 - ½ (0.3 + 0.2)."""
    path, _ = _run([np.array([7.0])], np.array([2.0]), [0.5], lr=0.3, beta1=0.0, beta2=0.0, weight_decay=0.1, eps=1e-30)
    assert path[1, 0] == pytest.approx(1.75, rel=1e-14)


def test_zero_gradients_leave_a_product():
    schedule = [1.0, 0.5, 0.25, 0.0]
    path, state = _run([np.zeros(2)] * 4, np.array([3.0, -1.0]), schedule, weight_decay=0.2, lr=5.0)
    assert np.allclose(path[-1], np.array([3.0, -1.0]) * math.prod(1 - 0.2 * s for s in schedule), rtol=1e-14)
    assert not state.m[0].any() and not state.v[0].any()


def test_a_change_of_the_rate_leaves_the_decay():
    """Twice the rate, twice the steps: what the decay takes from the start is the same."""
    gradients = np.random.default_rng(0).standard_normal((20, 3))
    runs = [_run(gradients, np.full(3, x), lr=lr, weight_decay=0.1)[0][-1] for lr in (0.01, 0.02) for x in (0.0, 5.0)]
    for still, moved in (runs[:2], runs[2:]):
        assert np.allclose(moved - still, 5 * 0.9**20, rtol=1e-9)
    assert np.allclose(runs[2], 2 * runs[0], rtol=1e-10)


def test_it_is_the_programs_form_with_another_decay():
    """Rate s η and decay λ/η, step by step along a schedule."""
    rng = np.random.default_rng(1)
    gradients, schedule = rng.standard_normal((12, 4)), np.linspace(1, 0.1, 12)
    path, _ = _run(gradients, np.ones(4), schedule, lr=0.05, weight_decay=0.03)
    params, state = [np.ones(4)], adam.init([np.ones(4)])
    for k, g in enumerate(gradients):
        how = {"lr": 0.05 * schedule[k], "weight_decay": 0.03 / 0.05}
        params, state = adam.update(params, [g], state, **how)
        assert np.allclose(path[k + 1], params[0], rtol=1e-11, atol=1e-13)


def test_where_weights_settle():
    """η/sqrt(2λ) for steps of independent signs (β₁ = 0): 2,000 weights after 1,500 steps, to 5 %.

    The variance of an average of squares of 2,000 normal weights is 2/2,000: three standard errors of the root are 5 %.
    """
    rng = np.random.default_rng(2)
    signs = rng.choice((-1.0, 1.0), (1500, 2000))
    path, _ = _run(signs, np.zeros(2000), lr=0.01, beta1=0.0, weight_decay=0.005)
    assert np.sqrt((path[-1] ** 2).mean()) == pytest.approx(0.01 / math.sqrt(2 * 0.005), rel=0.05)


def test_the_scale_of_gradients_does_not_matter():
    gradients = np.random.default_rng(3).standard_normal((20, 3))
    how = {"eps": 1e-300, "weight_decay": 0.1, "lr": 0.1}
    a, b = (_run(c * gradients, np.ones(3), **how)[0] for c in (1.0, 1e4))
    assert np.allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"eps": 0.0}, {"weight_decay": 1.1}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
    with pytest.raises(ValueError, match="schedule must lie in"):
        _run([np.ones(1)], np.ones(1), [-0.1])
