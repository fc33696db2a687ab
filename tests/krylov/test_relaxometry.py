"""The model of k-space: NumPy's Fourier transform, fits by SciPy, and the adjoint."""

import numpy as np
import pytest
from scipy.optimize import least_squares, minimize

from trref.krylov.relaxometry import keep_positive, kspace_objective, signal
from trref.problems.mri import MapSmoother, coil_maps, line_masks, phantom

TIMES = np.linspace(0.2, 1.6, 6)


def _measured(maps, coils, kind, noise=0.0, rng=None):
    """Complex data (T, C, H, V) by NumPy's transform."""
    mx, my, rate = maps
    E = np.exp(-TIMES[:, None, None] * rate)
    s = (mx + 1j * my) * (E if kind == "decay" else 1 - 2 * E)
    y = np.fft.fft2((coils[0] + 1j * coils[1]) * s[:, None], norm="ortho")
    return y if rng is None else y + noise * (rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape))


def test_numbers_by_hand():
    """One pixel, one coil of sensitivity i, m = 2, R = log 2, time 1: s = 1, seen i; measured 3: ½ |i - 3|² = 5."""
    one = np.ones((1, 1, 1, 1))
    maps = np.array([2.0, 0.0, np.log(2)])
    value, gradient = kspace_objective(maps, 3 * one, 0 * one, 0 * one[0], one[0], one[0], np.ones(1), maps)
    # q = -i (i - 3) = 1 + 3i: half of it, and -½ · 2 · 1
    assert value == pytest.approx(5) and gradient == pytest.approx([0.5, 1.5, -1.0])
    pulled = kspace_objective(maps, 3 * one, 0 * one, 0 * one[0], one[0], one[0], np.ones(1), maps + 2, weight=0.5)
    assert pulled[0] == pytest.approx(5 + 0.25 * 12) and pulled[1] == pytest.approx([-0.5, 0.5, -2.0])
    still = signal(*(np.full((1, 1), v) for v in (2.0, 3.0, 0.0)), np.array([0.0, 5.0]), kind="inversion")
    assert (still.re == -2).all() and (still.im == -3).all()


@pytest.mark.parametrize("kind", ["decay", "inversion"])
def test_value_by_numpys_transform(kind):
    rng = np.random.default_rng(0)
    maps, coils = phantom(6) + 0.1 * rng.standard_normal((3, 6, 6)), coil_maps(6)
    data = rng.standard_normal((2, 6, 4, 6, 6))
    mask = line_masks(rng, 6, 6, 2)
    value, _ = kspace_objective(maps.ravel(), *data, *coils, mask, TIMES, maps.ravel(), kind=kind)
    residual = mask[:, None] * (_measured(maps, coils, kind) - data[0] - 1j * data[1])
    assert value == pytest.approx((abs(residual) ** 2).sum() / 2, rel=1e-12)
    # what is beyond the mask does not count
    other = data + 5 * (1 - mask[:, None])
    assert kspace_objective(maps.ravel(), *other, *coils, mask, TIMES, maps.ravel(), kind=kind)[0] == value


@pytest.mark.parametrize("kind", ["decay", "inversion"])
def test_gradient_by_differences(kind):
    rng = np.random.default_rng(1)
    maps, coils = rng.uniform(0.2, 1, 3 * 4 * 6), rng.standard_normal((2, 2, 4, 6))
    given = (*rng.standard_normal((2, 6, 2, 4, 6)), *coils, (rng.random((6, 4, 6)) < 0.5) * 1.0, TIMES, 0 * maps)
    gradient, h = kspace_objective(maps, *given, kind=kind, weight=0.3)[1], 1e-6
    for i in range(0, 72, 5):
        moved = [maps + s * h * np.eye(72)[i] for s in (1, -1)]
        up, down = (kspace_objective(x, *given, kind=kind, weight=0.3)[0] for x in moved)
        assert gradient[i] == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-6)


def test_adjoint():
    """Of the linear part: <P F (S x), y> = <x, S* F^H P y> for complex x, through the gradient at 0 of a quadratic."""
    rng = np.random.default_rng(2)
    coils, mask = rng.standard_normal((2, 3, 4, 5)), (rng.random((6, 4, 5)) < 0.5) * 1.0
    y = rng.standard_normal((2, 6, 3, 4, 5))
    x, rate = rng.standard_normal((2, 4, 5)), np.zeros((4, 5))
    at = np.concatenate([np.zeros(40), rate.ravel()])
    back = -kspace_objective(at, *y, *coils, mask, TIMES, at)[1][:40].reshape(2, 4, 5)
    seen = np.fft.fft2((coils[0] + 1j * coils[1]) * (x[0] + 1j * x[1]), norm="ortho")
    left = sum((mask[t] * (seen.real * y[0, t] + seen.imag * y[1, t])).sum() for t in range(6))
    assert (back * x).sum() == pytest.approx(left, rel=1e-12)


@pytest.mark.parametrize("kind", ["decay", "inversion"])
def test_true_maps_are_stationary_and_found(kind):
    """Everything is measured, without noise, by one coil: the value is 0; and L-BFGS finds each pixel's own fit."""
    rng = np.random.default_rng(3)
    maps = np.stack([*rng.uniform(0.5, 1, (2, 3, 4)), rng.uniform(0.5, 2, (3, 4))])
    coils = np.ones((1, 3, 4)), np.zeros((1, 3, 4))
    data, mask = _measured(maps, coils, kind), np.ones((6, 3, 4))
    given = data.real, data.imag, *coils, mask, TIMES, 0 * maps.ravel()
    value, gradient = kspace_objective(maps.ravel(), *given, kind=kind)
    assert value < 1e-28 and abs(gradient).max() < 1e-14
    noisy = _measured(maps, coils, kind, 0.05, rng)
    given = noisy.real, noisy.imag, *given[2:]
    start = maps.ravel() + 0.1
    fit = minimize(
        lambda x: kspace_objective(x, *given, kind=kind),
        start,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-9},
    ).x.reshape(3, 3, 4)
    images = np.fft.ifft2(noisy[:, 0], norm="ortho")
    for i, j in ((0, 0), (2, 3)):

        def residual(x, i=i, j=j):
            E = np.exp(-TIMES * x[2])
            off = (x[0] + 1j * x[1]) * (E if kind == "decay" else 1 - 2 * E) - images[:, i, j]
            return np.concatenate([off.real, off.imag])

        assert fit[:, i, j] == pytest.approx(least_squares(residual, maps[:, i, j], xtol=1e-12).x, abs=1e-4)


def test_rates_stay_positive():
    p, x, rates = np.array([-3.0, -3.0, 1.0]), np.array([1.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0])
    assert (keep_positive(p, x, rates, step=0.5) == [-3, -2, 1]).all()
    assert (keep_positive(p, x, rates, step=0.5, at_bound="stay") == [-3, 0, 1]).all()
    assert (keep_positive(p, x, rates, step=0.1) == p).all()


def test_the_phantom():
    coils = coil_maps(8)
    assert (coils[0] ** 2 + coils[1] ** 2).sum(0) == pytest.approx(np.ones((8, 8)))
    masks = line_masks(np.random.default_rng(0), 5, 12, 4)
    assert (masks.sum((1, 2)) == 3 * 12).all() and (masks[:, 0] == 1).all() and len(np.unique(masks, axis=0)) > 1
    smoother, image = MapSmoother(8, 8), phantom(8)
    assert smoother(np.full(192, 2.0)) == pytest.approx(np.full(192, 2.0))
    assert np.var(smoother(image.ravel())) < np.var(image)
