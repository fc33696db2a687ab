"""The trust-region subproblem and its outer iteration against SciPy's."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from scipy.optimize._trustregion_dogleg import DoglegSubproblem
from scipy.optimize._trustregion_exact import IterativeSubproblem
from scipy.optimize._trustregion_ncg import CGSteihaugSubproblem

from trref.optimization.more_sorensen import more_sorensen
from trref.optimization.steihaug import steihaug_toint
from trref.optimization.trust_region_minimize import trust_region_minimize
from trref.optimization.trust_region_steps import cauchy_point, dogleg
from trref.optimization.trust_region_subproblem import eigen_step, pencil_step
from trref.problems.convex import DenseOperator, Rosenbrock, logistic, spd_matrix
from trref.problems.curvature import LogisticHessian, RosenbrockHessian

pytestmark = pytest.mark.peer


def _subproblem(kind, g, B, **more):
    return kind(0 * g, lambda x: 0.0, lambda x: g, lambda x: B, **more)


def _value(p, g, B):
    return g @ p + p @ B @ p / 2


def _problems(number, seed, definite=False):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        n = int(rng.integers(2, 9))
        signs = np.ones(n) if definite else rng.choice((-1.0, 1.0), n)
        yield rng.standard_normal(n), spd_matrix(rng, signs * np.exp(rng.uniform(-2, 2, n))), 10 ** rng.uniform(-2, 1)


@pytest.mark.parametrize("solver", [eigen_step, more_sorensen, pencil_step])
def test_exact_steps(solver):
    """SciPy's solver with tight tolerances; the problems on which it stalls at its iteration limit are left out."""
    compared = 0
    for g, B, radius in _problems(300, 0):
        theirs = _subproblem(IterativeSubproblem, g, B, k_easy=1e-12, k_hard=1e-12, maxiter=400)
        p, _ = theirs.solve(radius)
        ours = solver(g, B, radius=radius)
        value, expected = _value(ours.p, g, B), _value(p, g, B)
        assert value <= expected + 1e-9 * abs(expected)
        if theirs.niter < 400:
            compared += 1
            assert value == pytest.approx(expected, rel=1e-9)
    assert compared > 280


def test_scipy_is_loose_by_default():
    worst = 0.0
    for g, B, radius in _problems(300, 1):
        p, _ = _subproblem(IterativeSubproblem, g, B).solve(radius)
        best = _value(eigen_step(g, B, radius=radius).p, g, B)
        worst = max(worst, 1 - _value(p, g, B) / best)
    assert 0.01 < worst < 0.3


def test_multiplier_is_the_largest_real_eigenvalue_of_the_pencil():
    for g, B, radius in _problems(100, 2):
        n = len(g)
        result = eigen_step(g, B, radius=radius)
        M0 = np.block([[-np.eye(n), B], [B, -np.outer(g, g) / radius**2]])
        M1 = np.block([[np.zeros((n, n)), np.eye(n)], [np.eye(n), np.zeros((n, n))]])
        w = scipy.linalg.eigvals(M0, -M1)
        largest = w.real[abs(w.imag) < 1e-6 * abs(w).max()].max()
        if result.status == "boundary":
            assert largest == pytest.approx(result.multiplier, rel=1e-6, abs=1e-7)
        else:
            assert largest <= 1e-8


def test_steihaug_steps():
    for g, B, radius in _problems(300, 3):
        theirs, hits = _subproblem(CGSteihaugSubproblem, g, B).solve(radius)
        ours = steihaug_toint(g, DenseOperator(B), radius=radius)
        assert np.allclose(ours.p, theirs, rtol=1e-9, atol=1e-12) and (ours.status != "interior") == hits


def test_dogleg_and_cauchy_steps():
    for g, B, radius in _problems(300, 4, definite=True):
        theirs = _subproblem(DoglegSubproblem, g, B)
        assert np.allclose(dogleg(g, B, radius=radius).p, theirs.solve(radius)[0], rtol=1e-9, atol=1e-12)
        inside = theirs.cauchy_point()
        if np.linalg.norm(inside) < radius:
            assert np.allclose(cauchy_point(g, B, radius=radius).p, inside, rtol=1e-10)


@pytest.mark.parametrize(
    ("step", "method"),
    [("dogleg", "dogleg"), ("steihaug", "trust-ncg"), ("exact", "trust-exact"), ("exact", "trust-krylov")],
)
def test_minimisation_end_to_end(step, method):
    loss = logistic(np.random.default_rng(5), points=40, dims=5, l2=0.1)
    hessian = LogisticHessian(loss.X, loss.y, loss.l2)
    theirs = scipy.optimize.minimize(loss, np.ones(5), jac=True, hess=hessian, method=method, options={"gtol": 1e-9})
    ours = trust_region_minimize(loss, hessian, np.ones(5), step=step, gtol=1e-9)
    assert np.allclose(ours.x, theirs.x, atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize(("step", "method"), [("dogleg", "dogleg"), ("steihaug", "trust-ncg")])
def test_same_iterates_as_scipy_on_rosenbrock(step, method):
    """Same steps, same radii: the values at the accepted iterates agree one by one."""
    start, visited = np.array([-1.2, 1.0]), [24.2]
    record = lambda x: visited.append(Rosenbrock()(x)[0])  # noqa: E731
    scipy.optimize.minimize(
        Rosenbrock(), start, jac=True, hess=RosenbrockHessian(), method=method, callback=record, options={"gtol": 1e-4}
    )
    ours = trust_region_minimize(Rosenbrock(), RosenbrockHessian(), start, step=step, gtol=1e-4).values
    distinct = [v for v, before in zip(visited[1:], visited, strict=False) if v != before]
    assert np.allclose(ours[1:], distinct, rtol=1e-6, atol=1e-12)
