"""Hyperbolic heads: distances by minimisation, one dimension in closed form, the flat limit, and how gradients grow."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from trref.manifolds.hyperbolic_head import (
    exp_hyperboloid,
    exp_hyperboloid_jvp,
    exp_poincare,
    exp_poincare_jvp,
    hyperbolic_cross_entropy,
    hyperboloid_logits,
    poincare_logits,
    poincare_logits_jvp,
)


def _head(seed, N=5, D=3, K=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, D)), rng.standard_normal((K, D)), 0.5 * rng.standard_normal(K)


@pytest.mark.parametrize("c", [0.3, 1.0, 4.0])
def test_points_and_their_distance_from_the_origin(c):
    v, _, _ = _head(0)
    v[0] = 0
    x, n = exp_hyperboloid(v, curvature=c), np.sqrt((v**2).sum(1))
    off = abs(-(x[:, 0] ** 2) + (x[:, 1:] ** 2).sum(1) + 1 / c)
    assert (off <= 1e-14 * x[:, 0] ** 2).all(), "as well as the difference of two squares can be known"
    # arcosh loses half the digits near 1
    assert np.allclose(np.arccosh(math.sqrt(c) * x[:, 0]) / math.sqrt(c), n, rtol=1e-9, atol=1e-7)
    ball = exp_poincare(v, curvature=c)
    assert np.allclose(np.arctanh(math.sqrt(c) * np.sqrt((ball**2).sum(1))), math.sqrt(c) * n, rtol=1e-10, atol=1e-15)
    assert not ball[0].any() and x[0].tolist() == [1 / math.sqrt(c), 0, 0, 0]


def test_in_one_dimension_the_logit_is_affine():
    """There q = sinh(√c (ẑ v - r)): no curvature is left."""
    v, offsets = np.array([[0.7], [-1.5], [3.0]]), np.array([0.25, -0.5])
    normals = np.array([[2.0], [-3.0]])
    wanted = np.abs(normals[:, 0]) * (v * np.sign(normals[:, 0]) - offsets)
    for c in (0.2, 1.0, 3.0):
        logits = hyperboloid_logits(exp_hyperboloid(v, curvature=c), normals, offsets, curvature=c)
        assert np.allclose(logits, wanted, rtol=1e-12, atol=0)
        ball = poincare_logits(exp_poincare(v, curvature=c), normals, offsets, curvature=c)
        assert np.allclose(ball, 4 * wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("c", [0.5, 1.0])
def test_the_logit_is_a_distance_to_a_plane(c):
    """The geodesic (cosh t, 0, sinh t) moved by r along the normal, in units of 1/√c; the nearest of its points."""
    root, r = math.sqrt(c), 0.4
    for v in ([0.9, -0.3], [-1.0, 2.0], [0.1, 0.1]):
        x = exp_hyperboloid(np.array([v]), curvature=c)[0]

        def distance(t, x=x):
            p = np.array([math.cosh(t) * math.cosh(root * r), math.cosh(t) * math.sinh(root * r), math.sinh(t)])
            return math.acosh(max(root * (x[0] * p[0] - x[1:] @ p[1:]), 1)) / root

        nearest = minimize_scalar(distance, bracket=(-2, 2), tol=1e-10).fun
        logit = hyperboloid_logits(x[None], np.array([[3.0, 0.0]]), np.array([r]), curvature=c)[0, 0]
        assert abs(logit) == pytest.approx(3 * nearest, rel=1e-7)


def test_the_flat_limit():
    v, normals, offsets = _head(1)
    flat = v @ normals.T - offsets * np.sqrt((normals**2).sum(1))
    for c in (1e-4, 1e-6):
        logits = hyperboloid_logits(exp_hyperboloid(v, curvature=c), normals, offsets, curvature=c)
        ball = poincare_logits(exp_poincare(v, curvature=c), normals, offsets, curvature=c)
        assert np.allclose(logits, flat, rtol=0, atol=30 * c)
        assert np.allclose(ball, 4 * flat, rtol=0, atol=300 * c)


@pytest.mark.parametrize("c", [0.5, 1.0, 2.0])
def test_the_two_heads_are_one(c):
    v, normals, offsets = _head(2)
    ball = poincare_logits(exp_poincare(v, curvature=c), normals, offsets, curvature=c)
    other = hyperboloid_logits(exp_hyperboloid(2 * v, curvature=c), normals, 2 * offsets, curvature=c)
    assert np.allclose(ball, 2 * other, rtol=1e-10, atol=1e-10)


def test_a_plane_from_its_other_side():
    v, normals, offsets = _head(3)
    x = exp_hyperboloid(v)
    assert np.allclose(hyperboloid_logits(x, -normals, -offsets), -hyperboloid_logits(x, normals, offsets), rtol=1e-13)


def test_the_ball_splits_its_gradient_into_vanishing_and_exploding_factors():
    unit = np.array([[0.6, 0.8]])
    normals, offsets = np.array([[1.0, 0.5]]), np.array([0.2])
    for R in (2.0, 5.0, 8.0):
        v = R * unit
        radial = exp_poincare_jvp(v, unit)
        assert np.linalg.norm(radial) == pytest.approx(1 / math.cosh(R) ** 2, rel=1e-6)
        factor = 2 * math.cosh(R) ** 2
        x = exp_poincare(v)
        slope = poincare_logits_jvp(x, normals, offsets, radial)
        assert abs(slope).max() < 4 * np.linalg.norm(normals), "together they are moderate"
        across = np.array([[-0.8, 0.6]])
        assert np.linalg.norm(exp_hyperboloid_jvp(v, unit)) == pytest.approx(math.sqrt(math.cosh(2 * R)), rel=1e-12)
        assert abs(poincare_logits_jvp(x, normals, offsets, unit)).max() > factor / 10
        assert np.linalg.norm(exp_poincare_jvp(v, across)) == pytest.approx(math.tanh(R) / R, rel=1e-12)


def test_gradients_by_features_stay_and_by_normals_grow():
    rng = np.random.default_rng(4)
    unit = rng.standard_normal((1, 8))
    unit /= np.linalg.norm(unit)
    normals, labels = rng.standard_normal((8, 8)) / math.sqrt(8), np.array([3])
    sizes = []
    for R in (2.0, 4.0, 8.0, 16.0):
        _, g = hyperbolic_cross_entropy(R * unit, normals, np.zeros(8), labels)
        sizes.append((np.linalg.norm(g.v), np.linalg.norm(g.normals)))
    by_v, by_normals = np.array(sizes).T
    assert (by_v < 3 * np.linalg.norm(normals, axis=1).max()).all()
    assert (np.diff(by_normals) > 0).all() and by_normals[-1] > 5 * by_normals[0]


def test_far_out_nothing_overflows():
    with np.errstate(all="raise"):
        v, normals = np.array([[40.0, 0.0], [0.0, -40.0]]), np.array([[1.0, 0.0], [0.5, 1.0]])
        loss, g = hyperbolic_cross_entropy(v, normals, np.array([20.0, -20.0]), np.array([0, 1]))
    assert np.isfinite(loss) and all(np.isfinite(part).all() for part in g)


def test_what_is_refused():
    v, normals, offsets = _head(5)
    with pytest.raises(ValueError, match="v must have rows of norm at most 40"):
        exp_hyperboloid(41 * np.eye(2))
    with pytest.raises(ValueError, match="normals must not have a row of 0"):
        hyperboloid_logits(exp_hyperboloid(v), 0 * normals, offsets)
    with pytest.raises(ValueError, match="offsets must be at most 20"):
        hyperboloid_logits(exp_hyperboloid(v), normals, offsets + 21)
    with pytest.raises(ValueError, match="x must be of norm below"):
        poincare_logits(np.ones((1, 3)), normals, offsets)
