"""Theorems and limits of diffGrad."""

import math

import numpy as np
import pytest

from trref.optimizers import adam
from trref.optimizers.diffgrad import friction, init, update
from trref.problems.landscapes import Corner, Waves


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_two_steps_by_hand():
    """Without memory the step is ±lr ξ: the changes are 1 (from 0 to 1) and 4 (from 1 to -3)."""
    path = _run([np.array([1.0]), np.array([-3.0])], np.zeros(1), lr=0.1, beta1=0.0, beta2=0.0, eps=1e-300)
    first = -0.1 * _sigmoid(1)
    assert path[:, 0] == pytest.approx([0.0, first, first + 0.1 * _sigmoid(4)])


def test_the_friction_sees_the_decay():
    """Gradient 1 + 0.5 · 2 = 2, from 0."""
    path = _run([np.array([1.0])], np.array([2.0]), lr=0.1, weight_decay=0.5, eps=1e-300)
    assert path[1, 0] == pytest.approx(2 - 0.1 * _sigmoid(2))


@pytest.mark.parametrize("form", ["paper", "corrected"])
def test_a_plain_loop_in_scalars(form):
    rng = np.random.default_rng(0)
    gradients, before = rng.standard_normal((40, 3)), 0.0
    path = _run(gradients, np.ones(3), lr=0.01, beta1=0.8, beta2=0.95, eps=1e-2, form=form)
    for i in range(3):
        theta, m, v, before = 1.0, 0.0, 0.0, 0.0
        for t, g in enumerate(gradients[:, i].tolist(), start=1):
            m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
            first, second = m / (1 - 0.8**t), v / (1 - 0.95**t)
            root = math.sqrt(second) + 1e-2
            if form == "paper":
                root = math.sqrt(second) + 1e-2 / math.sqrt(1 - 0.95**t)
            theta -= 0.01 * _sigmoid(abs(g - before)) * first / root
            before = g
            assert path[t, i] == pytest.approx(theta, rel=1e-12)


def test_each_step_is_between_half_of_adam_s_and_the_whole():
    """From one state, by both rules; the corrected form, in which epsilon is where Adam has it."""
    rng, p = np.random.default_rng(1), [np.zeros(50)]
    state = init(p)
    for _ in range(30):
        g, before = [rng.standard_normal(50) * rng.choice((0.1, 1.0, 10.0))], p
        whole = adam.update(p, g, adam.AdamState(*state[:3]), lr=0.1)[0][0] - before[0]
        p, state = update(p, g, state, lr=0.1, form="corrected")
        share = (p[0] - before[0]) / whole
        assert (share >= 0.5 - 1e-9).all() and (share <= 1 + 1e-9).all()


def test_constant_gradient_is_adam_at_half_the_rate_after_the_first_step():
    gradients = [np.array([3.0, -0.2])] * 30
    ours = np.diff(_run(gradients, np.zeros(2), lr=0.1, eps=1e-300), axis=0)
    assert np.allclose(ours[1:], [-0.05, 0.05], rtol=1e-10)
    assert ours[0] == pytest.approx([-0.1 * _sigmoid(3), 0.1 * _sigmoid(0.2)])


def test_friction_is_half_exactly_where_nothing_changes():
    a = np.array([0.0, 2.0, -5.0, 1e-3])
    assert (friction(a, a) == 0.5).all()
    assert (friction(a, a + 1) == friction(a + 1, a)).all() and (friction(a, a + 1) > 0.5).all()


@pytest.mark.parametrize(("loss", "minimum"), [(Corner(), -0.3), (Waves(), -0.643)])
def test_the_authors_problems_end_in_the_global_minimum(loss, minimum):
    """From -1 as in the paper's figures, with the true gradient of the second; Adam passes both minima by."""
    ends = {}
    for rule in (adam, None):
        step, start = (adam.update, adam.init) if rule else (update, init)
        x = [np.array([-1.0])]
        state = start(x)
        for _ in range(300):
            x, state = step(x, [loss(x[0])[1]], state, lr=0.1, beta1=0.95)
        ends[rule] = float(x[0][0])
    assert ends[None] == pytest.approx(minimum, abs=2e-3)
    assert ends[adam] > minimum + 0.4


def test_the_state_holds_a_copy_of_the_gradient():
    """Gradients that are written into the same memory at each step do not change what is remembered."""
    g, p = np.array([1.0]), [np.zeros(1)]
    p, state = update(p, [g], init(p))
    g[:] = 5.0
    assert state.previous[0].tolist() == [1.0]


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}, {"weight_decay": -1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)


def test_no_other_form():
    with pytest.raises(ValueError, match="form"):
        _run([np.ones(1)], np.ones(1), form="notebook")
