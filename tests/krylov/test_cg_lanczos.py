"""The identities between conjugate gradients, the Lanczos recurrence, and the error."""

import itertools

import numpy as np
import pytest

from trref import catalog
from trref.krylov.cg_lanczos import cg_coefficients, error_estimate, tridiagonal_from_cg
from trref.krylov.lanczos import lanczos, tridiagonal
from trref.problems.convex import DenseOperator, spd_matrix, spectrum


def _problem(seed, n=25, condition=50.0):
    rng = np.random.default_rng(seed)
    A = spd_matrix(rng, spectrum(n, condition))
    b = rng.standard_normal(n)
    return A, b, np.linalg.solve(A, b), rng


def _matrix(result, k=None):
    return tridiagonal_from_cg(np.array(result.alpha[:k]), np.array(result.beta[:k]))


def test_by_hand():
    """A = diag(1, 2), b = (1, 1): alpha = 2/3, 3/4; beta = 1/9; T as for Lanczos."""
    result = cg_coefficients(DenseOperator(np.diag([1.0, 2.0])), np.array([1.0, 1.0]), steps=9)
    assert result.alpha == pytest.approx([2 / 3, 3 / 4]) and result.beta[0] == pytest.approx(1 / 9)
    assert result.rz == pytest.approx([2, 2 / 9]) and result.iterations == 2
    assert np.allclose(_matrix(result), [[1.5, 0.5], [0.5, 1.5]], rtol=1e-9)
    assert np.allclose(result.x, [1, 0.5], rtol=1e-9)


def test_the_certificate_sees_every_coefficient():
    A, b, exact, _ = _problem(6)
    record = catalog.find("cg_lanczos.cg_coefficients")
    good = cg_coefficients(DenseOperator(A), b, steps=4)
    worst = lambda result: max(  # noqa: E731
        value / record.tolerances[name]
        for name, value in record.certificate(result, DenseOperator(A), b, steps=4).items()
    )
    assert worst(good) <= 1
    for name in ("alpha", "beta", "rz"):
        for j in range(3 if name == "beta" else 4):  # the last beta is of a step that was not taken
            values = list(getattr(good, name))
            values[j] *= 1 + 1e-6
            assert worst(good._replace(**{name: values})) > 1, f"{name}[{j}]"
    assert worst(good._replace(x=exact)) > 1


@pytest.mark.parametrize("preconditioned", [False, True])
def test_tridiagonal_matrix_of_lanczos(preconditioned):
    A, b, _, rng = _problem(0)
    M = spd_matrix(rng, spectrum(25, 10.0)) if preconditioned else np.eye(25)
    C = np.linalg.cholesky(M)
    inside = np.linalg.solve(C, np.linalg.solve(C, A).T)
    result = cg_coefficients(
        DenseOperator(A), b, preconditioner=DenseOperator(np.linalg.inv(M)) if preconditioned else None, steps=12
    )
    expected = tridiagonal(lanczos(DenseOperator((inside + inside.T) / 2), np.linalg.solve(C, b), steps=12))
    assert np.allclose(_matrix(result), expected, rtol=1e-7, atol=1e-9)


def test_ritz_values_lie_in_the_spectrum_and_find_its_ends():
    A, b, _, _ = _problem(1)
    result = cg_coefficients(DenseOperator(A), b, steps=18)
    theta, w = np.linalg.eigvalsh(_matrix(result)), np.linalg.eigvalsh(A)
    assert w[0] * (1 - 1e-12) <= theta[0] and theta[-1] <= w[-1] * (1 + 1e-12)
    assert theta[0] == pytest.approx(w[0], rel=1e-2) and theta[-1] == pytest.approx(w[-1], rel=1e-4)


def test_error_is_the_sum_of_the_decreases():
    """Equality between any two iterates, and a lower bound with any delay."""
    A, b, exact, _ = _problem(2)
    iterates = [0 * b] + [cg_coefficients(DenseOperator(A), b, steps=k).x for k in range(1, 13)]
    squared = np.array([(x - exact) @ A @ (x - exact) for x in iterates])
    result = cg_coefficients(DenseOperator(A), b, steps=12)
    alpha, rz = np.array(result.alpha), np.array(result.rz)
    for delay in (1, 3, 5):
        estimate = error_estimate(alpha, rz, delay=delay)
        last = np.minimum(np.arange(12) + delay, 12)
        assert np.allclose(estimate, squared[:-1] - squared[last], rtol=1e-9, atol=1e-12 * squared[0])
        assert (estimate <= squared[:-1] * (1 + 1e-10)).all()


def test_error_is_a_remainder_of_quadrature():
    """‖x - x_k‖_A² = ‖b‖² ((T_n⁻¹)_11 - (T_k⁻¹)_11) for a start at 0."""
    A, b, exact, _ = _problem(3, condition=10.0)
    result = cg_coefficients(DenseOperator(A), b, steps=25)
    corner = lambda k: np.linalg.inv(_matrix(result, k))[0, 0]  # noqa: E731
    full = b @ exact / (b @ b)
    for k in (1, 3, 6):
        x = cg_coefficients(DenseOperator(A), b, steps=k).x
        assert (b @ b) * (full - corner(k)) == pytest.approx((x - exact) @ A @ (x - exact), rel=1e-8)
    assert corner(result.iterations) == pytest.approx(full, rel=1e-10)


def test_longer_delay_is_tighter():
    A, b, _, _ = _problem(4)
    result = cg_coefficients(DenseOperator(A), b, steps=15)
    estimates = [error_estimate(np.array(result.alpha), np.array(result.rz), delay=d) for d in (1, 2, 5, 50)]
    for shorter, longer in itertools.pairwise(estimates):
        assert (shorter <= longer).all() and shorter[0] < longer[0]


def test_ends_where_the_residual_reaches_rounding():
    A, b, exact, _ = _problem(5, n=6, condition=3.0)
    result = cg_coefficients(DenseOperator(A), b, steps=500)
    assert result.iterations <= 8 and np.allclose(result.x, exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("A", "b", "message"),
    [
        (np.eye(2), np.zeros(2), "b must have a norm of at least 1e-100"),
        (np.diag([1.0, -1.0]), np.ones(2), "matvec must be positive definite"),
        (np.array([[2.0, 1.0], [-1.0, 2.0]]), np.array([1.0, 2.0]), "matvec must be symmetric"),
        (np.full((2, 2), np.nan), np.ones(2), "matvec must give finite values"),
    ],
)
def test_what_it_refuses(A, b, message):
    with pytest.raises(ValueError, match=message):
        cg_coefficients(DenseOperator(A), b, steps=3)


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="alpha must be positive"):
        tridiagonal_from_cg(np.array([1.0, -1.0]), np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="alpha must be no smaller"):
        tridiagonal_from_cg(np.array([1.0, 1e-200]), np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="delay must lie in"):
        error_estimate(np.ones(2), np.ones(2), delay=0)
