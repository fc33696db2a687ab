r"""Sinkhorn's algorithm: transport with entropy, in the log domain and in scaling form.

Add an entropy to the linear program of optimal transport,

.. math::

    \min_{P \ge 0}\; \langle C, P\rangle + \varepsilon \sum_{ij} P_{ij} \log P_{ij}
    \qquad\text{with}\quad P 1 = a,\; P^\top 1 = b,

and its only solution has the form :math:`P_{ij} = \exp((f_i + g_j - C_{ij})/\varepsilon - 1)`, with one potential a
point. Sinkhorn matches the row sums and the column sums in turn; each half-step maximises the
concave dual (:mod:`trref.transport.entropic_dual`) over one block exactly. With LSE the logarithm of a sum of
exponentials, shifted by its maximum:

.. math::
    :label: sinkhorn-log

    f_i \leftarrow \varepsilon \big( \log a_i + 1 - \mathrm{LSE}_j\, (g_j - C_{ij})/\varepsilon \big), \qquad
    g_j \leftarrow \varepsilon \big( \log b_j + 1 - \mathrm{LSE}_i\, (f_i - C_{ij})/\varepsilon \big)

The same iteration on the numbers :math:`u_i = e^{f_i/\varepsilon - 1/2}`, :math:`v_j = e^{g_j/\varepsilon - 1/2}` and
:math:`K = e^{-C/\varepsilon}` needs no exponential at all:

.. math::
    :label: sinkhorn-scaling

    u \leftarrow a / (K v), \qquad v \leftarrow b / (K^\top u), \qquad P = \mathrm{diag}(u)\, K\, \mathrm{diag}(v)

:math:`K` underflows for small :math:`\varepsilon`, in two ways that have one cure: potentials may be moved into the
cost, since :math:`C_{ij} - \phi_i - \gamma_j` has the same plan. The iteration starts from the reduced cost (first the
row minima subtracted, then the column minima), which puts a one into every row and column of :math:`K`, and goes on
from a new :math:`K` when :math:`u` or :math:`v` has become large.

After a half-step on the columns their sums are exact, and those of the rows come free with the next half-step. The
marginal error never grows; by the metric of Hilbert it shrinks by :math:`\tanh^2` of a quarter of
:math:`\max (C_{ij} + C_{kl} - C_{il} - C_{kj}) / \varepsilon` a sweep, or faster.

A plan with nearly right marginals becomes one with exact ones if the rows, then the columns that are too heavy are
scaled down and what is missing is spread:

.. math::
    :label: sinkhorn-round

    P' = \mathrm{diag}\big(\min(1, \tfrac{a}{P1})\big) P, \quad
    P'' = P' \mathrm{diag}\big(\min(1, \tfrac{b}{P'^\top 1})\big), \quad
    P'' + \frac{(a - P''1)(b - P''^\top 1)^\top}{\|a - P''1\|_1}

**Where implementations differ.** In the entropy: with :math:`\sum P(\log P - 1)`, as in POT, the :math:`-1` in the plan
disappears, and the value changes by :math:`\varepsilon`. In the stopping rule: POT looks at the 2-norm of one marginal
every ten sweeps; some code looks at the change of the potentials, which hides slow drift. Plain scaling form divides by
zero for small :math:`\varepsilon`. Some code starts with a large :math:`\varepsilon` and makes it smaller;
:func:`trref.transport.sinkhorn_newton_sparse.sinkhorn_newton_sparse` does, with ``levels``.

**Provenance.** Confirmed: textbook formulas, compared with POT and with linear programming. The start from the reduced
cost is a choice of this module.

Cuturi, *Sinkhorn Distances: Lightspeed Computation of Optimal Transport*, 2013, arXiv:1306.0895. The rounding:
Altschuler, Weed and Rigollet, *Near-linear time approximation algorithms for optimal transport via Sinkhorn iteration*,
2017, arXiv:1705.09634.
"""

import math

from trref.backend import xp
from trref.signature import (
    M,
    N,
    NonNegative,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)
from trref.transport.terms import TransportResult, coupling, finish, masses, problem


@checked(also=problem)
def sinkhorn_log(
    cost: Real[N, M],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: PositiveFloat,
    tol: PositiveFloat = 1e-9,
    max_iter: PositiveInt = 10000,
) -> TransportResult:
    """Solve transport with entropy by Sinkhorn's algorithm in the log domain, from potentials 0.

    Parameters
    ----------
    a, b
        Masses of the points, of sum 1; they are divided by their sums.
    tol
        Ends when the marginal error is at most this.
    max_iter
        Counts sweeps.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or rounding keeps the error above `tol`.
    """
    a, b = a / a.sum(), b / b.sum()
    C, log_a, log_b = cost / reg, xp.log(a), xp.log(b)
    errors, rounding, y = [], rounding_level(C), xp.zeros_like(b)
    x = following = log_a + 1 - _log_sum_exp(y - C, 1)
    while len(errors) < max_iter and not _ended(errors, tol, rounding):
        # eq. sinkhorn-log
        x = following
        y = log_b + 1 - _log_sum_exp(x[:, None] - C, 0)
        following = log_a + 1 - _log_sum_exp(y - C, 1)

        row_sums = xp.exp(log_a + x - following)
        errors.append(float(abs(row_sums - a).sum()))
    plan = coupling(x, y, C)
    converged = finish("sinkhorn_log", plan, a, b, errors, tol)
    return TransportResult(plan, reg * x, reg * y, errors, len(errors), converged)


def _log_sum_exp(z, axis):
    largest = z.max(axis, keepdims=True)
    return xp.log(xp.exp(z - largest).sum(axis)) + largest.squeeze(axis)


def rounding_level(C):
    """Where errors of rounding are to be expected in the marginals, for a cost in units of reg."""
    return (
        64 * float(xp.finfo(C.dtype).eps) * (1 + float(xp.maximum(C.max(), -C.min())))
    )


def _ended(errors, tol, rounding):
    """Small enough (a tenth is left for the rounding of the other marginal), or at rounding and no longer shrinking."""
    if not errors:
        return False
    stuck = (
        errors[-1] <= rounding
        and len(errors) > 100
        and errors[-1] > 0.999 * errors[-101]
    )
    return errors[-1] <= 0.9 * tol or stuck


@checked(also=problem)
def sinkhorn_scaling(
    cost: Real[N, M],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: PositiveFloat,
    tol: PositiveFloat = 1e-9,
    max_iter: PositiveInt = 10000,
) -> TransportResult:
    """Solve transport with entropy by Sinkhorn's algorithm in scaling form: two products with a matrix a sweep.

    Warns
    -----
    ConvergenceWarning
        As `sinkhorn_log` does.
    """
    a, b = a / a.sum(), b / b.sum()
    C, rows, columns = reduced_cost(cost, reg)
    x, y = xp.full_like(a, 0.5), xp.full_like(b, 0.5)
    x, y, plan, errors = scaling_sweeps(C, a, b, x, y, tol=tol, sweeps=max_iter)
    converged = finish("sinkhorn_scaling", plan, a, b, errors, tol)
    return TransportResult(
        plan, reg * (x + rows), reg * (y + columns), errors, len(errors), converged
    )


def reduced_cost(cost, reg):
    """Return the cost in units of reg less its row, then column minima (a zero in every row and column), and these."""
    reduced = cost / reg
    rows = reduced.min(1)
    reduced -= rows[:, None]
    columns = reduced.min(0)
    reduced -= columns
    return reduced, rows, columns


def scaling_sweeps(C, a, b, x, y, *, tol, sweeps):
    """Sweep in scaling form, cost and potentials in units of reg; return x, y, their plan, and the errors."""
    # entries of the kernel that `coupling` clips must stay next to nothing when they are multiplied by u and v
    spread_limit = -math.log(xp.finfo(C.dtype).tiny) / 16
    K, u, v = coupling(x, y, C), xp.ones_like(a), xp.ones_like(b)
    Kv, errors, rounding = K.sum(1), [], rounding_level(C)
    while len(errors) < sweeps and not _ended(errors, tol, rounding):
        # eq. sinkhorn-scaling
        u = a / Kv
        v = b / (u @ K)
        Kv = K @ v

        log_u, log_v = xp.log(u), xp.log(v)
        spread = xp.maximum(abs(log_u).max(), abs(log_v).max())
        error, spread = xp.stack([abs(u * Kv - a).sum(), spread]).tolist()
        errors.append(error)
        if spread > spread_limit:
            x, y = x + log_u, y + log_v
            K, u, v = coupling(x, y, C), xp.ones_like(a), xp.ones_like(b)
            Kv = K.sum(1)
    K *= u[:, None]
    K *= v
    return x + xp.log(u), y + xp.log(v), K, errors


@checked(also=masses)
def round_to_feasible(
    plan: NonNegative[N, M], a: Positive[N], b: Positive[M]
) -> NonNegative[N, M]:
    """Turn a plan with nearly right marginals into one with exact marginals.

    The result is within twice the marginal error of `plan`, in the sum of absolute differences.
    """
    a, b = a / a.sum(), b / b.sum()
    # eq. sinkhorn-round
    P = plan * (a / xp.maximum(plan.sum(1), a))[:, None]
    P = P * (b / xp.maximum(P.sum(0), b))
    missing_a, missing_b = xp.maximum(a - P.sum(1), 0), xp.maximum(b - P.sum(0), 0)
    total = missing_a.sum()
    return P + missing_a[:, None] * (missing_b / xp.where(total > 0, total, 1))
