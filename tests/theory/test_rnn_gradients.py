"""Gradients through time: against complex steps, torch-free closed forms, and the layer of `nn.recurrent`."""

import numpy as np
import pytest

from trref.nn.recurrent import recurrent, recurrent_vjp
from trref.theory.rnn_gradients import (
    errors,
    jacobian_norms,
    norm_bound,
    squared_loss,
    states,
    vanishing_penalty,
)


def _network(seed, H=4, D=2, T=6, scale=0.8):
    rng = np.random.default_rng(seed)
    W = scale * rng.standard_normal((H, H)) / np.sqrt(H)
    return (
        W,
        0.5 * rng.standard_normal((H, D)),
        rng.standard_normal(H),
        rng.standard_normal(H),
        rng.standard_normal((T, D)),
    )


def _loss(parameters, u, target):
    """In complex arithmetic, for steps of 1e-30 i."""
    W, W_in, b, x = parameters
    total = 0
    for row, goal in zip(u, target, strict=True):
        x = W @ np.tanh(x) + W_in @ row + b
        total = total + ((x - goal) ** 2).sum() / 2
    return total


def test_all_gradients_by_complex_steps():
    *parameters, u = _network(0)
    target = np.random.default_rng(1).standard_normal((6, 4))
    _, gradient = squared_loss(*parameters, u, target)
    for k, exact in enumerate(gradient):
        for index in np.ndindex(parameters[k].shape):
            moved = [np.array(p, complex) for p in parameters]
            moved[k][index] += 1e-30j
            assert exact[index] == pytest.approx(_loss(moved, u, target).imag / 1e-30, rel=1e-12, abs=1e-14)


def test_the_layer_with_the_state_after_the_nonlinearity():
    """h_t = tanh(W h_{t-1} + …) is σ of our states: its errors times σ' are ours."""
    W, W_in, b, start, u = _network(2)
    x = states(W, W_in, b, start, u)
    h = recurrent(u[None], np.tanh(start)[None], W_in.T, W.T, b)
    assert h[0] == pytest.approx(np.tanh(x[1:]), rel=1e-13)
    cotangent = np.random.default_rng(3).standard_normal((6, 4))
    theirs = recurrent_vjp(u[None], np.tanh(start)[None], W_in.T, W.T, h, cotangent[None])
    delta = errors(W, x, cotangent * (1 - h[0] ** 2))
    assert delta.T @ np.tanh(x[:-1]) == pytest.approx(theirs.W_rec.T, rel=1e-12)
    assert delta.sum(0) == pytest.approx(theirs.b, rel=1e-12)


def test_norms_below_their_bound_and_equal_where_nothing_is_lost():
    for activation in ("tanh", "logistic"):
        for seed in range(5):
            W, W_in, b, start, u = _network(seed, scale=1.5)
            x = states(W, W_in, b, start, u, activation=activation)
            norms, bound = (f(W, x, activation=activation) for f in (jacobian_norms, norm_bound))
            assert (norms <= bound * (1 + 1e-12)).all()
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    still = np.zeros((5, 3))  # where tanh has the slope 1
    assert jacobian_norms(rotation, still) == pytest.approx(np.ones(4), rel=1e-13)
    delta = errors(rotation, still, np.vstack([np.zeros((3, 3)), [[1.0, 2, 3]]]))
    value, gradient = vanishing_penalty(rotation, still, delta)
    assert value == pytest.approx(0, abs=1e-28) and abs(gradient).max() < 1e-14


def test_one_unit_by_hand():
    """w = 3 at states 0: each step triples; the ratio is 3, the penalty 4, its slope 4; squared 64 and 4 · 8 · 3."""
    w, x, delta = np.array([[3.0]]), np.zeros((3, 1)), np.array([[0.0], [2.0]])
    assert jacobian_norms(w, x).tolist() == [3, 9]
    value, gradient = vanishing_penalty(w, x, delta)
    assert (value, gradient.item()) == (4, 4)
    value, gradient = vanishing_penalty(w, x, delta, form="squared")
    assert (value, gradient.item()) == (64, 96)


def test_the_penalty_holds_states_and_errors():
    """By differences at frozen states and errors it is the gradient; where these follow W it is not."""
    W, W_in, b, start, u = _network(4)
    slopes = np.random.default_rng(5).standard_normal((6, 4))

    def whole(matrix):
        x = states(matrix, W_in, b, start, u)
        return vanishing_penalty(matrix, x, errors(matrix, x, slopes))[0]

    x = states(W, W_in, b, start, u)
    delta = errors(W, x, slopes)
    _, gradient = vanishing_penalty(W, x, delta)
    h, apart = 1e-6, 0.0
    for index in np.ndindex(W.shape):
        step = np.zeros_like(W)
        step[index] = h
        frozen = (vanishing_penalty(W + step, x, delta)[0] - vanishing_penalty(W - step, x, delta)[0]) / (2 * h)
        assert gradient[index] == pytest.approx(frozen, rel=1e-6, abs=1e-7)
        apart = max(apart, abs(gradient[index] - (whole(W + step) - whole(W - step)) / (2 * h)))
    assert apart > 0.1


def test_steps_without_an_error_do_not_count():
    W, W_in, b, start, u = _network(6)
    x = states(W, W_in, b, start, u)
    delta = errors(W, x, np.vstack([np.ones((3, 4)), np.zeros((3, 4))]))
    assert not delta[3:].any()
    few = vanishing_penalty(W, x[:4], delta[:3])
    for form in ("ratio", "squared"):
        few, all_ = (vanishing_penalty(W, *part, form=form) for part in ((x[:4], delta[:3]), (x, delta)))
        assert few[0] == pytest.approx(all_[0], rel=1e-14) and few[1] == pytest.approx(all_[1], rel=1e-13)
