"""Steepest descent by search, the gain of a step, both rates, equivariances and limits."""

import numpy as np
import pytest

from trref.optimizers import muon
from trref.optimizers.polargrad import (
    certified_decrease,
    gradient_condition,
    init,
    polar_first_update,
    steepest_descent_step,
    update,
)
from trref.problems.matrices import Completion, MatrixLogistic, MatrixQuadratic


def _quadratic(seed, shape=(8, 4)):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((12, shape[0])), rng.standard_normal((shape[1], 7))
    C = rng.standard_normal((12, 7))
    spectrum = np.outer(np.linalg.eigvalsh(A.T @ A), np.linalg.eigvalsh(B @ B.T))
    best = np.linalg.pinv(A) @ C @ np.linalg.pinv(B)
    f = MatrixQuadratic(A, B, C)
    return f, best, spectrum.max(), spectrum.min(), rng


def test_step_by_hand():
    """diag(3, -4) has singular values 3 and 4 and the factor diag(1, -1): their sum times that."""
    assert np.allclose(steepest_descent_step(np.diag([3.0, -4.0])), np.diag([-7.0, 7.0]), rtol=1e-14)
    assert gradient_condition(np.diag([3.0, -4.0])) == pytest.approx(4 / 3)
    assert gradient_condition(np.diag([3.0, 0.0])) == 1 == gradient_condition(np.zeros((2, 3)))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_no_step_is_steeper(shape):
    rng = np.random.default_rng(0)
    G = rng.standard_normal(shape)
    best, nuclear = steepest_descent_step(G), np.linalg.svd(G, compute_uv=False).sum()

    def model(D):
        return (G * D).sum() + np.linalg.norm(D, 2) ** 2 / 2

    assert model(best) == pytest.approx(-(nuclear**2) / 2, rel=1e-12)
    tried = [model(best + s * rng.standard_normal(shape)) for s in np.logspace(-6, 1, 400)]
    tried += [model(c * best) for c in (0.5, 0.9, 1.1, 2.0)]
    assert min(tried) >= model(best)


def test_size_of_the_step():
    G = np.random.default_rng(1).standard_normal((6, 3))
    step, s = steepest_descent_step(G), np.linalg.svd(G, compute_uv=False)
    assert -(G * step).sum() == pytest.approx(s.sum() ** 2, rel=1e-13)
    assert np.linalg.norm(step) == pytest.approx(s.sum() * 3**0.5, rel=1e-13)


def test_gain_and_rates():
    """At 1/(L r) each step gains ν²/(2Lr), and both rates hold, on ten quadratics."""
    for seed in range(10):
        f, best, L, mu, rng = _quadratic(seed)
        X, bottom, n = rng.standard_normal((8, 4)), float(f(best)[0]), 4
        params, state = [X], init([X])
        for _ in range(40):
            value, G = f(params[0])
            nuclear, condition = np.linalg.svd(G, compute_uv=False).sum(), gradient_condition(G)
            share = certified_decrease(G, lipschitz=L, convexity=mu)
            assert share == pytest.approx(1 - mu / L * max(1 / n, 1 / condition**2), rel=1e-12)
            params, state = update(params, [G], state, lr=1 / (L * n), momentum=0.0)
            after = f(params[0])[0]
            assert after <= value - nuclear**2 / (2 * L * n) * (1 - 1e-9)
            assert after - bottom <= share * (value - bottom) * (1 + 1e-9)


def test_it_stops_at_a_minimum_where_muon_circles():
    f, best, L, _, rng = _quadratic(3)
    X = best + 0.1 * rng.standard_normal(best.shape)
    ours, theirs, state, their_state = [X], [X], init([X]), muon.init([X])
    for _ in range(3000):
        ours, state = update(ours, [f(ours[0])[1]], state, lr=4 / (4 * L), momentum=0.0)
        theirs, their_state = muon.update(
            theirs, [f(theirs[0])[1]], their_state, lr=0.01, momentum=0.0, factor="svd", scale="none"
        )
    assert np.linalg.norm(ours[0] - best) < 1e-6 < 1e-3 < np.linalg.norm(theirs[0] - best)
    moved, _ = update([best], [np.zeros_like(best)], init([best]))
    assert np.array_equal(moved[0], best)


def test_scales_and_turns():
    rng = np.random.default_rng(4)
    gradients, zero = rng.standard_normal((6, 5, 3)), np.zeros((5, 3))
    Q, R = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (5, 3))

    def end(change, **hyper):
        params, state = [zero], init([zero])
        for G in gradients:
            params, state = update(params, [change(G)], state, lr=0.1, momentum=0.7, **hyper)
        return params[0]

    plain = end(lambda G: G)
    assert np.allclose(end(lambda G: 50 * G), 50 * plain, rtol=1e-10)
    assert np.allclose(end(lambda G: Q @ G @ R), Q @ plain @ R, rtol=1e-9, atol=1e-11)
    assert np.allclose(end(lambda G: G, factor="quintic", steps=40), plain, rtol=1e-6, atol=1e-9)


def test_equal_singular_values_and_rank_one():
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((4, 4)))[0]
    assert np.allclose(steepest_descent_step(0.3 * turn), -4 * 0.3 * turn, rtol=1e-12)
    flat = np.outer([1.0, -2.0, 0.5], [3.0, 1.0])
    assert np.allclose(steepest_descent_step(flat), -flat, rtol=1e-12)


def test_orders_by_hand():
    """Gradients diag(4, 1), diag(-2, 1), μ = ½. Momentum first: diag(2, ½) with ν 5/2, diag(0, ¾) with ν ¾. Polar
    factors first: averages diag(½, ½), diag(-¼, ¾), lengths 5 and 3."""
    grads = [np.diag([4.0, 1.0]), np.diag([-2.0, 1.0])]
    expected = {
        update: [np.diag([-2.5, -2.5]), np.diag([-2.5, -3.25])],
        polar_first_update: [np.diag([-2.5, -2.5]), np.diag([-1.75, -4.75])],
    }
    for rule, path in expected.items():
        params, state = [np.zeros((2, 2))], init([np.zeros((2, 2))])
        for G, wanted in zip(grads, path, strict=True):
            params, state = rule(params, [G], state, lr=1.0, momentum=0.5)
            assert np.allclose(params[0], wanted, atol=1e-13, rtol=1e-9)


def test_on_logistic_regression_and_completion():
    rng = np.random.default_rng(6)
    A, B = rng.standard_normal((10, 6)), rng.standard_normal((4, 8))
    logistic = MatrixLogistic(A, B, np.where(rng.random((10, 8)) < 0.5, 1.0, -1.0))
    mask = (rng.random((6, 4)) < 0.6).astype(float)
    complete = Completion(mask, rng.standard_normal((6, 4)))
    for f, L in ((logistic, np.linalg.norm(A, 2) ** 2 * np.linalg.norm(B, 2) ** 2 / 4), (complete, 1.0)):
        X = rng.standard_normal((6, 4))
        params, state, values = [X], init([X]), []
        for _ in range(200):
            value, G = f(params[0])
            values.append(float(value))
            params, state = update(params, [G], state, lr=1 / (4 * L), momentum=0.0)
        assert (np.diff(values) <= 1e-12).all() and values[-1] < values[0]


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"eps": 0.0}])
def test_out_of_range(bad):
    X = [np.ones((2, 2))]
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        update(X, X, init(X), **bad)
