r"""Sinkhorn-Newton-Sparse: a few Sinkhorn sweeps, then Newton steps on the dual with a sparsified Hessian.

Sinkhorn maximises the dual of transport with entropy, :math:`D(f, g)` of :mod:`trref.transport.entropic_dual`, over
one block at a time, and for small :math:`\varepsilon` that takes thousands of sweeps. A few of them bring the plan
near a vertex of the transport polytope, where the Hessian of :math:`D` is nearly sparse, so that a Newton step costs
little more than a few sweeps. The paper's two stages:

1. :math:`N_1` Sinkhorn sweeps, here in scaling form from the reduced cost (:mod:`trref.transport.sinkhorn`);
2. Newton steps :math:`\Delta z` with the sparsified Hessian (:mod:`trref.transport.sparsified_hessian`), halved until

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

from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective, Solver
from trref.transport.entropic_dual import PROBLEM, DualGradient, dual_value
from trref.transport.interfaces import CERTIFICATE, TRANSPORT, checked_problem, coupling, dual_cases, finish
from trref.transport.sinkhorn import reduced_cost, rounding_level, scaling_sweeps
from trref.transport.sparsified_hessian import solve_reduced, sparsify

__all__ = ["SparseNewtonResult", "augmented_potential", "sinkhorn_newton_sparse"]


class SparseNewtonResult(NamedTuple):
    """As `TransportResult`; the Newton steps have their step size (0: sweeps instead) and conjugate-gradient count."""

    plan: Any
    f: Any
    g: Any
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


def augmented_potential(f, g, cost, a, b, *, reg):
    """The dual, as a loss, made strictly convex along the direction that changes nothing.

    Parameters
    ----------
    f : array (n,)
    g : array (m,)
    cost : array (n, m)
    a : array (n,)
    b : array (m,)
        Positive masses.
    reg : float
        Regularisation, in [1e-15, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : DualGradient
        With respect to `f` and `g`.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, masses that are not positive, an entry of the plan that is too large.
    """
    loss, gradient = dual_value(f, g, cost, a, b, reg=reg)
    # eq. sinkhorn-newton-sparse-augmented
    shift = f.sum() - g.sum()
    return loss + shift**2 / 2, DualGradient(gradient.f + shift, gradient.g - shift)


def sinkhorn_newton_sparse(cost, a, b, *, reg, tol=1e-9, max_iter=500, n_sinkhorn=20, rho=None, cg_rtol=1e-3, levels=0):
    """Solve transport with entropy by Sinkhorn sweeps and sparse Newton steps.

    Parameters
    ----------
    cost : array (n, m)
        At most 6.7e7 times `reg` (float32: 2.9e3).
    a : array (n,)
    b : array (m,)
        Masses, positive (leave out empty points), with a sum of 1 to 1e-5; they are divided by their sums.
    reg : float
        Regularisation, in the units of the cost, in (0, inf).
    tol : float
        Ends when the marginal error is at most this, in (0, inf).
    max_iter : int
        Sweeps and Newton steps together, in [1, inf); but at least one sweep a level.
    n_sinkhorn : int
        Sweeps at the start, and in the place of a failed Newton step; in [1, inf), 20 in the paper.
    rho : float, optional
        Share of the entries of the plan that the Hessian keeps, in [0, 1]; ``8 / min(n, m)`` by default. Smooth
        densities need more (0.2).
    cg_rtol : float
        Relative tolerance of the conjugate gradients, in (0, 1).
    levels : int
        Solve with ``4**levels * reg``, …, ``4 * reg`` first, to a marginal error of 0.01, each as a start for the next;
        in [0, 20]. Not in the paper; where `reg` is so small that the plan falls into unconnected parts, Newton steps
        need it.

    Returns
    -------
    SparseNewtonResult
        Fields plan, f, g, marginal_errors, iterations, converged, step_sizes, cg_iterations, inner_iterations.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, masses that are not positive or do not sum to 1.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or rounding keeps the error above `tol`.
    """
    a, b = checked_problem(cost, a, b, reg=reg, tol=tol, max_iter=max_iter)
    validate.integer("[1, inf)", n_sinkhorn=n_sinkhorn)
    validate.integer("[0, 20]", levels=levels)
    rho = min(1.0, 8 / min(cost.shape)) if rho is None else rho
    validate.interval("[0, 1]", rho=rho)
    validate.interval("(0, 1)", cg_rtol=cg_rtol)
    C, row_minima, column_minima = reduced_cost(cost, reg)
    x, y = xp.full_like(a, 0.5), xp.full_like(b, 0.5)
    history = _History([], [], [])
    for level in range(levels, -1, -1):
        goal, limit = (tol, max_iter) if level == 0 else (max(tol, 0.01), max_iter - level)
        point = _two_stages(C / 4**level if level else C, a, b, x, y, history, goal, limit, n_sinkhorn, rho, cg_rtol)
        x, y = 4 * point.x, 4 * point.y
    errors, step_sizes, cg_iterations = history
    converged = finish("sinkhorn_newton_sparse", point.plan, a, b, errors, tol)
    f, g = reg * (point.x + row_minima), reg * (point.y + column_minima)
    inner = int(sum(cg_iterations))
    return SparseNewtonResult(point.plan, f, g, errors, len(errors), converged, step_sizes, cg_iterations, inner)


def _two_stages(C, a, b, x, y, history, tol, limit, n_sinkhorn, rho, cg_rtol):
    """Sweep, then take Newton steps, until the error is at most tol or the history has reached its limit."""

    def sweep(x, y):
        sweeps = max(1, min(n_sinkhorn, limit - len(history.errors)))
        x, y, plan, errors = scaling_sweeps(C, a, b, x, y, tol=tol, sweeps=sweeps)
        history.errors.extend(errors)
        return _evaluate(x, y, plan, a, b)

    rounding = rounding_level(C)
    point, stuck = sweep(x, y), False
    while point.error > tol and len(history.errors) < limit and not stuck:
        direction = solve_reduced(sparsify(point.plan, rho), a, b, point.rows, point.columns, cg_rtol)
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
        if (ascends and gain > noise) or (abs(gain) <= noise and trial.error < point.error):
            return trial, step
        step /= 2
    return None, 0.0


def _centred(inputs):
    """potentials of equal sums"""
    f, g = inputs["f"], inputs["g"]
    shift = (g.sum() - f.sum()) / (len(f) + len(g))
    return {**inputs, "f": f + shift, "g": g - shift}


METHOD = Method(
    key="tang2024accelerating",
    provenance={"partly": ("armijo",), "reconstructed": ("augmented",)},
    functions=(
        Objective(
            f=augmented_potential,
            inputs=PROBLEM,
            **dual_cases(PROBLEM),
            settings={"default": {"reg": 0.1}, "probe": {"reg": 0.3}},
            wrt=("f", "g"),
            limits=(Limit("entropic_dual.dual_value", {}, {"reg": 0.1}, where=_centred),),
        ),
        Solver(
            f=sinkhorn_newton_sparse,
            prescribed=False,
            interface=TRANSPORT,
            settings={
                "default": {"reg": 0.1},
                "small regularisation": {"reg": 0.02},
                "exact Newton": {"reg": 0.03, "rho": 1.0, "cg_rtol": 1e-8},
                "one sweep, then Newton": {"reg": 0.03, "n_sinkhorn": 1, "rho": 0.5, "cg_rtol": 1e-9},
                "warm start": {"reg": 0.02, "levels": 2},
                "probe": {
                    "reg": 0.05,
                    "tol": 1e-7,
                    "max_iter": 300,
                    "n_sinkhorn": 7,
                    "rho": 0.4,
                    "cg_rtol": 0.01,
                    "levels": 2,
                },
            },
            limits=(Limit("sinkhorn.sinkhorn_scaling", {"max_iter": 10000, "n_sinkhorn": 10000}, {"reg": 0.1}),),
            **CERTIFICATE,
        ),
    ),
)
