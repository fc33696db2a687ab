r"""The sparsified Hessian: of the entropic dual, and the Newton direction that it gives.

After some Sinkhorn sweeps for a small :math:`\varepsilon` the plan is close to a vertex of the transport polytope:
nearly all of its mass sits on few entries, and so does the Hessian of the dual
(:mod:`trref.transport.entropic_dual`). With :math:`z = (f, g)` in units of :math:`\varepsilon`, its gradient is

.. math::
    :label: sparsified-hessian-gradient

    q = (a - P 1,\; b - P^\top 1) .

Keep the :math:`\lceil\rho\,nm\rceil` largest entries :math:`\tilde P` of the plan, but the full sums on the diagonal:

.. math::
    :label: sparsified-hessian-matrix

    \tilde M = \begin{pmatrix} \mathrm{diag}(P 1) & \tilde P \\ \tilde P^\top & \mathrm{diag}(P^\top 1) \end{pmatrix}

is symmetric and weakly diagonally dominant, hence positive semidefinite, and definite if every connected component of
the kept pattern has lost some mass. For :math:`\rho = 1` it is the negative Hessian :math:`M`, singular along
:math:`(1, -1)`, to which :math:`q` is orthogonal; for :math:`\rho = 0` it is the diagonal. How near the two are, says
the sum of all that is dropped,

.. math::
    :label: sparsified-hessian-dropped

    \| M - \tilde M \|_1 = 2 \sum_{ij\ \text{dropped}} P_{ij} .

The direction :math:`\tilde M \Delta z = q` needs only the upper block as unknown, since the lower one is diagonal:

.. math::
    :label: sparsified-hessian-reduced

    S\, \Delta f = q_f - \tilde P\, D^{-1} q_g, \qquad S = \mathrm{diag}(P 1) - \tilde P D^{-1} \tilde P^\top, \qquad
    \Delta g = D^{-1} (q_g - \tilde P^\top \Delta f), \qquad D = \mathrm{diag}(P^\top 1) .

Conjugate gradients solve for :math:`\Delta f`, with the diagonal of :math:`S` as preconditioner. From a start at 0
every iterate is a direction of ascent; they end where the curvature is below rounding, as it is along
:math:`(1, -1)`.

**Where implementations differ.** The paper thresholds :math:`M`, diagonal included, and runs conjugate gradients on all
of it with its diagonal as preconditioner. Near a vertex that diagonal does little, since each row of
:math:`\tilde M` has another entry almost as large; the diagonal of :math:`S` is what these leave over. Both give the
same direction. The paper's budget is :math:`2/n`. Public code sparsifies the assembled Hessian by magnitude with a
budget that may be shorter than its diagonal: rows without any entry make the matrix singular.

**Provenance.** Partly: thresholding and conjugate gradients by a public study note of the paper; the norm from memory;
the full sums on the diagonal as in public code of the constrained variant by the same authors; the elimination is a
choice of this module.

Tang, Shavlovsky, Rahmanian, Tardini, Thekumparampil, Xiao and Ying, *Accelerating Sinkhorn Algorithm with Sparse Newton
Iterations*, 2024, arXiv:2401.12253.
"""

import math
import warnings
from typing import Any, NamedTuple

from trref import validate
from trref.backend import sparse, xp
from trref.catalog import Estimator, Input, Limit, Method, Solver
from trref.transport import deviations
from trref.transport.interfaces import TRANSPORT, arrays

__all__ = ["NewtonDirection", "dropped_mass", "newton_direction", "sparse_hessian_product"]


class NewtonDirection(NamedTuple):
    """Direction df (n,) and dg (m,) in units of reg; residual norms of the reduced system, steps, the verdict."""

    df: Any
    dg: Any
    residual_norms: list[float]
    iterations: int
    converged: bool


def sparsify(plan, rho):
    """Return the largest entries of a plan (n, m), a share rho of all, as a sparse matrix.

    Entries that all together vanish in the rounding of the largest one are never kept.
    """
    n, m = plan.shape
    count = math.ceil(rho * plan.size)
    flat = plan.ravel()
    kept = xp.flatnonzero(flat > float(xp.finfo(flat.dtype).eps) / plan.size * flat.max())
    if count < len(kept):
        largest = xp.argpartition(flat[kept], len(kept) - count - 1)[len(kept) - count :]
        kept = xp.sort(kept[largest])
    starts = xp.searchsorted(kept, m * xp.arange(n + 1)).astype("int32")
    return sparse.csr_matrix((flat[kept], (kept % m).astype("int32"), starts), shape=(n, m))


def sparse_hessian_product(plan, u, v, *, rho):
    """Product of the sparsified negative Hessian, in units of 1 / reg, with (u, v).

    Parameters
    ----------
    plan : array (n, m)
        Non-negative.
    u, v : arrays (n,), (m,)
    rho : float
        Share of the entries of `plan` to keep, in [0, 1].

    Returns
    -------
    array (n + m,)

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, negative entries of the plan, `rho` out of its range.
    """
    validate.inputs(PRODUCT, plan, u, v)
    validate.interval("[0, 1]", rho=rho)
    kept = sparsify(plan, rho)
    return xp.concatenate([plan.sum(1) * u + kept @ v, kept.T @ u + plan.sum(0) * v])  # eq. sparsified-hessian-matrix


def dropped_mass(plan, *, rho):
    """Distance of the Hessian from its sparsified form: the sum of the absolute values of all entries dropped.

    Parameters
    ----------
    plan : array (n, m)
        Non-negative.
    rho : float
        Share of the entries of `plan` that are kept, in [0, 1].

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        A wrong shape, values that are not finite, negative entries, `rho` out of its range.
    """
    validate.inputs({"plan": PRODUCT["plan"]}, plan)
    validate.interval("[0, 1]", rho=rho)
    dropped = plan.size - math.ceil(rho * plan.size)
    return 2 * xp.sort(plan.ravel())[:dropped].sum()  # eq. sparsified-hessian-dropped


def newton_direction(plan, a, b, *, rho, rtol=1e-6):
    """Solve for the Newton direction with the sparsified Hessian.

    Parameters
    ----------
    plan : array (n, m)
        Positive.
    a, b : arrays (n,), (m,)
        Positive masses.
    rho : float
        Share of the entries of `plan` that the Hessian keeps, in [0, 1].
    rtol : float
        Of the residual of the reduced system, in the norm that the preconditioner defines; in (0, 1).

    Returns
    -------
    NewtonDirection
        Fields df, dg, residual_norms, iterations, converged.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, a plan or masses that are not positive.

    Warns
    -----
    ConvergenceWarning
        2 n + 10 iterations were not enough, or the matrix is singular and the system has no solution.
    """
    validate.inputs(DIRECTION, plan, a, b)
    validate.interval("[0, 1]", rho=rho)
    validate.interval("(0, 1)", rtol=rtol)
    result = solve_reduced(sparsify(plan, rho), a, b, plan.sum(1), plan.sum(0), rtol)
    if not result.converged:
        message = f"newton_direction stopped after {result.iterations} iterations, far from its tolerance"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=2)
    return result


def solve_reduced(kept, a, b, rows, columns, rtol):
    """Solve the reduced system by conjugate gradients, for the kept entries and the full sums of a plan."""
    eps = float(xp.finfo(rows.dtype).eps)
    q_f, q_g = a - rows, b - columns  # eq. sparsified-hessian-gradient
    # eq. sparsified-hessian-reduced
    transposed = kept.T
    diagonal = rows - kept.multiply(kept) @ (1 / columns)
    diagonal = xp.maximum(diagonal, eps * rows)
    df, r = xp.zeros_like(rows), q_f - kept @ (q_g / columns)
    z = r / diagonal
    p = z
    rz, scale = xp.stack([r @ z, (rows * rows / diagonal).sum()]).tolist()
    norms = [math.sqrt(rz)]
    target = max(rtol * norms[0], eps * math.sqrt(scale))  # a residual of rounding alone needs no solution
    while norms[-1] > target and len(norms) <= 2 * len(r) + 10:
        Sp = rows * p - kept @ ((transposed @ p) / columns)
        curvature, rounding = xp.stack([p @ Sp, 8 * eps * ((p * rows) @ p)]).tolist()
        if not curvature > rounding:
            break
        df = df + rz / curvature * p
        r = r - rz / curvature * Sp
        z = r / diagonal
        rz, previous = float(r @ z), rz
        p = z + rz / previous * p
        norms.append(math.sqrt(rz))
    dg = (q_g - transposed @ df) / columns
    return NewtonDirection(df, dg, norms, len(norms) - 1, norms[-1] <= target)


PRODUCT = {"plan": Input("N M", "nonnegative"), "u": Input("N"), "v": Input("M")}
DIRECTION = {"plan": Input("N M", "positive"), "a": Input("N", "positive"), "b": Input("M", "positive")}


def _plan_of(rng, problem, reg=0.1):
    """A plan of potentials that are not optimal, with the column sums b."""
    plan = xp.exp(-problem["cost"] / reg) * rng.uniform(0.5, 2.0, (len(problem["a"]), 1)) + 1e-12
    return plan / plan.sum(0) * problem["b"]


def _direction_example(rng, size):
    problem = TRANSPORT.example(rng, size)
    return {"plan": _plan_of(rng, problem), "a": problem["a"], "b": problem["b"]}


def _product_example(rng, size):
    plan = _direction_example(rng, size)["plan"]
    return {"plan": plan, "u": rng.standard_normal(len(plan)), "v": rng.standard_normal(size)}


def dense_matrix(plan, rho):
    """The sparsified matrix, dense, by sorting."""
    largest = xp.argsort(plan.ravel())[::-1][: math.ceil(rho * plan.size)]
    kept = xp.zeros_like(plan)
    kept.flat[largest] = plan.flat[largest]
    upper, lower = xp.hstack([xp.diag(plan.sum(1)), kept]), xp.hstack([kept.T, xp.diag(plan.sum(0))])
    return xp.concatenate([upper, lower])


def _residual(result, plan, a, b, rho, rtol=1e-6):
    """Certificate: the residual of the full dense system, relative to what was asked for."""
    q = xp.concatenate([a - plan.sum(1), b - plan.sum(0)])
    residual = q - dense_matrix(plan, rho) @ xp.concatenate([result.df, result.dg])
    norm, allowed = xp.sqrt((residual**2).sum()), rtol * (1e-9 + xp.sqrt((q**2).sum()))
    return {"residual over its target": float(norm / allowed)}


def _plan_of_potentials(inputs):
    """the plan of the potentials 0"""
    plan = inputs["plan"] + 1e-3
    f, g = xp.zeros_like(inputs["u"]), xp.zeros_like(inputs["v"])
    return {**inputs, "plan": plan, "f": f, "g": g, "cost": -(xp.log(plan) + 1)}


SHARES = {"default": {"rho": 0.25}, "diagonal": {"rho": 0.0}, "exact": {"rho": 1.0}}

METHOD = Method(
    title="Accelerating Sinkhorn Algorithm with Sparse Newton Iterations: the sparse step",
    key="tang2024accelerating",
    arxiv="2401.12253",
    provenance={"confirmed": ("gradient",), "partly": ("matrix", "dropped"), "reconstructed": ("reduced",)},
    functions=(
        Estimator(
            f=sparse_hessian_product,
            inputs=PRODUCT,
            example=_product_example,
            edges={
                "an empty row": arrays(plan=[[0.0, 0.0], [0.25, 0.75]], u=[1.0, 2.0], v=[-1.0, 0.5]),
                "one entry": arrays(plan=[[0.5]], u=[3.0], v=[-1.0]),
            },
            settings={**SHARES, "probe": {"rho": 0.6}},
            brute_force=lambda plan, u, v, rho: dense_matrix(plan, rho) @ xp.concatenate([u, v]),
            limits=(Limit("entropic_dual.hessian_product", {"rho": 1.0}, {"reg": 1.0}, where=_plan_of_potentials),),
            deviations=(deviations.HESSIAN_SPARSIFIED_WHOLE,),
        ),
        Estimator(
            f=dropped_mass,
            inputs={"plan": PRODUCT["plan"]},
            example=lambda rng, size: {"plan": _direction_example(rng, size)["plan"]},
            edges={"equal entries": arrays(plan=[[0.125] * 4] * 2)},
            settings={**SHARES, "probe": {"rho": 0.6}},
            brute_force=lambda plan, rho: abs(dense_matrix(plan, 1.0) - dense_matrix(plan, rho)).sum(),
        ),
        Solver(
            f=newton_direction,
            inputs=DIRECTION,
            example=_direction_example,
            edges={
                "exact marginals": arrays(plan=[[0.25, 0.25], [0.125, 0.375]], a=[0.5, 0.5], b=[0.375, 0.625]),
                "rows and columns off": arrays(plan=[[0.25, 0.25], [0.125, 0.375]], a=[0.4, 0.6], b=[0.5, 0.5]),
                "one point each": arrays(plan=[[0.5]], a=[1.0], b=[1.0]),
            },
            settings={**SHARES, "probe": {"rho": 0.6, "rtol": 1e-5}},
            certificate=_residual,
            tolerances={"residual over its target": 3.0},
        ),
    ),
)
