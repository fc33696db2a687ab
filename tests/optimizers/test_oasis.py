"""Hutchinson's estimate, adaptive gradient descent, quadratics whose error halves, scales, and a convex optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.optimizers.oasis import (
    adaptive_rate,
    fixed_update,
    hutchinson_diagonal,
    init,
    truncate,
    update,
)
from trref.problems.convex import Quadratic, Rosenbrock, logistic, spd_matrix


def _run(loss, theta, curvature, steps, *, first=None, **hyper):
    """Points and states; ``curvature(theta, k)`` estimates the diagonal."""
    params, state, path = [theta], init([theta]), [theta]
    states = []
    for k in range(steps):
        estimate = [first if k == 0 and first is not None else curvature(params[0], k)]
        params, state = update(params, [loss(params[0])[1]], state, curvature=estimate, **hyper)
        path.append(params[0])
        states.append(state)
    return np.array(path), states


def test_estimate_is_exact_for_a_diagonal_hessian_and_unbiased_else():
    rng = np.random.default_rng(0)
    diagonal = np.array([3.0, -1.0, 0.2])
    z = rng.choice((-1.0, 1.0), (1, 3))
    assert np.array_equal(hutchinson_diagonal(Quadratic(np.diag(diagonal), np.zeros(3)), np.ones(3), z), diagonal)
    H = spd_matrix(rng, np.array([4.0, 2.0, 1.0, 0.5]))
    z = rng.choice((-1.0, 1.0), (20000, 4))
    found = hutchinson_diagonal(Quadratic(H, np.zeros(4)), np.ones(4), z)
    spread = np.sqrt(((H**2).sum(1) - np.diag(H) ** 2) / 20000)
    assert (abs(found - np.diag(H)) < 5 * spread).all()


def test_rate_by_hand():
    """Moves (3, 4) with scales (1, 1/4): √13; changes (1, 1): √5; half their quotient, or √(1 + 3) · 0.1."""
    move, change, scale = np.array([3.0, 4.0]), np.ones(2), np.array([1.0, 0.25])
    assert adaptive_rate(move, change, scale, lr=0.1) == pytest.approx(np.sqrt(13 / 5) / 2, rel=1e-14)
    assert adaptive_rate(move, change, scale, lr=0.1, growth=3.0) == pytest.approx(0.2, rel=1e-14)
    assert adaptive_rate(0 * move, change, scale, lr=0.1) == 0.1


def test_two_steps_by_hand():
    """F = w² from 1, D = 2, α = ½, rate ¼: 1 - ¼ = ¾; then moves ¼√2 and changes ½/√2 give ½, and ¾ - ½ · 1.5/2."""
    loss = Quadratic(np.array([[2.0]]), np.zeros(1))
    path, states = _run(loss, np.ones(1), lambda w, k: np.array([2.0]), 2, lr=0.25, alpha=0.5)
    assert np.allclose(path[:, 0], [1.0, 0.75, 0.375], rtol=1e-14)
    assert states[-1].rate == pytest.approx(0.5) and states[-1].growth == pytest.approx(2.0)


def test_average_keeps_its_sign_and_the_floor_holds():
    loss = Quadratic(np.eye(1), np.zeros(1))
    _, states = _run(loss, np.ones(1), lambda w, k: np.array([(-3.0, 1.0)[k % 2]]), 2, beta2=0.5, alpha=0.1)
    assert states[-1].D[0][0] == -1.0
    assert np.array_equal(truncate(np.array([-1.0, 0.05, 0.0]), alpha=0.1), [1.0, 0.1, 0.1])


def test_with_unit_scale_it_is_adaptive_gradient_descent():
    """Malitsky and Mishchenko's method, written out."""
    loss, rng = Rosenbrock(), np.random.default_rng(1)
    w = before = 0.3 * rng.standard_normal(4)
    rate, growth, g_before, path = 1e-3, None, None, [w]
    for k in range(60):
        g = loss(w)[1]
        if k:
            size = np.linalg.norm(w - before) / (2 * np.linalg.norm(g - g_before))
            new = size if growth is None else min(np.sqrt(1 + growth) * rate, size)
            rate, growth = new, new / rate
        else:
            growth = None
        before, g_before, w = w, g, w - rate * g
        growth = growth if k else None
        path.append(w)
    ours, _ = _run(loss, path[0], lambda w, k: np.zeros(4), 60, alpha=1.0)
    assert np.allclose(ours, path, rtol=1e-7, atol=1e-9)


def test_rates_of_a_quadratic_lie_between_curvatures():
    """With unit scale the second branch lies in [1/(2L), 1/(2μ)]; the rate never leaves it once inside."""
    rng = np.random.default_rng(2)
    loss = Quadratic(spd_matrix(rng, np.array([5.0, 2.0, 0.5])), np.ones(3))
    _, states = _run(loss, rng.standard_normal(3), lambda w, k: np.zeros(3), 40, alpha=1.0, lr=0.15)
    rates = np.array([float(s.rate) for s in states[1:]])
    assert rates.min() >= 1 / 10 - 1e-9 and rates.max() <= 1 + 1e-9


def test_a_known_diagonal_halves_the_error_whatever_the_scales():
    d = 10.0 ** np.arange(-3, 4)
    loss, start = Quadratic(np.diag(d), d), np.full(7, 3.0)
    path, _ = _run(loss, start, lambda w, k: d, 12, lr=0.5)
    error = abs(path - 1).max(1)
    assert np.allclose(error[1:] / error[:-1], 0.5, rtol=1e-9)


def test_coordinates_may_be_rescaled():
    """With the exact diagonal for an estimate iterates map onto each other."""
    rng = np.random.default_rng(3)
    H, S = spd_matrix(rng, np.array([4.0, 1.0, 0.3])), np.array([1e-2, 1.0, 30.0])
    one = Quadratic(H, np.ones(3))
    other = Quadratic(S[:, None] * H * S, S)
    w = rng.standard_normal(3)
    ours, _ = _run(one, w, lambda w, k: np.diag(H), 30, lr=0.1, alpha=1e-12)
    theirs, _ = _run(other, w / S, lambda w, k: S * np.diag(H) * S, 30, lr=0.1, alpha=1e-12)
    assert np.allclose(ours, theirs * S, rtol=1e-6, atol=1e-9)


def test_at_the_minimum_the_rate_stays():
    loss = Quadratic(np.eye(2), np.zeros(2))
    path, states = _run(loss, np.zeros(2), lambda w, k: np.ones(2), 4, lr=0.3)
    assert not path.any() and all(s.rate == 0.3 for s in states)


def test_it_finds_the_optimum_of_badly_scaled_logistic_regression():
    rng = np.random.default_rng(4)
    plain = logistic(rng, points=60, dims=5, l2=0.05)
    loss = type(plain)(plain.X * 10.0 ** np.linspace(-1, 1, 5), plain.y, 0.05)
    best = minimize(lambda w: loss(w), np.zeros(5), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-12})
    signs = rng.choice((-1.0, 1.0), (301, 1, 5))
    first = hutchinson_diagonal(loss, np.zeros(5), rng.choice((-1.0, 1.0), (100, 5)))
    path, _ = _run(loss, np.zeros(5), lambda w, k: hutchinson_diagonal(loss, w, signs[k]), 300, first=first)
    assert loss(path[-1])[0] - best.fun < 1e-9
    assert np.allclose(path[-1], best.x, atol=1e-3, rtol=1e-9)


def test_minibatches_put_one_gradient_into_the_state():
    """With the gradient of today's batch at the point before, the rate is the one of a single batch."""
    loss = Quadratic(np.array([[2.0]]), np.zeros(1))
    params, state = [np.ones(1)], init([np.ones(1)])
    curvature = [np.array([2.0])]
    params, state = update(params, [np.array([7.0])], state, curvature=curvature, lr=0.1)
    at_start = [loss(np.ones(1))[1]]
    _, state = update(params, [loss(params[0])[1]], state._replace(grads=at_start), curvature=curvature)
    assert state.rate == pytest.approx(0.5, rel=1e-12)


def test_fixed_rate_by_hand():
    """m = ½ · 4 = 2, D = 4: 1 · 0.95 - 0.1 · 2/4; then m = 1 - ½ = ½, D = ½ · 4 - ½ · 2 = 1."""
    params, state = [np.ones(1)], init([np.ones(1)])
    how = {"lr": 0.1, "momentum": 0.5, "beta2": 0.5, "weight_decay": 0.5}
    params, state = fixed_update(params, [np.array([4.0])], state, curvature=[np.array([4.0])], **how)
    assert params[0][0] == pytest.approx(0.9, rel=1e-14)
    params, state = fixed_update(params, [np.array([-1.0])], state, curvature=[np.array([-2.0])], **how)
    assert params[0][0] == pytest.approx(0.9 * 0.95 - 0.1 * 0.5, rel=1e-14) and state.D[0][0] == 1.0


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta2": 1.0}, {"alpha": 0.0}])
def test_out_of_range(bad):
    w = [np.ones(2)]
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        update(w, w, init(w), curvature=w, **bad)


def test_curvature_must_fit():
    w = [np.ones(2)]
    with pytest.raises(ValueError, match="curvature"):
        update(w, w, init(w), curvature=[np.ones(3)])
