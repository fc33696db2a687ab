"""Transports: tangent at the end, differentials by differences, isometry, scaling."""

import numpy as np
import pytest

from trref.manifolds.stiefel import project, retract_qr
from trref.manifolds.stiefel_gradient import inner
from trref.manifolds.stiefel_retraction import retract_cayley, retract_polar
from trref.manifolds.stiefel_transport import (
    scaled_transport,
    transport,
    transport_cayley,
    transport_polar,
    transport_qr,
)

N, P = 7, 3
PAIRS = [(retract_qr, transport_qr), (retract_polar, transport_polar), (retract_cayley, transport_cayley)]


def _point(seed, length=1.0):
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((N, P)))[0]
    step, z, w = (project(x, rng.standard_normal((N, P))) for _ in range(3))
    return x, length * step, z, w


def _off_tangent(y, z):
    return abs(y.T @ z + z.T @ y).max()


@pytest.mark.parametrize(("retract", "carry"), PAIRS)
def test_lands_in_the_tangent_space_of_the_end(retract, carry):
    for seed in range(5):
        x, step, z, _ = _point(seed)
        y = retract(x, step)
        assert _off_tangent(y, carry(x, step, z)) < 1e-13
        # entries of yᵀz are sums of N products of a unit column and a column of z; twice, before and after
        rounding = 2 * len(y) * np.finfo(float).eps * np.linalg.norm(z)
        assert _off_tangent(y, transport(x, y, z)) < rounding


@pytest.mark.parametrize(("retract", "carry"), PAIRS)
def test_no_step_changes_nothing(retract, carry):
    x, step, z, _ = _point(0)
    assert np.allclose(carry(x, 0 * step, z), z, rtol=0, atol=1e-13)
    assert np.allclose(transport(x, x, z), z, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("retract", "carry"), PAIRS[:2])
def test_is_the_differential_of_the_retraction(retract, carry):
    x, step, z, _ = _point(1)
    h = 1e-3
    f = [retract(x, step + k * h * z) for k in (-2, -1, 1, 2)]
    difference = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
    assert np.allclose(carry(x, step, z), difference, rtol=0, atol=1e-8)


def test_cayley_keeps_all_inner_products_in_both_metrics():
    for length in (0.1, 1.0, 30.0):
        x, step, z, w = _point(2, length)
        y, tz, tw = retract_cayley(x, step), transport_cayley(x, step, z), transport_cayley(x, step, w)
        for metric in ("euclidean", "canonical"):
            before, after = inner(x, z, w, metric=metric), inner(y, tz, tw, metric=metric)
            assert float(after) == pytest.approx(float(before), rel=1e-11)
        assert np.linalg.norm(tz) == pytest.approx(np.linalg.norm(z), rel=1e-13)


def test_projection_never_lengthens_but_the_qr_differential_does():
    longer = 0
    for seed in range(50):
        x, step, z, _ = _point(seed, 0.1)
        y = retract_qr(x, step)
        assert np.linalg.norm(transport(x, y, z)) <= np.linalg.norm(z) * (1 + 1e-13)
        longer += np.linalg.norm(transport_qr(x, step, z)) > np.linalg.norm(z)
    assert longer > 0, "so that scaling matters"


def test_polar_differential_never_lengthens():
    """The singular values of x + step are at least 1, so both parts shrink."""
    for seed in range(50):
        x, step, z, _ = _point(seed)
        assert np.linalg.norm(transport_polar(x, step, z)) <= np.linalg.norm(z) * (1 + 1e-13)


def test_scaled_transport():
    """E17: the differential where that is no longer, else in its direction and as long as z."""
    shortened = 0
    for seed in range(50):
        x, step, z, _ = _point(seed, 0.1)
        moved, scaled = transport_qr(x, step, z), scaled_transport(x, step, z)
        before, after = np.linalg.norm(z), np.linalg.norm(moved)
        assert np.allclose(scaled, min(1, before / after) * moved, rtol=0, atol=1e-13)
        shortened += after > before
    assert 0 < shortened < 50
    assert np.all(scaled_transport(x, step, 0 * z) == 0)


def test_scaled_transport_takes_each_of_a_batch_by_itself():
    points = [_point(s, 0.1)[:3] for s in range(6)]
    x, step, z = (np.stack(part) for part in zip(*points, strict=True))
    together = scaled_transport(x, step, z)
    for i, point in enumerate(points):
        assert np.allclose(together[i], scaled_transport(*point), rtol=0, atol=1e-13)


def test_first_order_agreement():
    """Polar differential and projection differ at second order in the step only."""
    gaps = []
    for length in (1e-2, 5e-3):
        x, step, z, _ = _point(4, length)
        gaps.append(np.linalg.norm(transport_polar(x, step, z) - transport(x, retract_polar(x, step), z)))
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.05)


def test_rank_deficient_step():
    x, _, z, _ = _point(5)
    for carry in (transport_qr, transport_polar):
        with pytest.raises(ValueError, match="step must leave x \\+ step of full rank"):
            carry(x, -x, z)
    with pytest.raises(ValueError, match="retraction must be one of 'qr', 'polar'"):
        scaled_transport(x, 0 * x, z, retraction="cayley")
