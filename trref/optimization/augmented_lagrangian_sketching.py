r"""Augmented Lagrangian with sketching: Newton steps under constraints, as inexact as descent allows.

Each step solves the Newton system of `trref.optimization.exact_merit` from :math:`\Delta = 0` by the random steps of
`trref.optimization.sketched_newton`, up to an accuracy :math:`\delta` of at most

.. math::
    :label: augmented-lagrangian-sketching-trial

    \delta \leftarrow \min(\delta, \delta_{\text{trial}}), \qquad \delta_{\text{trial}} =
    \frac{(0.5 - \beta)\, \eta_2}{(1 + \eta_1 + \eta_2)\, \Upsilon^2 \Psi^2} .

Then it is asked whether the direction descends on the exact augmented Lagrangian as the exact one would,

.. math::
    :label: augmented-lagrangian-sketching-descent

    \nabla L_\eta^\top \Delta \le - \frac{\eta_2}2 \| \nabla L \|^2 .

If not, penalties and accuracy change, and the same :math:`\Delta` is improved until it does:

.. math::
    :label: augmented-lagrangian-sketching-adapt

    \eta_1 \leftarrow \nu^2 \eta_1, \qquad \eta_2 \leftarrow \eta_2 / \nu, \qquad
    \delta \leftarrow \min(\delta / \nu^4, \delta_{\text{trial}}) .

The step length begins at 1 and is halved until

.. math::
    :label: augmented-lagrangian-sketching-armijo

    L_\eta(z + \alpha \Delta) \le L_\eta(z) + \alpha \beta\, \nabla L_\eta^\top \Delta, \qquad z = (x, \lambda) .

Penalties and accuracy carry over to the next step: after finitely many changes they stay as they are, and near a
solution steps of length 1 are taken. The accuracy is far below what descent needs in practice: expect thousands of
random steps for each of Newton's. What is gained is that no matrix is factorised.

Here :math:`\delta` is at least 1e-6, and the descent is not asked for once :math:`\eta_1 > 10^8` or
:math:`\eta_2 < 10^{-8}`, both as in the authors' code; the residual is looked at after every K random steps, and is
never asked to be below rounding; the value may rise by ten units of its last place. An indefinite Lagrangian, a start
far from the constraints, multipliers of 0: all are fine, but the gradients of the constraints must be independent at
all points, or the method ends (here where :math:`G G^\top` is singular up to rounding; the authors' code gives up below
:math:`\xi_G = 0.01`). The random numbers are used again from the first when they end. That a solution is a minimum of
the merit asks for :math:`\eta_1 \eta_2 > 1 / \xi_G`, see there: scale the constraints.

===================  =====================
:math:`\eta_1`       `constraint_weight`
:math:`\eta_2`       `gradient_weight`
:math:`\delta`       `accuracy`
:math:`\vartheta`    `forcing`
:math:`\lambda`      `multipliers`
===================  =====================

**Where implementations differ.** The authors' code has the Hessian of f for that of L in the merit's gradient (see
`trref.optimization.exact_merit`), which enters the descent test.

**Provenance.** Confirmed in the authors' code (IlgeeHong/AdaSketch-Newton) and the abstract; what is done about
rounding is ours.

Hong, Na, Mahoney and Kolar, *Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative
Sketching*, 2023, arXiv:2305.18379.
"""

import math
import warnings
from collections.abc import Callable
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.optimization.exact_merit import (
    exact_merit,
    modified_hessian,
    newton_system,
)
from trref.optimization.sketched_newton import (
    gaussian_steps,
    inner_bounds,
    kaczmarz_steps,
    largest_residual,
)
from trref.optimization.terms import lagrangian
from trref.signature import (
    Index,
    K,
    M,
    N,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Real,
    T,
    checked,
)

LEAST_ACCURACY = 1e-6
LARGEST_WEIGHT, LEAST_WEIGHT = 1e8, 1e-8  # descent is not asked for beyond
HALVINGS = 40  # of a step length


class ConstrainedResult(NamedTuple):
    """Residuals at the points, step lengths, random steps for each; last weights.

    `inner_iterations` counts all random steps, changes of the weights and halvings.
    """

    x: Real[N]
    multipliers: Real[M]
    residuals: list[float]
    step_lengths: list[float]
    random_steps: list[float]
    constraint_weight: float
    gradient_weight: float
    inner_iterations: int
    iterations: int
    converged: bool


def _matching(x0, multipliers0, sketches=None, **_):
    """More constraints than unknowns; equations that there are not, or vectors of another length."""
    n, m = len(x0), len(multipliers0)
    if m > n:
        raise ValueError(f"multipliers0 must have at most {n} entries, not {m}")
    if sketches is None:
        return []
    if sketches.ndim == 1:
        return [validate.labels(sketches, n + m, "sketches")]
    if sketches.shape[1] != n + m:
        raise ValueError(f"sketches must have {n + m} columns")
    return [(lambda: (abs(sketches).max(1) > 0).all(), "sketches must not be 0")]


def _trial(eta1, eta2, beta, scale):
    """An accuracy with which the direction is one of descent."""
    # eq. augmented-lagrangian-sketching-trial
    most = (0.5 - beta) * eta2 / ((1 + eta1 + eta2) * scale)
    return max(most, LEAST_ACCURACY)


def _improved(system, delta, sketches, used, goal):
    """K more random steps of a direction, unless its residual is at most the goal, or rounding."""
    matrix, right = system
    if sketches is None:
        return linalg.solve(matrix, right), 0
    r, K = matrix @ delta - right, len(right)
    size = xp.sqrt((matrix * matrix).sum() * (delta @ delta))
    rounding = 10 * float(xp.finfo(right.dtype).eps) * size
    length, *enough = floats(xp.sqrt(r @ r), goal, rounding)
    if length <= max(enough):
        return delta, 0
    steps = kaczmarz_steps if sketches.ndim == 1 else gaussian_steps
    chosen = sketches[(used + xp.arange(K)) % len(sketches)]
    return steps.unchecked(matrix, right, delta, chosen)[-1], K


@checked(also=_matching)
def als_minimize(
    objective: Callable,
    constraints: Callable,
    x0: Real[N],
    multipliers0: Real[M],
    sketches: Index[T] | Real[T, K] | None = None,
    *,
    constraint_weight: PositiveFloat = 1.0,
    gradient_weight: PositiveFloat = 0.1,
    accuracy: OpenFraction = 0.1,
    forcing: PositiveFloat = 1.0,
    beta: Annotated[float, "(0, 0.5)"] = 0.1,
    nu: Annotated[float, "(1, inf)"] = 1.5,
    shift: PositiveFloat = 0.1,
    tol: PositiveFloat = 1e-4,
    max_iter: PositiveInt = 100,
    max_inner: PositiveInt = 100_000,
) -> ConstrainedResult:
    """Minimise a smooth function under equality constraints.

    Parameters
    ----------
    objective
        ``objective(x)`` -> value, gradient (N) and Hessian (N, N), such as `trref.problems.constrained.WithHessian`.
    constraints
        ``constraints(x)`` -> values (M), Jacobian (M, N) and Hessians (M, N, N).
    x0, multipliers0
        The start; at most as many multipliers as unknowns.
    sketches
        Numbers of equations below K = N + M, drawn uniformly, for Kaczmarz' method; or standard normal vectors of
        length K; if None, the system is solved exactly.
    constraint_weight, gradient_weight
        The first penalties.
    accuracy
        The first one of the directions.
    forcing
        The residual of the inner solver is in proportion to it.
    beta
        The share of the slope that a step must gain.
    nu
        By how much penalties change.
    shift
        The least curvature where something is added to the Hessian.
    tol
        The norm of the Lagrangian's gradient at which it ends.
    max_inner
        Random steps for a direction.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, the constraints became dependent, or no step length was found.
    """
    x, multipliers, delta = x0.copy(), multipliers0.copy(), accuracy
    eta1, eta2, used, other = constraint_weight, gradient_weight, 0, 0
    residuals, lengths, random_steps = [], [], []
    eps = float(xp.finfo(x.dtype).eps)

    def merit(x, multipliers):
        weights = {"constraint_weight": eta1, "gradient_weight": eta2}
        return exact_merit.unchecked(objective, constraints, x, multipliers, **weights)

    while True:
        at = lagrangian(objective, constraints, x, multipliers)
        G, H, N = at.jacobian, at.hessian, len(x)
        B = modified_hessian.unchecked(H, G, shift=shift)
        system = newton_system.unchecked(B, G, at.gradient, at.c)
        bounds = inner_bounds.unchecked(B, H, G, shift=shift)
        matrix, right = system
        square, psi, upsilon, least, trace = floats(
            right @ right, *bounds, linalg.eigvalsh(G @ G.T)[0], (G * G).sum()
        )
        residuals.append(math.sqrt(square))
        done = residuals[-1] <= tol or len(lengths) == max_iter
        if done or least <= 10 * len(G) * eps * trace:
            break
        scale = upsilon * psi * upsilon * psi
        delta = min(delta, _trial(eta1, eta2, beta, scale))
        direction, taken = xp.zeros_like(right), 0
        while True:
            goal = largest_residual.unchecked(
                matrix, right, bounds.psi, accuracy=delta, forcing=forcing
            )
            more = True
            while more and taken < max_inner:
                direction, more = _improved(
                    system, direction, sketches, used + taken, goal
                )
                taken += more
            value, gradient = merit(x, multipliers)
            slope = gradient.x @ direction[:N] + gradient.multipliers @ direction[N:]
            value, slope = floats(value, slope)
            # eq. augmented-lagrangian-sketching-descent
            if slope <= -eta2 / 2 * square or taken >= max_inner:
                break
            if eta1 > LARGEST_WEIGHT or eta2 < LEAST_WEIGHT:
                break
            # eq. augmented-lagrangian-sketching-adapt
            eta1, eta2, other = nu * nu * eta1, eta2 / nu, other + 1
            trial = _trial(eta1, eta2, beta, scale)
            delta = max(min(delta / nu**4, trial), LEAST_ACCURACY)

        used += taken
        alpha, most = 1.0, HALVINGS if slope < 0 else 0
        for _ in range(most):
            ahead = x + alpha * direction[:N], multipliers + alpha * direction[N:]
            new = float(merit(*ahead)[0])
            # eq. augmented-lagrangian-sketching-armijo
            if new <= value + alpha * beta * slope + 10 * eps * abs(value):
                break
            alpha, other = alpha / 2, other + 1
        else:
            break
        x, multipliers = ahead
        lengths.append(alpha)
        random_steps.append(float(taken))

    converged = residuals[-1] <= tol
    if not converged:
        message = f"als_minimize stopped at a residual of {residuals[-1]:.2e}"
        message = f"{message}, above {tol:.2e}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return ConstrainedResult(
        x,
        multipliers,
        residuals,
        lengths,
        random_steps,
        eta1,
        eta2,
        used + other,
        len(lengths),
        converged,
    )
