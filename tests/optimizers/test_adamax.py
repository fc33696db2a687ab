"""Theorems and limits of AdaMax."""

import math

import numpy as np
import pytest

from trref.optimizers.adamax import init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path), state


def test_two_steps_by_hand():
    """Both β = ½, gradients 4 and 1: m = 2, 3/2; u = 4, 2; corrected m 4, 2."""
    path, _ = _run([np.array([4.0]), np.array([1.0])], np.zeros(1), lr=0.1, beta1=0.5, beta2=0.5)
    assert path[:, 0] == pytest.approx([0.0, -0.1, -0.2], rel=1e-13)


def test_both_epsilons_by_hand():
    """ε = 1: inside u = 5, max(5/2, 2) = 5/2; outside u + 1 = 5, 3."""
    gradients, how = [np.array([4.0]), np.array([1.0])], {"lr": 0.1, "beta1": 0.5, "beta2": 0.5, "eps": 1.0}
    inside = _run(gradients, np.zeros(1), **how, epsilon="inside")[0][:, 0]
    outside = _run(gradients, np.zeros(1), **how, epsilon="outside")[0][:, 0]
    assert inside == pytest.approx([0.0, -0.08, -0.16], rel=1e-13)
    assert outside == pytest.approx([0.0, -0.08, -0.08 - 0.2 / 3], rel=1e-13)


def test_the_maximum_in_closed_form():
    gradients = np.random.default_rng(0).standard_normal((30, 5))
    _, state = _run(gradients, np.zeros(5), beta2=0.9)
    decayed = 0.9 ** np.arange(29, -1, -1)[:, None] * abs(gradients)
    assert np.allclose(state.u[0], decayed.max(0), rtol=1e-12)


def test_it_is_the_limit_of_averages_of_powers():
    """((1 - β^p) Σ β^{p(t - s)} |g_s|^p)^(1/p), by logarithms: closer with every power, at 500 equal to 1e-6."""
    gradients = np.random.default_rng(0).standard_normal(30)
    _, state = _run(gradients[:, None], np.zeros(1), beta2=0.9)
    ages, off = np.arange(29, -1, -1), []
    for p in (5, 20, 100, 500):
        logs = p * (ages * math.log(0.9) + np.log(abs(gradients))) + math.log(-math.expm1(p * math.log(0.9)))
        off.append(abs(math.exp(np.logaddexp.reduce(logs) / p) / float(state.u[0][0]) - 1))
    assert off[0] > 0.01 and (np.diff(off) < 0).all() and off[-1] < 1e-6


def test_no_step_is_longer_than_the_bound():
    """η (1 - β₁)/(1 - β₁^t) Σ_{k<t} (β₁/β₂)^k, reached when all gradients but the last ones grow as β₂ falls."""
    for gradients in (np.random.default_rng(1).standard_normal((60, 20)), 0.999 ** np.arange(60.0)[:, None]):
        path, _ = _run(gradients, np.zeros(gradients.shape[1]), lr=1.0)
        steps = abs(np.diff(path, axis=0)).max(1)
        t = np.arange(1, 61)
        bound = 0.1 / (1 - 0.9**t) * (1 - (0.9 / 0.999) ** t) / (1 - 0.9 / 0.999)
        assert (steps <= bound * (1 + 1e-12)).all()
    assert np.allclose(steps, bound, rtol=1e-10), "the second sequence reaches it"
    assert bound[-1] == pytest.approx(1.009, abs=2e-3)


def test_the_first_step_has_the_rate_s_length():
    path, _ = _run([np.array([1e-200, -5.0, 0.0])], np.zeros(3), lr=0.1)
    assert path[1].tolist() == pytest.approx([-0.1, 0.1, 0.0])


def test_the_scale_does_not_matter():
    gradients = np.random.default_rng(2).standard_normal((30, 4))
    a, b = (_run(c * gradients, np.ones(4))[0] for c in (1.0, 1e-9))
    assert np.allclose(a, b, rtol=1e-11, atol=1e-13)


def test_an_outlier_is_remembered_at_full_size():
    """u jumps to it and falls by β₂ a step."""
    gradients = [np.ones(1)] * 5 + [np.full(1, 100.0)] + [np.ones(1)] * 10
    _, state = _run(gradients, np.zeros(1), beta2=0.9)
    assert state.u[0] == pytest.approx(100 * 0.9**10)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
