"""Theorems and limits of NAdam."""

import math

import numpy as np
import pytest

from trref.optimizers.nadam import init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path), state


def test_two_steps_by_hand():
    """Constant weight ½, β₂ = 0, gradients 2 and -4: m = 1, -3/2; m̄ = 1 · (½/¾) + 2 and -3/2 · (½/⅞) - 2/(3/4)."""
    how = {"lr": 0.3, "beta1": 0.5, "beta2": 0.0, "eps": 1e-300, "form": "constant", "second": False}
    path, _ = _run([np.array([2.0]), np.array([-4.0])], np.zeros(1), **how)
    first, second = 2 / 3 + 2, -6 / 7 - 8 / 3
    assert path[:, 0] == pytest.approx([0, -0.3 * first / 2, -0.3 * first / 2 - 0.3 * second / 4], rel=1e-13)


def test_the_extra_factor_by_hand():
    """At the second step v̂ is β₂ times what it was: one over its root in all steps."""
    gradients = np.random.default_rng(0).standard_normal((5, 3))
    with_it, without = (
        _run(gradients, np.zeros(3), beta2=0.64, eps=1e-300, second=second)[0] for second in (True, False)
    )
    assert np.allclose(with_it, without / 0.8, rtol=1e-12, atol=1e-15)


def _weights(beta1, psi, count):
    return [beta1 * (1 - 0.5 * 0.96 ** (psi * t)) for t in range(1, count + 1)]


def test_the_average_s_weights_sum_to_one_less_the_product():
    """Constant gradient g: m_t/(1 - Π_t) = g with the schedule; in the report's form 0.18 g at first."""
    g = np.array([3.0])
    for t in (1, 2, 7):
        _, state = _run([g] * t, np.zeros(1))
        product = math.prod(_weights(0.9, 0.004, t))
        assert state.m[0] == pytest.approx(3.0 * (1 - product), rel=1e-12)
    _, state = _run([g], np.zeros(1), form="report")
    assert state.m[0] / (1 - _weights(0.9, 0.004, 1)[0]) == pytest.approx(0.18 * 3.0, rel=2e-2)


@pytest.mark.parametrize(
    ("form", "psi", "lengths"),
    [
        ("workshop", 0.004, (1.311, 1.085, 1.006, 1.001)),
        ("report", 0.004, (1.056, 0.784, 0.746, 0.843)),
        ("constant", 0.004, (1.474, 1.157, 1.031, 1.008)),
        ("report", 1.0, (1.063, 0.774, 0.710, 0.800)),
    ],
)
def test_step_lengths_of_a_constant_gradient(form, psi, lengths):
    """Steps 1, 2, 5 and 10 at rate 1: the forms differ in the first digits. (The workshop's with its factor β₂.)"""
    second = form == "workshop"
    path, _ = _run([np.ones(1)] * 10, np.zeros(1), lr=1.0, eps=1e-300, form=form, psi=psi, second=second)
    steps = -np.diff(path[:, 0])[[0, 1, 4, 9]]
    assert steps == pytest.approx(lengths, abs=1.1e-3)


def test_the_first_step_in_closed_form():
    """Constant weight: 1 + β₁/(1 + β₁)."""
    how = {"lr": 1.0, "eps": 1e-300, "form": "constant", "second": False}
    path, _ = _run([np.array([-2.0])], np.zeros(1), **how)
    assert path[1, 0] == pytest.approx(1 + 0.9 / 1.9, rel=1e-12)


def test_a_schedule_that_is_over_at_once_is_none():
    gradients = np.random.default_rng(3).standard_normal((20, 3))
    constant = _run(gradients, np.ones(3), form="constant")[0]
    for form in ("workshop", "report"):
        assert np.allclose(_run(gradients, np.ones(3), form=form, psi=1e6)[0], constant, rtol=1e-12, atol=1e-14)


def test_the_scale_does_not_matter():
    gradients = np.random.default_rng(1).standard_normal((30, 4))
    a, b = (_run(c * gradients, np.ones(4), eps=1e-300)[0] for c in (1.0, 1e5))
    assert np.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"psi": -0.1}, {"eps": 0.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
