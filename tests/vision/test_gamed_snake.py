"""Energies and contours by hand, SciPy's correlations and distances, Fourier transforms, and steps that are stable."""

import numpy as np
import pytest
from scipy import ndimage, signal

from trref.vision.gamed_snake import (
    PAIRS,
    bilinear,
    circular_conv,
    dice,
    difference_conv,
    difference_kernel,
    energy,
    evolve,
    inside,
    momentum_attention,
    smooth_l1,
)


def test_the_energy_by_hand():
    """255 on the boundary, 0 beyond 53.74 pixels; steepest at a distance of 1, by -32."""
    boundary = np.zeros((1, 1))
    at = lambda d: energy(np.array([[d]]), boundary)  # noqa: E731
    assert at(0.0)[0] == 255 and at(1.0)[0] == pytest.approx(255 - 32 * np.log(2))
    reach = np.sqrt(np.expm1(255 / 32))
    assert reach == pytest.approx(53.74, abs=5e-3)
    assert at(reach - 0.01)[0] > 0 == at(reach + 0.01)[0]
    slopes = [at(d)[1][0, 0] for d in (0.5, 1.0, 2.0)]
    assert slopes == pytest.approx([-64 * 0.5 / 1.25, -32, -64 * 2 / 5])


def test_the_distance_with_scipy():
    """The exact Euclidean distance transform of a region's boundary."""
    rng = np.random.default_rng(0)
    boundary = np.argwhere(rng.random((20, 25)) < 0.02)
    free = np.ones((20, 25))
    free[tuple(boundary.T)] = 0
    D = ndimage.distance_transform_edt(free)
    for i, j in ((0, 0), (7, 19), (13, 2)):
        value, _ = energy(np.array([[i, j]], float), boundary.astype(float))
        assert value == pytest.approx(255 - 32 * np.log1p(D[i, j] ** 2))


def _pairs(kind):
    first, second = np.array(PAIRS[kind]).T
    return first.copy(), second.copy()


def test_kernels_sum_to_0_and_their_convolution_is_scipys():
    rng = np.random.default_rng(1)
    image = rng.standard_normal((1, 1, 7, 6))
    for kind, count in (("stepped", 12), ("diagonal", 4), ("circular", 8)):
        pairs, weights = _pairs(kind), rng.standard_normal((2, 1, count))
        kernel = difference_kernel(weights, *pairs)
        assert abs(kernel.sum((2, 3))).max() < 1e-14
        y = difference_conv(image, weights, *pairs)
        for k in range(2):
            assert np.allclose(y[0, k], signal.correlate2d(image[0, 0], kernel[k, 0], mode="valid"), rtol=1e-11)


def test_differences_of_a_ramp_are_constant_and_of_a_constant_nothing():
    i, j = np.mgrid[:5, :6].astype(float)
    for kind, pairs in PAIRS.items():
        weights = np.ones((1, 1, len(pairs)))
        ramp = difference_conv((2 * i - 3 * j + 1)[None, None], weights, *_pairs(kind))
        assert np.ptp(ramp) < 1e-12
        assert abs(difference_conv(np.full((1, 1, 5, 6), 7.0), weights, *_pairs(kind))).max() < 1e-14
    step = difference_conv(j[None, None], np.ones((1, 1, 12)), *_pairs("stepped"))
    assert np.allclose(step, -6, rtol=1e-9)  # six pairs of horizontal neighbours


def test_the_ring():
    """Turning the contour turns the result; one channel is a Fourier product."""
    rng = np.random.default_rng(2)
    F, k = rng.standard_normal((10, 3)), rng.standard_normal((5, 3, 2))
    assert np.allclose(circular_conv(np.roll(F, 4, axis=0), k), np.roll(circular_conv(F, k), 4, axis=0), rtol=1e-12)
    f, w = rng.standard_normal(12), rng.standard_normal(5)
    wide = np.zeros(12)
    wide[np.arange(-2, 3) * 2 % 12] = w
    expected = np.fft.ifft(np.fft.fft(f) * np.conj(np.fft.fft(wide))).real
    ours = circular_conv(f[:, None], w[:, None, None], dilation=2)[:, 0]
    assert np.allclose(ours, expected, rtol=0, atol=1e-13)


def test_between_pixels_with_scipy():
    rng = np.random.default_rng(3)
    image, at = rng.standard_normal((6, 5)), np.stack([rng.uniform(0, 5, 9), rng.uniform(0, 4, 9)])
    found = bilinear(image[None], *at)
    assert np.allclose(found.value[:, 0], ndimage.map_coordinates(image, at, order=1), rtol=1e-12)
    for d, slope in enumerate((found.by_row, found.by_column)):
        step = 1e-6 * np.eye(2)[d][:, None]
        ends = [bilinear(image[None], *(at + s * step)).value for s in (1, -1)]
        assert np.allclose((ends[0] - ends[1]) / 2e-6, slope, atol=1e-8, rtol=1e-9)


def test_attention():
    """One entry of history is what everybody gets; without values there is no momentum."""
    rng = np.random.default_rng(4)
    F, h = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    Wq, Wk, Wv = rng.standard_normal((3, 2)), rng.standard_normal((3, 2)), rng.standard_normal((3, 3))
    assert np.allclose(momentum_attention(F, h[:1], Wq, Wk, Wv), F + h[:1] @ Wv, rtol=1e-13)
    assert np.array_equal(momentum_attention(F, h, Wq, Wk, 0 * Wv), F)
    scores = F @ Wq @ (h @ Wk).T / np.sqrt(2)
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert np.allclose(momentum_attention(F, h, Wq, Wk, Wv), F + weights @ h @ Wv, rtol=1e-12)


def _ring(V=40, radius=10.0, middle=15.0):
    angle = 2 * np.pi * np.arange(V) / V
    return middle + radius * np.sin(angle), middle + radius * np.cos(angle)


def test_without_force_and_memory_the_spring_shrinks_a_ring():
    """A regular polygon of V vertices shrinks by 1 - 2 beta (1 - cos(2 pi / V)) a step."""
    walk = evolve(np.zeros((30, 30)), *_ring(), momentum=0.0, spring=0.2, steps=5)
    radius = np.hypot(walk.rows - 15, walk.columns - 15)
    factor = 1 - 0.4 * (1 - np.cos(2 * np.pi / 40))
    assert np.allclose(radius, 10 * factor ** np.arange(6)[:, None], rtol=1e-12)


def test_on_a_quadratic_ridge_steps_below_the_limit_converge():
    """Curvature 4 along the rows: stable for lr below 2 / 4, with momentum 0.5 below 3 / 4."""
    image = np.zeros((41, 1)) - 2 * (np.arange(41.0)[:, None] - 20) ** 2
    start = np.array([23.0]), np.array([0.0])
    ends = {
        (lr, momentum): abs(evolve(image, *start, lr=lr, momentum=momentum, spring=0.0, steps=60).rows[-1, 0] - 20)
        for lr, momentum in ((0.45, 0.0), (0.55, 0.0), (0.55, 0.5), (0.8, 0.5))
    }
    assert ends[0.45, 0.0] < 1e-3 and ends[0.55, 0.5] < 1e-3
    assert ends[0.55, 0.0] > 1 and ends[0.8, 0.5] > 1


def test_losses_by_hand():
    value, gradient = smooth_l1(np.array([[0.5, 3.0]]), np.zeros((1, 2)))
    assert value == pytest.approx((0.125 + 2.5) / 2) and np.allclose(gradient, [[0.25, 0.5]], rtol=1e-9)


def test_regions():
    a, b = np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 1, 0])
    assert dice(a, b) == pytest.approx(0.5) and dice(a, a) == 1 and dice(a, 1 - a) == 0


def test_a_polygon_has_as_many_pixels_as_its_area():
    rows, columns = _ring(30, 11.3, 15.2)
    i, j = np.mgrid[:31, :31].astype(float)
    mask = inside(rows, columns, i.ravel(), j.ravel())
    area = abs(rows @ np.roll(columns, -1) - columns @ np.roll(rows, -1)) / 2
    assert mask.sum() == pytest.approx(area, rel=0.03)
    assert dice(mask, (np.hypot(i - 15.2, j - 15.2) < 11.3).ravel().astype(float)) > 0.98


def test_bad_input():
    with pytest.raises(ValueError, match="kernel must have an odd number"):
        circular_conv(np.ones((3, 1)), np.ones((2, 1, 1)))
    with pytest.raises(ValueError, match="image must have 3 or more rows"):
        difference_conv(np.ones((1, 1, 2, 5)), np.ones((1, 1, 4)), *_pairs("diagonal"))
    with pytest.raises(ValueError, match="first"):
        difference_kernel(np.ones((1, 1, 1)), np.array([9]), np.array([0]))
