r"""Penalties for two levels: a gradient of the outer problem from first derivatives alone.

Of the problem :math:`\min_x \psi(x)`, :math:`\psi(x) = f(x, y^*(x))`, where :math:`y^*(x)` minimises :math:`g(x, y)`,
the gradient needs second derivatives of g. Add a little of f to the lower level instead:

.. math::
    :label: bilevel-penalty-lower

    h_\sigma(x, y) = \sigma f(x, y) + g(x, y), \qquad l(x, \sigma) = \min_y h_\sigma(x, y)

How much the minimum rises for it, per :math:`\sigma`, is near :math:`\psi`:

.. math::
    :label: bilevel-penalty-value

    \psi_\sigma(x) = \frac{l(x, \sigma) - l(x, 0)}\sigma

and by the envelope theorem its gradient, with y a minimiser of :math:`h_\sigma` and z one of g, both held constant, is

.. math::
    :label: bilevel-penalty-gradient

    \nabla \psi_\sigma = \nabla_x f(x, y) + \frac{\nabla_x g(x, y) - \nabla_x g(x, z)}\sigma .

Where the lower level has an error bound that holds for all small :math:`\sigma`, value and gradient are within
:math:`O(\sigma)` of those of :math:`\psi`. What that bound compares with the distance from the solutions is the
residual of a proximal step, of length :math:`\rho`, within what y may be (all of space, or a box):

.. math::
    :label: bilevel-penalty-residual

    r = \frac1\rho \big\| y - \mathrm{prox}_{\rho h_\sigma(x, \cdot)}(y) \big\|

If :math:`r \ge \mu\, \mathrm{dist}(y, T(x, \sigma))` near the solutions T for all small :math:`\sigma`, then these
move by at most :math:`\frac1\mu (L_g \|x_1 - x_2\| + L_f |\sigma_1 - \sigma_2|)` (up to constants), which is where the
orders come from.

By second derivatives the gradient of :math:`\psi` itself is

.. math::
    :label: bilevel-penalty-implicit

    \nabla \psi = \nabla_x f - \nabla^2_{xy} g\, (\nabla^2_{yy} g)^+\, \nabla_y f

at :math:`y^*`; among several solutions at the one of least f, with the pseudo-inverse (of constant rank; an
eigenvalue counts as 0 up to 1e-6 of the largest one). Then
:math:`0 \le \psi - \psi_\sigma`, and

.. math::
    :label: bilevel-penalty-gap

    \frac{\psi - \psi_\sigma}\sigma \to \frac12\, \nabla_y f^\top (\nabla^2_{yy} g)^+\, \nabla_y f .

Where y is under constraints of which those that are active have the gradients G, one a row, and keep them (G is
constant here), multipliers join:

.. math::
    :label: bilevel-penalty-constrained

    \nabla \psi = \nabla_x f - [0,\ \nabla^2_{xy} g]
    \begin{pmatrix} 0 & G \\ G^\top & \nabla^2_{yy} g \end{pmatrix}^{\!+}
    \begin{pmatrix} 0 \\ \nabla_y f \end{pmatrix} .

The method descends on :math:`\psi_\sigma`. Both lower levels go on from where they were by

.. math::
    :label: bilevel-penalty-inner

    y \leftarrow y - \eta_y\, \nabla_y h_\sigma(x, y), \qquad z \leftarrow z - \eta_y\, \nabla_y g(x, z)

(projected on the box), or, smoothed by Moreau envelopes, by a share of a proximal step,

.. math::
    :label: bilevel-penalty-moreau

    y \leftarrow (1 - \beta)\, y + \beta\, \mathrm{prox}_{\rho h_\sigma(x, \cdot)}(y)

and, after some such steps (one, in a single loop),

.. math::
    :label: bilevel-penalty-outer

    x \leftarrow x - \eta\, \nabla \psi_\sigma(x; y, z) .

An error of y or z counts :math:`1/\sigma` times in the gradient: below 1e-4 little is left of it in float64. So does
the noise of samples, unless y and z see the same ones. In a single loop each of the gradients is averaged with a
correction, where both gradients are of the same sample, at this point and at the one before:

.. math::
    :label: bilevel-penalty-momentum

    d_k = G_k + (1 - \eta_k) (d_{k-1} - G_{k-1})

==================  ==============
:math:`\eta`        ``lr``
:math:`\eta_y`      ``inner_lr``
:math:`\beta`       ``mixing``
:math:`\eta_k`      ``forget``
==================  ==============

**Where implementations differ.** Written as :math:`f + \lambda\, (g - \min g)` with :math:`\lambda = 1/\sigma`, y has
the same minimiser and the objective the same value. Dropping z, that is the minimum of g, from the gradient is right
only where g does not depend on x.

**Provenance.** Value, gradient, residual and implicit gradients are confirmed by published summaries, a reading note
and reviews of the paper; the limit of the gap is derived here. The loops are reconstructed, and so is the share of a
proximal step: step sizes and their decay are not transcribed. Constraints of the lower level are a box in the loops,
and linear where they are active.

Kwon, Kwon, Wright and Nowak, *On Penalty Methods for Nonconvex Bilevel Optimization and First-Order Stochastic
Approximation*, 2024, arXiv:2309.01753.
"""

import math
import warnings
from typing import Any, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.problems.protocols import TwoLevels
from trref.signature import (
    Fraction,
    K,
    M,
    N,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

CUTOFF = 1e-6


class PenaltyResult(NamedTuple):
    """Both levels, the lower one with and without the penalty, and the norm of each gradient of the outer level."""

    x: Real[N]
    y: Real[M]
    z: Real[M]
    gradient_norms: list[float]
    iterations: int
    converged: bool


@checked
def penalty_objective(
    problem: TwoLevels,
    x: Real[N],
    y: Real[M],
    z: Real[M],
    *,
    sigma: PositiveFloat = 0.1,
) -> tuple[Scalar, Real[N]]:
    """Value and gradient of what is minimised instead of the outer loss.

    Parameters
    ----------
    problem
        Such as `trref.problems.bilevel.QuadraticBilevel`.
    x
        The outer level.
    y
        Minimiser of the lower level with `sigma` times the upper one.
    z
        Minimiser of the lower level.
    sigma
        Weight of the upper level in the lower one.

    Returns
    -------
    value
    gradient
        With respect to `x`.
    """
    f, f_x, _ = problem.upper(x, y)
    g, g_x, _ = problem.lower(x, y)
    least, least_x, _ = problem.lower(x, z)
    value = f + (g - least) / sigma  # eq. bilevel-penalty-value
    return value, f_x + (g_x - least_x) / sigma  # eq. bilevel-penalty-gradient


def _slope(problem, x, y, sigma):
    """Gradient by y of the lower level with the penalty."""
    g_y = problem.lower(x, y)[2]
    # eq. bilevel-penalty-lower
    return sigma * problem.upper(x, y)[2] + g_y if sigma else g_y


@checked
def lower_steps(
    problem: TwoLevels,
    x: Real[N],
    y: Real[M],
    *,
    sigma: NonNegativeFloat = 0.1,
    steps: PositiveInt = 20,
    inner_lr: PositiveFloat = 0.3,
    bound: PositiveFloat | None = None,
) -> Real[M]:
    """Lower level after some steps.

    Parameters
    ----------
    y
        Where they begin.
    inner_lr
        Step size of the lower level.
    bound
        Largest magnitude of an entry of the lower level; any if None.
    """
    for _ in range(steps):
        y = y - inner_lr * _slope(problem, x, y, sigma)  # eq. bilevel-penalty-inner
        y = _boxed(y, bound)
    return y


def _boxed(y, bound):
    """The nearest point in the box."""
    return y if bound is None else xp.clip(y, -bound, bound)


@checked
def prox_step(
    problem: TwoLevels,
    x: Real[N],
    y: Real[M],
    *,
    sigma: NonNegativeFloat = 0.1,
    rho: PositiveFloat = 0.5,
    mixing: Fraction = 1.0,
    steps: PositiveInt = 200,
    inner_lr: PositiveFloat = 0.3,
    bound: PositiveFloat | None = None,
) -> Real[M]:
    """Lower level after a proximal step, or a share of one.

    Parameters
    ----------
    y
        Where it begins, in the box.
    rho
        Length of the proximal step.
    mixing
        Share of the step that is taken.
    steps
        By which it is computed.
    """
    w = y
    for _ in range(steps):
        w = w - inner_lr * (rho * _slope(problem, x, w, sigma) + w - y)
        w = _boxed(w, bound)
    return (1 - mixing) * y + mixing * w  # eq. bilevel-penalty-moreau


@checked
def prox_residual(
    problem: TwoLevels,
    x: Real[N],
    y: Real[M],
    *,
    sigma: NonNegativeFloat = 0.1,
    rho: PositiveFloat = 0.5,
    steps: PositiveInt = 200,
    inner_lr: PositiveFloat = 0.3,
    bound: PositiveFloat | None = None,
) -> Scalar:
    """How far a lower level is from its solution, by a proximal step."""
    inner = {"rho": rho, "steps": steps, "inner_lr": inner_lr, "bound": bound}
    w = prox_step.unchecked(problem, x, y, sigma=sigma, **inner)
    return xp.sqrt(((y - w) ** 2).sum()) / rho  # eq. bilevel-penalty-residual


@checked
def hypergradient(problem: TwoLevels, x: Real[N], y: Real[M]) -> Real[N]:
    """Gradient of the outer loss by second derivatives.

    Parameters
    ----------
    y
        The lower level's solution.
    """
    _, f_x, f_y = problem.upper(x, y)
    # eq. bilevel-penalty-implicit
    inverse = linalg.pinv(problem.lower_hessian(x, y), rcond=CUTOFF)
    return f_x - problem.lower_cross(x, y) @ (inverse @ f_y)


@checked
def constrained_hypergradient(
    problem: TwoLevels, x: Real[N], y: Real[M], active: Real[K, M]
) -> Real[N]:
    """Gradient of the outer loss by second derivatives, where constraints of the lower level are active.

    Parameters
    ----------
    y
        The lower level's solution.
    active
        Gradients by y of the constraints that are active, independent of each other.
    """
    _, f_x, f_y = problem.upper(x, y)
    none = xp.zeros((len(active),) * 2, dtype=y.dtype)
    # eq. bilevel-penalty-constrained
    upper = xp.concatenate([none, active], 1)
    lower = xp.concatenate([active.T, problem.lower_hessian(x, y)], 1)
    inverse = linalg.pinv(xp.concatenate([upper, lower]), rcond=CUTOFF)
    return f_x - problem.lower_cross(x, y) @ (
        inverse[len(active) :, len(active) :] @ f_y
    )


@checked
def momentum_estimate(
    estimate: Real[N],
    gradient: Real[N],
    last_gradient: Real[N],
    *,
    forget: Fraction = 0.1,
) -> Real[N]:
    """Average of noisy gradients, corrected for how far the point has moved.

    Parameters
    ----------
    estimate
        The one before.
    gradient
        At this point, of a sample.
    last_gradient
        At the point before, of the same sample.
    forget
        Share of the new gradient alone; 1 for no memory.
    """
    # eq. bilevel-penalty-momentum
    return gradient + (1 - forget) * (estimate - last_gradient)


@checked
def gap_rate(problem: TwoLevels, x: Real[N], y: Real[M]) -> Scalar:
    """Share of `sigma` by which the penalised value is below the outer loss, as `sigma` tends to 0."""
    f_y = problem.upper(x, y)[2]
    # eq. bilevel-penalty-gap
    return f_y @ (linalg.pinv(problem.lower_hessian(x, y), rcond=CUTOFF) @ f_y) / 2


@checked
def descend(
    problem: TwoLevels,
    x0: Real[N],
    y0: Real[M],
    *,
    sigma: PositiveFloat = 0.1,
    lr: PositiveFloat = 0.1,
    inner_lr: PositiveFloat = 0.3,
    steps: PositiveInt = 20,
    rho: PositiveFloat | None = None,
    mixing: Fraction = 0.5,
    bound: PositiveFloat | None = None,
    gtol: PositiveFloat = 1e-3,
    max_iter: PositiveInt = 1000,
) -> PenaltyResult:
    """Minimise the penalised outer loss.

    Parameters
    ----------
    x0, y0
        Starts of the levels.
    steps
        Of both lower levels before each of the outer one; 1 for a single loop.
    rho
        Length of the proximal steps that these compute; plain steps if None.
    gtol
        Of the outer gradient's norm, and `sigma` times of those of the lower levels, projected on the box.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or the numbers grew too large.
    """
    x, y, z, norms = x0.copy(), y0.copy(), y0.copy(), []
    inner: dict[str, Any] = {"steps": steps, "inner_lr": inner_lr, "bound": bound}
    converged = False
    move = lower_steps.unchecked
    if rho is not None:
        move, inner = prox_step.unchecked, inner | {"rho": rho, "mixing": mixing}
    y, z = _boxed(y, bound), _boxed(z, bound)
    last = x, y, z
    while True:
        y = move(problem, x, y, sigma=sigma, **inner)
        z = move(problem, x, z, sigma=0.0, **inner)
        gradient = penalty_objective.unchecked(problem, x, y, z, sigma=sigma)[1]
        slopes = (
            gradient,
            *(
                v - _boxed(v - _slope(problem, x, v, weight), bound)
                for v, weight in ((y, sigma), (z, 0.0))
            ),
        )
        outer, with_penalty, without = floats(*(v @ v for v in slopes))
        if not outer + with_penalty + without < 1e200:
            x, y, z = last
            break
        norms.append(math.sqrt(outer))
        below = math.sqrt(max(with_penalty, without)) <= sigma * gtol
        converged = norms[-1] <= gtol and below
        if converged or len(norms) > max_iter:
            break
        last = x, y, z
        x = x - lr * gradient  # eq. bilevel-penalty-outer
    if not converged:
        warnings.warn(
            f"descend: gradients are above gtol after {len(norms)} looks",
            validate.ConvergenceWarning,
            stacklevel=3,
        )
    return PenaltyResult(x, y, z, norms, max(len(norms) - 1, 0), converged)
