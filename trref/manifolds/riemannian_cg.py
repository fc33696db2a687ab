r"""Riemannian conjugate gradients on the Stiefel manifold.

The next direction is the negative Riemannian gradient :math:`g` plus a multiple of the last direction, carried over to
the new tangent space by a vector transport :math:`\mathcal T`:

.. math::
    :label: riemannian-cg-direction

    x_{k+1} = R_{x_k}(t_k d_k), \qquad d_{k+1} = -g_{k+1} + \beta_{k+1}\, \mathcal T(d_k), \qquad d_0 = -g_0 .

The classical choices of the multiple, which agree for exact line searches on quadratics:

.. math::
    :label: riemannian-cg-beta

    \beta^{FR} = \frac{\|g_{k+1}\|^2}{\|g_k\|^2}, \quad
    \beta^{PR+} = \max\Big\{0, \frac{\langle g_{k+1}, y_k \rangle}{\|g_k\|^2}\Big\}, \quad
    \beta^{HS} = \frac{\langle g_{k+1}, y_k \rangle}{\langle \mathcal T d_k, y_k \rangle}, \quad
    \beta^{DY} = \frac{\|g_{k+1}\|^2}{\langle \mathcal T d_k, y_k \rangle}, \qquad y_k = g_{k+1} - \mathcal T(g_k).

A step must lower the loss enough (Armijo): with the slope :math:`m = \langle g_k, d_k \rangle < 0`,

.. math::
    :label: riemannian-cg-armijo

    f(R_x(t d)) - f(x) \le c_1\, t\, m, \qquad c_1 = 10^{-4} .

Near the minimum the difference of losses drowns in rounding. There the trapezoidal rule takes its place, with the slope
at the trial point, :math:`m_t = \langle g(R_x(td)), \mathcal T(d) \rangle`:

.. math::
    :label: riemannian-cg-trapezoid

    f(R_x(t d)) - f(x) \approx \tfrac12 t\, (m + m_t) .

The two slopes of a trial also give the secant step, where the slope of a quadratic would vanish:

.. math::
    :label: riemannian-cg-secant

    t_{sec} = t\, \frac{m}{m - m_t} .

A trial that fails the test, or that leaves more than a fifth of the slope, is followed by a trial near the secant step.
The curvature :math:`(m_t - m) / (t \|d\|^2)` met on the way gives the first trial of the next search. The method
restarts from :math:`-g` where :math:`d` is no direction of descent or, after Powell, where successive gradients are far
from orthogonal:

.. math::
    :label: riemannian-cg-restart

    \langle g_{k+1}, d_{k+1} \rangle \ge 0 \quad\text{or}\quad
    |\langle g_{k+1}, \mathcal T(g_k) \rangle| \ge \nu\, \|g_{k+1}\|^2 .

Without the second rule FR and DY jam: one bad direction is followed by many short steps along nearly the same one.

**Where implementations differ.** pymanopt halves the step until Armijo holds with :math:`c_1 = \frac12`, clips HS at
zero, and has Powell's rule switched off. With Armijo on losses alone every such method stalls where the gradient is
about the square root of rounding. Mixing the canonical gradient with Euclidean inner products breaks conjugacy; here
the metric is the Euclidean one.

**Provenance.** Confirmed: the multiples FR, PR+ and HS in pymanopt; DY textbook from memory. The line search is this
package's own arrangement of textbook parts (Nocedal and Wright; Hager and Zhang for the rule near the minimum).

Sato and Iwai, *A New, Globally Convergent Riemannian Conjugate Gradient Method*, 2015, arXiv:1302.0125; Sato, *A
Dai-Yuan-type Riemannian Conjugate Gradient Method with the Weak Wolfe Conditions*, 2016, arXiv:1405.4371; Absil,
Mahony and Sepulchre, *Optimization Algorithms on Matrix Manifolds*, 2008.
"""

import math
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.manifolds.stiefel import qr_differential, qr_factors, tangent_part
from trref.manifolds.stiefel_retraction import (
    cayley,
    cayley_differential,
    polar_differential,
    polar_factors,
)
from trref.manifolds.stiefel_transport import shortened
from trref.signature import (
    N,
    OpenFraction,
    Orthonormal,
    P,
    PositiveFloat,
    PositiveInt,
    checked,
)

SUFFICIENT, SLOPE_LEFT, TRIALS = 1e-4, 0.2, 30


class MinimiserResult(NamedTuple):
    """A frame; loss and norm of the Riemannian gradient from the start on."""

    x: Orthonormal[N, P]
    losses: list[float]
    gradient_norms: list[float]
    iterations: int
    converged: bool


def _isometry(transport, retraction, **_):
    """The transport ``"cayley"`` without its retraction."""
    if transport == "cayley" and retraction != "cayley":
        raise ValueError(
            f"transport 'cayley' needs the retraction 'cayley', not {retraction!r}"
        )
    return []


@checked(also=_isometry)
def riemannian_cg(
    loss_and_grad: Callable,
    x0: Orthonormal[N, P],
    *,
    beta: Literal["FR", "PR+", "HS", "DY"] = "PR+",
    retraction: Literal["qr", "polar", "cayley"] = "qr",
    transport: Literal["projection", "differential", "scaled", "cayley"] = "projection",
    lr: PositiveFloat | None = None,
    restart: PositiveFloat | None = 0.5,
    gtol: OpenFraction = 1e-6,
    max_iter: PositiveInt = 1000,
) -> MinimiserResult:
    """Minimise a smooth function of an orthonormal frame.

    Parameters
    ----------
    loss_and_grad
        The gradient is the Euclidean one.
    x0
        The start.
    beta
        Which multiple of the last direction.
    retraction
        How a step comes back to the manifold.
    transport
        How directions are carried along: by projection, by the differential of the retraction, that scaled (never
        lengthening), or the isometric one, which belongs to the Cayley retraction.
    lr
        A fixed step instead of the line search.
    restart
        Powell's ν; 0.2 in his paper. None restarts only where the direction does not descend.
    gtol
        Here relative to the norm of the Euclidean gradient at the start.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or rounding stops the line search first.
    """
    loss, G = validate.loss_and_grad(loss_and_grad, x0)
    x, g = x0.copy(), tangent_part(x0, G)
    loss, gg, scale = xp.stack([loss, (g * g).sum(), (G * G).sum()]).tolist()
    if not math.isfinite(loss + scale):
        raise ValueError("loss_and_grad must give finite values")
    target, losses, norms = gtol * math.sqrt(scale), [loss], [math.sqrt(gg)]
    d, slope, dd, curvature, t = -g, -gg, gg, norms[0], 0.0
    while norms[-1] > target and len(norms) <= max_iter:

        def move(t, x=x, g=g, d=d):
            return _Trial(loss_and_grad, x, g, d, t, retraction, transport)

        t = -slope / (curvature * dd) if curvature > 0 else 2 * t
        trial = move(lr) if lr else _search(move, losses[-1], slope, t)
        if trial is None:
            break

        # eq. riemannian-cg-direction
        multiple = _beta(beta, trial, gg)
        curvature = (trial.slope - slope) / (trial.t * dd)
        x, g, gg, t = trial.x, trial.g, trial.gg, trial.t
        d = multiple * trial.d - g
        slope = multiple * trial.slope - gg
        dd = gg - 2 * multiple * trial.slope + multiple**2 * trial.dd

        # eq. riemannian-cg-restart
        if slope >= 0 or (restart and abs(trial.g_old) >= restart * gg):
            d, slope, dd = -g, -gg, gg

        losses.append(trial.loss)
        norms.append(math.sqrt(gg))

    iterations, converged = len(norms) - 1, norms[-1] <= target
    if not converged:
        message = (
            f"riemannian_cg stopped after {iterations} iterations at a gradient of"
            f" {norms[-1]:.2e}, above {target:.2e}"
        )
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return MinimiserResult(x, losses, norms, iterations, converged)


class _Trial:
    """A point of the retraction curve; its inner products come to the host together, as floats."""

    def __init__(self, loss_and_grad, x, g, d, t, retraction, transport):
        step, both = t * d, xp.stack([d, g])
        self.t, (self.x, differential) = t, _retract(retraction, x, step)
        loss, G = validate.loss_and_grad(loss_and_grad, self.x)
        self.g = tangent_part(self.x, G)
        if transport == "projection":
            moved = tangent_part(self.x, both)
        elif transport == "cayley":
            moved = cayley(x, step, both)
        else:
            moved = differential(both)
            moved = shortened(moved, both) if transport == "scaled" else moved
        self.d = moved[0]
        rows = xp.concatenate([self.g[None], moved]).reshape(3, -1)
        products = xp.append(rows @ rows.T, loss).tolist()
        self.gg, self.slope, self.g_old, _, self.dd, self.d_old, _, _, _, self.loss = (
            products
        )


def _retract(name, x, step):
    """Return the end of a step, and the retraction's differential there."""
    if name == "qr":
        factors = qr_factors(x + step)
        return factors[0], lambda z: qr_differential(*factors, z)
    if name == "polar":
        factors = polar_factors(x + step)
        return factors[0], lambda z: polar_differential(*factors, z)
    y = cayley(x, step, x)
    return y, lambda z: cayley_differential(x, step, y, z)


def _search(move, loss, slope, t):
    """Return a trial that lowers the loss enough, refined once by the secant; None where there is none."""
    fair = None
    for _ in range(TRIALS):
        trial = move(t)
        # eq. riemannian-cg-armijo
        enough = _change(trial, loss, slope) <= SUFFICIENT * t * slope

        # eq. riemannian-cg-secant
        flatter = trial.slope > slope
        secant = t * slope / (slope - trial.slope) if flatter else math.inf

        if fair:
            return trial if enough and abs(trial.slope) < abs(fair.slope) else fair
        if enough and abs(trial.slope) <= SLOPE_LEFT * abs(slope):
            return trial
        fair = trial if enough else None
        t = min(max(secant, t / 10), 4 * t if enough else t / 2)
    return None


def _change(trial, loss, slope):
    change = trial.loss - loss
    if abs(change) <= 1e3 * float(xp.finfo(trial.g.dtype).eps) * abs(loss):
        return trial.t * (slope + trial.slope) / 2  # eq. riemannian-cg-trapezoid
    return change


def _beta(name, trial, gg_old):
    # eq. riemannian-cg-beta
    if name == "FR":
        return trial.gg / gg_old
    if name == "PR+":
        return max(0.0, (trial.gg - trial.g_old) / gg_old)
    numerator = trial.gg - trial.g_old if name == "HS" else trial.gg
    denominator = trial.slope - trial.d_old
    return numerator / denominator if denominator else 0.0
