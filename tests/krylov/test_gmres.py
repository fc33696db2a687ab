"""Theorems of GMRES, and what it refuses."""

import itertools
import warnings

import numpy as np
import pytest

from trref.krylov.gmres import gmres
from trref.problems.convex import DenseOperator
from trref.validate import ConvergenceWarning


def _general(seed, n=20):
    rng = np.random.default_rng(seed)
    return 2 * np.eye(n) + rng.standard_normal((n, n)) / np.sqrt(n), rng.standard_normal(n), rng


def _run(A, b, k, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return gmres(DenseOperator(A), b, rtol=1e-15, max_iter=k, **more)


@pytest.mark.parametrize("seed", range(3))
def test_smallest_residual_of_the_krylov_space(seed):
    A, b, _ = _general(seed)
    for k in (1, 2, 5, 9):
        K = np.linalg.qr(np.stack([np.linalg.matrix_power(A, j) @ b for j in range(k)], 1))[0]
        y = np.linalg.lstsq(A @ K, b, rcond=None)[0]
        result = _run(A, b, k)
        assert np.allclose(result.x, K @ y, rtol=1e-7, atol=1e-9)
        assert result.residual_norms[k] == pytest.approx(np.linalg.norm(b - A @ K @ y), rel=1e-8)


def test_without_restart_it_is_a_direct_method():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        A, b = rng.standard_normal((12, 12)), rng.standard_normal(12)
        result = gmres(DenseOperator(A), b, rtol=1e-9)
        assert result.converged and result.iterations <= 12
        assert np.allclose(result.x, np.linalg.solve(A, b), rtol=1e-5)


def test_residual_norms_never_rise_across_restarts():
    A, b, _ = _general(3, n=60)
    norms = gmres(DenseOperator(A), b, restart=4).residual_norms
    assert all(later <= earlier * (1 + 1e-10) for earlier, later in itertools.pairwise(norms))


def test_a_restart_forgets_the_space():
    A, b, _ = _general(4)
    full, restarted = _run(A, b, 10), _run(A, b, 10, restart=5)
    by_hand = _run(A, b, 5, x0=_run(A, b, 5).x)
    assert np.allclose(restarted.x, by_hand.x, rtol=1e-9)
    assert full.residual_norms[-1] < restarted.residual_norms[-1]


def test_degree_of_the_minimal_polynomial():
    """A nonsymmetric matrix with three distinct eigenvalues and no Jordan blocks needs three steps."""
    rng = np.random.default_rng(5)
    S = rng.standard_normal((12, 12))
    A = S @ np.diag(np.repeat([1.0, 2.0, 4.0], 4)) @ np.linalg.inv(S)
    assert gmres(DenseOperator(A), rng.standard_normal(12), rtol=1e-7).iterations == 3


def test_cyclic_shift_stands_still_until_the_last_step():
    """The classic worst case: no progress before step n, and with a shorter restart none at all."""
    shift, b = np.roll(np.eye(6), 1, 0), np.eye(6)[0]
    result = gmres(DenseOperator(shift), b)
    assert result.iterations == 6 and np.allclose(result.residual_norms[:6], 1, rtol=1e-9) and result.converged
    with pytest.warns(ConvergenceWarning, match="gmres stopped after 5 iterations"):
        assert not gmres(DenseOperator(shift), b, restart=5).converged


def test_exact_preconditioner_needs_one_step():
    A, b, _ = _general(6)
    assert gmres(DenseOperator(A), b, preconditioner=DenseOperator(np.linalg.inv(A))).iterations == 1


def test_preconditioned_residuals_are_those_of_the_system():
    A, b, rng = _general(7)
    M = DenseOperator(np.diag(rng.uniform(0.2, 5.0, 20)))
    for k in (2, 7):
        result = _run(A, b, k, preconditioner=M)
        assert result.residual_norms[k] == pytest.approx(np.linalg.norm(b - A @ result.x), rel=1e-10)


def test_singular_systems():
    consistent = gmres(DenseOperator(np.diag([2.0, 1.0, 0.0])), np.array([1.0, 1.0, 0.0]))
    assert consistent.converged and np.allclose(consistent.x, [0.5, 1.0, 0.0], rtol=1e-9)
    with pytest.warns(ConvergenceWarning):
        result = gmres(DenseOperator(np.diag([1.0, 2.0, 0.0])), np.ones(3))
    assert not result.converged and result.residual_norms[-1] == pytest.approx(1.0)
    with pytest.warns(ConvergenceWarning):
        assert not gmres(DenseOperator(np.array([[0.0, 1.0], [0.0, 0.0]])), np.array([0.0, 1.0])).converged


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.full((2, 2), np.nan), "matvec must give finite values"),
        (np.ones((3, 2)), "matvec must give float64 arrays of shape"),
    ],
)
def test_operators_it_refuses(A, message):
    with pytest.raises(ValueError, match=message):
        gmres(DenseOperator(A), np.array([1.0, 2.0]))


@pytest.mark.parametrize("bad", [{"rtol": 1.0}, {"max_iter": 0}, {"restart": 0}])
def test_settings_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        gmres(DenseOperator(np.eye(2)), np.ones(2), **bad)
