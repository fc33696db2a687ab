"""What public code computes in the place of the papers' equations: small runnable variants."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.transport.interfaces import squared_distances
from trref.transport.sinkhorn import sinkhorn_log

__all__ = [
    "DIVERGENCE_OF_TRANSPORT_COSTS",
    "DUAL_RELATIVE_TO_THE_PRODUCT",
    "DUAL_WITHOUT_MINUS_ONE",
]


def _dual(f, g, cost, a, b, reg, prior, mass):
    P = prior * xp.exp((f[:, None] + g - cost) / reg)
    return -(f @ a + g @ b - reg * (P.sum() - mass)), (P.sum(1) - a, P.sum(0) - b)


def _without_minus_one(f, g, cost, a, b, *, reg):
    return _dual(f, g, cost, a, b, reg, 1.0, 0.0)


def _relative_to_the_product(f, g, cost, a, b, *, reg):
    return _dual(f, g, cost, a, b, reg, a[:, None] * b, 1.0)


DUAL_WITHOUT_MINUS_ONE = Deviation(
    "entropy sum P (log P - 1)",
    _without_minus_one,
    seen_in="POT ot/bregman/_sinkhorn.py (its log holds potentials of this convention)",
    computes="the dual of the plan exp((f + g - C) / reg); f and g together differ by reg, and so does the value",
    documented=True,
)

DUAL_RELATIVE_TO_THE_PRODUCT = Deviation(
    "entropy relative to the product of the marginals",
    _relative_to_the_product,
    seen_in="GeomLoss sinkhorn_divergence.py, OTT-JAX",
    computes="the dual of the plan a b exp((f + g - C) / reg), with an offset that makes its value 0 for cost 0",
    documented=True,
)


def _divergence_of_transport_costs(x, z, a, b, *, reg, tol=1e-12, max_iter=10000):
    def transport_cost(x, z, a, b):
        cost = squared_distances(x, z)
        return (cost * sinkhorn_log(cost, a, b, reg=reg, tol=tol, max_iter=max_iter).plan).sum()

    S = transport_cost(x, z, a, b) - transport_cost(x, x, a, a) / 2 - transport_cost(z, z, b, b) / 2
    return xp.maximum(S, 0)


DIVERGENCE_OF_TRANSPORT_COSTS = Deviation(
    "transport costs without their entropy",
    _divergence_of_transport_costs,
    seen_in="POT ot/bregman/_empirical.py, empirical_sinkhorn_divergence",
    computes="max(0, S) with the transport costs <C, P> of the three plans in the place of the optimal values",
)
