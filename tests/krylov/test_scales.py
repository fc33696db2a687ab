"""Systems of every scale, singular ones among them, judged in exact rational arithmetic and by least squares."""

import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest

from trref.krylov.cg import cg
from trref.krylov.cg_lanczos import cg_coefficients
from trref.krylov.gmres import gmres
from trref.krylov.lanczos import lanczos, lanczos_quadrature, stochastic_trace
from trref.krylov.line_search import strong_wolfe
from trref.krylov.minres import minres
from trref.krylov.nonlinear_cg import RULES, nonlinear_cg
from trref.problems.convex import DenseOperator, Quadratic, Rosenbrock
from trref.problems.spectral import Polynomial
from trref.validate import ConvergenceWarning

EPS = Fraction(2) ** -52
SINGULAR = ("singular", "semidefinite", "path", "integers", "zero")
SYMMETRIC = ("definite", "indefinite", "nearly singular", *SINGULAR)
GENERAL = ("general", "of low rank", "any integers", "nilpotent")


def _matrix(rng, n, kind):
    """A matrix with entries near 1 and eigenvalues between 1e-3 and 1 beside those that are 0."""
    if kind == "path":
        A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
        A[0, 0] = A[-1, -1] = min(n - 1, 1)
        return A
    if kind == "zero":
        return np.zeros((n, n))
    if kind == "nilpotent":
        return np.triu(rng.standard_normal((n, n)), 1)
    if kind == "of low rank":
        return rng.standard_normal((n, n // 2)) @ rng.standard_normal((n // 2, n))
    if kind == "general":
        return rng.standard_normal((n, n))
    if kind in ("integers", "any integers"):
        A = rng.integers(-2, 3, (n, n)).astype(float)
        return A + A.T if kind == "integers" else A
    w = 10 ** rng.uniform(-3, 0, n)
    if kind in ("indefinite", "singular"):
        w *= rng.choice((-1.0, 1.0), n)
    if kind in ("singular", "semidefinite"):
        w[: rng.integers(1, n + 1)] = 0.0
    if kind == "nearly singular":
        w[0] = 10 ** rng.uniform(-18, -10)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    A = (Q * w) @ Q.T
    return (A + A.T) / 2


def _system(seed, kinds):
    """A system, and exponents of two for the units of its matrix and its right-hand side."""
    rng = np.random.default_rng(seed)
    n, kind = int(rng.integers(1, 9)), kinds[seed % len(kinds)]
    A = _matrix(rng, n, kind)
    b = rng.standard_normal(n) if rng.random() < 0.5 else np.arange(1.0, n + 1) ** 2
    b = A @ b if rng.random() < 0.3 else b  # there is a solution, up to rounding
    x0 = rng.standard_normal(n) if rng.random() < 0.3 else None
    k, shift = (int(e) for e in rng.integers(-600, 300, 2))
    return kind, A, b, x0, k, max(-850, min(shift + k, 300))


def _quietly(solver, A, b, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return solver(DenseOperator(A), b, **more)


def _same_in_other_units(solver, A, b, x0, k, s, result):
    """With 2^k A and 2^s b the solution is 2^(s - k) x, to the last bit, after the same way."""
    x0 = None if x0 is None else np.ldexp(x0, s - k)
    other = _quietly(solver, np.ldexp(A, k), np.ldexp(b, s), x0=x0)
    assert np.array_equal(other.x, np.ldexp(result.x, s - k))
    assert other.residual_norms == [math.ldexp(size, s) for size in result.residual_norms]
    assert other.converged == result.converged


def _is_reported_right(A, b, x, reported):
    """The norm of b - A x, without any rounding, is what is reported, up to the rounding of the products."""
    n, (A, b, x) = len(b), ([Fraction(v) for v in array.ravel()] for array in (A, b, x))
    terms = [[b[i], *(-A[n * i + j] * x[j] for j in range(n))] for i in range(n)]
    squared = sum(sum(row) ** 2 for row in terms)
    sizes = [sum(map(abs, row)) for row in terms]
    rounding, reported = (n + 4) * EPS * sum(sizes), Fraction(reported)
    assert max(reported - rounding, 0) ** 2 <= squared <= (reported + rounding) ** 2


def _judge(solver, seed, kinds):
    kind, A, b, x0, k, s = _system(seed, kinds)
    result = _quietly(solver, A, b, x0=x0)
    norms = result.residual_norms
    _is_reported_right(A, b, result.x, norms[-1])
    if x0 is not None and b.any():
        _is_reported_right(A, b, x0, norms[0])
    assert all(after <= before for before, after in itertools.pairwise(norms))
    assert result.converged == (norms[-1] <= 1e-8 * np.linalg.norm(b))
    if not result.converged and kind in SINGULAR:
        # A (b - A x) = 0 tells a least-squares solution; a residual smallest to ε leaves √ε of it
        size = np.linalg.norm(A, 2) * norms[-1]
        assert np.linalg.norm(A @ (b - A @ result.x)) <= 1e-7 * size
    assert result.converged or kind not in ("definite", "indefinite", "general") or np.linalg.cond(A) > 1e5
    _same_in_other_units(solver, A, b, x0, k, s, result)


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize(("solver", "kinds"), [(minres, SYMMETRIC), (gmres, SYMMETRIC + GENERAL)])
def test_smallest_residuals(solver, kinds, block):
    for seed in range(block * 750, (block + 1) * 750):
        _judge(solver, seed, kinds)


def test_conjugate_gradients():
    for seed in range(2000):
        kind, A, b, x0, k, s = _system(seed, ("definite", "semidefinite", "path", "indefinite", "zero"))
        try:
            result = _quietly(cg, A, b, x0=x0)
        except ValueError as error:
            assert "must be positive definite" in str(error) and np.linalg.eigvalsh(A)[0] <= 1e-14 * np.linalg.norm(A)
            with pytest.raises(ValueError, match="must be positive definite"):
                _quietly(cg, np.ldexp(A, k), np.ldexp(b, s), x0=None if x0 is None else np.ldexp(x0, s - k))
            continue
        _is_reported_right(A, b, result.x, result.residual_norms[-1])
        assert result.converged or kind != "definite"
        _same_in_other_units(cg, A, b, x0, k, s, result)


@pytest.mark.parametrize("n", range(2, 40))
def test_least_squares_on_a_path(n):
    """b = 1², …, n² has a part along (1, …, 1), the null space: rounding alone leads there, and far."""
    A, b = _matrix(None, n, "path"), np.arange(1.0, n + 1) ** 2
    smallest = abs(b.sum()) / math.sqrt(n)
    for solver in (minres, gmres):
        with pytest.warns(ConvergenceWarning, match="the matrix is singular, up to rounding"):
            result = solver(DenseOperator(A), b)
        assert result.residual_norms[-1] == pytest.approx(smallest, rel=1e-12)
        assert np.linalg.norm(A @ (b - A @ result.x)) <= 1e-10 * np.linalg.norm(b)
        assert result.iterations <= 2 * (n + 1), "one restart at most, which gains nothing"


@pytest.mark.parametrize("solver", [minres, gmres])
def test_too_few_iterations_do_not_make_a_matrix_singular(solver):
    with pytest.warns(ConvergenceWarning) as caught:
        solver(DenseOperator(np.diag([1.0, 2.0, 3.0, 4.0])), np.ones(4), max_iter=2)
    assert [str(w.message) for w in caught] and not any("singular" in str(w.message) for w in caught)


@pytest.mark.parametrize("solver", [cg, minres, gmres])
@pytest.mark.parametrize("tiny", [1e-200, 1e-150, 1e80])
def test_a_preconditioner_of_any_scale(solver, tiny):
    A, b = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]]), np.array([1.0, -2.0, 3.0])
    result = solver(DenseOperator(A), b, preconditioner=DenseOperator(tiny * np.linalg.inv(A)))
    assert result.converged and result.iterations <= 2
    assert np.allclose(result.x, np.linalg.solve(A, b), rtol=1e-12)


@pytest.mark.parametrize("solver", [cg, minres, gmres])
def test_what_no_float_can_hold_is_refused(solver):
    b = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=r"matvec and b differ too much in size: x, near 2\^\d+, is no float64"):
        solver(DenseOperator(1e-250 * np.eye(2)), 1e90 * b)
    with pytest.raises(ValueError, match="matvec and b differ too much in size"):
        solver(DenseOperator(1e200 * np.eye(2)), 1e-120 * b)
    with pytest.raises(ValueError, match=r"x0 is too far away: A x0 may be above 2\^500 times b"):
        solver(DenseOperator(np.eye(2)), 1e-90 * b, x0=1e90 * b)
    with pytest.raises(ValueError, match="matvec must be symmetric" if solver is not gmres else "matvec and b"):
        solver(DenseOperator(1e-250 * np.array([[2.0, 1.0], [0.0, 2.0]])), 1e90 * b)
    with pytest.raises(ValueError, match="matvec must give float64 arrays"):
        solver(DenseOperator(np.ones((3, 2))), b)


def test_float32_systems():
    A = np.array([[4.0, 1.0], [1.0, 3.0]], dtype=np.float32)
    for solver in (cg, minres, gmres):
        for tiny in (1e-30, 1e-22, 1e14):
            b = np.float32(tiny) * np.array([1.0, 2.0], dtype=np.float32)
            result = solver(DenseOperator(A), b, rtol=1e-4)
            assert result.converged and result.x.dtype == np.float32
            assert np.allclose(result.x / np.float32(tiny), [1 / 11, 7 / 11], rtol=1e-3)


def test_tridiagonal_matrices_of_every_scale():
    f = Polynomial(np.array([0.0, 1.0]))
    for seed in range(500):
        _, A, v, _, k, s = _system(seed, ("definite", "indefinite", "singular", "path"))
        if not v.any():
            continue
        # of few steps: where the space ends is a question of rounding
        plain, other = (lanczos(DenseOperator(M), u, steps=2) for M, u in ((A, v), (np.ldexp(A, k), np.ldexp(v, s))))
        assert np.array_equal(plain.basis, other.basis)
        for name in ("diagonal", "off_diagonal"):
            assert getattr(other, name) == [math.ldexp(t, k) for t in getattr(plain, name)]
        # v·A v, exact for one step or more
        n, (A_, v_) = len(v), ([Fraction(a) for a in array.ravel()] for array in (A, v))
        exact = sum(v_[i] * A_[n * i + j] * v_[j] for i in range(n) for j in range(n))
        found = lanczos_quadrature(DenseOperator(A), np.ldexp(v, -400), f, steps=2) * 2.0**800
        assert abs(found - float(exact)) <= 1e-13 * np.linalg.norm(A) * float(v @ v)


def test_probes_and_right_hand_sides_are_zero_or_not():
    f, A = Polynomial(np.array([1.0])), DenseOperator(np.eye(2))
    assert stochastic_trace(A, np.full((1, 2), 1e-170), f) == 0.0  # 2e-340
    with pytest.raises(ValueError, match="probes must hold no zero vector"):
        stochastic_trace(A, np.array([[1.0, 1.0], [0.0, 0.0]]), f)
    assert lanczos(A, np.array([1e-200, 0.0]), steps=1).diagonal == [1.0]
    with pytest.raises(ValueError, match="v must not be zero"):
        lanczos(A, np.zeros(2), steps=1)


@pytest.mark.parametrize(("k", "m", "s"), [(-500, 0, 0), (300, -20, 200), (-300, 400, -300)])
def test_coefficients_in_other_units(k, m, s):
    """alpha goes with 1 / (A M⁻¹), r·z with b M⁻¹ b; beta has no unit."""
    A, M, b = np.diag([1.0, 2.0, 5.0]), np.diag([1.0, 0.7, 0.1]), np.array([1.0, 2.0, 3.0])
    plain, other = (
        cg_coefficients(DenseOperator(A_), b_, preconditioner=DenseOperator(M_), steps=3)
        for A_, M_, b_ in ((A, M, b), (np.ldexp(A, k), np.ldexp(M, m), np.ldexp(b, s)))
    )
    assert other.beta == plain.beta
    assert other.alpha == [math.ldexp(a, -k - m) for a in plain.alpha]
    assert other.rz == [math.ldexp(a, 2 * s + m) for a in plain.rz]
    with pytest.raises(ValueError, match="b must have a norm of at least 1e-100"):
        cg_coefficients(DenseOperator(A), 1e-101 * b, steps=3)


class _InUnits:
    """f(x) = 2^k g(2^-l x) for a function g with its gradient."""

    def __init__(self, g, k, length):
        self.g, self.k, self.length = g, k, length

    def __call__(self, x):
        value, gradient = self.g(np.ldexp(x, -self.length))
        return np.ldexp(value, self.k), np.ldexp(gradient, self.k - self.length)


def _undefined(x):
    """x - log x: convex, with its minimum at 1, and not a number below 0."""
    with np.errstate(all="ignore"):
        return (x - np.log(x)).sum(), 1 - 1 / x


def _unbounded(x):
    return -(x**3).sum(), -3 * x**2


LOSSES = (Rosenbrock(), _undefined, _unbounded, Quadratic(np.diag([1e3, 1e-3]), np.array([1.0, -1.0])))


def test_line_searches_in_other_units():
    """The same trials, each in the new units; with squares of slopes that overflow or vanish."""
    found = 0
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        f, x = LOSSES[seed % 4], abs(rng.standard_normal(2)) + 0.1
        direction = -f(x)[1] * 10 ** rng.uniform(-3, 3)
        k, length = (int(e) for e in rng.integers(-300, 300, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            plain = strong_wolfe(f, x, direction)
            try:
                other = strong_wolfe(_InUnits(f, k, length), np.ldexp(x, length), np.ldexp(direction, length))
            except ValueError as error:
                assert "direction must descend" in str(error)  # a slope below the smallest float
                assert k + math.log2(abs(f(x)[1] @ direction)) < -1000
                continue
        assert other.step == plain.step
        assert np.array_equal(other.values, [math.ldexp(v, k) for v in plain.values], equal_nan=True)
        assert np.array_equal(other.x, np.ldexp(plain.x, length)) and other.converged == plain.converged
        if plain.converged:
            found += 1
            value, slope = float(f(x)[0]), float(f(x)[1] @ direction)
            end, at_end = f(plain.x)
            assert end <= value + 1e-4 * plain.step * slope + 1e-13 * abs(value)
            assert abs(at_end @ direction) <= -0.1 * slope * (1 + 1e-12)
    assert found > 1000


@pytest.mark.parametrize("rule", RULES)
def test_nonlinear_conjugate_gradients_of_every_scale(rule):
    """It ends where the gradient is small, or says that it did not; nothing but an error that names the function."""
    for seed in range(150):
        rng = np.random.default_rng(seed)
        k, length = (int(e) for e in rng.integers(-350, 320, 2))
        f = _InUnits(LOSSES[seed % 4], k, length)
        x0 = np.ldexp(abs(rng.standard_normal(2)) + 0.1, length)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # trials far out overflow, and NumPy says so
                result = nonlinear_cg(f, x0, rule=rule, max_iter=15)
        except ValueError as error:
            assert str(error).startswith(("loss_and_grad must give a finite value and a gradient", "nonlinear_cg: x0"))
            continue
        value, gradient = f(result.x)
        assert np.isfinite(result.x).all() and value == result.values[-1] <= f(x0)[0]
        assert result.converged == (result.gradient_norms[-1] <= 1e-6)
        assert math.hypot(*gradient) == pytest.approx(result.gradient_norms[-1], rel=1e-12, abs=1e-150)


def test_the_shortest_step_of_all():
    """Between a step and the next float there is none."""
    f = lambda x: (np.abs(x).sum() + (x < 3).sum(), -np.ones_like(x))  # noqa: E731  (a wrong gradient)
    with pytest.warns(ConvergenceWarning):
        result = strong_wolfe(f, np.array([3.0]), np.array([1.0]), first_step=5e-324)
    assert not result.converged and np.isfinite(result.x).all()
