"""The best step by search, factors that fit, fixed traces, equivariance, and both ends of the gradient's scale."""

import numpy as np
import pytest
import scipy.linalg

from trref.optimizers import muon
from trref.optimizers.fismo import (
    FismoState,
    factor_objective,
    fisher_step,
    init,
    stationary_left,
    stationary_right,
    update,
    update_left,
    update_right,
)


def _definite(rng, n):
    A = rng.standard_normal((n, n))
    return A @ A.T / n + 0.2 * np.eye(n)


def _task(seed, m=5, n=3):
    rng = np.random.default_rng(seed)
    return rng, rng.standard_normal((m, n)), _definite(rng, m), _definite(rng, n)


def test_step_by_hand():
    """P = diag(4, 1), Q = diag(1, 9), a diagonal gradient: -diag(1/2 · 1, 1 · 1/3) with the gradient's signs."""
    step = fisher_step(np.diag([2.0, -5.0]), np.diag([4.0, 1.0]), np.diag([1.0, 9.0]))
    assert np.allclose(step, np.diag([-0.5, 1 / 3]), rtol=1e-14)


def test_no_step_in_the_ball_is_better():
    rng, G, P, Q = _task(0)
    P_half, Q_half = (scipy.linalg.sqrtm(a).real for a in (P, Q))
    size = lambda D: np.linalg.norm(P_half @ D @ Q_half, 2)  # noqa: E731
    step = fisher_step(G, P, Q)
    whitened = np.linalg.solve(P_half, G) @ np.linalg.inv(Q_half)
    assert size(step) == pytest.approx(1, rel=1e-10)
    assert (G * step).sum() == pytest.approx(-np.linalg.norm(whitened, "nuc"), rel=1e-10)
    for spread in np.logspace(-5, 1, 300):
        D = step + spread * rng.standard_normal(G.shape)
        assert (G * D).sum() / max(size(D), 1) >= (G * step).sum() * (1 + 1e-12)


def test_objective_is_that_of_the_kronecker_matrix():
    """vec(G)' (Q ⊗ P)⁻¹ vec(G), columns stacked, and the logarithm of its determinant."""
    rng, _, P, Q = _task(1)
    gradients = rng.standard_normal((4, 5, 3))
    F = np.kron(Q, P)
    vectors = [G.ravel(order="F") for G in gradients]
    expected = np.mean([v @ np.linalg.solve(F, v) for v in vectors]) + np.linalg.slogdet(F)[1]
    assert factor_objective(P, Q, gradients)[0] == pytest.approx(expected, rel=1e-12)


def test_alternation_falls_and_ends_where_the_gradient_vanishes():
    rng, _, P, Q = _task(2)
    gradients, values = rng.standard_normal((9, 5, 3)), []
    for _ in range(150):
        P = stationary_left(Q, gradients)
        values.append(float(factor_objective(P, Q, gradients)[0]))
        Q = stationary_right(P, gradients)
        values.append(float(factor_objective(P, Q, gradients)[0]))
    assert (np.diff(values) <= 1e-10).all()
    slopes = factor_objective(P, Q, gradients)[1]
    assert abs(slopes.left).max() < 1e-8 and abs(slopes.right).max() < 1e-8


def test_damping_is_an_identity_in_the_fisher_matrix():
    """As if every unit matrix were one more gradient, with the weight μ in place of 1/K."""
    rng, _, _, Q = _task(3)
    gradients, mu = rng.standard_normal((4, 5, 3)), 0.3
    units = np.eye(15).reshape(15, 5, 3)
    expected = stationary_left(Q, gradients) + 15 * mu * stationary_left(Q, units)
    assert np.allclose(stationary_left(Q, gradients, damping=mu), expected, rtol=1e-12)


def test_updates_by_hand():
    """P = Q = I, G = diag(2, 0), γ = ½, μ = ½: ½ + ½ (4/2 + ½), ½ + ½ · ½; over their sum, times two."""
    eye, G = np.eye(2), np.diag([2.0, 0.0])
    left = update_left(eye, eye, G, gamma=0.5, damping=0.5)
    assert np.allclose(left, np.diag([1.75, 0.75]) * 2 / 2.5, rtol=1e-14)
    right = update_right(left, eye, G, gamma=0.5, damping=0.5)
    mixed = np.array([0.5 + 0.5 * (4 / 2 / left[0, 0] + 0.5), 0.75])
    assert np.allclose(np.diag(right), 2 * mixed / mixed.sum(), rtol=1e-14)


def test_traces_stay_and_factors_are_definite():
    rng = np.random.default_rng(4)
    params, state = [np.zeros((6, 3))], init([np.zeros((6, 3))])
    for _ in range(30):
        params, state = update(params, [10 * np.outer(rng.standard_normal(6), [1.0, 2.0, 0.0])], state, gamma=0.5)
        (P,), (Q,), _ = state
        assert np.trace(P) == pytest.approx(6) and np.trace(Q) == pytest.approx(3)
        assert np.array_equal(P, P.T) and np.array_equal(Q, Q.T)
        assert min(np.linalg.eigvalsh(P)[0], np.linalg.eigvalsh(Q)[0]) > 0


def test_both_factors_come_before_the_gradient_is_whitened():
    rng, G, P, Q = _task(5)
    P, Q = 5 * P / np.trace(P), 3 * Q / np.trace(Q)
    m = rng.standard_normal((5, 3))
    moved, after = update(
        [np.zeros((5, 3))], [G], FismoState([P], [Q], [m]), lr=0.1, momentum=0.7, gamma=0.6, damping=0.2
    )
    P = update_left(P, Q, G, gamma=0.6, damping=0.2)
    Q = update_right(P, Q, G, gamma=0.6, damping=0.2)
    roots = [np.linalg.inv(scipy.linalg.sqrtm(a).real) for a in (P, Q)]
    m = 0.7 * m + 0.3 * roots[0] @ G @ roots[1]
    assert np.allclose(after.m[0], m, rtol=1e-9)
    assert np.allclose(moved[0], -0.1 * roots[0] @ scipy.linalg.polar(m)[0] @ roots[1], rtol=1e-9)


def test_a_change_of_coordinates_changes_the_step_with_it():
    """For W = A W' B the step is A D' B, whatever the invertible A and B."""
    rng, G, P, Q = _task(6)
    A, B = np.eye(5) + 0.5 * rng.standard_normal((5, 5)), np.eye(3) + 0.5 * rng.standard_normal((3, 3))
    Ai, Bi = np.linalg.inv(A), np.linalg.inv(B)
    there = fisher_step(Ai.T @ G @ Bi.T, Ai.T @ P @ Ai, Bi @ Q @ Bi.T)
    assert np.allclose(there, A @ fisher_step(G, P, Q) @ B, rtol=1e-8, atol=1e-10)


def test_scales_of_the_gradient():
    """Tiny gradients give Muon's step; with huge ones more damping makes no difference."""
    gradients = np.random.default_rng(7).standard_normal((5, 4, 4))

    def end(rule, start, size, **hyper):
        params, state = [np.zeros((4, 4))], start([np.zeros((4, 4))])
        for G in gradients:
            params, state = rule(params, [size * G], state, lr=0.1, momentum=0.8, **hyper)
        return params[0]

    plain = end(muon.update, muon.init, 1.0, factor="svd", nesterov=False, scale="none")
    assert np.allclose(end(update, init, 1e-6), plain, atol=1e-9, rtol=1e-9)
    assert abs(end(update, init, 1.0) - plain).max() > 1e-3
    one, other = (end(update, init, 1e6, damping=mu) for mu in (0.01, 0.1))
    assert np.allclose(one, other, rtol=1e-6, atol=1e-8)
    assert np.allclose(end(update, init, 1.0, damping=1e9), plain, atol=1e-7, rtol=1e-9)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"momentum": 1.0}, {"gamma": 1.1}, {"damping": 0.0}])
def test_out_of_range(bad):
    W = [np.ones((2, 2))]
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        update(W, W, init(W), **bad)


def test_factors_must_be_symmetric_and_definite():
    with pytest.raises(ValueError, match="left must be symmetric"):
        fisher_step(np.eye(2), np.array([[1.0, 0.5], [0.0, 1.0]]), np.eye(2))
    with pytest.raises(ValueError, match="right must be positive definite"):
        fisher_step(np.eye(2), np.eye(2), np.ones((2, 2)))
