r"""Trust-region minimisation: trust a model within a radius, and the radius as far as it has kept its promise.

At each iterate the quadratic model of the function is minimised over :math:`\|p\| \le \Delta`, exactly or not. The
ratio of the decrease that came to the decrease that the model promised,

.. math::
    :label: trust-region-minimize-ratio

    \rho = \frac{f(x) - f(x + p)}{m(0) - m(p)},

decides about the step, :math:`x \leftarrow x + p` if :math:`\rho > \eta`, and about the radius:

.. math::
    :label: trust-region-minimize-radius

    \Delta \leftarrow \begin{cases}
    \Delta/4 & \rho < \tfrac14 \\
    \min(2\Delta, \Delta_{max}) & \rho > \tfrac34 \text{ and } \|p\| = \Delta \\
    \Delta & \text{otherwise.}
    \end{cases}

With steps that lower the model as much as the Cauchy point's :math:`\|\nabla f\|` goes to zero, without convexity and
from any start (for :math:`\eta = 0` along some of the iterates at least); near a minimum with a positive definite
Hessian the radius no longer matters, and with exact or dogleg steps the iteration is Newton's.

=======================  ==================================
:math:`\Delta`           `radius`
:math:`\Delta_{max}`     `max_radius`
:math:`\eta`             `accept_ratio`
=======================  ==================================

**Where implementations differ.** When the predicted decrease falls below the rounding of :math:`f` the ratio is noise.
SciPy goes on (and stops, with a warning, when the prediction is not positive). Here the gradient decides then: a step
that does not reduce it is refused.

**Provenance.** Confirmed by SciPy's sources (with its :math:`\eta = 0.15`, start radius 1, largest radius 1000).

Conn, Gould and Toint, *Trust-Region Methods*, 2000; Nocedal and Wright, *Numerical Optimization*, 2006, algorithm 4.1.
"""

import math
import warnings
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.terms import floats
from trref.optimization.more_sorensen import more_sorensen
from trref.optimization.steihaug import steihaug_toint
from trref.optimization.terms import length_and_direction
from trref.optimization.trust_region_steps import cauchy_point, dogleg, subspace_step
from trref.optimization.trust_region_subproblem import eigen_step
from trref.signature import N, PositiveFloat, PositiveInt, Real, checked

STEPS = {
    "exact": eigen_step,
    "more_sorensen": more_sorensen,
    "steihaug": lambda g, B, *, radius: steihaug_toint(
        g, lambda v: B @ v, radius=radius
    ),
    "dogleg": dogleg,
    "subspace": subspace_step,
    "cauchy": cauchy_point,
}


class MinimizeResult(NamedTuple):
    """Values and gradient norms at the iterates, radius and ratio of each step tried, iterations of their solver."""

    x: Real[N]
    values: list[float]
    gradient_norms: list[float]
    radii: list[float]
    ratios: list[float]
    iterations: int
    inner_iterations: int
    converged: bool


def update_radius(ratio, at_boundary, radius, *, max_radius):
    """Return the next radius, after a step of that ratio that was as long as the radius, or shorter."""
    # eq. trust-region-minimize-radius
    if ratio < 0.25:
        return radius / 4
    if ratio > 0.75 and at_boundary:
        return min(2 * radius, max_radius)
    return radius


def _at_most(radius, max_radius, **_):
    """A first radius above the largest."""
    if radius > max_radius:
        message = f"max_radius must be at least radius = {radius}, not {max_radius}"
        raise ValueError(message)
    return []


@checked(also=_at_most)
def trust_region_minimize(
    loss_and_grad: Callable,
    hessian: Callable,
    x0: Real[N],
    *,
    step: Literal[
        "exact", "more_sorensen", "steihaug", "dogleg", "subspace", "cauchy"
    ] = "exact",
    radius: PositiveFloat = 1.0,
    max_radius: PositiveFloat = 1000.0,
    accept_ratio: Annotated[float, "[0, 0.25)"] = 0.15,
    gtol: PositiveFloat = 1e-6,
    max_iter: PositiveInt | None = None,
) -> MinimizeResult:
    """Minimise a smooth function by steps within a trust region.

    Parameters
    ----------
    loss_and_grad
        At any x; a value that is not finite refuses a step.
    hessian
        ``hessian(x) -> (n, n)``, symmetric.
    x0
        The start.
    step
        How the model is minimised; "dogleg" and "subspace" need positive definite Hessians.
    radius, max_radius
        The first and the largest one.
    accept_ratio
        A step is taken if its ratio exceeds this.
    max_iter
        Steps tried, 200 n if None.

    Raises
    ------
    ValueError
        A start that is not finite, a Hessian that is not, or an indefinite one where `step` needs a definite one.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or rounding ended the progress.
    """
    max_iter = 200 * len(x0) if max_iter is None else max_iter
    x = x0.copy()
    value, g = validate.loss_and_grad(loss_and_grad, x)
    value, norm = _figures(x, value, g)
    if not math.isfinite(value + norm):
        raise ValueError(
            f"loss_and_grad must be finite at x0: value {value:.3g}, gradient norm {norm:.3g}"
        )
    B = _symmetric(hessian, x)
    values, norms, radii, ratios, inner = [value], [norm], [], [], 0
    smallest = 10 * float(xp.finfo(x.dtype).eps)
    shortest = 0.0  # rounding ends the progress before radii become this short
    while norms[-1] > gtol and len(radii) < max_iter and radius > shortest:
        tried = _minimise_model(step, g, B, radius)
        p, inner = tried.p, inner + tried.iterations
        new_value, new_g = validate.loss_and_grad(loss_and_grad, x + p)
        new_value, new_norm, promised = _figures(
            x, new_value, new_g, -(g @ p + p @ (B @ p) / 2)
        )
        # eq. trust-region-minimize-ratio
        if promised > smallest * abs(values[-1]):
            ratio = (values[-1] - new_value) / promised
            ratio = ratio if math.isfinite(ratio + new_norm) else -1.0
        else:
            # rounding hides the decrease: the gradient decides
            ratio = 1.0 if new_norm < norms[-1] else 0.0

        radii.append(radius)
        ratios.append(ratio)
        shortest = smallest * max(radii)
        at_boundary = tried.status != "interior"
        radius = update_radius(ratio, at_boundary, radius, max_radius=max_radius)
        if ratio > accept_ratio:
            x, g = x + p, new_g
            B = _symmetric(hessian, x)
            values.append(new_value)
            norms.append(new_norm)

    converged = norms[-1] <= gtol
    if not converged:
        message = f"trust_region_minimize stopped at a gradient norm of {norms[-1]:.2e}"
        message = f"{message}, above {gtol:.2e}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return MinimizeResult(x, values, norms, radii, ratios, len(radii), inner, converged)


def _figures(x, value, g, *scalars):
    """Value, norm of the gradient and more, as host floats."""
    value = xp.asarray(value, dtype=x.dtype)
    return floats(value, length_and_direction(g)[0], *scalars)


def _minimise_model(step, g, B, radius):
    try:
        return STEPS[step](g, B, radius=radius)
    except ValueError as error:
        if not bool(xp.isfinite(B).all()):
            raise ValueError("hessian must give finite values") from None
        raise ValueError(f"hessian does not suit the step {step!r}: {error}") from None


def _symmetric(hessian, x):
    B = hessian(x)
    validate.array("the result of hessian", B)
    shape = (len(x), len(x))
    if B.shape != shape or B.dtype != x.dtype:
        raise ValueError(
            f"hessian must give {x.dtype} arrays of shape {shape}, not {B.dtype} {tuple(B.shape)}"
        )
    return (B + B.T) / 2
