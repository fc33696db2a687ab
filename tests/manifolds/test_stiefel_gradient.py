"""Metrics, gradients and the Hessian: defining properties, orders by hand, second differences along geodesics."""

import itertools

import numpy as np
import pytest

from trref.manifolds.stiefel import project, retract_qr
from trref.manifolds.stiefel_exponential import exponential
from trref.manifolds.stiefel_gradient import inner, riemannian_gradient, riemannian_hessian
from trref.manifolds.stiefel_retraction import retract_cayley, retract_polar
from trref.problems.convex import spd_matrix
from trref.problems.frames import Brockett, JointDiagonalisation, Procrustes

N, P = 7, 3
RETRACTIONS = {
    "qr": retract_qr,
    "polar": retract_polar,
    "cayley": retract_cayley,
    "geodesic": exponential,
    "canonical geodesic": lambda x, z: exponential(x, z, metric="canonical"),
}


def _problems():
    rng = np.random.default_rng(3)
    A, K = spd_matrix(rng, 1 + rng.random(N)), rng.standard_normal((4, N, N))
    return {
        "Brockett": Brockett(A, np.array([3.0, 2.0, 1.0])),
        "Procrustes": Procrustes(rng.standard_normal((9, N)), rng.standard_normal((9, P))),
        "joint diagonalisation": JointDiagonalisation(K + np.swapaxes(K, 1, 2)),
    }


PROBLEMS = _problems()


def _point(seed):
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((N, P)))[0]
    return x, project(x, rng.standard_normal((N, P))), rng


@pytest.mark.parametrize("name", PROBLEMS)
def test_euclidean_derivatives_of_the_problems(name):
    """The gradient and the Hessian product that everything below relies on, by central differences."""
    f, (x, z, _), h = PROBLEMS[name], _point(0), 1e-5
    slope = (f(x + h * z)[0] - f(x - h * z)[0]) / (2 * h)
    assert slope == pytest.approx(np.sum(f(x)[1] * z), rel=1e-7)
    bend = (f(x + h * z)[1] - f(x - h * z)[1]) / (2 * h)
    assert np.allclose(bend, f.hessian_vector(x, z), rtol=0, atol=1e-6 * abs(bend).max())


@pytest.mark.parametrize("metric", ["euclidean", "canonical"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradient_represents_the_derivative_in_its_metric(name, metric):
    f = PROBLEMS[name]
    for seed in range(5):
        x, z, _ = _point(seed)
        g = riemannian_gradient(x, f(x)[1], metric=metric)
        assert np.allclose(x.T @ g + g.T @ x, 0, rtol=0, atol=1e-12)
        assert inner(x, g, z, metric=metric) == pytest.approx(np.sum(f(x)[1] * z), rel=1e-10)


@pytest.mark.parametrize(("name", "curve"), list(itertools.product(PROBLEMS, RETRACTIONS)))
def test_slope_along_every_retraction(name, curve):
    f, move, h = PROBLEMS[name], RETRACTIONS[curve], 1e-4
    x, z, _ = _point(1)
    slope = (f(move(x, h * z))[0] - f(move(x, -h * z))[0]) / (2 * h)
    assert slope == pytest.approx(float(inner(x, riemannian_gradient(x, f(x)[1]), z)), rel=1e-5)


@pytest.mark.parametrize("name", PROBLEMS)
def test_hessian_is_the_second_derivative_along_geodesics(name):
    f, h = PROBLEMS[name], 1e-3
    for seed in range(3):
        x, z, _ = _point(seed)
        G = f(x)[1]
        along = [f(exponential(x, t * z))[0] for t in (-2 * h, -h, 0 * h, h, 2 * h)]
        second = np.dot([-1, 16, -30, 16, -1], along) / (12 * h * h)
        hessian = riemannian_hessian(x, z, G, f.hessian_vector(x, z))
        assert float(inner(x, hessian, z)) == pytest.approx(second, rel=1e-6)


@pytest.mark.parametrize("name", PROBLEMS)
def test_hessian_is_self_adjoint_on_the_tangent_space(name):
    f = PROBLEMS[name]
    x, z, rng = _point(4)
    w, G = project(x, rng.standard_normal((N, P))), f(x)[1]
    there = inner(x, riemannian_hessian(x, z, G, f.hessian_vector(x, z)), w)
    back = inner(x, z, riemannian_hessian(x, w, G, f.hessian_vector(x, w)))
    assert float(there) == pytest.approx(float(back), rel=1e-10)


def test_metrics_by_hand():
    """A rotation within the span counts twice in the Euclidean metric and once in the canonical one."""
    x = np.eye(3)[:, :2]
    rotation = np.array([[0.0, -1.0], [1.0, 0.0], [0.0, 0.0]])
    out = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    assert inner(x, rotation, rotation) == 2
    assert inner(x, rotation, rotation, metric="canonical") == 1
    assert inner(x, out, out) == inner(x, out, out, metric="canonical") == 25
    assert inner(x, out, rotation) == inner(x, out, rotation, metric="canonical") == 0


def test_metrics_agree_where_nothing_rotates_within_the_span():
    x, z, rng = _point(5)
    out = z - x @ (x.T @ z)
    other = project(x, rng.standard_normal((N, P)))
    assert inner(x, out, other) == pytest.approx(float(inner(x, out, other, metric="canonical")), rel=1e-12)


def test_mixing_metrics_gives_wrong_slopes():
    """The canonical gradient with the Euclidean inner product does not give the derivative."""
    f = PROBLEMS["Procrustes"]
    x, z, _ = _point(6)
    mixed = float(inner(x, riemannian_gradient(x, f(x)[1], metric="canonical"), z))
    assert abs(mixed - np.sum(f(x)[1] * z)) > 0.1 * abs(mixed)


def test_difference_of_the_gradients():
    x, _, rng = _point(7)
    G = rng.standard_normal((N, P))
    skew = (x.T @ G - G.T @ x) / 2
    difference = riemannian_gradient(x, G, metric="canonical") - riemannian_gradient(x, G)
    assert np.allclose(difference, x @ skew, rtol=0, atol=1e-13)


def test_unknown_metric():
    x, z, _ = _point(0)
    with pytest.raises(ValueError, match="metric must be one of 'euclidean', 'canonical'"):
        inner(x, z, z, metric="hyperbolic")
