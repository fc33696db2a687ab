"""Krylov solvers and nonlinear conjugate gradients against SciPy, iterate by iterate where that is possible."""

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg as scipy_solvers

from trref.conformance import verify
from trref.krylov.cg import cg
from trref.krylov.gmres import gmres
from trref.krylov.line_search import strong_wolfe
from trref.krylov.minres import minres
from trref.krylov.nonlinear_cg import nonlinear_cg
from trref.problems.convex import DenseOperator, PoissonOperator, Rosenbrock, logistic, spd_matrix, spectrum
from trref.validate import ConvergenceWarning

pytestmark = pytest.mark.peer


def _ours(solver, A, b, steps, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return solver(DenseOperator(A), b, rtol=1e-15, max_iter=steps, **more).x


@pytest.mark.parametrize("preconditioned", [False, True])
def test_cg_has_the_same_iterates(preconditioned):
    rng = np.random.default_rng(0)
    A, b, x0 = spd_matrix(rng, spectrum(30, 100.0)), rng.standard_normal(30), rng.standard_normal(30)
    M = np.diag(1 / np.diag(A)) if preconditioned else None
    for k in (1, 2, 5, 12):
        theirs, _ = scipy_solvers.cg(A, b, x0=x0, rtol=1e-15, atol=0, maxiter=k, M=M)
        ours = _ours(cg, A, b, k, x0=x0, preconditioner=DenseOperator(M) if preconditioned else None)
        assert np.allclose(ours, theirs, rtol=1e-10)


def _scipy(solver, n, matvec, preconditioner, **more):
    A, M = (f and scipy_solvers.LinearOperator((n, n), matvec=f, dtype=float) for f in (matvec, preconditioner))
    return solver(A, M=M, **more)[0]


def _their_cg(matvec, b, x0=None, preconditioner=None, rtol=1e-8):
    return _scipy(scipy_solvers.cg, len(b), matvec, preconditioner, b=b, x0=x0, rtol=rtol / 2)


def _their_cg_step_by_step(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    return _scipy(scipy_solvers.cg, len(b), matvec, preconditioner, b=b, x0=x0, rtol=rtol / 2, maxiter=max_iter)


def _their_gmres(matvec, b, x0=None, preconditioner=None, rtol=1e-8):
    more = {"b": b, "x0": x0, "rtol": 1e-3 * rtol, "restart": len(b)}  # smaller: it is asked of M⁻¹(b - A x)
    return _scipy(scipy_solvers.gmres, len(b), matvec, preconditioner, **more)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("cg.cg", _their_cg), ("cg.cg", _their_cg_step_by_step), ("gmres.gmres", _their_gmres)],
)
def test_verify_accepts_scipy(name, theirs):
    """With the iterates compared where there is a keyword for their number, and by the certificate alone elsewhere."""
    verdict = verify(name, theirs, assume=["solvable"])
    assert verdict.conforms, str(verdict)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_minres_has_the_same_iterates(preconditioned):
    rng = np.random.default_rng(1)
    A = spd_matrix(rng, spectrum(30, 20.0) * rng.choice((-1.0, 1.0), 30))
    b, x0 = rng.standard_normal(30), rng.standard_normal(30)
    M = spd_matrix(rng, spectrum(30, 5.0)) if preconditioned else None
    for k in (1, 5, 12):  # rounding drives two Lanczos recurrences apart after that
        theirs, _ = scipy_solvers.minres(A, b, x0=x0, rtol=1e-15, maxiter=k, M=M)
        ours = _ours(minres, A, b, k, x0=x0, preconditioner=DenseOperator(M) if preconditioned else None)
        assert np.allclose(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("restart", [4, 30])
def test_gmres_has_the_same_iterates(restart):
    rng = np.random.default_rng(2)
    A = np.eye(30) + 0.5 * rng.standard_normal((30, 30)) / np.sqrt(30)
    b, x0 = rng.standard_normal(30), rng.standard_normal(30)
    for cycles in (1, 2, 3) if restart == 4 else (1,):
        theirs, _ = scipy_solvers.gmres(A, b, x0=x0, rtol=1e-14, atol=0, restart=restart, maxiter=cycles)
        ours = _ours(gmres, A, b, cycles * restart, x0=x0, restart=restart)
        assert np.allclose(ours, theirs, rtol=1e-9)


def test_gmres_right_preconditioning_is_gmres_on_the_product():
    rng = np.random.default_rng(3)
    A = np.diag(np.linspace(1, 50, 25)) + rng.standard_normal((25, 25)) / 5
    b, inverse = rng.standard_normal(25), np.diag(1 / np.diag(A))
    for k in (3, 8):
        inner, _ = scipy_solvers.gmres(A @ inverse, b, rtol=1e-14, atol=0, restart=k, maxiter=1)
        ours = _ours(gmres, A, b, k, preconditioner=DenseOperator(inverse))
        assert np.allclose(ours, inverse @ inner, rtol=1e-9)


def test_gmres_matches_dense_solution():
    rng = np.random.default_rng(4)
    A, b = rng.standard_normal((40, 40)) + 4 * np.eye(40), rng.standard_normal(40)
    assert np.allclose(gmres(DenseOperator(A), b, rtol=1e-12).x, np.linalg.solve(A, b), rtol=1e-8)


def test_poisson_with_all_solvers():
    operator, b = PoissonOperator(12), np.random.default_rng(5).standard_normal(144)
    dense = np.stack([operator(e) for e in np.eye(144)])
    exact = np.linalg.solve(dense, b)
    for solver in (cg, minres, gmres):
        assert np.allclose(solver(operator, b, rtol=1e-12).x, exact, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("c2", [0.1, 0.9])
def test_line_search_agrees_with_scipy_about_what_is_a_strong_wolfe_step(c2):
    """SciPy's step passes our conditions, ours SciPy's; where the first trial is accepted both take it."""
    rng = np.random.default_rng(6)
    same = 0
    for _ in range(50):
        loss, x = (
            (Rosenbrock(), rng.standard_normal(4)) if rng.random() < 0.5 else (_logistic(rng), rng.standard_normal(4))
        )
        g = loss(x)[1]
        direction = -g / np.linalg.norm(g) * rng.choice((0.1, 1.0))
        f, grad = (lambda x, loss=loss: loss(x)[0]), (lambda x, loss=loss: loss(x)[1])
        theirs = scipy.optimize.line_search(f, grad, x, direction, gfk=g, c1=1e-4, c2=c2, amax=1e3, maxiter=40)[0]
        ours = strong_wolfe(loss, x, direction, c2=c2)
        assert ours.converged
        for step in [ours.step] + ([theirs] if theirs is not None else []):
            value, gradient = loss(x + step * direction)
            assert value <= loss(x)[0] + 1e-4 * step * (g @ direction) + 1e-12
            assert abs(gradient @ direction) <= c2 * abs(g @ direction) * (1 + 1e-12)
        same += theirs is not None and ours.iterations == 1 and theirs == ours.step
    assert same > 0


def _logistic(rng):
    return logistic(rng, points=20, dims=4, l2=0.1)


@pytest.mark.parametrize("dims", [2, 10])
def test_nonlinear_cg_finds_what_scipy_finds(dims):
    loss = Rosenbrock()
    x0 = np.where(np.arange(dims) % 2 == 0, -1.2, 1.0)
    theirs = scipy.optimize.minimize(loss, x0, jac=True, method="CG", options={"gtol": 1e-7, "maxiter": 5000})
    ours = nonlinear_cg(loss, x0, rule="PR+", c2=0.4, gtol=1e-7)
    assert ours.converged and theirs.success
    if dims == 2:  # in more dimensions the function has a second minimum
        assert np.allclose(ours.x, theirs.x, atol=1e-6, rtol=1e-9) and np.allclose(ours.x, 1, atol=1e-6, rtol=1e-9)


def test_nonlinear_cg_on_a_convex_problem():
    loss = logistic(np.random.default_rng(7), points=60, dims=8, l2=0.05)
    theirs = scipy.optimize.minimize(loss, np.zeros(8), jac=True, method="CG", options={"gtol": 1e-9})
    for rule in ("FR", "PR+", "HS", "DY", "HZ"):
        assert np.allclose(nonlinear_cg(loss, np.zeros(8), rule=rule, gtol=1e-8).x, theirs.x, atol=1e-6, rtol=1e-9)
