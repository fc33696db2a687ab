r"""Gradient-normalized smoothness: one number says how far a Newton step with any curvature can be trusted.

Take any positive semi-definite matrix H for the Hessian at x: exact, Gauss-Newton, Fisher, or 0. In the norm
:math:`\|h\|^2 = h^\top B h`, whose dual is :math:`\|g\|_*^2 = g^\top B^{-1} g`, the step

.. math::
    :label: gradient-normalized-smoothness-step

    h = -(H + \lambda B)^{-1} g, \qquad \lambda = \frac{\|g\|_*}\gamma,

is never longer than :math:`\gamma`. With H = 0 its length is :math:`\gamma`: gradient descent, normalised. The right
length is the largest within which the model of the gradient errs by no more than the regularisation:

.. math::
    :label: gradient-normalized-smoothness-radius

    \gamma(x) = \max \Big\{ \gamma : \| \nabla f(x + h) - \nabla f(x) - H h \|_* \le
    \frac{\|\nabla f(x)\|_* \|h\|}\gamma \text{ for all } \|h\| \le \gamma \Big\} .

It holds the error of Taylor's formula and that of H together: with :math:`\|\nabla^2 f\| \le L` and H = 0 it is at
least :math:`\|\nabla f\|_* / L`, with the exact Hessian, of Lipschitz constant M, at least
:math:`\sqrt{2 \|\nabla f\|_* / M}`. If another H is away from the first by at most
:math:`\|\nabla f\|_* / \gamma_{12}`,

.. math::
    :label: gradient-normalized-smoothness-combined

    \gamma_2 \ge \Big( \frac1{\gamma_1} + \frac1{\gamma_{12}} \Big)^{-1} .

For :math:`\gamma \le \gamma(x)` the error along the step is at most :math:`\lambda \|h\|`, so that
:math:`f(x) - f(x + h) \ge \tfrac12 h^\top H h + \tfrac\lambda2 \|h\|^2` and
:math:`\|\nabla f(x + h)\|_* \le 2 \lambda \|h\|`: together

.. math::
    :label: gradient-normalized-smoothness-accept

    f(x) - f(x + h) \ge \frac{\|\nabla f(x + h)\|_*^2}{8 \lambda} .

Nobody knows :math:`\gamma(x)`, but that can be looked at. The method takes a step that has it and doubles
:math:`\gamma`, or else halves it and tries again:

.. math::
    :label: gradient-normalized-smoothness-search

    \gamma \leftarrow 2 \gamma \text{ after a step}, \qquad \gamma \leftarrow \gamma / 2 \text{ after a refusal.}

Near the minimum differences of values are rounding: where the decrease asked for is below ten units of the last place
of the value, a step is taken if the gradient's norm does not rise. A gradient of 0 has the step 0.

=====================  ===================
:math:`H`              `curvature`, `H`
:math:`B`              `norm_matrix`
=====================  ===================

**Where implementations differ.** The authors' code divides by :math:`\gamma + 10^{-8}`.

**Provenance.** Step, radius, acceptance, search and the bound for two matrices are confirmed in the authors' code
(epfml/grad-norm-smooth) and in a published reading of the paper, which intersects the ball with a region in which f is
known: a ball alone is a smaller radius. What is done near rounding is ours; the authors' code takes the last of 40
trials.

Semenov, Jaggi and Doikov, *Gradient-Normalized Smoothness for Optimization with Approximate Hessians*, 2025,
arXiv:2506.13710.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.optimization.terms import length_and_direction
from trref.signature import (
    K,
    M,
    N,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

LEAST = 1e-9  # of gamma after a step
SHORTEST = 1e-24  # with a smaller gamma it ends: rounding hides all progress


class NewtonResult(NamedTuple):
    """Values and dual gradient norms at the points, the gamma of each step, and how many steps were tried."""

    x: Real[N]
    values: list[float]
    gradient_norms: list[float]
    gammas: list[float]
    iterations: int
    converged: bool


def _norm_matrix(norm_matrix=None, **_):
    """A norm matrix that is not symmetric and positive definite."""
    if norm_matrix is None:
        return []
    loose = max(1e-6, math.sqrt(float(xp.finfo(norm_matrix.dtype).eps)))
    B = xp.where(xp.isfinite(norm_matrix), norm_matrix, 0)
    even = lambda: (abs(B - B.T) <= loose * abs(B).max()).all()  # noqa: E731
    definite = lambda: linalg.eigvalsh((B + B.T) / 2)[0] > 0  # noqa: E731
    return [
        (even, "norm_matrix must be symmetric"),
        (definite, "norm_matrix must be positive definite"),
    ]


def _dual(g, norm_matrix):
    """‖g‖ in the dual norm."""
    length, u = length_and_direction(g)
    if norm_matrix is None:
        return length
    return length * xp.sqrt(u @ linalg.solve(norm_matrix, u))


def _solved(H, g, damping, norm_matrix):
    """The step, for symmetric H; None where the matrix is not positive definite."""
    B = xp.eye(len(g), dtype=g.dtype) if norm_matrix is None else norm_matrix
    # eq. gradient-normalized-smoothness-step
    try:
        L = linalg.cholesky(H + damping * B)
    except linalg.LinAlgError:
        return None
    return -linalg.solve(L.T, linalg.solve(L, g))


def _even(H, norm_matrix=None, **_):
    """A curvature or a norm matrix that is not symmetric."""
    loose = max(1e-6, math.sqrt(float(xp.finfo(H.dtype).eps)))
    symmetric = lambda: (abs(H - H.T) <= loose * abs(H).max()).all()  # noqa: E731
    return [(symmetric, "H must be symmetric"), *_norm_matrix(norm_matrix)]


@checked(also=_even)
def regularized_step(
    g: Real[N],
    H: Real[N, N],
    norm_matrix: Real[N, N] | None = None,
    *,
    gamma: PositiveFloat,
) -> Real[N]:
    """A Newton step that is at most so long.

    Parameters
    ----------
    g
        The gradient.
    H
        The curvature, positive semi-definite.
    norm_matrix
        Of the norm of steps, positive definite; the identity if None.
    gamma
        The longest step.

    Raises
    ------
    ValueError
        The curvature is negative by more than the regularisation.
    """
    norm = _dual(g, norm_matrix)
    damping = xp.where(norm > 0, norm, 1) / gamma  # a gradient of 0 has any
    h = _solved(H, g, damping, norm_matrix)
    if h is None:
        raise ValueError("regularized_step: H must be positive semi-definite")
    return h


def _from_somewhere(g, norm_matrix=None, **_):
    """A gradient of 0, from which there is no step."""
    return [(lambda: abs(g).max() > 0, "g must not be 0"), *_norm_matrix(norm_matrix)]


@checked(also=_from_somewhere)
def required_decrease(
    g: Real[N],
    new_g: Real[N],
    norm_matrix: Real[N, N] | None = None,
    *,
    gamma: PositiveFloat,
) -> Scalar:
    """By how much the value must fall in a step that is taken.

    Parameters
    ----------
    new_g
        The gradient after the step.
    """
    before, after = _dual(g, norm_matrix), _dual(new_g, norm_matrix)
    # eq. gradient-normalized-smoothness-accept
    return gamma / 8 * after * (after / before)


def _looked_at(H, directions, norm_matrix, low, high, **_):
    """A direction of 0, or nothing between `low` and `high`."""
    if not low < high:
        raise ValueError(f"low must be less than high = {high:g}, not {low:g}")
    somewhere = lambda: (abs(directions).max(1) > 1e-100).all()  # noqa: E731
    return [(somewhere, "directions must not be 0"), *_even(H, norm_matrix)]


@checked(also=_looked_at)
def smoothness(
    loss_and_grad: Callable,
    x: Real[N],
    H: Real[N, N],
    directions: Real[M, N],
    norm_matrix: Real[N, N] | None = None,
    *,
    low: PositiveFloat = 1e-6,
    high: PositiveFloat = 1e6,
    radii: PositiveInt = 8,
    steps: PositiveInt = 40,
) -> Scalar:
    """The gradient-normalized smoothness as far as some directions show it: an upper bound, up to bisection.

    Parameters
    ----------
    x
        Where; the gradient is not 0 there.
    directions
        Of any length but 0, one a row.
    low, high
        Between which it is looked for; one of them where it is not between them.
    radii
        Points that are looked at along each direction.
    steps
        Of bisection, in the logarithm.
    """
    g = validate.loss_and_grad(loss_and_grad, x, finite=True)[1]
    raised = directions if norm_matrix is None else directions @ norm_matrix
    unit = directions / xp.sqrt((directions * raised).sum(1, keepdims=True))
    norm = _dual(g, norm_matrix)

    def holds(gamma):
        worst = []
        for k in range(radii):
            r = gamma * (k + 1) / radii
            ahead = [
                validate.loss_and_grad(loss_and_grad, x + r * d, finite=True)[1]
                for d in unit
            ]
            error = xp.stack(ahead) - g - r * (unit @ H)
            worst.append(xp.stack([_dual(e, norm_matrix) for e in error]).max() / r)
        # eq. gradient-normalized-smoothness-radius
        return bool(xp.stack(worst).max() * gamma <= norm)

    if not holds(low):
        return xp.asarray(low, dtype=x.dtype)
    if holds(high):
        return xp.asarray(high, dtype=x.dtype)
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return xp.asarray(low, dtype=x.dtype)


@checked
def combined_smoothness(gamma: Positive[K], distance: Positive[K]) -> Positive[K]:
    """A lower bound for another curvature.

    Parameters
    ----------
    gamma
        Of the first one.
    distance
        The gradient's norm over the norm of the difference of the two.
    """
    # eq. gradient-normalized-smoothness-combined
    return 1 / (1 / gamma + 1 / distance)


@checked(also=_norm_matrix)
def gns_minimize(
    loss_and_grad: Callable,
    curvature: Callable,
    x0: Real[N],
    norm_matrix: Real[N, N] | None = None,
    *,
    gamma: PositiveFloat = 1.0,
    gtol: PositiveFloat = 1e-6,
    max_iter: PositiveInt = 1000,
) -> NewtonResult:
    """Minimise a smooth function with any curvature.

    Parameters
    ----------
    curvature
        ``curvature(x) -> (n, n)``, positive semi-definite, such as `trref.problems.residuals.Curvature`.
    x0
        The start.
    gamma
        The first length that is tried.
    gtol
        Of the dual norm.
    max_iter
        Steps tried.

    Raises
    ------
    ValueError
        The curvature is negative by more than the regularisation.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or rounding ended the progress.
    """
    x, shape, tried = x0.copy(), (len(x0), len(x0)), 0
    value, g = validate.loss_and_grad(loss_and_grad, x, finite=True)
    value, norm = floats(xp.asarray(value, dtype=x.dtype), _dual(g, norm_matrix))
    values, norms, gammas = [value], [norm], []
    H = validate.returned("curvature", curvature(x), shape, finite=True)
    rounding = 10 * float(xp.finfo(x.dtype).eps)
    while norms[-1] > gtol and tried < max_iter and gamma > SHORTEST:
        tried += 1
        h = _solved(H, g, norms[-1] / gamma, norm_matrix)
        if h is None:
            raise ValueError(
                "gns_minimize: curvature must give positive semi-definite matrices"
            )
        value, new_g = validate.loss_and_grad(loss_and_grad, x + h)
        value, norm = floats(
            xp.asarray(value, dtype=x.dtype), _dual(new_g, norm_matrix)
        )
        asked = gamma / 8 * norm * (norm / norms[-1])
        if asked <= rounding * abs(values[-1]):
            taken = norm <= norms[-1]
        else:
            taken = asked <= values[-1] - value < math.inf

        # eq. gradient-normalized-smoothness-search
        if not taken:
            gamma = gamma / 2
            continue
        x, g = x + h, new_g
        values.append(value)
        norms.append(norm)
        gammas.append(gamma)
        gamma = max(2 * gamma, LEAST)
        H = validate.returned("curvature", curvature(x), shape, finite=True)

    converged = norms[-1] <= gtol
    if not converged:
        message = f"gns_minimize stopped at a gradient norm of {norms[-1]:.2e}"
        message = f"{message}, above {gtol:.2e}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return NewtonResult(x, values, norms, gammas, tried, converged)
