"""Wells, functions of a matrix, one- and two-dimensional landscapes, scale-invariant losses."""

import numpy as np
import pytest

from tests.problems.agreement import same_on_strict
from trref.checks import check_gradient
from trref.problems import landscapes, matrices, wells
from trref.problems.convex import spd_matrix
from trref.problems.scale_invariant import RayleighQuotient


def _rng(seed=0):
    return np.random.default_rng(seed)


def _matrix(rng, kind):
    A, B = rng.standard_normal((5, 3)), rng.standard_normal((4, 6))
    C = rng.standard_normal((5, 6))
    return {
        "quadratic": matrices.MatrixQuadratic(A, B, C),
        "logistic": matrices.MatrixLogistic(A, B, np.sign(C)),
        "completion": matrices.Completion((rng.random((3, 4)) < 0.5).astype(float), rng.standard_normal((3, 4))),
    }[kind]


@pytest.mark.parametrize("kind", ["quadratic", "logistic", "completion"])
def test_functions_of_a_matrix(kind):
    rng, h = _rng(1), 1e-6
    f, X, V = _matrix(rng, kind), rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    check_gradient(lambda X: f(X)[0], X, f(X)[1], rng=rng)
    assert np.allclose(f.hessian_product(X, V), (f(X + h * V)[1] - f(X - h * V)[1]) / (2 * h), atol=1e-7, rtol=1e-9)
    same_on_strict(lambda f, X, V: (f(X), f.hessian_product(X, V)), f, X, V)
    with pytest.raises(ValueError, match=r"X must have shape \(3, 4\)"):
        f(X.T)


def test_values_of_functions_of_a_matrix():
    rng = _rng(2)
    f, X = _matrix(rng, "logistic"), rng.standard_normal((3, 4))
    assert f(X)[0] == pytest.approx(np.log1p(np.exp(-f.C * (f.A @ X @ f.B))).sum(), rel=1e-13)
    g = _matrix(rng, "quadratic")
    # vec(A X B) = (A ⊗ Bᵀ) vec(X), row by row
    K = np.kron(g.A, g.B.T)
    best = np.linalg.lstsq(K, g.C.ravel(), rcond=None)[0].reshape(3, 4)
    assert np.allclose(g(best)[1], 0, atol=1e-12, rtol=1e-9)
    assert np.allclose(g.hessian_product(X, X).ravel(), K.T @ K @ X.ravel(), rtol=1e-9)
    c = _matrix(rng, "completion")
    assert c(c.M + (1 - c.mask))[0] == 0


def test_wells():
    rng = _rng(3)
    f = wells.GaussianWells(
        np.array([1.0, 0.5]), np.array([[-1.0, 0.0], [1.0, 0.5]]), np.array([20.0, 2.0]), offset=1.0
    )
    x = rng.standard_normal((5, 2))
    values, gradients = f(x)
    narrow, wide = np.exp(-10 * ((x[2] + [1, 0]) ** 2).sum()), np.exp(-((x[2] - [1, 0.5]) ** 2).sum())
    assert values[2] == pytest.approx(1 - narrow - 0.5 * wide, rel=1e-13)
    check_gradient(lambda x: f(x)[0].sum(), x, gradients, rng=rng)
    alone = f(x[1])
    assert alone[0].shape == () and alone[0] == values[1] and np.array_equal(alone[1], gradients[1])
    same_on_strict(lambda f, x: (f(x), f(x[0]), f(x[None])), f, x)
    with pytest.raises(ValueError, match=r"x must have shape \(..., 2\)"):
        f(x[:, :1])


def test_two_parabolas():
    f = wells.TwoParabolas()
    x = np.array([-2.0, -2.4, -1.7, 2.0, 0.3, -1.0, 5.0])[:, None]
    values, gradients = f(x)
    assert np.allclose(values, [min(2 * (a + 2) ** 2, 0.08 * (a - 2) ** 2 + 0.15) for a in x[:, 0]], rtol=1e-15)
    check_gradient(lambda x: f(x)[0].sum(), x, gradients, rng=_rng(4))
    kink = (-(0.08 * 4 + 8) + np.sqrt((8.32) ** 2 - 4 * 1.92 * (8 - 0.47))) / (2 * 1.92)
    assert f(np.array([kink]))[0] == pytest.approx(0.08 * (kink - 2) ** 2 + 0.15, rel=1e-12)
    same_on_strict(lambda x: (f(x), f(x[0])), x)


@pytest.mark.parametrize(
    ("f", "minimum", "value"),
    [
        (landscapes.Corner(), [-0.3], 0.0),
        (landscapes.Waves(), [-0.643], 0.0),
        (landscapes.Plateau(), [0.0], 0.0),
        (landscapes.Beale(), [3.0, 0.5], 0.0),
        (landscapes.Quartic(), [0.0, 0.0, 0.0], 0.0),
    ],
)
def test_landscapes(f, minimum, value):
    minimum = np.array(minimum)
    assert f(minimum)[0] == pytest.approx(value, abs=2e-4), "the cards' minima, to the digits they give"
    for seed in range(8):
        x = 1.5 * _rng(seed).standard_normal(minimum.shape)
        assert f(x)[0] >= f(minimum)[0] - 1e-12
        check_gradient(lambda x: f(x)[0], x, f(x)[1], rng=_rng(seed))
    same_on_strict(lambda x: f(x), minimum + 0.25)
    assert f(minimum)[0].shape == () and f(minimum)[1].shape == minimum.shape


def test_pieces_of_the_landscapes_meet():
    for f, points in [(landscapes.Corner(), [0.0]), (landscapes.Plateau(), [-0.5, -0.4, 0.0, 0.4, 0.5])]:
        for p in points:
            left, right = (f(np.array([p + s]))[0] for s in (-1e-9, 1e-9))
            assert left == pytest.approx(right, abs=1e-8)
    assert landscapes.Waves()(np.array([-2.0]))[1] == [-40.0]
    with pytest.raises(ValueError, match="x must have shape"):
        landscapes.Corner()(np.zeros(2))


def test_rayleigh_quotient():
    rng = _rng(5)
    A, w = spd_matrix(rng, np.arange(1.0, 6)), rng.standard_normal(5)
    f = RayleighQuotient(A)
    value, gradient = f(w)
    check_gradient(lambda w: f(w)[0], w, gradient, rng=rng)
    assert 1 <= value <= 5 and abs(w @ gradient) < 1e-14
    assert f(3 * w)[0] == pytest.approx(value, rel=1e-14) and np.allclose(f(3 * w)[1], gradient / 3, rtol=1e-9)
    vector = np.linalg.eigh(A)[1][:, 1]
    assert f(vector)[0] == pytest.approx(2.0) and np.allclose(f(vector)[1], 0, atol=1e-14, rtol=1e-9)
    same_on_strict(lambda f, w: f(w), f, w)
