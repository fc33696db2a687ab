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

A curvature :math:`d^\top B d / d^\top d` that is rounding of the largest one met says nothing. There, too, the ends
are tried, and the minimiser between them if there is one; products decide, as they do about the value of the step that
is returned.

======================  ===============
:math:`\Delta`          `radius`
:math:`Bv`              ``matvec(v)``
======================  ===============

**Where implementations differ.** Where :math:`d^\top B d \le 0` Steihaug's original takes the positive t; here, as in
Nocedal and Wright and in SciPy, the better of both ends.

**Provenance.** Confirmed by SciPy's sources, and by the numbers of its steps.

Steihaug, *The Conjugate Gradient Method and Trust Regions in Large Scale Optimization*, 1983; Toint, *Towards an
Efficient Sparsity Exploiting Newton Method for Minimization*, 1981; Yuan, *On the Truncated Conjugate Gradient
Method*, 2000.
"""

import math
import warnings
from collections.abc import Callable
from typing import Annotated

from trref import validate
from trref.backend import xp
from trref.krylov.terms import floats, product, require_finite
from trref.optimization.terms import Step, boundary_steps
from trref.signature import N, PositiveFloat, Real, checked


def _not_too_short(g, radius, **_):
    """A radius below 1e-305 of an entry of g."""
    too_short = (
        f"radius must be at least 1e-305 of the largest entry of g, not {radius}"
    )
    return [(lambda: 1e-305 * abs(g).max() <= radius, too_short)]


@checked(also=_not_too_short)
def steihaug_toint(
    g: Real[N],
    matvec: Callable,
    *,
    radius: PositiveFloat,
    rtol: Annotated[float, "[0, 1)"] | None = None,
) -> Step:
    """Minimise the model by conjugate gradients, up to the radius or negative curvature.

    Parameters
    ----------
    g
        Gradient of the model.
    matvec
        With its symmetric Hessian.
    rtol
        Of ``‖g + B z‖`` to ``‖g‖``; min(1/2, √‖g‖) if None. Below the rounding unit it counts as that: a smaller
        residual says nothing of the curvature.

    Returns
    -------
    Step
        `iterations` counts those of conjugate gradients. The value of the step is computed by a product.

    Warns
    -----
    ConvergenceWarning
        Ten n iterations, in exact arithmetic n are enough, and the residual is still above its target.
    """
    # In powers of two, which round nothing: g and the directions in units of g's
    # entries, z and the radius in those of the radius. So squares do not vanish.
    largest = abs(g).max()
    g = xp.ldexp(g, -xp.frexp(largest)[1])
    largest, rr = floats(largest, g @ g)
    slope, length = (math.frexp(x)[1] for x in (largest, radius))
    radius = math.ldexp(radius, -length)
    ratio = math.ldexp(1.0, slope - length)

    def model(z):
        value = ratio * float(g @ z) + float(z @ product(matvec, z)) / 2
        require_finite("matvec", value)
        return value

    z, r, d = xp.zeros_like(g), g, -g
    eps = float(xp.finfo(g.dtype).eps)
    if rtol is None:
        rtol = min(0.5, math.sqrt(math.ldexp(math.sqrt(rr), slope)))
    target = max(rtol, eps) * math.sqrt(rr)
    values, status, largest = [0.0], "interior", 0.0
    while math.sqrt(rr) > target and len(values) <= 10 * len(g):
        Bd = product(matvec, d)
        curvature, zz, zd, dd = floats(d @ Bd, z @ z, z @ d, d @ d)
        require_finite("matvec", curvature)
        back, ahead = boundary_steps(zz, zd, dd, radius)
        t = ratio * rr / curvature if curvature > 0 else math.inf
        flat = curvature <= 10 * eps * largest * dd
        largest = max(largest, curvature / dd)
        # eq. steihaug-boundary
        if flat:
            # the model curves down along d, or not at all, up to rounding
            ends = [ahead, back] + [t] * (t < ahead)
            t = min(ends, key=lambda t: model(z + t * d))
            status = "negative curvature" if t in (ahead, back) else "interior"
        elif t >= ahead:
            # the minimiser along d is outside
            t, status = ahead, "boundary"

        # eq. steihaug-iteration
        z = z + t * d
        values.append(values[-1] - t * ratio * rr + t * t * curvature / 2)
        if status != "interior":
            break
        r = r + t / ratio * Bd
        rr, previous = float(r @ r), rr
        d = -r + rr / previous * d

    if len(values) > 1:
        values[-1] = model(z)
    converged = status != "interior" or math.sqrt(rr) <= target
    if not converged:
        norm, bound = (math.ldexp(x, slope) for x in (math.sqrt(rr), target))
        message = f"steihaug_toint stopped after {len(values) - 1} iterations at a residual of {norm:.2e}"
        warnings.warn(
            f"{message}, above {bound:.2e}", validate.ConvergenceWarning, stacklevel=3
        )
    values = [math.ldexp(m, 2 * length) for m in values]
    return Step(xp.ldexp(z, length), status, values, len(values) - 1, converged)
