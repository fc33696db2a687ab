r"""Sinkhorn-Newton-Sparse: a few Sinkhorn sweeps, then Newton steps on the dual with a sparsified Hessian.

Sinkhorn maximises the dual of transport with entropy, :math:`D(f, g)` of :mod:`trref.transport.entropic_dual`, over
one block at a time, and for small :math:`\varepsilon` that takes thousands of sweeps. A few of them bring the plan
near a vertex of the transport polytope, where the Hessian of :math:`D` is nearly sparse, so that a Newton step costs
little more than a few sweeps. The paper's two stages:

1. :math:`N_1` Sinkhorn sweeps, here in scaling form from the reduced cost (:mod:`trref.transport.sinkhorn`);
2. Newton steps :math:`\Delta z` with the sparsified Hessian
   (:mod:`trref.transport.sinkhorn_newton_sparse_hessian`), halved until

.. math::
    :label: sinkhorn-newton-sparse-armijo

    D(z + \alpha\Delta z) \ge D(z) + 10^{-4}\, \alpha\, q^\top \Delta z, \qquad
    \alpha \in \{1, \tfrac12, \tfrac14, \dots\} ,

with :math:`q` the gradient. If no step will do, sweeps take its place, which always ascend. Near the optimum the
number of right digits doubles for :math:`\rho = 1`, and nearly so for the budgets in use.

Adding a number to :math:`f` and subtracting it from :math:`g` changes neither plan nor dual. With
:math:`w = (1, -1)`, the augmented potential

.. math::
    :label: sinkhorn-newton-sparse-augmented

    D(z) - \tfrac12 (w^\top z)^2

has the same plan at its maximum, which is unique. The steps do not need it: :math:`w^\top q = 0` keeps them off
:math:`w`.

**Where implementations differ.** The paper uses :math:`N_1 = 20` and keeps a share :math:`2/n` of the entries of the
Hessian. Counted on the plan, :math:`2/n` gives linear convergence only; the default here is :math:`8/n`. Smooth
densities need far more, and gain little: there Sinkhorn itself is fast. A public re-implementation takes the gradient
with the wrong sign, a direction along which the line search can only shrink.

**Provenance.** Partly: the two stages, conjugate gradients, line search and the numbers 20 and :math:`2/n` by a public
study note of the paper; the augmented potential from memory. The constant of the line search, the start from the
reduced cost, the default share and the sweeps after a failed step are choices of this module.

Tang, Shavlovsky, Rahmanian, Tardini, Thekumparampil, Xiao and Ying, *Accelerating Sinkhorn Algorithm with Sparse Newton
Iterations*, 2024, arXiv:2401.12253.
"""

from typing import Annotated, Any, NamedTuple

from trref.backend import xp
from trref.signature import (
    Fraction,
    M,
    N,
    OpenFraction,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)
from trref.transport.entropic_dual import DualGradient, dual_value
from trref.transport.sinkhorn import reduced_cost, rounding_level, scaling_sweeps
from trref.transport.sinkhorn_newton_sparse_hessian import solve_reduced, sparsify
from trref.transport.terms import (
    Regularisation,
    bounded_plan,
    coupling,
    finish,
    problem,
)


class SparseNewtonResult(NamedTuple):
    """As `TransportResult`; a Newton step has its length (0: sweeps instead) and its number of conjugate gradients."""

    plan: Real[N, M]
    f: Real[N]
    g: Real[M]
    marginal_errors: list[float]
    iterations: int
    converged: bool
    step_sizes: list[float]
    cg_iterations: list[float]
    inner_iterations: int


class _History(NamedTuple):
    errors: list[float]
    step_sizes: list[float]
    cg_iterations: list[float]


class _Point(NamedTuple):
    x: Any
    y: Any
    plan: Any
    rows: Any
    columns: Any
    value: float
    error: float


@checked(also=bounded_plan)
def augmented_potential(
    f: Real[N],
    g: Real[M],
    cost: Real[N, M],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: Regularisation,
) -> tuple[Scalar, DualGradient]:
    """The dual, as a loss, made strictly convex along the direction that changes nothing.

    Parameters
    ----------
    f, g
        Potentials, one a point.
    a, b
        Masses of the points, of sum 1.
    """
    loss, gradient = dual_value.unchecked(f, g, cost, a, b, reg=reg)
    # eq. sinkhorn-newton-sparse-augmented
    shift = f.sum() - g.sum()
    return loss + shift**2 / 2, DualGradient(gradient.f + shift, gradient.g - shift)


@checked(also=problem)
def sinkhorn_newton_sparse(
    cost: Real[N, M],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: PositiveFloat,
    tol: PositiveFloat = 1e-9,
    max_iter: PositiveInt = 500,
    n_sinkhorn: PositiveInt = 20,
    keep: Fraction | None = None,
    cg_rtol: OpenFraction = 1e-3,
    levels: Annotated[int, "[0, 20]"] = 0,
) -> SparseNewtonResult:
    """Solve transport with entropy by Sinkhorn sweeps and sparse Newton steps.

    Parameters
    ----------
    tol
        Ends when the marginal error is at most this.
    max_iter
        Counts sweeps and Newton steps together; but at least one sweep a level.
    n_sinkhorn
        Sweeps at the start, and in the place of a failed Newton step; 20 in the paper.
    keep
        ``8 / min(n, m)`` if None. Smooth densities need more (0.2).
    cg_rtol
        Relative tolerance of the conjugate gradients.
    levels
        Solve with ``4**levels * reg``, …, ``4 * reg`` first, to a marginal error of 0.01, each as a start for the next.
        Not in the paper; where `reg` is so small that the plan falls into unconnected parts, Newton steps need it.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or rounding keeps the error above `tol`.
    """
    a, b = a / a.sum(), b / b.sum()
    keep = min(1.0, 8 / min(cost.shape)) if keep is None else keep
    C, row_minima, column_minima = reduced_cost(cost, reg)
    x, y = xp.full_like(a, 0.5), xp.full_like(b, 0.5)
    history = _History([], [], [])
    for level in range(levels, -1, -1):
        goal, limit = (
            (tol, max_iter) if level == 0 else (max(tol, 0.01), max_iter - level)
        )
        point = _two_stages(
            C / 4**level if level else C,
            a,
            b,
            x,
            y,
            history,
            goal,
            limit,
            n_sinkhorn,
            keep,
            cg_rtol,
        )
        x, y = 4 * point.x, 4 * point.y
    errors, step_sizes, cg_iterations = history
    converged = finish("sinkhorn_newton_sparse", point.plan, a, b, errors, tol)
    f, g = reg * (point.x + row_minima), reg * (point.y + column_minima)
    inner = int(sum(cg_iterations))
    return SparseNewtonResult(
        point.plan,
        f,
        g,
        errors,
        len(errors),
        converged,
        step_sizes,
        cg_iterations,
        inner,
    )


def _two_stages(C, a, b, x, y, history, tol, limit, n_sinkhorn, keep, cg_rtol):
    """Sweep, then take Newton steps, until the error is at most tol or the history has reached its limit."""

    def sweep(x, y):
        sweeps = max(1, min(n_sinkhorn, limit - len(history.errors)))
        x, y, plan, errors = scaling_sweeps(C, a, b, x, y, tol=tol, sweeps=sweeps)
        history.errors.extend(errors)
        return _evaluate(x, y, plan, a, b)

    rounding = rounding_level(C)
    point, stuck = sweep(x, y), False
    while point.error > tol and len(history.errors) < limit and not stuck:
        direction = solve_reduced(
            sparsify(point.plan, keep), a, b, point.rows, point.columns, cg_rtol
        )
        following, step = _line_search(point, direction, C, a, b)
        if following:
            history.errors.append(following.error)
        else:
            following = sweep(point.x, point.y)
        history.step_sizes.append(step)
        history.cg_iterations.append(float(direction.iterations))
        stuck = following.error <= rounding and following.error > 0.9 * point.error
        point = following
    return point


def _evaluate(x, y, plan, a, b):
    rows, columns = plan.sum(1), plan.sum(0)
    error = abs(a - rows).sum() + abs(b - columns).sum()
    value, error = xp.stack([x @ a + y @ b - rows.sum(), error]).tolist()
    return _Point(x, y, plan, rows, columns, value, error)


def _line_search(point, direction, C, a, b):
    """Return the first point that ascends enough and its step size, or None and 0."""
    slope = float((a - point.rows) @ direction.df + (b - point.columns) @ direction.dg)
    noise = 32 * float(xp.finfo(C.dtype).eps) * (1 + abs(point.value))
    step = 1.0
    while slope > 0 and step > 1e-3:
        x, y = point.x + step * direction.df, point.y + step * direction.dg
        trial = _evaluate(x, y, coupling(x, y, C), a, b)
        gain = trial.value - point.value
        ascends = gain >= 1e-4 * step * slope  # eq. sinkhorn-newton-sparse-armijo
        if (ascends and gain > noise) or (
            abs(gain) <= noise and trial.error < point.error
        ):
            return trial, step
        step /= 2
    return None, 0.0
