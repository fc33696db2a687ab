"""Transport with entropy against POT."""

import warnings

import numpy as np
import pytest

from trref.catalog import find
from trref.transport.entropic_dual import dual_value
from trref.transport.sinkhorn import sinkhorn_log, sinkhorn_scaling
from trref.transport.sinkhorn_divergence import sinkhorn_divergence
from trref.transport.sinkhorn_newton_sparse import sinkhorn_newton_sparse
from trref.transport.terms import squared_distances

ot = pytest.importorskip("ot")
pytestmark = pytest.mark.peer


def _problem(seed, n=20, m=30):
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(1.0, n) + 0.1, rng.exponential(1.0, m) + 0.1
    return rng.random((n, m)), a / a.sum(), b / b.sum()


@pytest.mark.parametrize("solve", [sinkhorn_log, sinkhorn_scaling, sinkhorn_newton_sparse])
@pytest.mark.parametrize("reg", [1.0, 0.1, 0.02])
def test_plans(solve, reg):
    cost, a, b = _problem(0)
    theirs = ot.sinkhorn(a, b, cost, reg, method="sinkhorn_log", stopThr=1e-15, numItermax=20000)
    assert np.allclose(solve(cost, a, b, reg=reg, tol=1e-12).plan, theirs, atol=1e-12, rtol=1e-9)


def test_potentials_are_half_of_reg_apart():
    """POT's plan is exp((f + g - C) / reg), ours has a -1: the potentials together differ by reg."""
    cost, a, b = _problem(1)
    _, log = ot.sinkhorn(a, b, cost, 0.1, method="sinkhorn_log", stopThr=1e-15, log=True)
    ours = sinkhorn_log(cost, a, b, reg=0.1, tol=1e-13)
    total = 0.1 * (log["log_u"][:, None] + log["log_v"])
    assert np.allclose(ours.f[:, None] + ours.g, total + 0.1, atol=1e-10, rtol=1e-9)
    deviation = find("entropic_dual.dual_value").deviations[0]
    f, g = 0.1 * log["log_u"], 0.1 * log["log_v"]
    assert np.allclose(deviation.f(f, g, cost, a, b, reg=0.1)[1][0], 0, atol=1e-12, rtol=1e-9)
    assert not np.allclose(dual_value(f, g, cost, a, b, reg=0.1)[1].f, 0, atol=1e-3)


def test_small_regularisation_gives_the_exact_cost():
    cost, a, b = _problem(2)
    exact = ot.emd2(a, b, cost)
    for reg in (1e-2, 1e-3):
        found = (cost * sinkhorn_newton_sparse(cost, a, b, reg=reg, tol=1e-10, keep=0.5, levels=4).plan).sum()
        assert exact - 1e-9 <= found <= exact + reg * (np.log(20) + np.log(30))


def test_divergence_of_transport_costs_is_pots():
    rng = np.random.default_rng(3)
    x, z = rng.standard_normal((8, 2)) / 2, rng.standard_normal((6, 2)) / 2 + 1.0
    a, b = np.full(8, 1 / 8), np.full(6, 1 / 6)
    with warnings.catch_warnings(action="ignore"):
        theirs = ot.bregman.empirical_sinkhorn_divergence(x, z, 1.0, stopThr=1e-14, numIterMax=10000)
    (deviation,) = find("sinkhorn_divergence.sinkhorn_divergence").deviations
    assert float(deviation.f(x, z, a, b, reg=1.0)) == pytest.approx(float(np.squeeze(theirs)), rel=1e-9)
    assert sinkhorn_divergence(x, z, a, b, reg=1.0) != pytest.approx(float(np.squeeze(theirs)), rel=1e-3)


def test_divergence_with_the_entropies():
    """The three optimal values by POT's plans, entropy relative to the product of the masses."""
    rng = np.random.default_rng(4)
    x, z = rng.standard_normal((8, 2)) / 2, rng.standard_normal((6, 2)) / 2 + 1.0
    a, b = np.full(8, 1 / 8), np.full(6, 1 / 6)

    def value(x, z, a, b):
        P = ot.sinkhorn(a, b, squared_distances(x, z), 1.0, method="sinkhorn_log", stopThr=1e-15, numItermax=20000)
        return (P * squared_distances(x, z)).sum() + (P * np.log(P / np.outer(a, b))).sum()

    theirs = value(x, z, a, b) - value(x, x, a, a) / 2 - value(z, z, b, b) / 2
    assert sinkhorn_divergence(x, z, a, b, reg=1.0) == pytest.approx(theirs, rel=1e-10)
