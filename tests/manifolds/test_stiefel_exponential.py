"""Geodesics: against scipy.linalg.expm of the textbook's block matrix, closed forms, constant speed."""

import numpy as np
import pytest
import scipy.linalg

from trref.manifolds.stiefel import project
from trref.manifolds.stiefel_exponential import exponential, turn
from trref.manifolds.stiefel_gradient import inner
from trref.manifolds.stiefel_retraction import retract_cayley

METRICS = ["euclidean", "canonical"]


def _point(seed, n=7, p=3):
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((n, p)))[0]
    return x, project(x, rng.standard_normal((n, p)))


@pytest.mark.parametrize(("n", "p"), [(7, 3), (5, 4), (4, 4), (6, 1)])
def test_euclidean_geodesic_is_the_textbooks(n, p):
    """The form of Edelman, Arias and Smith, with a block matrix that is not skew."""
    for seed in range(5):
        x, z = _point(seed, n, p)
        A, S = x.T @ z, z.T @ z
        block = np.block([[A, -S], [np.eye(p), A]])
        expected = np.hstack([x, z]) @ scipy.linalg.expm(block)[:, :p] @ scipy.linalg.expm(-A)
        assert np.allclose(exponential(x, z), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("seed", range(5))
def test_canonical_geodesic_is_one_rotation_of_the_whole_space(seed):
    """In the canonical metric the geodesic is exp(W) x with the skew W of the Cayley retraction."""
    x, z = _point(seed)
    half = np.eye(7) - x @ x.T / 2
    W = half @ z @ x.T - x @ z.T @ half
    assert np.allclose(exponential(x, z, metric="canonical"), scipy.linalg.expm(W) @ x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 9])
def test_exponential_of_skew_matrices(size):
    rng = np.random.default_rng(size)
    M = rng.standard_normal((3, size, size)) * np.array([1e-3, 1.0, 10.0])[:, None, None]
    M = M - np.swapaxes(M, 1, 2)
    expected = np.array([scipy.linalg.expm(m) for m in M])
    assert np.allclose(turn(M), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_on_the_sphere(metric):
    x, z = _point(1, 5, 1)
    length = np.linalg.norm(z)
    expected = np.cos(length) * x + np.sin(length) * z / length
    assert np.allclose(exponential(x, z, metric=metric), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_on_the_orthogonal_group(metric):
    x, z = _point(2, 4, 4)
    assert np.allclose(exponential(x, z, metric=metric), x @ scipy.linalg.expm(x.T @ z), rtol=0, atol=1e-13)


def test_metrics_agree_where_nothing_rotates_within_the_span():
    x, z = _point(3)
    out = z - x @ (x.T @ z)
    assert np.allclose(exponential(x, out), exponential(x, out, metric="canonical"), rtol=0, atol=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_orthonormal_for_steps_of_any_length(metric):
    x, z = _point(4)
    for length in (1e-8, 1.0, 1e3, 1e6):
        y = exponential(x, length * z, metric=metric)
        assert abs(y.T @ y - np.eye(3)).max() < 1e-13


@pytest.mark.parametrize("metric", METRICS)
def test_speed_is_constant_in_its_metric(metric):
    x, z = _point(5)
    h, speeds = 1e-4, []
    for t in (0.0, 0.4, 0.9):
        y = exponential(x, t * z, metric=metric)
        velocity = (exponential(x, (t + h) * z, metric=metric) - exponential(x, (t - h) * z, metric=metric)) / (2 * h)
        speeds.append(float(inner(y, velocity, velocity, metric=metric)))
    assert speeds == pytest.approx([float(inner(x, z, z, metric=metric))] * 3, rel=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_geodesics_continue_themselves(metric):
    """Half the way, then the other half with the velocity there."""
    x, z = _point(6)
    h = 1e-4
    y = exponential(x, z / 2, metric=metric)
    ahead, behind = (exponential(x, (0.5 + s) * z, metric=metric) for s in (h, -h))
    velocity = (ahead - behind) / (2 * h)
    rest = exponential(y, velocity / 2, metric=metric)
    assert np.allclose(rest, exponential(x, z, metric=metric), rtol=0, atol=1e-6)


def _acceleration(curve, x, z, h=1e-3):
    return (curve(x, h * z) - 2 * x + curve(x, -h * z)) / h**2


def test_accelerations():
    """A Euclidean geodesic has none along the manifold; Cayley curve and canonical geodesic accelerate equally."""
    x, z = _point(7)
    canonical = _acceleration(lambda x, z: exponential(x, z, metric="canonical"), x, z)
    assert np.linalg.norm(project(x, _acceleration(exponential, x, z))) < 1e-5
    assert np.allclose(canonical, _acceleration(retract_cayley, x, z), rtol=0, atol=1e-5)
    assert np.linalg.norm(project(x, canonical)) > 0.1


def test_batches():
    points = [_point(s) for s in range(4)]
    x, z = (np.stack(part) for part in zip(*points, strict=True))
    for metric in METRICS:
        together = exponential(x, z, metric=metric)
        for i in range(4):
            assert np.allclose(together[i], exponential(x[i], z[i], metric=metric), rtol=0, atol=1e-13)
