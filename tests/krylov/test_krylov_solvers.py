"""The solvers of the family give, step by step, what the definitions say."""

import warnings

import numpy as np
import pytest

from trref.krylov.cg import cg
from trref.krylov.gmres import gmres
from trref.krylov.krylov_solvers import galerkin, krylov_basis, least_residual
from trref.krylov.lanczos import lanczos
from trref.krylov.minres import minres
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.validate import ConvergenceWarning

N = 12


def _symmetric(seed, signs=(1.0,)):
    rng = np.random.default_rng(seed)
    return spd_matrix(rng, spectrum(N, 20.0) * rng.choice(signs, N)), rng.standard_normal(N)


def _general(seed):
    rng = np.random.default_rng(seed)
    return np.eye(N) + 0.4 * rng.standard_normal((N, N)) / np.sqrt(N), rng.standard_normal(N)


def _after(solver, A, b, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return solver(DenseOperator(A), b, rtol=1e-14, max_iter=steps).x


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", (1, 2, 5, 9))
def test_each_solver_gives_the_best_vector_of_its_space(seed, steps):
    close = {"rtol": 1e-7, "atol": 1e-8}
    A, b = _symmetric(seed)
    assert np.allclose(_after(cg, A, b, steps), galerkin(DenseOperator(A), b, steps=steps), **close)
    A, b = _symmetric(seed, signs=(-1.0, 1.0))
    assert np.allclose(_after(minres, A, b, steps), least_residual(DenseOperator(A), b, steps=steps), **close)
    A, b = _general(seed)
    assert np.allclose(_after(gmres, A, b, steps), least_residual(DenseOperator(A), b, steps=steps), **close)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_in_the_space_is_better(seed):
    """Against random vectors of the space: least residual, and least error in the energy."""
    A, b = _symmetric(seed)
    operator, rng, exact = DenseOperator(A), np.random.default_rng(seed), np.linalg.solve(A, b)
    V = krylov_basis(operator, b, steps=4)
    first, second = least_residual(operator, b, steps=4), galerkin(operator, b, steps=4)
    energy = lambda x: (x - exact) @ A @ (x - exact)  # noqa: E731
    for scale in (1e-3, 1.0):
        for _ in range(50):
            away = V @ (scale * rng.standard_normal(4))
            assert np.linalg.norm(b - A @ (first + away)) > np.linalg.norm(b - A @ first)
            assert energy(second + away) > energy(second)


def test_basis_of_a_symmetric_matrix_is_that_of_lanczos():
    A, b = _symmetric(0, signs=(-1.0, 1.0))
    assert np.allclose(
        krylov_basis(DenseOperator(A), b, steps=7),
        lanczos(DenseOperator(A), b, steps=7).basis,
        rtol=1e-9,
        atol=1e-10,
    )


@pytest.mark.parametrize("seed", range(3))
def test_residual_of_galerkin_has_a_peak_where_the_least_stands_still(seed):
    A, b = _general(seed)
    operator = DenseOperator(A)
    least = [np.linalg.norm(b)]
    for k in range(1, 8):
        least.append(np.linalg.norm(b - A @ least_residual(operator, b, steps=k)))
        ours = np.linalg.norm(b - A @ galerkin(operator, b, steps=k))
        assert ours == pytest.approx(least[k] / np.sqrt(1 - (least[k] / least[k - 1]) ** 2), rel=1e-8)


def test_space_ends_after_as_many_steps_as_there_are_eigenvalues():
    A = np.diag([2.0, 2.0, 5.0, 5.0, 7.0])
    b = np.array([1.0, -2.0, 3.0, 4.0, 0.5])
    V = krylov_basis(DenseOperator(A), b, steps=5)
    assert np.allclose(V.T @ V, np.diag([1.0, 1, 1, 0, 0]), rtol=0, atol=1e-12)
    for best in (least_residual, galerkin):
        assert np.allclose(best(DenseOperator(A), b, steps=3), b / np.diag(A), rtol=1e-12)
        assert np.allclose(best(DenseOperator(A), b, steps=5), b / np.diag(A), rtol=1e-12)


def test_a_rotation_by_a_right_angle():
    """The first product is orthogonal to b: the least residual stands still, and Galerkin has nothing to take."""
    A, b = np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([1.0, 2.0])
    assert np.allclose(least_residual(DenseOperator(A), b, steps=1), 0.0, rtol=0, atol=1e-15)
    assert np.allclose(galerkin(DenseOperator(A), b, steps=1), 0.0, rtol=0, atol=1e-15)
    assert np.allclose(least_residual(DenseOperator(A), b, steps=2), A.T @ b, rtol=1e-12)
