"""Theorems and limits of AMSGrad."""

import math

import numpy as np
import pytest

from trref.optimizers import adam
from trref.optimizers.amsgrad import init, update

FORMS = ("nothing", "maximum", "moments")


def _run(gradients, start, **hyper):
    params, state, path, largest = [start], init([start]), [start], []
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
        largest.append(state.largest[0])
    return np.array(path), np.array(largest)


def test_two_steps_by_hand():
    """β = ½, gradients 4 and 0: m = 2, 1; v = 8, 4, maximum 8, 8; corrected v 16, 16/3; corrected m 4, 4/3."""
    roots = {"nothing": (8, 8), "maximum": (16, 8 / 0.75), "moments": (16, 16)}
    for form, (first, second) in roots.items():
        m = (2, 1) if form == "nothing" else (4, 4 / 3)
        path, _ = _run(
            [np.array([4.0]), np.zeros(1)], np.zeros(1), lr=0.1, beta1=0.5, beta2=0.5, eps=1e-300, corrected=form
        )
        steps = [-0.1 * m[0] / math.sqrt(first), -0.1 * m[1] / math.sqrt(second)]
        assert np.diff(path[:, 0]) == pytest.approx(steps), form


def test_the_maximum_never_falls_but_its_correction_does():
    """After 10 and then 0.1: the corrected maximum is 100, 50, … , 10 at step 10, where optax's stays at 100."""
    gradients = [np.array([10.0])] + [np.array([0.1])] * 49
    for form in FORMS:
        largest = _run(gradients, np.zeros(1), corrected=form)[1][:, 0]
        assert (np.diff(largest) >= 0).all()
        if form == "maximum":
            shown = largest / (1 - 0.999 ** np.arange(1, 51))
            assert shown[[0, 1, 9, 49]] == pytest.approx([100, 50.0, 10.0, 2.05], rel=5e-3)
        if form == "moments":
            assert np.allclose(largest, 100.0, rtol=1e-9)


def test_the_first_step():
    """The rate where moments are corrected, (1 - β₁)/√(1 - β₂) times it in the paper: 3.16 at the defaults."""
    for form, length in zip(FORMS, (0.1 / math.sqrt(0.001), 1, 1), strict=True):
        path, _ = _run([np.array([1.0, -7.0])], np.zeros(2), lr=0.01, eps=1e-300, corrected=form)
        assert path[1] == pytest.approx([-0.01 * length, 0.01 * length])


def _worst_case(rule, start, steps=6000, **hyper):
    """Reddi's problem: slope 3 at every third step, else -1, on [-1, 1]; the best point is -1."""
    x = [np.zeros(1)]
    state = start(x)
    for t in range(1, steps + 1):
        g = 3.0 if t % 3 == 1 else -1.0
        x, state = rule(x, [np.array([g])], state, lr=0.5 / math.sqrt(t), beta1=0.0, beta2=0.1, eps=1e-12, **hyper)
        x = [np.clip(x[0], -1, 1)]
    return float(x[0][0])


@pytest.mark.parametrize("form", FORMS)
def test_the_counterexample(form):
    assert _worst_case(adam.update, adam.init) > 0.9, "Adam ends at the worst point"
    assert _worst_case(update, init, corrected=form) < -0.9


def test_without_memory_the_largest_gradient_is_kept():
    gradients = [np.array([a]) for a in (2.0, -5.0, 1.0)]
    assert _run(gradients, np.zeros(1), beta2=0.0)[1].ravel().tolist() == [4, 25, 25]


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
