"""Theorems of conjugate gradients, and what it refuses."""

import math
import warnings

import numpy as np
import pytest

from trref.catalog.krylov.interfaces import relative_residual
from trref.krylov.cg import cg
from trref.krylov.gmres import gmres
from trref.krylov.minres import minres
from trref.problems.convex import DenseOperator, PoissonOperator, spd_matrix, spectrum
from trref.validate import ConvergenceWarning


def _iterates(A, b, k, **more):
    """The iterate after k steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cg(DenseOperator(A), b, rtol=1e-15, max_iter=k, **more).x


def test_as_many_steps_as_distinct_eigenvalues():
    rng = np.random.default_rng(0)
    A = spd_matrix(rng, np.repeat([1.0, 2.0, 5.0, 9.0], 10))
    result = cg(DenseOperator(A), rng.standard_normal(40), rtol=1e-10)
    assert result.converged and result.iterations == 4


@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5])
def test_chebyshev_bound(condition):
    rng = np.random.default_rng(1)
    A = spd_matrix(rng, spectrum(60, condition))
    b = rng.standard_normal(60)
    exact = np.linalg.solve(A, b)
    error = lambda x: math.sqrt((x - exact) @ A @ (x - exact))  # noqa: E731
    rate = (math.sqrt(condition) - 1) / (math.sqrt(condition) + 1)
    for k in (1, 5, 10, 20, 40):
        assert error(_iterates(A, b, k)) <= 2 * rate**k * error(0 * b) * (1 + 1e-8)


def test_optimal_in_the_krylov_space():
    """The k-th iterate minimises the A-norm of the error over the span of b, Ab, …: a dense least-squares problem."""
    rng = np.random.default_rng(2)
    A = spd_matrix(rng, spectrum(20, 50.0))
    b = rng.standard_normal(20)
    for k in (1, 3, 6):
        K = np.linalg.qr(np.stack([np.linalg.matrix_power(A, j) @ b for j in range(k)], 1))[0]
        best = K @ np.linalg.solve(K.T @ A @ K, K.T @ b)
        assert np.allclose(_iterates(A, b, k), best, rtol=1e-8)


def test_residuals_orthogonal_and_directions_conjugate():
    rng = np.random.default_rng(3)
    A = spd_matrix(rng, spectrum(12, 20.0))
    b = rng.standard_normal(12)
    x = [np.zeros(12)] + [_iterates(A, b, k) for k in range(1, 7)]
    r = np.array([b - A @ xi for xi in x])
    p = np.diff(x, axis=0)
    gram, conjugate = r @ r.T, p @ A @ p.T
    assert np.allclose(gram, np.diag(np.diag(gram)), rtol=0, atol=1e-10 * gram.max())
    assert np.allclose(conjugate, np.diag(np.diag(conjugate)), rtol=0, atol=1e-10 * conjugate.max())


def test_preconditioning_is_a_change_of_variables():
    """With M = C Cᵀ: the iterates are C⁻ᵀ times those of C⁻¹ A C⁻ᵀ."""
    rng = np.random.default_rng(4)
    A, M = spd_matrix(rng, spectrum(15, 100.0)), spd_matrix(rng, spectrum(15, 5.0))
    b = rng.standard_normal(15)
    C = np.linalg.cholesky(M)
    inside = np.linalg.solve(C, np.linalg.solve(C, A).T)
    for k in (1, 4, 8):
        ours = _iterates(A, b, k, preconditioner=DenseOperator(np.linalg.inv(M)))
        theirs = np.linalg.solve(C.T, _iterates((inside + inside.T) / 2, np.linalg.solve(C, b), k))
        assert np.allclose(ours, theirs, rtol=1e-8)


def test_the_inverse_as_preconditioner_needs_one_step():
    rng = np.random.default_rng(5)
    A = spd_matrix(rng, spectrum(10, 1e4))
    result = cg(DenseOperator(A), rng.standard_normal(10), preconditioner=DenseOperator(np.linalg.inv(A)))
    assert result.iterations == 1


def test_null_space_part_of_the_start_stays():
    A = np.diag([2.0, 1.0, 0.0])
    result = cg(DenseOperator(A), np.array([1.0, 1.0, 0.0]), x0=np.array([5.0, 5.0, 7.0]))
    assert np.allclose(result.x, [0.5, 1.0, 7.0], rtol=1e-9)


def test_poisson():
    b = np.random.default_rng(6).standard_normal(32 * 32)
    operator = PoissonOperator(32)
    result = cg(operator, b, rtol=1e-10)
    assert result.converged and np.linalg.norm(b - operator(result.x)) <= 1e-10 * np.linalg.norm(b)
    assert len(result.residual_norms) == result.iterations + 1


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.diag([1.0, -1.0, 2.0]), "matvec must be positive definite"),
        (-np.eye(3), "matvec must be positive definite"),
        (np.array([[2.0, 1.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]), "matvec must be symmetric"),
        (np.array([[1.0, 9.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "matvec must be symmetric"),
        (np.full((3, 3), np.nan), "matvec must give finite values"),
        (np.zeros((3, 3)), "matvec must be positive definite"),
    ],
)
def test_operators_that_are_not_spd(A, message):
    with pytest.raises(ValueError, match=message):
        cg(DenseOperator(A), np.array([1.0, 2.0, 3.0]))


def test_indefinite_preconditioner():
    with pytest.raises(ValueError, match="preconditioner must be positive definite"):
        cg(DenseOperator(np.eye(2)), np.array([1.0, 2.0]), preconditioner=DenseOperator(-np.eye(2)))


def test_operator_of_the_wrong_shape():
    with pytest.raises(ValueError, match="matvec must give float64 arrays of shape"):
        cg(DenseOperator(np.ones((2, 3))), np.ones(3))


def test_singular_and_inconsistent():
    with pytest.raises(ValueError, match="positive definite"):
        cg(DenseOperator(np.diag([1.0, 0.0])), np.array([0.0, 1.0]))


@pytest.mark.parametrize("error", [1e-14, 1e-10, 1e-6, 1e-2])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_singular_and_consistent_up_to_an_error(error, preconditioned):
    """Solved where the tolerance is above the error; below it the iteration ends with a warning and a finite result."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        A = spd_matrix(rng, np.concatenate([np.zeros(3), 10 ** rng.uniform(-3, 0, 27)]))
        b = A @ rng.standard_normal(30)
        b = b / np.linalg.norm(b) + error * rng.standard_normal(30) / 6
        M = DenseOperator(np.diag(1 / np.diag(A))) if preconditioned else None
        solved = cg(DenseOperator(A), b, rtol=2 * error, preconditioner=M)
        assert solved.converged and np.linalg.norm(b - A @ solved.x) <= 2 * error * np.linalg.norm(b)
        with pytest.warns(ConvergenceWarning, match="the matrix is singular, up to rounding"):
            result = cg(DenseOperator(A), b, rtol=1e-3 * error, preconditioner=M)
        assert not result.converged and np.isfinite(result.x).all() and np.isfinite(result.residual_norms).all()


def test_zero_right_hand_side():
    """The solution is 0 whatever the start, and the certificate accepts nothing else."""
    inputs = {"matvec": DenseOperator(np.eye(2)), "b": np.zeros(2), "x0": np.array([3.0, 4.0])}
    result = cg(**inputs)
    assert not result.x.any() and result.iterations == 0 and result.residual_norms == [0.0]
    for x0, worst in ((inputs["x0"], 1e-3 / 5e-8), (None, math.inf)):
        wrong = relative_residual(result._replace(x=np.array([1e-3, 0.0])), inputs["matvec"], inputs["b"], x0)
        assert wrong["residual over its target"] == pytest.approx(worst)


def test_the_certificate_sees_a_wrong_norm():
    inputs = {"matvec": DenseOperator(np.diag([1.0, 2.0])), "b": np.ones(2)}
    result = cg(**inputs)
    wrong = relative_residual(result._replace(residual_norms=[2.0, 1.0]), **inputs)
    assert wrong["error of the last norm reported"] > 1e6


def test_what_is_not_finite_at_the_start():
    for solver in (cg, minres, gmres):
        with pytest.raises(ValueError, match="matvec must give finite values"):
            solver(DenseOperator(np.full((2, 2), np.nan)), np.ones(2), x0=np.ones(2))


@pytest.mark.parametrize("solver", [cg, minres, gmres])
def test_preconditioner_of_the_wrong_shape(solver):
    with pytest.raises(ValueError, match="preconditioner must give float64 arrays of shape"):
        solver(DenseOperator(np.diag([1.0, 2.0])), np.ones(2), preconditioner=lambda r: r[:, None])


def test_too_few_iterations_warn():
    A = np.diag(np.arange(1.0, 11))
    with pytest.warns(ConvergenceWarning, match="cg stopped after 2 iterations"):
        result = cg(DenseOperator(A), np.ones(10), max_iter=2)
    assert not result.converged and result.iterations == 2


def test_an_unreachable_target_warns_and_ends():
    A = spd_matrix(np.random.default_rng(0), spectrum(30, 1e8)).astype(np.float32)
    A = (A + A.T) / 2 + np.float32(1e-7) * np.eye(30, dtype=np.float32)
    with pytest.warns(ConvergenceWarning):
        result = cg(DenseOperator(A), np.ones(30, np.float32), rtol=1e-12)
    assert not result.converged and result.x.dtype == np.float32
    assert result.residual_norms[-1] > 0


@pytest.mark.parametrize("bad", [{"rtol": 0.0}, {"rtol": 1.5}, {"max_iter": 0}])
def test_settings_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        cg(DenseOperator(np.eye(2)), np.ones(2), **bad)
