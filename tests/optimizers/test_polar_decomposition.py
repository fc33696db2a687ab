"""Theorems and limits of the polar decomposition and of its iterations."""

import numpy as np
import pytest
import scipy.linalg
import scipy.special

from trref.optimizers.polar_decomposition import (
    MUON,
    newton_schulz,
    nuclear_norm,
    polar_factor,
    qdwh,
    weights,
    zolopd,
    zolotarev,
)
from trref.validate import ConvergenceWarning


def _matrix(singular_values, rows, seed=0):
    """A matrix with these singular values, and its polar factor."""
    rng, n = np.random.default_rng(seed), len(singular_values)
    P, V = (np.linalg.qr(rng.standard_normal((m, n)))[0] for m in (rows, n))
    return (P * singular_values) @ V.T, P @ V.T


def test_by_hand():
    """diag(3, -2) has the factor diag(1, -1), and a column its direction; what is zero stays zero."""
    assert np.allclose(polar_factor(np.diag([3.0, -2.0])), np.diag([1.0, -1.0]), rtol=1e-9)
    assert np.allclose(polar_factor(np.array([[3.0], [4.0]])), [[0.6], [0.8]], rtol=1e-9)
    assert np.allclose(polar_factor(np.diag([3.0, 0.0])), np.diag([1.0, 0.0]), rtol=1e-9)
    assert not polar_factor(np.zeros((3, 2))).any()
    value, slope = nuclear_norm(np.diag([3.0, -2.0]))
    assert value == pytest.approx(5.0) and np.allclose(slope, np.diag([1.0, -1.0]), rtol=1e-9)
    assert nuclear_norm(np.zeros((2, 2)))[0] == 0


def test_against_scipy():
    for shape in ((7, 4), (5, 5), (3, 6)):
        x = np.random.default_rng(1).standard_normal(shape)
        U, H = scipy.linalg.polar(x)
        assert np.allclose(polar_factor(x), U, rtol=0, atol=1e-13)
        found = qdwh(x)
        assert np.allclose(found.U, U, rtol=0, atol=1e-12) and np.allclose(found.H, H, rtol=0, atol=1e-12)


def test_the_nearest_matrix_with_orthonormal_columns():
    x, rng = np.random.default_rng(2).standard_normal((6, 3)), np.random.default_rng(3)
    least = np.linalg.norm(x - polar_factor(x))
    for _ in range(50):
        Q, _ = np.linalg.qr(polar_factor(x) + rng.standard_normal((6, 3)))
        assert np.linalg.norm(x - Q) > least


def test_turning_and_scaling():
    rng = np.random.default_rng(4)
    x, Q, R = rng.standard_normal((5, 3)), *(np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (5, 3))
    for f in (polar_factor, lambda a: newton_schulz(a, eps=1e-300), lambda a: qdwh(a).U):
        assert np.allclose(f(Q @ x @ R), Q @ f(x) @ R, rtol=0, atol=1e-12)
        assert np.allclose(f(1e3 * x), f(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [4, 9])
def test_newton_schulz_acts_on_singular_values_alone(rows):
    """Five times φ(s) = a s + b s³ + c s⁵ of the singular values over the Frobenius norm."""
    s = np.array([1.0, 0.3, 0.05, 0.002])
    x, _ = _matrix(s, rows)
    expected = s / np.linalg.norm(s)
    for _ in range(5):
        expected = MUON[0] * expected + MUON[1] * expected**3 + MUON[2] * expected**5
    direct, _ = _matrix(expected, rows)
    assert np.allclose(newton_schulz(x, eps=1e-300), direct, rtol=0, atol=1e-12)
    assert np.allclose(newton_schulz(x.T, eps=1e-300), direct.T, rtol=0, atol=1e-12)


def test_muon_s_band_and_fixed_points():
    """Values from 0.01 of the norm on end in [0.68, 1.14]; 0.868 is kept."""
    s = np.geomspace(0.01, 1, 400)
    for _ in range(5):
        s = MUON[0] * s + MUON[1] * s**3 + MUON[2] * s**5
    assert s.min() > 0.68 and s.max() < 1.14
    x, U = _matrix(np.array([0.5, 0.5, 0.5, 0.5]), 4)  # over the norm: ½ each
    half = newton_schulz(x, steps=1, eps=1e-300)
    assert np.allclose(half, (MUON[0] / 2 + MUON[1] / 8 + MUON[2] / 32) * U, rtol=0, atol=1e-12)
    roots = np.roots([MUON[2], 0, MUON[1], 0, MUON[0] - 1])
    assert any(abs(roots - 0.8680) < 1e-4)


@pytest.mark.parametrize(("coefficients", "steps"), [("cubic", 30), ("quintic", 20), ("polar_express", 12)])
def test_the_others_converge(coefficients, steps):
    x, U = _matrix(np.array([1.0, 0.1, 0.01, 0.002]), 6)
    assert np.allclose(newton_schulz(x, coefficients=coefficients, steps=steps, eps=1e-300), U, rtol=0, atol=1e-9)


def test_polar_express_needs_fewer_steps():
    x, U = _matrix(np.array([1.0, 0.1, 0.01, 0.001]), 6)
    off = {c: abs(newton_schulz(x, coefficients=c, steps=7) - U).max() for c in ("quintic", "polar_express")}
    assert off["polar_express"] < 0.01 < 0.1 < off["quintic"]


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8, 1e12])
def test_qdwh_needs_six_steps_at_most(condition):
    """Both results are orthonormal to rounding, and as near as the condition lets them be."""
    x, U = _matrix(np.geomspace(1, 1 / condition, 5), 8)
    found = qdwh(x)
    assert found.iterations <= 6 and found.converged and found.errors[-1] < 1e-13
    assert abs(found.U - U).max() < 1e-13 + 1e-14 * condition
    assert np.linalg.eigvalsh(found.H).min() > -1e-14


def test_the_lower_bound_by_hand():
    """Halley's step at l = 1, and the bounds from 2.2e-16: 1.5e-5, 0.06, 0.8, 0.9998, 1."""
    assert weights(1.0)[:3] == pytest.approx((3, 1, 3))
    lowest, seen = 2.2e-16, []
    for _ in range(6):
        *_, lowest = weights(lowest)
        seen.append(lowest)
    assert seen == pytest.approx([1.5e-5, 0.062, 0.796, 0.99982, 1, 1], rel=0.03)


def test_halley_by_hand():
    """For a singular value of ½ of two, over the norm 1/√2 each: x (3 + x²)/(1 + 3 x²)."""
    with pytest.warns(ConvergenceWarning):
        found = qdwh(np.eye(2), lowest=1 - 1e-9, max_iter=1)
    s = 1 / np.sqrt(2)
    assert np.allclose(found.U, s * (3 + s * s) / (1 + 3 * s * s) * np.eye(2), rtol=0, atol=1e-6)


def test_a_wide_matrix_is_the_transpose_of_a_tall_one():
    x = np.random.default_rng(5).standard_normal((3, 5))
    found = qdwh(x)
    assert np.allclose(found.U, qdwh(x.T).U.T, rtol=0, atol=1e-13)
    assert np.allclose(found.U @ found.H, x, rtol=0, atol=1e-13)


def test_what_does_not_converge_says_so():
    with pytest.warns(ConvergenceWarning, match="qdwh"):
        assert not qdwh(np.zeros((2, 2))).U.any()
    with pytest.warns(ConvergenceWarning, match="after 2 steps"):
        assert not qdwh(np.diag([1.0, 1e-6]), max_iter=2).converged


@pytest.mark.parametrize(("condition", "degree"), [(1e2, 3), (1e3, 4), (1e5, 5), (1e7, 6), (1e10, 7), (1e16, 8)])
def test_degrees_that_are_enough_for_two_steps(condition, degree):
    """As published; with one degree less something is left."""
    left = []
    for r in (degree, degree - 1):
        lowest = 1 / condition
        for _ in range(2):
            lowest = zolotarev(lowest, r)[3]
        left.append(1 - lowest)
    assert abs(left[0]) < 2e-15 and left[1] > 5e-15


def test_zolotarev_coefficients_by_elliptic_functions():
    """Where SciPy's are accurate, for moduli that are not near 1."""
    for lowest, degree in ((0.5, 2), (0.1, 3), (0.01, 4)):
        m = 1 - lowest**2
        u = np.arange(1, 2 * degree + 1) * scipy.special.ellipk(m) / (2 * degree + 1)
        sn, cn, _, _ = scipy.special.ellipj(u, m)
        c = lowest**2 * (sn / cn) ** 2
        odd, a, one, after = zolotarev(lowest, degree)
        assert np.allclose(odd, c[::2], rtol=1e-9)
        x = np.linspace(lowest, 1, 9)
        product = x * np.prod([(x**2 + e) / (x**2 + o) for e, o in zip(c[1::2], c[::2], strict=True)], axis=0)
        fractions = x + sum(w * x / (x**2 + o) for w, o in zip(a, odd, strict=True))
        assert np.allclose(product, fractions, rtol=1e-9)
        assert one == pytest.approx(product[-1], rel=1e-9) and after == pytest.approx(product[0] / one, rel=1e-9)


def test_zolotarev_of_degree_one_is_a_step_of_qdwh_and_equioscillates():
    x = np.linspace(1e-3, 1, 50)
    a, b, c, after = weights(1e-3)
    (odd,), (weight,), one, same = zolotarev(1e-3, 1)
    assert np.allclose(x * (a + b * x * x) / (1 + c * x * x), (x + weight * x / (x * x + odd)) / one, rtol=1e-12)
    assert same == pytest.approx(after, rel=1e-12)
    # scaled to the middle of its range, the largest error falls with the degree as known
    for degree, error in ((1, 0.6025), (2, 0.2021), (3, 0.0621)):
        least = zolotarev(1e-3, degree)[3]
        assert (1 - least) / (1 + least) == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e8, 1e12])
def test_zolopd_against_scipy(condition):
    """Orthonormal to rounding; the factors agree up to the condition times rounding."""
    rng = np.random.default_rng(12)
    P, V = (np.linalg.qr(rng.standard_normal((n, 5)))[0] for n in (8, 5))
    A = P * np.logspace(0, -np.log10(condition), 5) @ V.T
    for x in (A, A.T):
        found, expected = zolopd(x), P @ V.T if x is A else V @ P.T
        assert found.converged and found.errors[-1] < 1e-14
        assert np.allclose(found.U, expected, rtol=0, atol=1e-14 * condition + 1e-13)
        assert np.allclose(found.U @ found.H, x, atol=1e-14, rtol=1e-9) or x is not A
    assert len(found.errors) == 4, "at the start, after two steps, and after the cubic one"
