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

Every step that lowers the model as much as the Cauchy point makes :math:`\|\nabla f\|` go to zero, without convexity
and from any start; near a minimum with a positive definite Hessian the radius no longer matters, and with exact or
dogleg steps the iteration is Newton's.

**Where implementations differ.** When the predicted decrease falls below the rounding of :math:`f` the ratio is noise.
SciPy goes on (and stops, with a warning, when the prediction is not positive). Here the gradient decides then: a step
that does not reduce it is refused.

**Provenance.** Confirmed by SciPy's sources (with its :math:`\eta = 0.15`, start radius 1, largest radius 1000).

Conn, Gould and Toint, *Trust-Region Methods*, 2000; Nocedal and Wright, *Numerical Optimization*, 2006, algorithm 4.1.
"""

import itertools
import math
import warnings
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Method, Solver
from trref.optimization.interfaces import floats
from trref.optimization.more_sorensen import more_sorensen
from trref.optimization.steihaug import steihaug_toint
from trref.optimization.trust_region_steps import cauchy_point, dogleg, subspace_step
from trref.optimization.trust_region_subproblem import eigen_step
from trref.problems.convex import DenseOperator, Logistic, Quadratic, spd_matrix, spectrum
from trref.problems.curvature import LogisticHessian, QuadraticHessian

__all__ = ["STEPS", "MinimizeResult", "trust_region_minimize", "update_radius"]

STEPS = {
    "exact": eigen_step,
    "more_sorensen": more_sorensen,
    "steihaug": lambda g, B, *, radius: steihaug_toint(g, DenseOperator(B), radius=radius),
    "dogleg": dogleg,
    "subspace": subspace_step,
    "cauchy": cauchy_point,
}
INPUTS = {"loss_and_grad": Input("", "callable"), "hessian": Input("", "callable"), "x0": Input("N")}


class MinimizeResult(NamedTuple):
    """Solution (n,); values and gradient norms at the iterates; radius and ratio of each step; numbers of steps tried
    and of iterations of the subproblem's solver; and the verdict."""

    x: Any
    values: list[float]
    gradient_norms: list[float]
    radii: list[float]
    ratios: list[float]
    iterations: int
    inner_iterations: int
    converged: bool


def update_radius(ratio, at_boundary, radius, *, max_radius):
    """Return the next radius.

    Parameters
    ----------
    ratio : float
        Of the actual to the predicted decrease.
    at_boundary : bool
        Whether the step was as long as the radius.
    radius, max_radius : float
        The radius so far, and the largest.

    Returns
    -------
    float
    """
    # eq. trust-region-minimize-radius
    if ratio < 0.25:
        return radius / 4
    if ratio > 0.75 and at_boundary:
        return min(2 * radius, max_radius)
    return radius


def trust_region_minimize(
    loss_and_grad, hessian, x0, *, step="exact", radius=1.0, max_radius=1000.0, eta=0.15, gtol=1e-6, max_iter=None
):
    """Minimise a smooth function by steps within a trust region.

    Parameters
    ----------
    loss_and_grad : callable
        ``loss_and_grad(x) -> (value, gradient (n,))``.
    hessian : callable
        ``hessian(x) -> (n, n)``, symmetric.
    x0 : array (n,)
        Start.
    step : str
        One of `STEPS`; "dogleg" and "subspace" need positive definite Hessians.
    radius, max_radius : float
        The first and the largest radius, 0 < radius <= max_radius.
    eta : float
        A step is taken if the ratio exceeds this, in [0, 1/4).
    gtol : float
        Ends when the gradient's norm is at most this, in (0, inf).
    max_iter : int, optional
        200 n by default.

    Returns
    -------
    MinimizeResult
        Fields x, values, gradient_norms, radii, ratios, iterations, inner_iterations, converged.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, numbers out of range, an indefinite Hessian where `step` needs a
        definite one.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or rounding ended the progress.
    """
    validate.inputs(INPUTS, loss_and_grad, hessian, x0)
    validate.choice(tuple(STEPS), step=step)
    validate.interval("(0, inf)", radius=radius, max_radius=max_radius, gtol=gtol)
    validate.interval("[0, 0.25)", eta=eta)
    if radius > max_radius:
        raise ValueError(f"max_radius must be at least radius = {radius}, not {max_radius}")
    max_iter = 200 * len(x0) if max_iter is None else max_iter
    validate.integer("[1, inf)", max_iter=max_iter)

    x = x0.copy()
    value, g = validate.loss_and_grad(loss_and_grad, x)
    value, norm = floats(xp.asarray(value, dtype=x.dtype), xp.sqrt(g @ g))
    if not math.isfinite(value + norm):
        raise ValueError(f"loss_and_grad must be finite at x0: value {value:.3g}, gradient norm {norm:.3g}")
    B = _symmetric(hessian, x)
    values, norms, radii, ratios, inner = [value], [norm], [], [], 0
    smallest = 10 * float(xp.finfo(x.dtype).eps)
    while norms[-1] > gtol and len(radii) < max_iter and radius > smallest * max(radii, default=0.0):
        tried = STEPS[step](g, B, radius=radius)
        p, inner = tried.p, inner + tried.iterations
        new_value, new_g = validate.loss_and_grad(loss_and_grad, x + p)
        new_value, new_norm, promised = floats(
            xp.asarray(new_value, dtype=x.dtype), xp.sqrt(new_g @ new_g), -(g @ p + p @ (B @ p) / 2)
        )
        # eq. trust-region-minimize-ratio
        if promised > smallest * abs(values[-1]):
            ratio = (values[-1] - new_value) / promised
            ratio = ratio if math.isfinite(ratio + new_norm) else -1.0
        else:
            ratio = 1.0 if new_norm < norms[-1] else 0.0

        radii.append(radius)
        ratios.append(ratio)
        radius = update_radius(ratio, tried.status != "interior", radius, max_radius=max_radius)
        if ratio > eta:
            x, g = x + p, new_g
            B = _symmetric(hessian, x)
            values.append(new_value)
            norms.append(new_norm)

    converged = norms[-1] <= gtol
    if not converged:
        message = f"trust_region_minimize stopped at a gradient norm of {norms[-1]:.2e}, above {gtol:.2e}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=2)
    return MinimizeResult(x, values, norms, radii, ratios, len(radii), inner, converged)


def _symmetric(hessian, x):
    B = hessian(x)
    validate.array("the result of hessian", B)
    if B.shape != (len(x), len(x)) or B.dtype != x.dtype:
        raise ValueError(f"hessian must give {x.dtype} arrays of shape {(len(x),) * 2}, not {B.dtype} {tuple(B.shape)}")
    return (B + B.T) / 2


def _certificate(result, loss_and_grad, hessian, x0, *, gtol=1e-6, **_):
    """The gradient at the solution, what is reported of it and of the value there, and that no accepted step raised
    the value beyond rounding. Two solutions may differ by gtol in the gradient's norm and by its square in the value.
    """
    value, gradient = loss_and_grad(result.x)
    norm, values = math.sqrt(float(gradient @ gradient)), result.values
    rises = [(b - a) / max(abs(a), 1.0) for a, b in itertools.pairwise(values)]
    return {
        "gradient norm over gtol": norm / gtol,
        "error of the reported norm, over gtol": abs(norm - result.gradient_norms[-1]) / gtol,
        "error of the reported value": abs(float(value) - values[-1]) / max(1.0, *map(abs, values)),
        "largest rise of the value": max(rises, default=0.0),
    }


def _example(rng, size):
    """A quadratic whose curvature the model takes for smaller than it is, or a logistic loss."""
    x0 = rng.choice((0.1, 1.0, 5.0)) * rng.standard_normal(size)
    if rng.random() < 0.5:
        A = spd_matrix(rng, rng.choice((1.0, 10.0)) * spectrum(size, 10.0))
        model = QuadraticHessian(rng.choice((0.6, 0.4)) * A)
        return {"loss_and_grad": Quadratic(A, rng.standard_normal(size)), "hessian": model, "x0": x0}
    X, y = rng.standard_normal((20, size)), xp.where(xp.asarray(rng.random(20)) < 0.5, -1.0, 1.0)
    return {"loss_and_grad": Logistic(X, y, 0.1), "hessian": LogisticHessian(X, y, 0.1), "x0": x0}


def _edge(A, b, x0, share=1.0):
    """A quadratic, and a model with a share of its curvature."""
    return {
        "loss_and_grad": Quadratic(xp.array(A), xp.array(b)),
        "hessian": QuadraticHessian(share * xp.array(A)),
        "x0": xp.array(x0),
    }


METHOD = Method(
    key="conn2000trust",
    provenance="confirmed",
    functions=(
        Solver(
            f=trust_region_minimize,
            inputs=INPUTS,
            example=_example,
            edges={
                "start at the minimum": lambda: _edge([[2.0, 0.0], [0.0, 1.0]], [2.0, 3.0], [1.0, 3.0]),
                "one unknown": lambda: _edge([[2.5]], [-1.0], [7.0]),
                "far away": lambda: _edge([[2.0, 1.0], [1.0, 2.0]], [1.0, 0.0], [300.0, -200.0]),
                "too little curvature, a ratio of 0.3": lambda: _edge([[2.0]], [4.0], [2.5], share=1 / 1.7),
                "half of the curvature, a ratio of 0": lambda: _edge([[2.0]], [4.0], [2.5], share=0.5),
                "a decrease that rounding hides": lambda: _edge([[1.0]], [1e6], [1e6 + 1e-3]),
                "a rise that rounding hides": lambda: _edge([[1.0]], [1e6], [1e6 + 1e-3], share=0.3),
            },
            settings={
                "default": {},
                **{name: {"step": name} for name in STEPS if name not in ("exact", "cauchy")},
                "cauchy": {"step": "cauchy", "max_iter": 5000},
                "probe": {
                    "step": "steihaug",
                    "radius": 0.3,
                    "max_radius": 50.0,
                    "eta": 0.05,
                    "gtol": 1e-4,
                    "max_iter": 900,
                },
            },
            certificate=_certificate,
            tolerances={
                "gradient norm over gtol": 1 + 1e-9,
                "error of the reported norm, over gtol": 1 + 1e-9,
                "error of the reported value": 1e-6,
                "largest rise of the value": 1e-13,
            },
        ),
    ),
)
