"""Exchange of r²SCAN: the golden potential, its bound, its gradient expansion, and unpolarised densities."""

import numpy as np
import pytest

from trref.physics.r2scan_exchange import enhancement, exchange


def test_golden_point():
    _, v = exchange(np.array([[0.3, 0.17]]), np.array([[0.2, 0.05, 0.1]]), np.array([[0.4, 0.2]]))
    assert v.density[0] == pytest.approx([-0.987839811887, -0.794261278574], abs=1e-12)
    assert v.sigma[0] == pytest.approx([-0.027675081132, 0, -0.055685130999], abs=1e-12)
    assert v.tau[0] == pytest.approx([0.058542964888, 0.065946818785], abs=1e-12)


def test_the_factor_is_bounded():
    p, alpha = np.meshgrid(10.0 ** np.arange(-6, 9), np.linspace(0, 20, 41))
    F = enhancement(p.ravel(), alpha.ravel()).factor
    assert (F <= 1.174).all() and (F > 0).all()
    assert enhancement(np.array([0.0]), np.array([0.0])).factor[0] == pytest.approx(1.174, rel=1e-14)
    assert enhancement(np.zeros(1), np.ones(1)).factor[0] == pytest.approx(1, abs=1e-11)


def test_the_gradient_expansion_of_a_slowly_varying_density():
    """With the ratio of the expansion of the kinetic energy, τ = τ_U + τ_W/9 + ∇²n/6, and after integration by parts
    of the Laplacian, the factor begins with 1 + 10/81 p. In the ratio that is 1 + (5 p/27 + 20 q/9 - 5 p/3 - η 5 p/3),
    where q, the reduced Laplacian, becomes p/3 under the integral."""
    p = np.array([1e-5])
    eta = 0.001
    alpha = 1 + 5 * p / 27 + 20 / 9 * p / 3 - 5 / 3 * p * (1 + eta)
    F = enhancement(p, alpha).factor
    assert (F[0] - 1) / p[0] == pytest.approx(10 / 81, rel=1e-3)


def test_each_spin_alone():
    """Without the other spin's density nothing changes: energies are sums over spins."""
    n, s, t = np.array([[0.3, 0.17]]), np.array([[0.2, 0.05, 0.1]]), np.array([[0.4, 0.2]])
    both, _ = exchange(n, s, t)
    half = [exchange(n[:, [k, k]], s[:, [2 * k] * 3], t[:, [k, k]])[0] / 2 for k in (0, 1)]
    assert both == pytest.approx(sum(half), rel=1e-14)
    turned, _ = exchange(n, s * [1, -1, 1], t)
    assert turned == both, "the gradients' angle plays no part"
