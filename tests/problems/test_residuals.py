"""Problems with parts of their Hessians: gradients and Hessians by differences, and what the parts leave out."""

import numpy as np
import pytest

from trref.problems.residuals import Curvature, LogSumExp, PowerResiduals, SampleMean
from trref.problems.samples import LogisticSamples


def _problems():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((8, 3))
    yield LogSumExp(A, rng.standard_normal(8), 0.7)
    yield SampleMean(LogisticSamples(A, rng.choice([-1.0, 1.0], 8), 0.1))
    for p in (2.0, 3.0, 4.0, 2.5):
        yield PowerResiduals(p, 3.0)


@pytest.mark.parametrize("problem", list(_problems()), ids=lambda p: f"{type(p).__name__}-{getattr(p, 'p', '')}")
def test_derivatives_by_differences(problem):
    x, h = np.array([0.3, -0.5, 0.8]), 1e-5
    value, gradient = problem(x)
    ahead, behind = ([problem(x + s * h * e) for e in np.eye(3)] for s in (1, -1))
    # central differences: h² times third derivatives of up to 1e3, and rounding of 1e-16 · 1e2 / h
    slopes = [(a[0] - b[0]) / (2 * h) for a, b in zip(ahead, behind, strict=True)]
    assert np.allclose(gradient, slopes, rtol=1e-6, atol=1e-7)
    columns = [(a[1] - b[1]) / (2 * h) for a, b in zip(ahead, behind, strict=True)]
    assert np.allclose(problem.hessian(x), columns, rtol=1e-5, atol=1e-6)
    assert value == problem(x)[0]


def test_parts():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(3)
    smooth = LogSumExp(rng.standard_normal((8, 3)), rng.standard_normal(8), 0.7)
    rest, g = smooth.gauss_newton(x) - smooth.hessian(x), smooth(x)[1]
    assert np.allclose(rest, np.outer(g, g) / 0.7, atol=1e-14)
    power = PowerResiduals(3.0, 3.0)
    value, g = power(x)
    # (p - 2) / ‖u‖^p times the products of the gradient, ‖u‖^p = p times the value
    assert np.allclose(power.fisher(x), np.outer(g, g) / (3 * value))
    assert np.linalg.matrix_rank(power.fisher(x)) == 1
    assert (np.linalg.eigvalsh(power.gauss_newton(x)) > 0).all()
    one = np.ones(3)
    assert PowerResiduals()(one)[0] == 0 and np.allclose(
        PowerResiduals().hessian(one), PowerResiduals().gauss_newton(one)
    )
    assert not Curvature(power, "none")(x).any() and np.array_equal(Curvature(power, "fisher")(x), power.fisher(x))


def test_the_known_function():
    """p = 2 is half of Rosenbrock's function."""
    from trref.problems.convex import Rosenbrock
    from trref.problems.curvature import RosenbrockHessian

    x = np.array([-1.2, 1.0, 0.5])
    value, gradient = Rosenbrock()(x)
    ours = PowerResiduals()
    assert ours(x)[0] == pytest.approx(value / 2) and np.allclose(ours(x)[1], gradient / 2)
    assert np.allclose(ours.hessian(x), RosenbrockHessian()(x) / 2)


def test_wrong_length():
    with pytest.raises(ValueError, match=r"x must have shape \(2,\), not \(3,\)"):
        LogSumExp(np.eye(2), np.zeros(2))(np.zeros(3))
