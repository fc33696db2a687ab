"""Spectrum, limits and the direction of the sparsified Hessian."""

import warnings

import numpy as np
import pytest
import scipy.sparse

from trref import use_backend
from trref.backend import xp
from trref.catalog import find
from trref.krylov.cg import cg
from trref.problems.convex import DenseOperator
from trref.strict import StrictSparse
from trref.transport.sinkhorn import sinkhorn_scaling
from trref.transport.sinkhorn_newton_sparse_hessian import (
    dropped_mass,
    newton_direction,
    sparse_hessian_product,
    sparsify,
)
from trref.validate import ConvergenceWarning


def _plan(seed, n=12, m=15, reg=0.05):
    """A plan after three sweeps, and its problem."""
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(1.0, n) + 0.1, rng.exponential(1.0, m) + 0.1
    a, b = a / a.sum(), b / b.sum()
    with pytest.warns(UserWarning):
        return sinkhorn_scaling(rng.random((n, m)), a, b, reg=reg, tol=1e-15, max_iter=3).plan, a, b


def _dense(plan, keep):
    n, m = plan.shape
    return np.stack([sparse_hessian_product(plan, e[:n], e[n:], keep=keep) for e in np.eye(n + m)])


def test_by_hand():
    """Of four entries a half is kept, 0.4 and 0.3; the sums stay full."""
    plan = np.array([[0.4, 0.1], [0.2, 0.3]])
    expected = [[0.5, 0, 0.4, 0], [0, 0.5, 0, 0.3], [0.4, 0, 0.6, 0], [0, 0.3, 0, 0.4]]
    assert np.allclose(_dense(plan, 0.5), expected, rtol=1e-14)
    assert dropped_mass(plan, keep=0.5) == pytest.approx(2 * (0.1 + 0.2))


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.1, 0.3, 1.0])
def test_semidefinite_and_dominant(keep):
    for seed in range(5):
        M = _dense(_plan(seed)[0], keep)
        assert np.allclose(M, M.T, rtol=0, atol=1e-13 * M.max())
        off = abs(M).sum(1) - np.diag(M)
        assert (off <= np.diag(M) * (1 + 1e-13)).all()
        lowest = np.linalg.eigvalsh(M)[0]
        assert lowest >= -1e-13 * M.max()
        if 0 < keep < 1:
            assert lowest > 1e-12, "every component has lost some mass"


def test_the_whole_sinkhorn_newton_sparse_hessian_is_singular():
    """What public code does, with a budget shorter than the diagonal: it leaves rows without any entry."""
    (deviation,) = find("sinkhorn_newton_sparse_hessian.sparse_hessian_product").deviations
    plan = np.array([[0.50, 1e-3, 1e-3], [0.4, 1e-3, 1e-3], [1e-3, 0.01, 0.01]])
    M = np.stack([deviation.f(plan, e[:3], e[3:], keep=7 / 6) for e in np.eye(6)])
    assert np.count_nonzero(M) == 7 and (M == 0).all(1).sum() == 3
    assert np.linalg.eigvalsh(_dense(plan, 0.5))[0] > 1e-4


def test_stored_sparse_on_both_backends():
    plan = _plan(0)[0]
    kept = sparsify(plan, 0.1)
    assert scipy.sparse.issparse(kept) and kept.nnz == 18
    assert np.sort(kept.data)[0] == np.sort(plan.ravel())[-18]
    with use_backend("strict"):
        device = sparsify(xp.asarray(plan), 0.1)
        assert isinstance(device, StrictSparse) and device.nnz == 18
        assert np.array_equal(device.toarray().get(), kept.toarray())


@pytest.mark.parametrize("keep", [0.05, 0.3, 1.0])
def test_direction_by_a_dense_solve(keep):
    for seed in range(5):
        plan, a, b = _plan(seed)
        plan = plan * np.linspace(0.9, 1.1, len(b))  # so that both marginals are wrong
        plan = plan / plan.sum()
        q = np.concatenate([a - plan.sum(1), b - plan.sum(0)])
        exact = np.linalg.lstsq(_dense(plan, keep), q)[0]
        found = newton_direction(plan, a, b, keep=keep, rtol=1e-12)
        ours = np.concatenate([found.df, found.dg])
        null = np.concatenate([np.ones(len(a)), -np.ones(len(b))]) / np.sqrt(len(a) + len(b))
        if keep == 1.0:
            ours, exact = ours - (null @ ours) * null, exact - (null @ exact) * null
        assert found.converged and np.allclose(ours, exact, rtol=0, atol=1e-9 * abs(exact).max())


def test_direction_by_conjugate_gradients_on_the_whole_matrix():
    plan, a, b = _plan(6)
    M, q = _dense(plan, 0.2), np.concatenate([a - plan.sum(1), b - plan.sum(0)])
    jacobi = DenseOperator(np.diag(1 / np.diag(M)))
    whole = cg(DenseOperator(M), q, preconditioner=jacobi, rtol=1e-12)
    reduced = newton_direction(plan, a, b, keep=0.2, rtol=1e-12)
    assert np.allclose(np.concatenate([reduced.df, reduced.dg]), whole.x, rtol=1e-8, atol=1e-10)
    assert reduced.iterations < whole.iterations


def test_without_entries_it_is_a_linearised_sweep():
    plan, a, b = _plan(7)
    found = newton_direction(plan, a, b, keep=0.0)
    assert np.allclose(found.df, (a - plan.sum(1)) / plan.sum(1), rtol=1e-14)
    assert np.allclose(found.dg, (b - plan.sum(0)) / plan.sum(0), rtol=1e-14)


@pytest.mark.parametrize("rtol", [0.9, 0.1, 1e-3, 1e-8])
def test_every_iterate_ascends(rtol):
    plan, a, b = _plan(8)
    found = newton_direction(plan, a, b, keep=0.1, rtol=rtol)
    assert (a - plan.sum(1)) @ found.df + (b - plan.sum(0)) @ found.dg > 0


def test_dropped_mass_falls_with_the_share():
    plan = _plan(9)[0]
    dropped = [dropped_mass(plan, keep=keep) for keep in (0.0, 0.1, 0.3, 0.9, 1.0)]
    assert dropped[0] == pytest.approx(2 * plan.sum()) and dropped[-1] == 0.0
    assert (np.diff(dropped) < 0).all()


@pytest.mark.parametrize("keep", [0.2, 1.0])
def test_masses_of_every_scale(keep):
    """The direction has no unit, and the norms have that of the root of a mass; far masses give a finite direction."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n, m = (int(v) for v in rng.integers(1, 7, 2))
        plan = 10 ** rng.uniform(-5, 0, (n, m))
        a, b = plan.sum(1) * rng.uniform(0.5, 2, n), plan.sum(0) * rng.uniform(0.5, 2, m)
        b *= a.sum() / b.sum()
        k = 2 * int(rng.integers(-160, 160))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            plain = newton_direction(plan, a, b, keep=keep)
            other = newton_direction(*(np.ldexp(v, k) for v in (plan, a, b)), keep=keep)
            far = newton_direction(plan, 1e90 * a, 1e90 * b, keep=keep)
        assert np.array_equal(other.df, plain.df) and np.array_equal(other.dg, plain.dg)
        assert other.residual_norms == [np.ldexp(norm, k // 2) for norm in plain.residual_norms]
        assert np.isfinite(far.df).all() and np.isfinite(far.dg).all()
        if far.converged and n > 1:
            left = _dense(plan, keep) @ np.concatenate([far.df, far.dg]) / 1e90
            q = np.concatenate([a - plan.sum(1) / 1e90, b - plan.sum(0) / 1e90])
            assert np.linalg.norm(left - q) <= 1e-3 * np.linalg.norm(q)


def test_masses_without_a_plan_are_refused():
    """A direction of 1e200 would be infinite in its squares, and was called converged."""
    plan = np.full((2, 2), 1e-150)
    with pytest.raises(ValueError, match="plan must have sums of at least 1e-100 of the largest mass"):
        newton_direction(plan, np.ones(2), np.ones(2), keep=1.0)
