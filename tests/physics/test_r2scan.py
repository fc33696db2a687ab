"""r²SCAN: the golden point, the uniform gas, the hydrogen atom, scaling, and the switch where its branches meet."""

import math

import numpy as np
import pytest

from trref.catalog.physics.interfaces import points
from trref.physics.local_correlation import uniform_correlation
from trref.physics.r2scan import energy_density, r2scan, switch, switch_derivative

GOLDEN = np.array([[0.3, 0.17]]), np.array([[0.2, 0.05, 0.1]]), np.array([[0.4, 0.2]])


def test_golden_point():
    x, c = energy_density(*GOLDEN)
    assert x[0] / 0.47 == pytest.approx(-0.638257749372, abs=1e-12)
    assert c[0] / 0.47 == pytest.approx(-0.042258876974, abs=1e-12)
    _, potential = r2scan(*GOLDEN)
    assert potential.density[0] == pytest.approx(
        [-0.987839811887 - 0.009553822864, -0.794261278574 - 0.042921270718], abs=1e-11
    )
    assert potential.sigma[0] == pytest.approx(
        [-0.027675081132 + 0.010140388929, 0.020280777858, -0.055685130999 + 0.010140388929], abs=1e-11
    )
    assert potential.tau[0] == pytest.approx(
        [0.058542964888 - 0.022194196627, 0.065946818785 - 0.022194196627], abs=1e-11
    )


@pytest.mark.parametrize("kind", ["exchange", "correlation"])
def test_the_switch(kind):
    assert switch(np.array([0.0]), kind=kind)[0] == 1
    assert abs(switch(np.array([1.0]), kind=kind)[0]) < 1e-11
    for end in (0.0, 2.5):
        f = switch(np.array([end - 1e-13, end + 1e-13]), kind=kind)
        df = switch_derivative(np.array([end - 1e-13, end + 1e-13]), kind=kind)
        assert abs(f[1] - f[0]) < 1e-9 and abs(df[1] - df[0]) < 1e-8, "they meet, and so do their slopes"
    slope = {"exchange": -0.9353000875519992, "correlation": -0.7114023342889979}[kind]
    assert switch_derivative(np.array([1.0]), kind=kind)[0] == pytest.approx(slope, rel=1e-13)
    far = switch(np.array([1e6]), kind=kind)[0]
    assert far == pytest.approx({"exchange": -1.24, "correlation": -0.7}[kind], rel=1e-5)
    # the value's derivative, at a distance from the ends
    alpha = np.array([-2.0, -0.1, 0.3, 0.9, 1.7, 2.4, 2.6, 9.0])
    slopes = (switch(alpha + 1e-6, kind=kind) - switch(alpha - 1e-6, kind=kind)) / 2e-6
    assert switch_derivative(alpha, kind=kind) == pytest.approx(slopes, rel=1e-7, abs=1e-8)


def test_the_uniform_gas():
    n = np.array([[0.5, 0.5], [0.03, 0.01], [2.0, 0.1]])
    tau = 0.3 * (6 * math.pi**2) ** (2 / 3) * n ** (5 / 3)
    x, c = energy_density(n, np.zeros((3, 3)), tau)
    slater = -0.75 * (6 / math.pi) ** (1 / 3) * (n ** (4 / 3)).sum(1)
    assert x == pytest.approx(slater, rel=1e-11)
    for k in range(3):
        assert c[k] == pytest.approx(uniform_correlation(n[k : k + 1])[0], rel=1e-9)


def test_the_hydrogen_atom():
    """One electron: exchange undoes its own repulsion, -5/16, and there is no correlation."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    r = 6 * (nodes + 1)
    n = np.exp(-2 * r) / math.pi
    volume = 4 * math.pi * r**2 * 6 * weights
    none = np.full_like(n, 1e-12)
    # the other spin, as small as it may be, with a density that does not vary
    x, c = energy_density(
        np.stack([n, none], 1),
        np.stack([4 * n * n, 0 * n, 0 * n], 1),
        np.stack([n / 2, 1e-18 + 0 * n], 1),
    )
    assert volume @ x == pytest.approx(-0.312499, abs=2e-6)
    assert volume @ x == pytest.approx(-0.3125, abs=1e-5)
    assert abs(volume @ c) < 1e-7


def test_exchange_scales_as_a_length():
    """n_γ(r) = γ³ n(γ r): σ grows by γ⁸, τ by γ⁵, energies per volume by γ⁴."""
    data = points(np.random.default_rng(0), 20)
    scale = 1.7
    moved = {"density": scale**3 * data["density"], "sigma": scale**8 * data["sigma"], "tau": scale**5 * data["tau"]}
    assert energy_density(**moved).exchange == pytest.approx(scale**4 * energy_density(**data).exchange, rel=1e-12)


def test_spins_may_be_exchanged():
    data = points(np.random.default_rng(1), 20)
    other = {name: np.flip(a, 1).copy() for name, a in data.items()}
    a, b = r2scan(**data), r2scan(**other)
    assert a[0] == pytest.approx(b[0], rel=1e-13)
    for mine, theirs in zip(a[1], b[1], strict=True):
        assert mine == pytest.approx(np.flip(theirs, 1), rel=1e-10, abs=1e-13)


def test_what_is_refused():
    n, s, t = GOLDEN
    with pytest.raises(ValueError, match="density must be between 1e-12 and 1e6"):
        r2scan(np.array([[0.3, 1e-13]]), s, t)
    with pytest.raises(ValueError, match="sigma of one spin must not be negative"):
        r2scan(n, -s, t)
    with pytest.raises(ValueError, match="sigma must be a square in sum"):
        r2scan(n, np.array([[0.1, -0.5, 0.1]]), t)
    with pytest.raises(ValueError, match="tau must be at most 1e10 times"):
        r2scan(n, s, 1e12 * t)
    with pytest.raises(ValueError, match="sigma must be at most 1e10 times"):
        r2scan(n, 1e14 * s, t)
