"""Local correlation: known values of the uniform gas, its limits, and a single orbital that does not correlate."""

import math

import numpy as np
import pytest

from trref.physics.local_correlation import Spin, orbital, orbital_correlation, spin, uniform, uniform_correlation


def _density(r, zeta):
    n = 3 / (4 * math.pi * r**3)
    return np.array([[n * (1 + zeta) / 2, n * (1 - zeta) / 2]])


def _per_particle(f, r, zeta):
    density = _density(r, zeta)
    return f(density)[0] / density.sum()


def test_the_uniform_gas_at_known_radii():
    """Energies of Ceperley and Alder, whom the fit follows: -0.0598, -0.0448, -0.0282 at 1, 2, 5; half if polarised."""
    for r, energy in ((1.0, -0.0598), (2.0, -0.0448), (5.0, -0.0282)):
        assert _per_particle(uniform_correlation, r, 0.0) == pytest.approx(energy, abs=1e-4)
    assert _per_particle(uniform_correlation, 2.0, 1 - 1e-9) == pytest.approx(-0.0239, abs=2e-4)


def test_the_high_density_limit():
    """(1 - ln 2)/π² ln r, by the slope."""
    a, b = (_per_particle(uniform_correlation, r, 0.0) for r in (2e-2, 1e-2))
    assert (a - b) / math.log(2) == pytest.approx((1 - math.log(2)) / math.pi**2, rel=0.03)


def test_one_orbital_alone_does_not_correlate():
    assert abs(_per_particle(orbital_correlation, 1.0, 1 - 1e-9)) < 1e-9
    assert _per_particle(orbital_correlation, 1.0, 0.0) == pytest.approx(
        -0.0285764 / (1 + 0.0889 + 0.125541), rel=1e-14
    )


@pytest.mark.parametrize("which", ["uniform", "orbital"])
def test_second_derivatives(which):
    """Those that no potential of this module shows, by differences of the first."""

    def local(r, zeta):
        radius, by = spin(_density(r, zeta))
        return uniform(radius, by) if which == "uniform" else orbital(radius, by)[0]

    for r, zeta in ((0.5, 0.0), (2.0, 0.4), (8.0, -0.8)):
        at, h = local(r, zeta), 1e-4
        by_r = (local(r + h, zeta).r - local(r - h, zeta).r) / (2 * h)
        by_z = (local(r, zeta + h).r - local(r, zeta - h).r) / (2 * h)
        assert at.rr == pytest.approx(by_r, rel=1e-6)
        assert at.rz == pytest.approx(by_z, rel=1e-5, abs=1e-10)


def test_shares_of_the_spins_have_no_differences():
    _, by = spin(np.array([[1.0, 1e-12]]))
    assert isinstance(by, Spin)
    assert by.down[0] == pytest.approx(2e-12, rel=1e-12)
