"""r²SCAN against libxc, through pyscf: energies and all potentials on 10,000 points."""

import numpy as np
import pytest

from trref.catalog.physics.interfaces import fermi_hole
from trref.catalog.physics.local_correlation import METHOD
from trref.physics.local_correlation import uniform_correlation
from trref.physics.r2scan import energy_density
from trref.physics.r2scan_correlation import correlation
from trref.physics.r2scan_exchange import exchange

pytest.importorskip("pyscf")
from pyscf.dft import libxc

pytestmark = pytest.mark.peer


def _points(N, seed=0):
    """Densities from 1e-3 to 10, any polarisation up to 0.95, all branches of the switch."""
    rng = np.random.default_rng(seed)
    zeta = rng.uniform(-0.95, 0.95, N)
    n = 10 ** rng.uniform(-3, 1, N)[:, None] * np.stack([1 + zeta, 1 - zeta], 1) / 2
    g = rng.standard_normal((N, 2, 3))
    g /= np.linalg.norm(g, axis=2, keepdims=True)
    g *= (10 ** rng.uniform(-2, 1, N)[:, None] * 2 * (6 * np.pi**2) ** (1 / 3) * n ** (4 / 3))[:, :, None]
    sigma = np.stack([(g[:, 0] ** 2).sum(1), (g[:, 0] * g[:, 1]).sum(1), (g[:, 1] ** 2).sum(1)], 1)
    share = rng.choice((0.3, 1, 2, 6), N)[:, None] * rng.uniform(0.1, 1, (N, 2))
    tau = sigma[:, ::2] / (8 * n) + share * 0.3 * (6 * np.pi**2) ** (2 / 3) * n ** (5 / 3)
    return n, g, sigma, tau


def _libxc(code, n, g, tau):
    rows = [np.stack([n[:, k], *g[:, k].T, 0 * n[:, k], tau[:, k]]) for k in (0, 1)]
    e, v = libxc.eval_xc(code, rows, spin=1)[:2]
    return n.sum(1) * e, (v[0], v[1], v[3])


@pytest.mark.parametrize(("code", "f"), [("MGGA_X_R2SCAN", exchange), ("MGGA_C_R2SCAN", correlation)])
def test_energies_and_potentials_on_ten_thousand_points(code, f):
    n, g, sigma, tau = _points(10_000)
    energy, theirs = _libxc(code, n, g, tau)
    _, ours = f(n, sigma, tau)
    part = energy_density(n, sigma, tau)[0 if f is exchange else 1]
    assert (abs(part - energy) <= 1e-12 * abs(energy)).all()
    # where a potential crosses 0, relative to what it is made of: the energy over the variable
    natural = n.sum(1), sigma[:, 0] + sigma[:, 2], tau.sum(1)
    for mine, other, unit in zip(ours, theirs, natural, strict=True):
        allowed = 1e-10 * abs(other) + 1e-12 * abs(energy / unit)[:, None]
        assert (abs(mine - other) <= allowed).all()


@pytest.mark.parametrize(("code", "f"), [("MGGA_X_R2SCAN", exchange), ("MGGA_C_R2SCAN", correlation)])
def test_libxc_has_no_negative_ratio(code, f):
    """Kinetic energies below those of one orbital: the deviation is what libxc computes."""
    n, g, sigma, tau = _points(200, seed=1)
    tau = 0.6 * sigma[:, ::2] / (8 * n)
    energy, theirs = _libxc(code, n, g, tau)
    limited, potential = fermi_hole(f).f(n, sigma, tau)
    assert limited == pytest.approx(energy.sum(), rel=1e-10)
    assert np.allclose(potential.tau, theirs[2], rtol=1e-8, atol=1e-10 * abs(theirs[2]).max())
    assert abs(f(n, sigma, tau)[0] / energy.sum() - 1) > 1e-6


def test_the_uniform_gas_and_its_first_publication():
    n, *_ = _points(1000, seed=2)
    rows = [n[:, 0], n[:, 1]]
    rounded = METHOD.functions[0].deviations[0].f
    for code, f in (("LDA_C_PW_MOD", uniform_correlation), ("LDA_C_PW", rounded)):
        e, v = libxc.eval_xc(code, rows, spin=1)[:2]
        ours, potential = f(n)
        assert ours == pytest.approx((n.sum(1) * e).sum(), rel=1e-7 if f is rounded else 1e-12)
        assert np.allclose(potential, v[0], rtol=1e-6 if f is rounded else 1e-11, atol=0)
