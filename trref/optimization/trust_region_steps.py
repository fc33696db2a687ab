r"""Approximate steps for the trust-region subproblem: Cauchy point, dogleg, two-dimensional subspace.

Minimise the model

.. math::
    :label: trust-region-steps-model

    m(p) = g^\top p + \tfrac12 p^\top B p, \qquad \nabla m(p) = g + Bp,

over :math:`\|p\| \le \Delta`, well enough for convergence and cheaper than exactly. The Cauchy point, the minimiser
along :math:`-g`,

.. math::
    :label: trust-region-steps-cauchy

    p^C = -\tau \frac{\Delta}{\|g\|} g, \qquad
    \tau = 1 \text{ if } g^\top B g \le 0, \text{ else } \min\Big\{ 1, \frac{\|g\|^3}{\Delta\, g^\top B g} \Big\},

lowers the model by at least :math:`\tfrac12 \|g\| \min(\Delta, \|g\| / \|B\|_2)`, and every step at least as good makes
the outer iteration converge. For positive definite :math:`B` the dogleg path runs from 0 to the minimiser along
:math:`-g`, and on to the full step; along it the length grows and the model falls:

.. math::
    :label: trust-region-steps-dogleg

    p^U = -\frac{g^\top g}{g^\top B g}\, g, \qquad p^B = -B^{-1} g, \qquad
    p = p^B \text{ inside}, \;\; {-\Delta} \frac{g}{\|g\|} \text{ if } \|p^U\| \ge \Delta, \;\;
    \text{else } p^U + t\, (p^B - p^U).

The subspace step is the exact solution over the plane of both directions,

.. math::
    :label: trust-region-steps-subspace

    p \in \mathrm{span}\{ g, B^{-1} g \} .

**Where implementations differ.** With an indefinite matrix the dogleg path means nothing; SciPy raises there, as here,
others shift the matrix first. Some use :math:`B + \lambda I` in the plane of the subspace step.

**Provenance.** The dogleg is confirmed by SciPy's sources; the rest is textbook.

Powell, *A Hybrid Method for Nonlinear Equations*, 1970; Conn, Gould and Toint, *Trust-Region Methods*, 2000; Nocedal
and Wright, *Numerical Optimization*, 2006, chapter 4.
"""

import math

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Input, Limit, Method, Objective, Solver
from trref.optimization.interfaces import (
    SUBPROBLEM,
    Step,
    boundary_steps,
    boundary_violation,
    dense_inputs,
    diagonal,
    floats,
)
from trref.optimization.trust_region_subproblem import eigen_step
from trref.problems.convex import spd_matrix, spectrum

__all__ = ["cauchy_point", "dogleg", "model_value", "subspace_step", "sufficient_decrease"]

MODEL_INPUTS = {**SUBPROBLEM.inputs, "p": Input("N")}


def model_value(g, B, p):
    """Value of the quadratic model and its gradient.

    Parameters
    ----------
    g, p : array (n,)
        Gradient at the centre, and the step.
    B : array (n, n)
        Symmetric; of another matrix the symmetric part counts.

    Returns
    -------
    value : scalar array
    gradient : array (n,)
        With respect to p.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite.
    """
    validate.inputs(MODEL_INPUTS, g, B, p)
    Bp = (B @ p + B.T @ p) / 2
    return g @ p + p @ Bp / 2, g + Bp  # eq. trust-region-steps-model


def cauchy_point(g, B, *, radius):
    """Minimise the model along the negative gradient.

    Parameters
    ----------
    g : array (n,)
        Gradient of the model.
    B : array (n, n)
        Symmetric.
    radius : float
        In (0, inf).

    Returns
    -------
    Step
        Fields p, status, values, iterations, converged.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, `B` not symmetric, `radius` out of range.
    """
    dense_inputs(g, B, radius)
    norm, curvature = floats(xp.sqrt(g @ g), g @ (B @ g))
    if norm == 0:
        return Step(xp.zeros_like(g), "interior", [0.0, 0.0], 1, True)
    curvature /= norm * norm
    # eq. trust-region-steps-cauchy
    tau = 1.0 if curvature * radius <= norm else norm / (radius * curvature)
    p = -(tau * radius / norm) * g

    value = -tau * radius * norm + (tau * radius) ** 2 * curvature / 2
    return Step(p, "interior" if tau < 1 else "boundary", [0.0, value], 1, True)


def dogleg(g, B, *, radius):
    """Follow the dogleg path of a positive definite model to the radius or to its end.

    Parameters
    ----------
    g, radius
        As in `cauchy_point`.
    B : array (n, n)
        Symmetric positive definite.

    Returns
    -------
    Step
        Fields p, status, values, iterations, converged.

    Raises
    ------
    ValueError
        As `cauchy_point`, or `B` not positive definite.
    """
    dense_inputs(g, B, radius)
    newton = _newton_step(g, B)
    gg, curvature, length = floats(g @ g, g @ (B @ g), xp.sqrt(newton @ newton))
    # eq. trust-region-steps-dogleg
    if length <= radius:
        p, status = newton, "interior"
    elif gg * math.sqrt(gg) >= radius * curvature:
        p, status = -(radius / math.sqrt(gg)) * g, "boundary"
    else:
        steepest = -(gg / curvature) * g
        leg = newton - steepest
        t = boundary_steps(*floats(steepest @ steepest, steepest @ leg, leg @ leg), radius)[1]
        p, status = steepest + t * leg, "boundary"

    return Step(p, status, [0.0, float(g @ p + p @ (B @ p) / 2)], 1, True)


def _newton_step(g, B):
    try:
        L = linalg.cholesky(B)
    except linalg.LinAlgError:
        raise ValueError("B must be positive definite") from None
    return -linalg.solve(L.T, linalg.solve(L, g))


def subspace_step(g, B, *, radius):
    """Minimise a positive definite model over the part of the plane of g and B⁻¹g within the radius.

    Parameters
    ----------
    g, B, radius
        As in `dogleg`.

    Returns
    -------
    Step
        Fields p, status, values, iterations, converged.

    Raises
    ------
    ValueError
        As `dogleg`.
    """
    dense_inputs(g, B, radius)
    # eq. trust-region-steps-subspace
    basis, _ = linalg.qr(xp.stack([g, _newton_step(g, B)], 1))
    step = eigen_step(basis.T @ g, basis.T @ B @ basis, radius=radius)
    p = basis @ step.p

    return Step(p, step.status, [0.0, float(g @ p + p @ (B @ p) / 2)], step.iterations, True)


def sufficient_decrease(result, g, B, *, radius, **_):
    """The decrease that the Cauchy point guarantees, over the decrease; and the length."""
    p, norm, size = result.p, math.sqrt(float(g @ g)), float(abs(linalg.eigvalsh(B)).max())
    bound = norm / 2 * min(radius, norm / size if size else math.inf)
    decrease = -float(g @ p + p @ (B @ p) / 2)
    too_small = math.inf if bound else 0.0
    return {
        "Cauchy decrease over the decrease": bound / decrease if decrease > 0 else too_small,
        "length beyond the radius": boundary_violation(p, radius),
        "error of the reported value": abs(result.values[-1] + decrease) / (abs(decrease) or 1.0),
    }


def _convex_example(rng, size):
    B = spd_matrix(rng, rng.choice((0.05, 1.0, 30.0)) * spectrum(size, rng.choice((2.0, 30.0))))
    return {"g": rng.choice((0.1, 1.0, 10.0)) * rng.standard_normal(size), "B": B}


def _with_step(make):
    return lambda: {**make(), "p": xp.ones(len(make()["g"]))}


CONVEX_EDGES = {
    "zero gradient": lambda: diagonal([0, 0], [1, 2]),
    "repeated eigenvalues": lambda: diagonal([1, 2, 3], [2, 2, 2]),
    "an eigenvector": lambda: diagonal([0, 3, 0], [1, 2, 3]),
    "full step ends exactly at the radius": lambda: diagonal([1.2, 1.6], [2, 2]),
    "one unknown": lambda: diagonal([0.5], [1.5]),
}
SETTINGS = {"default": {"radius": 1.0}, "short": {"radius": 0.05}, "probe": {"radius": 3.7}}
TOLERANCES = {
    "Cauchy decrease over the decrease": 1 + 1e-9,
    "length beyond the radius": 1e-10,
    "error of the reported value": 1e-9,
}
NEWTON = Limit("trust_region_subproblem.eigen_step", {"radius": 1e6}, {"radius": 1e6})


def _in_the_plane(inputs):
    """two unknowns"""
    return {"g": inputs["g"][:2], "B": inputs["B"][:2, :2]}


CONVEX = dict(
    inputs=SUBPROBLEM.inputs,
    example=_convex_example,
    edges=CONVEX_EDGES,
    settings=SETTINGS,
    certificate=sufficient_decrease,
    tolerances=TOLERANCES,
    agreement=1e-6,
)

METHOD = Method(
    key="conn2000trust",
    provenance={"confirmed": ("dogleg",), "partly": ("model", "cauchy", "subspace")},
    functions=(
        Objective(
            f=model_value,
            inputs=MODEL_INPUTS,
            example=lambda rng, size: {**SUBPROBLEM.example(rng, size), "p": rng.standard_normal(size)},
            edges={name: _with_step(make) for name, make in SUBPROBLEM.edges.items()},
            wrt="p",
        ),
        Solver(
            f=cauchy_point,
            interface=SUBPROBLEM,
            settings=SETTINGS,
            certificate=sufficient_decrease,
            tolerances=TOLERANCES,
            agreement=1e-6,
        ),
        Solver(
            f=dogleg,
            **CONVEX,
            limits=(NEWTON, Limit("trust_region_steps.cauchy_point", {"radius": 1e-4}, {"radius": 1e-4})),
        ),
        Solver(
            f=subspace_step,
            **CONVEX,
            limits=(NEWTON, Limit("trust_region_subproblem.eigen_step", {}, {"radius": 1.0}, where=_in_the_plane)),
        ),
    ),
)
