"""Theorems of the Lanczos recurrence and of its quadrature."""

import itertools

import numpy as np
import pytest

from trref import catalog
from trref.krylov.lanczos import lanczos, lanczos_quadrature, stochastic_trace, tridiagonal
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.problems.spectral import Exponential, Logarithm, Polynomial


def _problem(seed, n=30, condition=100.0):
    rng = np.random.default_rng(seed)
    return spd_matrix(rng, spectrum(n, condition)), rng.standard_normal(n), rng


def test_basis_of_the_krylov_space_in_which_the_matrix_is_tridiagonal():
    A, v, _ = _problem(0)
    result = lanczos(DenseOperator(A), v, steps=10)
    V, T = result.basis, tridiagonal(result)
    assert np.allclose(V.T @ V, np.eye(10), rtol=0, atol=1e-13)
    assert np.allclose(V.T @ A @ V, T, rtol=0, atol=1e-13)
    K = np.linalg.qr(np.stack([np.linalg.matrix_power(A, j) @ v for j in range(4)], 1))[0]
    assert np.allclose(K @ K.T @ V[:, :4], V[:, :4], rtol=0, atol=1e-9)


def test_the_certificate_asks_for_the_start_and_for_signs():
    A, v, _ = _problem(8)
    record = catalog.find("lanczos.lanczos")
    good = lanczos(DenseOperator(A), v, steps=4)
    signs = np.array([1.0, -1.0, 1.0, 1.0])
    wrong = {
        "start": lanczos(DenseOperator(A), v[::-1].copy(), steps=4),
        "negative off-diagonal": good._replace(
            basis=good.basis * signs,
            off_diagonal=[-good.off_diagonal[0], -good.off_diagonal[1], *good.off_diagonal[2:]],
        ),
        "steps left out": lanczos(DenseOperator(A), v, steps=3),
    }
    for name, result in wrong.items():
        figures = record.certificate(result, DenseOperator(A), v, steps=4)
        failing = [figure for figure, value in figures.items() if not value <= record.tolerances[figure]]
        assert failing == [name]


def test_by_hand():
    """A = diag(1, 2), v = (1, 1)/√2: a_1 = 3/2, β_1 = 1/2, a_2 = 3/2, then the space is exhausted."""
    result = lanczos(DenseOperator(np.diag([1.0, 2.0])), np.array([1.0, 1.0]), steps=5)
    assert result.iterations == 2 and result.converged
    assert result.diagonal == pytest.approx([1.5, 1.5]) and result.off_diagonal[0] == pytest.approx(0.5)
    assert result.off_diagonal[1] < 1e-14


def test_ritz_values_interlace_and_the_residual_bounds_their_error():
    A, v, _ = _problem(1)
    eigenvalues, previous = np.linalg.eigvalsh(A), None
    for k in (3, 4, 5):
        result = lanczos(DenseOperator(A), v, steps=k)
        theta, S = np.linalg.eigh(tridiagonal(result))
        if previous is not None:  # Cauchy: the new Ritz values separate the old ones
            assert (theta[:-1] < previous).all() and (previous < theta[1:]).all()
        bounds = result.off_diagonal[-1] * abs(S[-1])
        nearest = abs(theta[:, None] - eigenvalues).min(1)
        assert (nearest <= bounds * (1 + 1e-10)).all()
        previous = theta


def test_ghosts_appear_without_reorthogonalisation_and_not_with_it():
    n = 80
    A = np.diag(np.concatenate([np.linspace(0, 1, n - 1), [4.0]]))
    v = np.random.default_rng(2).standard_normal(n)
    plain, full = (lanczos(DenseOperator(A), v, steps=60, reorthogonalise=passes) for passes in (0, 2))
    near_largest = lambda result: (abs(np.linalg.eigvalsh(tridiagonal(result)) - 4) < 1e-6).sum()  # noqa: E731
    assert near_largest(plain) > 1 and near_largest(full) == 1
    assert abs(plain.basis.T @ plain.basis - np.eye(60)).max() > 0.1
    assert abs(full.basis.T @ full.basis - np.eye(60)).max() < 1e-13


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_quadrature_is_exact_for_degree_2k_minus_1_and_not_for_2k(k):
    A, v, rng = _problem(3, n=12, condition=5.0)
    for degree, exact in ((2 * k - 1, True), (2 * k, False)):
        coefficients = rng.standard_normal(degree + 1)
        f = Polynomial(coefficients)
        value = v @ sum(c * np.linalg.matrix_power(A, j) for j, c in enumerate(coefficients)) @ v
        error = abs(lanczos_quadrature(DenseOperator(A), v, f, steps=k) - value)
        assert error < 1e-12 * max(1, abs(value)) if exact else error > 1e-6


def test_quadrature_bounds_the_inverse_from_below():
    """For f with even derivatives of one sign the Gauss rule errs to one side: below for 1/t, above for log t."""
    A, v, _ = _problem(4, condition=30.0)
    w, Q = np.linalg.eigh(A)
    exact = ((Q.T @ v) ** 2 * np.log(w)).sum()
    errors = [lanczos_quadrature(DenseOperator(A), v, Logarithm(), steps=k) - exact for k in (1, 2, 4, 6)]
    assert all(e > 0 for e in errors) and errors == sorted(errors, reverse=True)


def test_trace_is_the_mean_over_all_sign_vectors():
    """The expectation over random signs, written out: all 2^n of them, with rules of n nodes."""
    A, _, _ = _problem(5, n=5, condition=10.0)
    probes = np.array(list(itertools.product((-1.0, 1.0), repeat=5)))
    estimate = stochastic_trace(DenseOperator(A), probes, Exponential(0.7), steps=5)
    assert estimate == pytest.approx(np.exp(0.7 * np.linalg.eigvalsh(A)).sum(), rel=1e-12)


def test_variance_of_sign_probes_is_that_of_the_entries_off_the_diagonal():
    A, _, _ = _problem(6, n=6, condition=10.0)
    identity = Polynomial(np.array([0.0, 1.0]))
    probes = np.array(list(itertools.product((-1.0, 1.0), repeat=6)))
    values = np.array([lanczos_quadrature(DenseOperator(A), v, identity, steps=3) for v in probes])
    off = A - np.diag(np.diag(A))
    assert values.var() == pytest.approx(2 * (off**2).sum(), rel=1e-10)


def test_log_determinant():
    A, _, rng = _problem(7, n=60, condition=50.0)
    probes = rng.choice((-1.0, 1.0), (200, 60))
    values = [float(lanczos_quadrature(DenseOperator(A), v, Logarithm(), steps=25)) for v in probes]
    error = np.std(values) / np.sqrt(200)
    assert abs(np.mean(values) - np.linalg.slogdet(A)[1]) < 4 * error


@pytest.mark.parametrize(
    ("A", "v", "message"),
    [
        (np.eye(2), np.zeros(2), "v must not be zero"),
        (np.array([[2.0, 1.0], [-1.0, 2.0]]), np.array([1.0, 2.0]), "matvec must be symmetric"),
        (np.full((2, 2), np.nan), np.ones(2), "matvec must give finite values"),
        (np.ones((3, 2)), np.ones(2), "matvec must give float64 arrays of shape"),
    ],
)
def test_what_it_refuses(A, v, message):
    with pytest.raises(ValueError, match=message):
        lanczos(DenseOperator(A), v, steps=3)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_function_that_is_not_defined_at_a_ritz_value():
    with pytest.raises(ValueError, match="f must be finite at the Ritz values"):
        lanczos_quadrature(DenseOperator(np.diag([1.0, -1.0])), np.array([1.0, 2.0]), Logarithm())
