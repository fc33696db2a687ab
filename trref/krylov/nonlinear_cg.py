r"""Nonlinear conjugate gradients.

The direction recurrence of conjugate gradients with a line search in place of the exact minimiser of a quadratic:
:math:`d_0 = -g_0`, :math:`x_{k+1} = x_k + t_k d_k` with the strong Wolfe conditions, and, with
:math:`y_k = g_{k+1} - g_k`,

.. math::
    :label: nonlinear-cg-direction

    d_{k+1} = -g_{k+1} + \beta_k d_k .

The rules for :math:`\beta` agree on a quadratic with exact line searches, where all are linear conjugate gradients, and
differ in what they do otherwise: Fletcher-Reeves, Polak-Ribière, Hestenes-Stiefel, Dai-Yuan, Hager-Zhang:

.. math::
    :label: nonlinear-cg-fr

    \beta^{FR} = \frac{\|g_{k+1}\|^2}{\|g_k\|^2}

.. math::
    :label: nonlinear-cg-pr

    \beta^{PR} = \frac{g_{k+1}^\top y_k}{\|g_k\|^2}, \qquad \beta^{PR+} = \max\{0, \beta^{PR}\}

.. math::
    :label: nonlinear-cg-hs

    \beta^{HS} = \frac{g_{k+1}^\top y_k}{d_k^\top y_k}, \qquad \beta^{HS+} = \max\{0, \beta^{HS}\}

.. math::
    :label: nonlinear-cg-dy

    \beta^{DY} = \frac{\|g_{k+1}\|^2}{d_k^\top y_k}

.. math::
    :label: nonlinear-cg-hz

    \beta^{N} = \frac{1}{d_k^\top y_k} \Big( y_k - 2 d_k \frac{\|y_k\|^2}{d_k^\top y_k} \Big)^\top g_{k+1}, \qquad
    \beta^{HZ} = \max\Big\{ \beta^{N}, \frac{-1}{\|d_k\| \min(0.01, \|g_k\|)} \Big\} .

:math:`\beta^N` gives :math:`d_{k+1}^\top g_{k+1} \le -\tfrac78 \|g_{k+1}\|^2` for every line search. After a tiny step
Fletcher-Reeves has :math:`\beta \approx 1` and stays stuck with a bad direction; where :math:`y_k \approx 0`
Polak-Ribière restarts by itself. The direction is reset to :math:`-g` every n steps, and where it would not descend.

**Where implementations differ.** SciPy's ``minimize(method="CG")`` is PR+ with :math:`c_2 = 0.4` and a test of
sufficient descent inside the line search. DY, HS and HZ need :math:`d^\top y > 0`, which the Wolfe conditions ensure
and a decrease alone does not.

**Provenance.** Confirmed: textbook rules, compared with linear conjugate gradients and SciPy. The two constants 0.01
and 2 of Hager and Zhang are as published in 2005.

Fletcher and Reeves, 1964; Polak and Ribière, 1969; Dai and Yuan, 1999; Hager and Zhang, *A New Conjugate Gradient
Method with Guaranteed Descent and an Efficient Line Search*, 2005.
"""

import math
import warnings
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, get_args

from trref import validate
from trref.backend import xp
from trref.krylov.line_search import ordered, search
from trref.krylov.terms import floats, norm
from trref.signature import (
    N,
    OpenFraction,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

Rule = Literal["FR", "PR", "PR+", "HS", "HS+", "DY", "HZ"]
RULES = get_args(Rule)
TRIALS, LARGEST = 40, 1e100


class NonlinearCgResult(NamedTuple):
    """Solution; values, gradient norms and slopes d·g of the directions; `inner_iterations` counts trials."""

    x: Real[N]
    values: list[float]
    gradient_norms: list[float]
    slopes: list[float]
    iterations: int
    inner_iterations: int
    converged: bool


def _defined(gradient, previous_gradient, direction, rule, **_):
    """A denominator of zero: for FR, PR and HZ the old gradient, for HS, DY and HZ the rise of the slope."""
    flags = []
    if rule in ("FR", "PR", "PR+", "HZ"):
        old = lambda: previous_gradient @ previous_gradient  # noqa: E731
        short = "previous_gradient must not be zero, nor its square"
        flags.append((lambda: old() > 0, short))
    if rule in ("HS", "HS+", "DY", "HZ"):
        dy = lambda: direction @ (gradient - previous_gradient)  # noqa: E731
        rise = "direction·(gradient - previous_gradient)"
        flags.append((lambda: dy() > 0, f"{rise} must be positive for {rule}"))
    return flags


@checked(also=_defined)
def direction_parameter(
    gradient: Real[N],
    previous_gradient: Real[N],
    direction: Real[N],
    *,
    rule: Rule = "HZ",
) -> Scalar:
    """Return beta, the share of the old direction in the new one.

    Parameters
    ----------
    gradient, previous_gradient
        After and before the step.
    direction
        The direction of the step.
    rule
        Which beta: by the initials of its authors; ``+`` cuts negative values off.
    """
    g, d, y = gradient, direction, gradient - previous_gradient
    gg, old, dy = g @ g, previous_gradient @ previous_gradient, d @ y
    if rule == "FR":
        return gg / old  # eq. nonlinear-cg-fr
    if rule in ("PR", "PR+"):
        # eq. nonlinear-cg-pr
        return xp.maximum(g @ y / old, 0 if rule == "PR+" else -math.inf)
    if rule in ("HS", "HS+"):
        # eq. nonlinear-cg-hs
        return xp.maximum(g @ y / dy, 0 if rule == "HS+" else -math.inf)
    if rule == "DY":
        return gg / dy  # eq. nonlinear-cg-dy
    # eq. nonlinear-cg-hz
    beta = (y - 2 * (y @ y / dy) * d) @ g / dy
    return xp.maximum(beta, -1 / (xp.sqrt(d @ d) * xp.minimum(xp.sqrt(old), 0.01)))


@checked(also=ordered)
def nonlinear_cg(
    loss_and_grad: Callable,
    x0: Real[N],
    *,
    rule: Rule = "HZ",
    gtol: Annotated[float, "[1e-100, inf)"] = 1e-6,
    c1: OpenFraction = 1e-4,
    c2: OpenFraction = 0.1,
    restart: PositiveInt | None = None,
    max_iter: PositiveInt | None = None,
) -> NonlinearCgResult:
    """Minimise a smooth function by nonlinear conjugate gradients.

    Parameters
    ----------
    gtol
        Of the gradient's norm, whose square must not vanish.
    c1, c2
        For the line search, 0 < c1 < c2 < 1; below 1/2 for FR.
    restart
        Steps between restarts with the gradient; n if None.
    max_iter
        200 n if None.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or the line search found no step.
    """
    restart = len(x0) if restart is None else restart
    max_iter = 200 * len(x0) if max_iter is None else max_iter

    x = x0.copy()
    value, g = validate.loss_and_grad(loss_and_grad, x)
    value, squared = floats(xp.asarray(value, dtype=x.dtype), g @ g)
    if not (math.isfinite(value) and math.sqrt(squared) <= LARGEST):
        raise ValueError(
            f"loss_and_grad must give a finite value and a gradient of a norm of at most {LARGEST:g}, at x0 {value:.3g}"
            f" and {math.sqrt(squared):.3g}"
        )
    d, step = -g, 1 / max(1.0, math.sqrt(squared))
    values, norms, slopes, trials, failed = [value], [math.sqrt(squared)], [], 0, False
    while norms[-1] > gtol and len(slopes) < max_iter:
        slope = float(d @ g)
        if slope >= 0 or len(slopes) % restart == 0:  # the first direction too
            d, slope = -g, -(norms[-1] ** 2)
        if slopes:  # the first trial expects the decrease of the last step again
            step *= min(slopes[-1] / slope, 100.0)
        slopes.append(slope)
        found = search(
            loss_and_grad, (x, values[-1], g, slope), d, step, c1, c2, TRIALS
        )
        trials += found.iterations
        failed = not found.converged
        if failed or not (size := norm(found.gradient)) <= LARGEST:
            break
        g_old, x, g, step = g, found.x, found.gradient, found.step
        values.append(found.value)
        norms.append(size)
        # eq. nonlinear-cg-direction
        beta = float(direction_parameter.unchecked(g, g_old, d, rule=rule))
        d = -g + beta * d if math.isfinite(beta) else -g

    converged = norms[-1] <= gtol
    if not converged:
        reason = (
            "the line search found no step"
            if failed
            else f"at most {max_iter} iterations, and gradients up to {LARGEST:g}"
        )
        message = f"nonlinear_cg stopped at a gradient norm of {norms[-1]:.2e}, above {gtol:.2e}: {reason}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return NonlinearCgResult(
        x, values, norms, slopes, len(values) - 1, trials, converged
    )
