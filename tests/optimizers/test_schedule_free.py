"""Theorems and limits of the schedule-free methods."""

import math

import numpy as np
import pytest

from trref.optimizers import sgd
from trref.optimizers.schedule_free import adamw_update, init, recover_mean, update


def _run(gradients, start, rule=update, rates=None, **hyper):
    """Parameters, fast sequence and mean after each step, from the start on."""
    params, state = [start], init([start])
    rows = [(start, start, start)]
    for k, g in enumerate(gradients):
        rate = {} if rates is None else {"lr": rates[k]}
        params, state = rule(params, [g], state, **hyper, **rate)
        rows.append((params[0], state.z[0], state.x[0]))
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_three_steps_by_hand():
    """Rate 1, β ½, from 0, gradients -2, -4, 6: z = 2, 6, 0; x = 2, 4, 8/3; y = 2, 5, 4/3."""
    y, z, x = _run([np.array([g]) for g in (-2.0, -4.0, 6.0)], np.zeros(1), beta=0.5)
    assert z[:, 0].tolist() == [0, 2, 6, 0]
    assert x[:, 0] == pytest.approx([0, 2, 4, 8 / 3], rel=1e-14)
    assert y[:, 0] == pytest.approx([0, 2, 5, 4 / 3], rel=1e-14)


def test_warm_up_and_weights_by_hand():
    """Rates ½, 1, 1 and weights ¼, 1, 1; with gradients -1: z = ½, 3/2, 5/2."""
    gradients = [-np.ones(1)] * 3
    _, z, x = _run(gradients, np.zeros(1), warmup=2)
    assert z[:, 0].tolist() == [0, 0.5, 1.5, 2.5]
    assert x[1:, 0] == pytest.approx([0.5, (0.125 + 1.5) / 1.25, (0.125 + 1.5 + 2.5) / 2.25], rel=1e-14)
    _, z, x = _run(gradients, np.zeros(1), warmup=2, step_power=1.0, rate_power=1.0)
    assert x[-1, 0] == pytest.approx((0.5 * 0.5 + 2 * 1.5 + 3 * 2.5) / 5.5, rel=1e-14)


def test_rates_that_fall_keep_their_weight():
    """The weight is of the largest rate so far: rates 2, 1, 4 have the weights 4, 4, 16."""
    _, z, x = _run([np.array([g]) for g in (1.0, 3.0, -2.0)], np.zeros(1), rates=[2.0, 1.0, 4.0])
    assert x[-1] == pytest.approx((4 * z[1] + 4 * z[2] + 16 * z[3]) / 24, rel=1e-13)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("rule", [update, adamw_update])
def test_after_one_step_all_are_one_point(rule, beta):
    y, z, x = _run([np.array([0.7, -3.0])], np.ones(2), rule, lr=0.1, beta=beta, weight_decay=0.2)
    assert np.allclose(y[1], z[1], rtol=1e-14, atol=0) and np.array_equal(x[1], z[1])


def test_the_mean_is_plain_at_a_constant_rate():
    gradients = np.random.default_rng(0).standard_normal((50, 4))
    _, z, x = _run(gradients, np.ones(4), lr=0.3)
    assert np.allclose(x[1:], np.cumsum(z[1:], axis=0) / np.arange(1, 51)[:, None], rtol=1e-11, atol=1e-13)


def test_at_the_fast_sequence_the_mean_is_that_of_sgd():
    """β = 0: the path of SGD, and Polyak's average of it beside."""
    gradients = np.random.default_rng(1).standard_normal((30, 3))
    y, _, x = _run(gradients, np.zeros(3), lr=0.2, beta=0.0)
    params, state, path = [np.zeros(3)], sgd.init([np.zeros(3)]), []
    for g in gradients:
        params, state = sgd.update(params, [g], state, lr=0.2)
        path.append(params[0])
    assert np.allclose(y[1:], path, rtol=1e-12, atol=1e-14)
    assert np.allclose(x[-1], np.mean(path, axis=0), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_two_sequences_are_enough(beta):
    """The form in place: y ← y + c(z - y) + γ(β(1 - c) - 1) g, z ← z - γ g; the mean is found again from the two."""
    gradients = np.random.default_rng(2).standard_normal((40, 3))
    y, z, x = _run(gradients, np.ones(3), lr=0.3, beta=beta, weight_decay=0.1)
    at, fast = np.ones(3), np.ones(3)
    for t, g in enumerate(gradients, start=1):
        g = g + 0.1 * at
        at = at + (fast - at) / t + 0.3 * (beta * (1 - 1 / t) - 1) * g
        fast = fast - 0.3 * g
        assert np.allclose(at, y[t], rtol=1e-10, atol=1e-12) and np.allclose(fast, z[t], rtol=1e-10, atol=1e-12)
        assert np.allclose(recover_mean(at, fast, beta=beta), x[t], rtol=1e-10, atol=1e-11)


def test_adamw_has_no_first_moment():
    """Two steps, β₂ ½, gradients 2 and -4: v = 2, 9, corrected 4, 12; decay of what stood between."""
    y, z, _ = _run(
        [np.array([2.0]), np.array([-4.0])], np.ones(1), adamw_update, lr=0.1, beta2=0.5, eps=1e-300, weight_decay=0.5
    )
    assert z[1, 0] == pytest.approx(1 - 0.1 * (1 + 0.5), rel=1e-13)
    assert z[2, 0] == pytest.approx(0.85 - 0.1 * (-4 / math.sqrt(12) + 0.5 * y[1, 0]), rel=1e-13)


def test_weights_of_high_powers_do_not_overflow():
    """A step power of 1e4 leaves the last weight alone."""
    _, z, x = _run(np.ones((300, 1)), np.zeros(1), step_power=1e4, rate_power=1e4, lr=1e-3)
    assert x[-1] == pytest.approx(z[-1], rel=1e-12)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta": 1.5}, {"weight_decay": -1.0}, {"warmup": -1}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must "):
        _run([np.ones(1)], np.ones(1), **bad)
