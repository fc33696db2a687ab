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
Fletcher-Reeves has :math:`\beta \approx 1` and stays stuck with a bad direction; where :math:`y_k \approx 0` the others
restart by themselves. The direction is reset to :math:`-g` every n steps, and where it would not descend.

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
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Method, Solver
from trref.krylov import _nonlinear_cg_cases as cases
from trref.krylov.line_search import search
from trref.krylov.terms import floats, norm

__all__ = ["RULES", "NonlinearCgResult", "direction_parameter", "nonlinear_cg"]

RULES = ("FR", "PR", "PR+", "HS", "HS+", "DY", "HZ")
INPUTS = {"loss_and_grad": Input("", "callable"), "x0": Input("N")}
PARAMETER_INPUTS = {"gradient": Input("N"), "previous_gradient": Input("N"), "direction": Input("N")}
TRIALS = 40


class NonlinearCgResult(NamedTuple):
    """Solution (n,); values, gradient norms and slopes d·g of the directions; numbers of iterations and of trials."""

    x: Any
    values: list[float]
    gradient_norms: list[float]
    slopes: list[float]
    iterations: int
    inner_iterations: int
    converged: bool


def direction_parameter(gradient, previous_gradient, direction, *, rule="HZ"):
    """Return beta, the share of the old direction in the new one.

    Parameters
    ----------
    gradient, previous_gradient : array (n,)
        After and before the step; the latter not zero.
    direction : array (n,)
        Of the step. For HS, DY and HZ the slope along it must have grown: ``direction·(gradient - previous) > 0``.
    rule : str
        One of `RULES`.

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, a zero gradient before, a slope that did not grow.
    """
    validate.inputs(PARAMETER_INPUTS, gradient, previous_gradient, direction)
    validate.choice(RULES, rule=rule)
    g, d, y = gradient, direction, gradient - previous_gradient
    gg, old, dy = g @ g, previous_gradient @ previous_gradient, d @ y
    if rule in ("FR", "PR", "PR+", "HZ"):
        validate.require((lambda: old > 0, "previous_gradient must not be zero"))
    if rule in ("HS", "HS+", "DY", "HZ"):
        validate.require((lambda: dy > 0, f"direction·(gradient - previous_gradient) must be positive for {rule}"))

    if rule == "FR":
        return gg / old  # eq. nonlinear-cg-fr
    if rule in ("PR", "PR+"):
        return xp.maximum(g @ y / old, 0 if rule == "PR+" else -math.inf)  # eq. nonlinear-cg-pr
    if rule in ("HS", "HS+"):
        return xp.maximum(g @ y / dy, 0 if rule == "HS+" else -math.inf)  # eq. nonlinear-cg-hs
    if rule == "DY":
        return gg / dy  # eq. nonlinear-cg-dy
    # eq. nonlinear-cg-hz
    beta = (y - 2 * (y @ y / dy) * d) @ g / dy
    return xp.maximum(beta, -1 / (xp.sqrt(d @ d) * xp.minimum(xp.sqrt(old), 0.01)))


def nonlinear_cg(loss_and_grad, x0, *, rule="HZ", gtol=1e-6, c1=1e-4, c2=0.1, restart=None, max_iter=None):
    """Minimise a smooth function by nonlinear conjugate gradients.

    Parameters
    ----------
    loss_and_grad : callable
        ``loss_and_grad(x) -> (value, gradient (n,))``.
    x0 : array (n,)
        Start.
    rule : str
        One of `RULES`.
    gtol : float
        Ends when the gradient's norm is at most this, in (0, inf).
    c1, c2 : float
        Of the line search, 0 < c1 < c2 < 1; below 1/2 for FR.
    restart : int, optional
        Steps between restarts with the gradient, n by default.
    max_iter : int, optional
        200 n by default.

    Returns
    -------
    NonlinearCgResult
        Fields x, values, gradient_norms, slopes, iterations, inner_iterations, converged.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, numbers out of range.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or the line search found no step.
    """
    validate.inputs(INPUTS, loss_and_grad, x0)
    validate.choice(RULES, rule=rule)
    validate.interval("(0, inf)", gtol=gtol)
    validate.interval("(0, 1)", c1=c1, c2=c2)
    if c1 >= c2:
        raise ValueError(f"c2 must be larger than c1 = {c1}, not {c2}")
    restart = len(x0) if restart is None else restart
    max_iter = 200 * len(x0) if max_iter is None else max_iter
    validate.integer("[1, inf)", restart=restart, max_iter=max_iter)

    x = x0.copy()
    value, g = validate.loss_and_grad(loss_and_grad, x)
    value, squared = floats(xp.asarray(value, dtype=x.dtype), g @ g)
    if not math.isfinite(value + squared):
        raise ValueError(f"loss_and_grad must be finite at x0: value {value:.3g}, squared gradient {squared:.3g}")
    d, step = -g, 1 / max(1.0, math.sqrt(squared))
    values, norms, slopes, trials, failed = [value], [math.sqrt(squared)], [], 0, False
    while norms[-1] > gtol and len(slopes) < max_iter:
        slope = float(d @ g)
        if slope >= 0 or len(slopes) % restart == 0:  # the first direction too
            d, slope = -g, -(norms[-1] ** 2)
        if slopes:  # the first trial expects the decrease of the last step again
            step *= min(slopes[-1] / slope, 100.0)
        slopes.append(slope)
        found = search(loss_and_grad, (x, values[-1], g, slope), d, step, c1, c2, TRIALS)
        trials += found.iterations
        failed = not found.converged
        if failed:
            break
        g_old, x, g, step = g, found.x, found.gradient, found.step
        values.append(found.value)
        norms.append(norm(g))
        # eq. nonlinear-cg-direction
        beta = float(direction_parameter(g, g_old, d, rule=rule))
        d = -g + beta * d

    converged = norms[-1] <= gtol
    if not converged:
        reason = "the line search found no step" if failed else f"at most {max_iter} iterations"
        message = f"nonlinear_cg stopped at a gradient norm of {norms[-1]:.2e}, above {gtol:.2e}: {reason}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=2)
    return NonlinearCgResult(x, values, norms, slopes, len(values) - 1, trials, converged)


def _certificate(result, loss_and_grad, x0, *, gtol=1e-6, **_):
    """The gradient at the solution, what is reported of it and of the value there, and that every direction descended.

    Two solutions may differ by gtol in the gradient's norm and by its square in the value.
    """
    value, gradient = loss_and_grad(result.x)
    return {
        "gradient norm over gtol": norm(gradient) / gtol,
        "error of the reported norm, over gtol": abs(norm(gradient) - result.gradient_norms[-1]) / gtol,
        "error of the reported value": abs(float(value) - result.values[-1]) / max(1.0, *map(abs, result.values)),
        "steepest ascent among the directions": max(result.slopes, default=0.0),
    }


METHOD = Method(
    key="hager2005new",
    provenance="confirmed",
    functions=(
        Estimator(
            f=direction_parameter,
            inputs=PARAMETER_INPUTS,
            example=cases.parameter_example,
            edges=cases.PARAMETER_EDGES,
            settings={"default": {}, **{rule: {"rule": rule} for rule in RULES[:-1]}, "probe": {"rule": "PR"}},
            brute_force=cases.brute_force_parameter,
        ),
        Solver(
            f=nonlinear_cg,
            prescribed=False,
            inputs=INPUTS,
            example=cases.example,
            edges=cases.EDGES,
            settings={
                "default": {},
                **{rule: {"rule": rule} for rule in RULES[:-1]},
                "probe": {"rule": "PR+", "gtol": 1e-4, "c1": 1e-3, "c2": 0.3, "restart": 5, "max_iter": 900},
            },
            certificate=_certificate,
            tolerances={
                "gradient norm over gtol": 1 + 1e-9,
                "error of the reported norm, over gtol": 1 + 1e-9,
                "error of the reported value": 1e-6,
                "steepest ascent among the directions": 0.0,
            },
        ),
    ),
)
