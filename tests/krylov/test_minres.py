"""Theorems of MINRES, and what it refuses."""

import itertools
import warnings

import numpy as np
import pytest

from trref.krylov.cg import cg
from trref.krylov.gmres import gmres
from trref.krylov.lanczos import lanczos
from trref.krylov.minres import minres
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.validate import ConvergenceWarning


def _indefinite(seed, n=20, condition=20.0):
    rng = np.random.default_rng(seed)
    return spd_matrix(rng, spectrum(n, condition) * rng.choice((-1.0, 1.0), n)), rng.standard_normal(n), rng


def _run(solver, A, b, k, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return solver(DenseOperator(A), b, rtol=1e-15, max_iter=k, **more)


@pytest.mark.parametrize("seed", range(3))
def test_smallest_residual_of_the_krylov_space(seed):
    A, b, _ = _indefinite(seed)
    for k in (1, 2, 5, 9):
        K = np.linalg.qr(np.stack([np.linalg.matrix_power(A, j) @ b for j in range(k)], 1))[0]
        y = np.linalg.lstsq(A @ K, b, rcond=None)[0]
        result = _run(minres, A, b, k)
        assert np.allclose(result.x, K @ y, rtol=1e-6, atol=1e-8)
        assert result.residual_norms[-1] == pytest.approx(np.linalg.norm(b - A @ K @ y), rel=1e-8)


def test_residual_norm_of_the_small_least_squares_problem():
    """min over y of ‖ ‖b‖ e_1 - T_k y ‖ with the (k+1) x k matrix of Lanczos, after each step."""
    A, b, _ = _indefinite(1)
    basis = lanczos(DenseOperator(A), b, steps=12)
    norms = _run(minres, A, b, 12).residual_norms
    for k in range(1, 12):
        T = np.zeros((k + 1, k))
        T[range(k), range(k)] = basis.diagonal[:k]
        T[range(1, k + 1), range(k)] = basis.off_diagonal[:k]
        T[range(k - 1), range(1, k)] = basis.off_diagonal[: k - 1]
        e = np.linalg.norm(b) * np.eye(k + 1)[0]
        smallest = np.linalg.norm(e - T @ np.linalg.lstsq(T, e, rcond=None)[0])
        assert norms[k] == pytest.approx(smallest, rel=1e-9)


def test_residual_norms_never_rise():
    A, b, _ = _indefinite(2, n=60, condition=100.0)
    norms = minres(DenseOperator(A), b, rtol=1e-6).residual_norms
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(norms))


def test_equals_gmres_on_a_symmetric_matrix():
    A, b, rng = _indefinite(3)
    x0 = rng.standard_normal(20)
    for k in (1, 3, 8, 15):
        assert np.allclose(_run(minres, A, b, k, x0=x0).x, _run(gmres, A, b, k, x0=x0).x, rtol=1e-8)


def test_smaller_residual_and_larger_error_than_cg():
    rng = np.random.default_rng(4)
    A, b = spd_matrix(rng, spectrum(40, 1e3)), rng.standard_normal(40)
    exact = np.linalg.solve(A, b)
    energy = lambda x: (x - exact) @ A @ (x - exact)  # noqa: E731
    for k in (2, 6, 12):
        ours, theirs = _run(minres, A, b, k).x, _run(cg, A, b, k).x
        assert np.linalg.norm(b - A @ ours) < np.linalg.norm(b - A @ theirs)
        assert energy(ours) > energy(theirs)


def test_preconditioning_is_a_change_of_variables():
    """With M = C Cᵀ: the iterates are C⁻ᵀ times those of C⁻¹ A C⁻ᵀ, also for an indefinite A."""
    A, b, rng = _indefinite(5, n=15)
    M = spd_matrix(rng, spectrum(15, 5.0))
    C = np.linalg.cholesky(M)
    inside = np.linalg.solve(C, np.linalg.solve(C, A).T)
    for k in (1, 4, 9):
        ours = _run(minres, A, b, k, preconditioner=DenseOperator(np.linalg.inv(M))).x
        theirs = np.linalg.solve(C.T, _run(minres, (inside + inside.T) / 2, np.linalg.solve(C, b), k).x)
        assert np.allclose(ours, theirs, rtol=1e-7, atol=1e-9)


def test_as_many_steps_as_distinct_eigenvalues():
    rng = np.random.default_rng(6)
    A = spd_matrix(rng, np.repeat([-3.0, 1.0, 2.0, 7.0], 6))
    assert minres(DenseOperator(A), rng.standard_normal(24), rtol=1e-9).iterations == 4


def test_singular_but_consistent():
    rng = np.random.default_rng(7)
    A = spd_matrix(rng, np.array([3.0, -2.0, 1.0, 0.5, 0.0, 0.0]))
    b = A @ rng.standard_normal(6)
    result = minres(DenseOperator(A), b)
    assert result.converged and np.allclose(result.x, np.linalg.pinv(A) @ b, rtol=0, atol=1e-8)


def test_an_inconsistent_system_warns():
    with pytest.warns(ConvergenceWarning, match="minres stopped"):
        result = minres(DenseOperator(np.diag([1.0, -2.0, 0.0])), np.array([1.0, 1.0, 1.0]))
    assert not result.converged and result.residual_norms[-1] == pytest.approx(1.0)


def test_an_operator_that_kills_the_residual_warns():
    with pytest.warns(ConvergenceWarning):
        assert not minres(DenseOperator(np.zeros((3, 3))), np.ones(3)).converged


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.array([[2.0, 1.0], [-1.0, 2.0]]), "matvec must be symmetric"),
        (np.full((2, 2), np.nan), "matvec must give finite values"),
        (np.ones((3, 2)), "matvec must give float64 arrays of shape"),
    ],
)
def test_operators_it_refuses(A, message):
    with pytest.raises(ValueError, match=message):
        minres(DenseOperator(A), np.array([1.0, 2.0]))


@pytest.mark.parametrize("M", [-np.eye(2), np.diag([1.0, -5.0]), np.zeros((2, 2))])
def test_preconditioner_must_be_positive_definite(M):
    with pytest.raises(ValueError, match="preconditioner must be positive definite"):
        minres(DenseOperator(np.diag([1.0, -1.0])), np.array([1.0, 2.0]), preconditioner=DenseOperator(M))


def test_too_few_iterations_warn():
    A, b, _ = _indefinite(8)
    with pytest.warns(ConvergenceWarning, match="minres stopped after 3 iterations"):
        result = minres(DenseOperator(A), b, max_iter=3)
    assert not result.converged and len(result.residual_norms) == 4
