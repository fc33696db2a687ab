"""What is known of `trref.transport.entropic_dual`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective, Transform
from trref.catalog.transport.interfaces import DUAL
from trref.transport.entropic_dual import (
    dual_gap,
    dual_value,
    hessian_product,
    primal_value,
    transport_plan,
)


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


def transport_plan_jvp(f, g, cost, tangent, *, reg):
    """Differential of the plan along a tangent of f."""
    return transport_plan(f, g, cost, reg=reg) * tangent[:, None] / reg


def transport_plan_vjp(f, g, cost, cotangent, *, reg):
    """Adjoint of `transport_plan_jvp`."""
    return (transport_plan(f, g, cost, reg=reg) * cotangent).sum(1) / reg


def _primal_by_loops(plan, cost, reg):
    entries = zip(plan.ravel().tolist(), cost.ravel().tolist(), strict=True)
    return math.fsum(c * p + (reg * p * math.log(p) if p else 0.0) for p, c in entries)


def _dense_product(f, g, cost, u, v, reg):
    P = xp.exp((xp.add.outer(f, g) - cost) / reg - 1)
    H = xp.concatenate(
        [xp.hstack([xp.diag(P.sum(1)), P]), xp.hstack([P.T, xp.diag(P.sum(0))])]
    )
    return H @ xp.concatenate([u, v]) / reg


def _gap_by_values(plan, f, g, cost, reg):
    """Primal minus dual, for the marginals that the plan has."""
    dual = float(f @ plan.sum(1) + g @ plan.sum(0)) - reg * float(
        xp.exp((f[:, None] + g - cost) / reg - 1).sum()
    )
    return _primal_by_loops(plan, cost, reg) - dual


SETTINGS = {"default": {"reg": 0.1}, "probe": {"reg": 0.3}}


POTENTIAL_TOO_LARGE = {
    "a potential that is too large": {"f": 1e4},
}


METHOD = Method(
    key="peyre2019computational",
    provenance="confirmed",
    functions=(
        Transform(
            f=transport_plan,
            interface=DUAL,
            settings=SETTINGS,
            wrt="f",
            jvp=transport_plan_jvp,
            vjp=transport_plan_vjp,
            refused=POTENTIAL_TOO_LARGE,
        ),
        Estimator(
            f=primal_value,
            interface=DUAL,
            settings=SETTINGS,
            brute_force=_primal_by_loops,
        ),
        Objective(
            f=dual_value,
            interface=DUAL,
            settings=SETTINGS,
            wrt=("f", "g"),
            deviations=(DUAL_WITHOUT_MINUS_ONE, DUAL_RELATIVE_TO_THE_PRODUCT),
            refused=POTENTIAL_TOO_LARGE,
        ),
        Estimator(
            f=hessian_product,
            interface=DUAL,
            settings=SETTINGS,
            brute_force=_dense_product,
            refused=POTENTIAL_TOO_LARGE,
        ),
        Estimator(
            f=dual_gap,
            interface=DUAL,
            settings=SETTINGS,
            brute_force=_gap_by_values,
            refused=POTENTIAL_TOO_LARGE,
        ),
    ),
)
