r"""Steihaug's and Toint's step for the trust-region subproblem: conjugate gradients that know where to stop.

Minimise the model :math:`m(p) = g^\top p + \tfrac12 p^\top B p` over :math:`\|p\| \le \Delta` with products :math:`Bv`
alone. Conjugate gradients from :math:`z_0 = 0`, :math:`r_0 = g`, :math:`d_0 = -g` lower the model while the iterates
grow in length, so the first one that leaves the ball, or a direction along which the model curves down, ends the
iteration:

.. math::
    :label: steihaug-iteration

    \alpha = \frac{r^\top r}{d^\top B d}, \qquad
    z \leftarrow z + \alpha d, \qquad r^+ = r + \alpha B d, \qquad
    d \leftarrow -r^+ + \frac{r^{+\top} r^+}{r^\top r}\, d

.. math::
    :label: steihaug-boundary

    z + t d, \quad \|z + t d\| = \Delta: \qquad
    t > 0 \text{ if } d^\top B d > 0 \text{ and } \|z + \alpha d\| \ge \Delta, \qquad
    \text{the better of both } t \text{ if } d^\top B d \le 0 .

The first iterate is the Cauchy point, and for :math:`B \succ 0` the step achieves at least half of the optimal decrease
(Yuan).

**Where implementations differ.** Where :math:`d^\top B d \le 0` Steihaug's original takes the positive t; here, as in
Nocedal and Wright and in SciPy, the better of both ends.

**Provenance.** Confirmed by SciPy's sources, and by the numbers of its steps.

Steihaug, *The Conjugate Gradient Method and Trust Regions in Large Scale Optimization*, 1983; Toint, *Towards an
Efficient Sparsity Exploiting Newton Method for Minimization*, 1981; Yuan, *On the Truncated Conjugate Gradient
Method*, 2000.
"""

import math
import warnings

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Limit, Method, Solver
from trref.optimization import deviations
from trref.optimization.interfaces import SUBPROBLEM, Step, boundary_steps, convex, diagonal, floats
from trref.optimization.trust_region_steps import SETTINGS, TOLERANCES, sufficient_decrease
from trref.problems.convex import DenseOperator

__all__ = ["steihaug_toint"]

OPERATOR_INPUTS = {"g": Input("N"), "matvec": Input("", "callable")}


def steihaug_toint(g, matvec, *, radius, rtol=None):
    """Minimise the model by conjugate gradients, up to the radius or negative curvature.

    Parameters
    ----------
    g : array (n,)
        Gradient of the model.
    matvec : callable
        ``matvec(v) -> B v`` for arrays (n,), B symmetric.
    radius : float
        In (0, inf).
    rtol : float, optional
        Ends when ``‖g + B z‖ <= rtol ‖g‖``, in [0, 1); min(1/2, √‖g‖) by default. Below the rounding unit it counts as
        that: a smaller residual says nothing of the curvature.

    Returns
    -------
    Step
        Fields p, status, values (of the model), iterations (products), converged.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, numbers out of range.

    Warns
    -----
    ConvergenceWarning
        Ten n products, in exact arithmetic n are enough, and the residual is still above its target.
    """
    validate.inputs(OPERATOR_INPUTS, g, matvec)
    validate.interval("(0, inf)", radius=radius)
    rr = float(g @ g)
    rtol = min(0.5, rr**0.25) if rtol is None else rtol
    validate.interval("[0, 1)", rtol=rtol)

    z, r, d = xp.zeros_like(g), g, -g
    target = max(rtol, float(xp.finfo(g.dtype).eps)) * math.sqrt(rr)
    values, status = [0.0], "interior"
    while math.sqrt(rr) > target and len(values) <= 10 * len(g):
        Bd = matvec(d)
        validate.array("the result of matvec", Bd)
        if Bd.shape != d.shape or Bd.dtype != d.dtype:
            raise ValueError(
                f"matvec must give {d.dtype} arrays of shape {tuple(d.shape)}, not {Bd.dtype} {tuple(Bd.shape)}"
            )
        curvature, zz, zd, dd = floats(d @ Bd, z @ z, z @ d, d @ d)
        if not math.isfinite(curvature):
            raise ValueError("matvec must give finite values")
        back, ahead = boundary_steps(zz, zd, dd, radius)
        change = lambda t, rr=rr, curvature=curvature: -t * rr + t * t * curvature / 2  # noqa: E731
        # eq. steihaug-boundary
        if curvature <= 0:
            t, status = min((ahead, back), key=change), "negative curvature"
        elif rr >= ahead * curvature:
            t, status = ahead, "boundary"
        else:
            t = rr / curvature

        # eq. steihaug-iteration
        z = z + t * d
        values.append(values[-1] + change(t))
        if status != "interior":
            break
        r = r + t * Bd
        rr, previous = float(r @ r), rr
        d = -r + rr / previous * d

    converged = status != "interior" or math.sqrt(rr) <= target
    if not converged:
        message = f"steihaug_toint stopped after {len(values) - 1} products at a residual of {math.sqrt(rr):.2e}"
        warnings.warn(f"{message}, above {target:.2e}", validate.ConvergenceWarning, stacklevel=2)
    return Step(z, status, values, len(values) - 1, converged)


def _operator_certificate(result, g, matvec, *, radius, rtol=None):
    B = xp.stack([matvec(e) for e in xp.eye(len(g))], 1)
    return sufficient_decrease(result, g, B, radius=radius)


def _operator_example(rng, size):
    example = SUBPROBLEM.example(rng, size)
    return {"g": example["g"], "matvec": DenseOperator(example["B"])}


def _as_operator(make):
    return lambda: {"g": make()["g"], "matvec": DenseOperator(make()["B"])}


def _convex(inputs):
    """a convex model and a large radius"""
    g = inputs["g"]
    B = xp.stack([inputs["matvec"](e) for e in xp.eye(len(g))], 1)
    return {"g": g, "matvec": DenseOperator(convex({"g": g, "B": B})["B"]), "b": -g}


EDGES = SUBPROBLEM.edges | {
    "back along negative curvature": lambda: {"g": xp.array([1.0, 1.0]), "B": xp.array([[1.0, 2.0], [2.0, -2.0]])},
    "the better of both ends": lambda: {"g": xp.array([-0.25, -0.75]), "B": xp.array([[1.0, -3.0], [-3.0, 3.0]])},
    "0.6 of the residual after one step": lambda: diagonal([1, 1], [10, 40]),
    "a dozen eigenvalues": lambda: diagonal([1] * 12, range(1, 13)),
}

METHOD = Method(
    key="steihaug1983conjugate",
    provenance="confirmed",
    functions=(
        Solver(
            f=steihaug_toint,
            inputs=OPERATOR_INPUTS,
            example=_operator_example,
            edges={name: _as_operator(make) for name, make in EDGES.items()},
            settings={**SETTINGS, "to the end": {"radius": 1e4, "rtol": 1e-8}, "probe": {"radius": 3.7, "rtol": 1e-3}},
            certificate=_operator_certificate,
            tolerances=TOLERANCES,
            agreement=1e-6,
            limits=(Limit("cg.cg", {"radius": 1e6, "rtol": 1e-6}, {"rtol": 1e-6}, where=_convex),),
            deviations=(deviations.POSITIVE_ROOT,),
        ),
    ),
)
