"""Duality, identities of half-steps, and the spectrum of the Hessian."""

import warnings

import numpy as np
import pytest

from trref.transport.entropic_dual import dual_gap, dual_value, hessian_product, primal_value, transport_plan
from trref.transport.sinkhorn import sinkhorn_log


def _problem(seed, n=6, m=9):
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(1.0, n) + 0.1, rng.exponential(1.0, m) + 0.1
    return rng.random((n, m)), a / a.sum(), b / b.sum()


def _kl(p, q):
    return (p * np.log(p / q) - p + q).sum()


REG = 0.07


@pytest.mark.parametrize("seed", range(5))
def test_strong_duality(seed):
    """The maximum of the dual is the minimum of the primal, with no constant in between."""
    cost, a, b = _problem(seed)
    best = sinkhorn_log(cost, a, b, reg=REG, tol=1e-13)
    assert primal_value(best.plan, cost, reg=REG) == pytest.approx(-dual_value(best.f, best.g, cost, a, b, reg=REG)[0])


@pytest.mark.parametrize("seed", range(5))
def test_weak_duality(seed):
    cost, a, b = _problem(seed)
    rng = np.random.default_rng(seed)
    for scale in (0.01, 0.1, 0.5):
        f, g = scale * rng.standard_normal(6), scale * rng.standard_normal(9)
        assert -dual_value(f, g, cost, a, b, reg=REG)[0] <= primal_value(np.outer(a, b), cost, reg=REG)


def test_gap_of_the_dual_is_a_divergence():
    """D(f*, g*) - D(f, g) = reg KL(P* | P)."""
    cost, a, b = _problem(1)
    best = sinkhorn_log(cost, a, b, reg=REG, tol=1e-14)
    rng = np.random.default_rng(1)
    f, g = best.f + 0.1 * rng.standard_normal(6), best.g + 0.1 * rng.standard_normal(9)
    gap = dual_value(f, g, cost, a, b, reg=REG)[0] - dual_value(best.f, best.g, cost, a, b, reg=REG)[0]
    assert gap == pytest.approx(REG * _kl(best.plan, transport_plan(f, g, cost, reg=REG)), rel=1e-10)
    assert dual_gap(best.plan, f, g, cost, reg=REG) == pytest.approx(gap, rel=1e-10)
    assert dual_gap(best.plan, best.f, best.g, cost, reg=REG) == pytest.approx(0, abs=1e-13)


def test_a_half_step_gains_a_divergence():
    """Updating f raises the dual by exactly reg KL(a | P 1); updating g then by reg KL(b | Pᵀ 1)."""
    cost, a, b = _problem(2)
    rng = np.random.default_rng(2)
    f, g = 0.2 * rng.standard_normal(6), 0.2 * rng.standard_normal(9)
    for _ in range(5):
        before, P = dual_value(f, g, cost, a, b, reg=REG)[0], transport_plan(f, g, cost, reg=REG)
        f = f + REG * np.log(a / P.sum(1))
        after, P_rows = dual_value(f, g, cost, a, b, reg=REG)[0], transport_plan(f, g, cost, reg=REG)
        assert before - after == pytest.approx(REG * _kl(a, P.sum(1)), rel=1e-8, abs=1e-14)
        g = g + REG * np.log(b / P_rows.sum(0))
        last = dual_value(f, g, cost, a, b, reg=REG)[0]
        assert after - last == pytest.approx(REG * _kl(b, P_rows.sum(0)), rel=1e-8, abs=1e-14)


def test_the_dual_rises_along_sinkhorn():
    cost, a, b = _problem(3)
    values = []
    with warnings.catch_warnings(action="ignore"):
        for sweeps in range(1, 12):
            found = sinkhorn_log(cost, a, b, reg=REG, tol=1e-16, max_iter=sweeps)
            values.append(-dual_value(found.f, found.g, cost, a, b, reg=REG)[0])
    assert (np.diff(values) > 0).all()


def _dense_hessian(f, g, cost):
    n, m = cost.shape
    directions = np.eye(n + m)
    return np.stack([hessian_product(f, g, cost, d[:n], d[n:], reg=REG) for d in directions])


def test_hessian_by_differences_of_the_gradient():
    cost, a, b = _problem(4)
    rng = np.random.default_rng(4)
    f, g, u, v = (0.1 * rng.standard_normal(k) for k in (6, 9, 6, 9))
    h = 1e-5
    ahead, behind = (dual_value(f + s * u, g + s * v, cost, a, b, reg=REG)[1] for s in (h, -h))
    difference = (np.concatenate(ahead) - np.concatenate(behind)) / (2 * h)
    assert np.allclose(hessian_product(f, g, cost, u, v, reg=REG), difference, rtol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_spectrum_of_the_hessian(seed):
    """One null direction, and no eigenvalue above twice the largest mass over reg, at a feasible plan."""
    cost, a, b = _problem(seed)
    best = sinkhorn_log(cost, a, b, reg=REG, tol=1e-13)
    H = _dense_hessian(best.f, best.g, cost)
    eigenvalues = np.linalg.eigvalsh(H)
    top = 2 * max(a.max(), b.max()) / REG
    assert np.allclose(H, H.T, rtol=0, atol=1e-13 * top)
    assert abs(eigenvalues[0]) < 1e-13 * top < 1e-6 * top < eigenvalues[1] and eigenvalues[-1] <= top * (1 + 1e-9)
    assert np.allclose(H @ np.concatenate([np.ones(6), -np.ones(9)]), 0, rtol=0, atol=1e-12)


def test_shift_changes_nothing():
    cost, a, b = _problem(5)
    rng = np.random.default_rng(5)
    f, g = 0.1 * rng.standard_normal(6), 0.1 * rng.standard_normal(9)
    one, two = (dual_value(f + s, g - s, cost, a, b, reg=REG) for s in (0.0, 0.9))
    assert one[0] == pytest.approx(two[0], rel=1e-12)
    assert np.allclose(one[1].f, two[1].f, rtol=1e-9) and np.allclose(one[1].g, two[1].g, rtol=1e-9)


def test_too_large_a_plan():
    with pytest.raises(ValueError, match="f and g make an entry of the plan too large"):
        transport_plan(np.array([50.0]), np.array([0.0]), np.array([[0.0]]), reg=0.1)
