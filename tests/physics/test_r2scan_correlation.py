"""Correlation of r²SCAN: the golden potential, limits of large gradients and of one orbital, and where it is 0."""

import math

import numpy as np
import pytest

from trref.physics.local_correlation import uniform_correlation
from trref.physics.r2scan_correlation import correlation


def test_golden_point():
    n, s, t = np.array([[0.3, 0.17]]), np.array([[0.2, 0.05, 0.1]]), np.array([[0.4, 0.2]])
    _, v = correlation(n, s, t)
    assert v.density[0] == pytest.approx([-0.009553822864, -0.042921270718], abs=1e-11)
    assert v.sigma[0] == pytest.approx([0.010140388929, 0.020280777858, 0.010140388929], abs=1e-11)
    assert v.tau[0] == pytest.approx([-0.022194196627] * 2, abs=1e-11)
    xcfun, _ = correlation(n, s, t, beta=0.066725, gamma=0.031090690869655)
    assert xcfun / 0.47 == pytest.approx(-0.042258853273, abs=1e-12)


def _slowly_varying(n, p):
    """The ratio is 1: only the energy of slowly varying densities counts."""
    total = n.sum(1)
    s = p * 4 * (3 * math.pi**2) ** (2 / 3) * total ** (8 / 3)
    shares = n / total[:, None]
    d_s = ((2 * shares) ** (5 / 3)).sum(1) / 2
    uniform = 0.3 * (3 * math.pi**2) ** (2 / 3) * total ** (5 / 3)
    tau = s / (8 * total) + uniform * d_s + 0.001 * s / (8 * total)
    sigma = s[:, None] * np.stack([shares[:, 0] ** 2, shares[:, 0] * shares[:, 1], shares[:, 1] ** 2], 1)
    return n, sigma, tau[:, None] * shares


def test_large_gradients_end_correlation():
    n = np.array([[0.3, 0.2]])
    small, large = (correlation(*_slowly_varying(n, np.array([p])))[0] for p in (1e-8, 1e9))
    assert small == pytest.approx(uniform_correlation(n)[0], rel=1e-5)
    # what is left is of the order of g = (1 + 4 y)^(-1/4)
    assert abs(large) < 0.02 * abs(small)


def test_the_gradient_expansion():
    """To first order in t², -β φ³ t² (1 - …) raises the energy: β t² φ³ less what the correction takes."""
    n = np.array([[0.25, 0.25]])
    r = (4 * math.pi * 0.5 / 3) ** (-1 / 3)
    p = np.array([1e-6])
    t2 = math.pi / 4 * (9 * math.pi / 4) ** (1 / 3) * p[0] / r
    beta = 0.06672455060314922 * (1 + 0.1 * r) / (1 + 0.1778 * r)
    rise = (correlation(*_slowly_varying(n, p))[0] - uniform_correlation(n)[0]) / 0.5

    def apart(x):
        one = np.full((1, 2), 3 / (8 * math.pi * x**3))
        return -0.0285764 / (1 + 0.0889 * math.sqrt(x) + 0.125541 * x) - uniform_correlation(one)[0] / one.sum()

    slope = (apart(r * 1.0001) - apart(r * 0.9999)) / (2e-4 * r)
    correction = -0.7114023342889979 / 27 * (20 * r * slope - 0.045 * apart(r)) * p[0]
    assert rise == pytest.approx(beta * t2 - correction, rel=1e-4)


def test_one_electron_has_none():
    """Fully polarised, with the kinetic energy of one orbital."""
    n = np.array([[0.3, 1e-12]])
    s = np.array([[0.2, 0.0, 0.0]])
    tau = np.array([[0.2 / 8 / 0.3, 1e-18]])
    assert abs(correlation(n, s, tau)[0]) < 1e-10


def test_no_overflow_at_any_density():
    """w₁ is tiny where the gas is thin and large where it is dense."""
    n = 10.0 ** np.arange(-11, 6)[:, None] * np.array([0.6, 0.4])
    for p in (1e-6, 1.0, 1e6):
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            e, v = correlation(*_slowly_varying(n, np.full(17, p)))
        assert np.isfinite(e) and all(np.isfinite(part).all() for part in v)
