"""Slopes along each group, fixed points by eigenvalues, equivariance, closure, and rules by hand."""

import numpy as np
import pytest

from trref.optimizers.psgd import (
    criterion,
    dense_step,
    diagonal_step,
    init,
    kronecker_step,
    low_rank_step,
    matrix_free_step,
    update,
)
from trref.problems.convex import Rosenbrock


def _pair(seed, n=6):
    rng = np.random.default_rng(seed)
    return rng, rng.standard_normal(n), rng.standard_normal(n)


def _value(q, v, h):
    return float(criterion(q, v, h)[0])


def _mirror(alpha, beta):
    return np.diag(alpha) + beta[:, None] * np.eye(len(alpha))[::-1]


def _low_rank(d, U, V):
    return (np.eye(len(d)) + U @ V.T) @ np.diag(d)


def test_criterion_by_hand():
    """Q = diag(2, 1/2): h' P h + v' P⁻¹ v with P = diag(4, 1/4)."""
    v, h = np.array([2.0, 1.0]), np.array([1.0, 4.0])
    value, slope = criterion(np.diag([2.0, 0.5]), v, h)
    assert value == pytest.approx(4 + 4 + 1 + 4)
    a, b = np.array([2.0, 2.0]), np.array([1.0, 2.0])
    assert np.allclose(slope, 2 * (np.outer(a, a) - np.outer(b, b)) @ np.diag([0.5, 2.0]), rtol=1e-13)


def _slope(at):
    """The derivative of ``at(rate)`` at 0, by differences to one side of fourth order."""
    e = 1e-4
    f = [at(k * e) for k in range(5)]
    return (-25 * f[0] + 48 * f[1] - 36 * f[2] + 16 * f[3] - 3 * f[4]) / (12 * e)


@pytest.mark.parametrize("seed", range(3))
def test_each_step_falls_as_fast_as_its_gradient_says(seed):
    """To first order twice the squared gradient of its group over the normaliser."""
    rng, v, h = _pair(seed)
    q = np.eye(6) + 0.3 * rng.standard_normal((6, 6))
    a, b = q @ h, np.linalg.solve(q.T, v)
    S, size = np.outer(a, a) - np.outer(b, b), a @ a + b @ b
    found = _slope(lambda rate: _value(dense_step(q, v, h, fit_rate=rate), v, h))
    assert found == pytest.approx(-2 * (S**2).sum() / size, rel=1e-6)
    upper = np.triu(q) + np.eye(6)
    a, b = upper @ h, np.linalg.solve(upper.T, v)
    S, size = np.triu(np.outer(a, a) - np.outer(b, b)), a @ a + b @ b
    found = _slope(lambda rate: _value(dense_step(upper, v, h, fit_rate=rate, triangular=True), v, h))
    assert found == pytest.approx(-2 * (S**2).sum() / size, rel=1e-6)

    d = rng.uniform(0.5, 2, 6)
    A, size = (d * h) ** 2 - (v / d) ** 2, ((d * h) ** 2 + (v / d) ** 2).max()
    found = _slope(lambda rate: _value(np.diag(diagonal_step(d, v, h, fit_rate=rate)), v, h))
    assert found == pytest.approx(-2 * (A**2).sum() / size, rel=1e-6)

    alpha, beta = rng.uniform(1, 2, 6), rng.uniform(-0.6, 0.6, 6)
    q = _mirror(alpha, beta)
    a, b = q @ h, np.linalg.solve(q.T, v)
    squares = ((a**2 - b**2) ** 2).sum() + ((a * a[::-1] - b * b[::-1]) ** 2).sum()
    found = _slope(lambda rate: _value(_mirror(*matrix_free_step(alpha, beta, v, h, fit_rate=rate)), v, h))
    assert found == pytest.approx(-2 * squares / (a**2 + b**2).max(), rel=1e-6)

    U, V = 0.3 * rng.standard_normal((2, 6, 2))
    q = _low_rank(d, U, V)
    a, b = q @ h, np.linalg.solve(q.T, v)
    S, Ph, Pv = np.outer(a, a) - np.outer(b, b), q.T @ q @ h, np.linalg.solve(q.T @ q, v)
    rate_d = (((Ph**2 + v**2) * (h**2 + Pv**2)) ** -0.5).min()
    of_d = -2 * rate_d * ((Ph * h - v * Pv) ** 2).sum()
    for moved, fixed in (("U", V), ("V", U)):
        size = sum(np.linalg.norm(y) * np.linalg.norm(fixed @ fixed.T @ y) for y in (a, b))
        found = _slope(
            lambda rate, moved=moved: _value(_low_rank(*low_rank_step(d, U, V, v, h, fit_rate=rate, moved=moved)), v, h)
        )
        assert found == pytest.approx(of_d - 2 * ((S @ fixed) ** 2).sum() / size, rel=1e-6)


def test_kronecker_factors_fall_one_by_one():
    rng = np.random.default_rng(4)
    v, h = rng.standard_normal((2, 4, 3))
    left, right = (np.triu(0.3 * rng.standard_normal((n, n))) + np.eye(n) for n in (4, 3))
    flat = lambda q, r: _value(np.kron(r, q), v.ravel(order="F"), h.ravel(order="F"))  # noqa: E731
    A, B = left @ h @ right.T, np.linalg.inv(right.T) @ v.T @ np.linalg.inv(left)
    for k, (one, other) in enumerate(((A @ A.T, B.T @ B), (A.T @ A, B @ B.T))):

        def at(rate, k=k):
            moved = kronecker_step(left, right, v, h, fit_rate=rate)
            return flat(moved.left, right) if k == 0 else flat(left, moved.right)

        squares = (np.triu(one - other) ** 2).sum()
        assert _slope(at) == pytest.approx(-2 * squares / np.linalg.norm(one + other, 2), rel=1e-6)


def test_groups_are_closed():
    rng, v, h = _pair(5, n=5)
    upper = np.triu(rng.standard_normal((5, 5))) + 3 * np.eye(5)
    assert np.array_equal(np.tril(dense_step(upper, v, h, fit_rate=0.7, triangular=True), -1), np.zeros((5, 5)))
    alpha, beta = rng.uniform(1, 2, 5), rng.uniform(-0.5, 0.5, 5)
    found = matrix_free_step(alpha, beta, v, h, fit_rate=0.7)
    assert found.beta[2] == 0
    for moved in kronecker_step(upper, np.triu(np.ones((2, 2))), *rng.standard_normal((2, 5, 2)), fit_rate=0.7):
        assert not np.tril(moved, -1).any()


def _fit(H, steps, step, q, seed=0):
    rng = np.random.default_rng(seed)
    for k in range(steps):
        v = rng.standard_normal(len(H))
        q = step(q, v, H @ v, k)
    return q


def test_the_dense_factor_finds_the_inverse_modulus_of_the_hessian():
    """By eigenvalues: to rounding for a positive definite matrix; an indefinite one takes far longer."""
    rng = np.random.default_rng(6)
    turn, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    for values, rate, steps, within in (([0.5, 1, 2, 3, 5], 0.5, 3000, 1e-6), ([-2, 1, 0.5, -1, 3], 0.1, 6000, 0.4)):
        H = turn * np.array(values) @ turn.T
        q = _fit(H, steps, lambda q, v, h, k, rate=rate: dense_step(q, v, h, fit_rate=rate), np.eye(5))
        best = turn / abs(np.array(values)) @ turn.T
        assert np.linalg.norm(q.T @ q - best) < within * np.linalg.norm(best)


def test_the_diagonal_factor_is_exact():
    values = np.array([0.2, -2.0, 5.0])
    d = _fit(np.diag(values), 2000, lambda d, v, h, k: diagonal_step(d, v, h, fit_rate=0.5), np.ones(3))
    assert np.allclose(d**2, 1 / abs(values), rtol=1e-9)


def test_gradients_for_products_whiten():
    """The mean of g g' to the power -½, with independent probes; slowly, and so on average."""
    rng = np.random.default_rng(7)
    scales, d, seen = np.array([0.2, 1.0, 5.0]), np.ones(3), []
    for k in range(6000):
        d = diagonal_step(d, rng.standard_normal(3), scales * rng.standard_normal(3), fit_rate=0.02)
        if k > 2000:
            seen.append(d**2)
    assert np.allclose(np.mean(seen, axis=0) * scales, 1, atol=0.15, rtol=1e-9)


def test_a_change_of_coordinates_leaves_the_recursion_alone():
    """For θ = A θ' with v' = A⁻¹ v, h' = A' h, the factor Q A⁻ᵀ follows Q."""
    rng = np.random.default_rng(8)
    A = np.eye(4) + 0.4 * rng.standard_normal((4, 4))
    turned = np.linalg.inv(A).T
    q, other = np.eye(4), turned.copy()
    for _ in range(20):
        v, h = rng.standard_normal((2, 4))
        q = dense_step(q, v, h, fit_rate=0.3)
        other = dense_step(other, np.linalg.solve(A, v), A.T @ h, fit_rate=0.3)
        assert np.allclose(other, q @ turned, rtol=1e-8, atol=1e-10)


def _flat(n=6):
    return [np.ones((n // 2, 2))]


@pytest.mark.parametrize("group", ["dense", "triangular", "diagonal", "matrix_free", "low_rank", "kronecker"])
def test_the_step_is_the_preconditioner_times_the_gradient(group):
    rng = np.random.default_rng(9)
    params, state = _flat(), init(_flat())
    for _ in range(4):
        probe, product, g = ([rng.standard_normal((3, 2))] for _ in range(3))
        before = params
        params, state = update(params, g, state, probe=probe, product=product, group=group, lr=0.1, rank=2)
    f = state.factors
    q = {
        "dense": lambda: f[0],
        "triangular": lambda: f[0],
        "diagonal": lambda: np.diag(f[0]),
        "matrix_free": lambda: _mirror(*f),
        "low_rank": lambda: _low_rank(*f),
        "kronecker": lambda: np.kron(f[0].left, f[0].right),  # rows, one after the other
    }[group]()
    moved = (before[0] - params[0]).ravel() / 0.1
    assert np.allclose(moved, q.T @ q @ g[0].ravel(), rtol=1e-10, atol=1e-12)


def test_start_bound_and_momentum_by_hand():
    """v = (1, 1), h = (1, 1)·2: (1)^¼ (16)^(-1/8) = 2^-½, so P = ½; m = ½ g; a radius of 1 cuts (3, 4)/2·½."""
    one, two = [np.ones(2)], [np.full(2, 2.0)]
    how = {"probe": one, "product": two, "group": "diagonal", "fit_rate": 0.0}
    params, _ = update([np.zeros(2)], [np.array([3.0, 4.0])], init(one), lr=1.0, momentum=0.5, **how)
    assert np.allclose(params[0], [-0.75, -1.0], rtol=1e-14)
    params, _ = update([np.zeros(2)], [np.array([3.0, 4.0])], init(one), lr=1.0, radius=0.5, **how)
    assert np.allclose(params[0], [-0.3, -0.4], rtol=1e-13)


def test_with_the_exact_factor_it_is_newton_s_method():
    H = np.array([[3.0, 1.0], [1.0, 2.0]])
    root = np.linalg.cholesky(np.linalg.inv(H)).T
    x = np.array([5.0, -7.0])
    state = init([x])._replace(step=1, factors=[root])
    how = {"probe": [np.ones(2)], "product": [H @ np.ones(2)], "fit_rate": 0.0}
    (found,), _ = update([x], [H @ x], state, lr=1.0, **how)
    assert np.allclose(found, 0, atol=1e-13, rtol=1e-9)


def test_low_rank_factors_move_in_turn():
    rng = np.random.default_rng(10)
    params, state, seen = _flat(), init(_flat()), []
    for _ in range(4):
        probe, product = ([rng.standard_normal((3, 2))] for _ in range(2))
        params, state = update(params, params, state, probe=probe, product=product, group="low_rank", rank=2)
        seen.append(state.factors)
    for before, after, still in ((0, 1, 1), (1, 2, 2), (2, 3, 1)):
        assert np.array_equal(seen[before][still], seen[after][still])
        assert not np.array_equal(seen[before][3 - still], seen[after][3 - still])


def test_it_finds_the_minimum_of_a_curved_valley():
    rng, f = np.random.default_rng(11), Rosenbrock()
    x = np.array([-1.0, 1.0] * 3)
    params, state = [x], init([x])
    for _ in range(1000):
        v = rng.standard_normal(6)
        how = {"probe": [v], "product": [f.hessian_product(params[0], v)], "fit_rate": 0.5, "lr": 1.0}
        params, state = update(params, [f(params[0])[1]], state, momentum=0.9, radius=1.0, **how)
    assert f(params[0])[0] < 1e-8


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"momentum": 1.0}, {"fit_rate": 1.0}, {"radius": 0.0}, {"rank": 0}])
def test_out_of_range(bad):
    x = [np.ones(2)]
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        update(x, x, init(x), probe=x, product=x, **bad)


def test_factors_must_be_invertible():
    v = np.ones(2)
    with pytest.raises(ValueError, match="q must be invertible"):
        criterion(np.ones((2, 2)), v, v)
    with pytest.raises(ValueError, match="d must be invertible"):
        diagonal_step(np.array([1.0, 1e-17]), v, v)
    with pytest.raises(ValueError, match="alpha and beta"):
        matrix_free_step(v, v, v, v)
    with pytest.raises(ValueError, match="U and V"):
        low_rank_step(v, np.array([[1.0], [0.0]]), np.array([[-1.0], [0.0]]), v, v)
