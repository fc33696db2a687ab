r"""The Sinkhorn divergence: between clouds of points, with the derivative of the optimal cost.

The optimal cost :math:`W` of transport with entropy is the maximum of the dual :math:`D`
(:mod:`trref.transport.entropic_dual`). At the maximum the potentials move as well when cost or masses change, but to
first order that changes nothing. So plan and potentials are the derivative:

.. math::
    :label: sinkhorn-divergence-envelope

    \frac{\partial W}{\partial C} = P, \qquad \frac{\partial W}{\partial a} = f, \qquad
    \frac{\partial W}{\partial b} = g,

the last two up to a common constant, since masses must go on summing to 1; and for :math:`C_{ij} = \|x_i - z_j\|^2`

.. math::
    :label: sinkhorn-divergence-points

    \frac{\partial W}{\partial x_i} = 2 \sum_j P_{ij} (x_i - z_j), \qquad
    \frac{\partial W}{\partial z_j} = 2 \sum_i P_{ij} (z_j - x_i) .

:math:`W` is no distance: a cloud that descends it ends as a shrunken copy of its target. Without the cost of staying
where one is,

.. math::
    :label: sinkhorn-divergence-value

    S(x, z) = W(x, z) - \tfrac12 W(x, x) - \tfrac12 W(z, z)

is zero for equal clouds and positive otherwise. The three terms need one convention for the entropy, but any will do:
:math:`\sum P \log P` and the entropy relative to :math:`a b^\top` differ by terms that cancel. Its derivative, with
:math:`P` the plan between the clouds and :math:`Q` that of the first cloud to itself,

.. math::
    :label: sinkhorn-divergence-gradient

    \frac{\partial S}{\partial x_i} = 2 \sum_j Q_{ij} x_j - 2 \sum_j P_{ij} z_j .

**Where implementations differ.** POT combines the transport costs :math:`\langle C, P\rangle` without entropy and cuts
negative values off; the plans are not its derivative. GeomLoss and OTT agree with the equations here.

**Provenance.** Confirmed: textbook formulas; the derivatives are checked, also through the solver.

Genevay, Peyré and Cuturi, *Learning Generative Models with Sinkhorn Divergences*, 2018, arXiv:1706.00292; Feydy and
others, *Interpolating between Optimal Transport and MMD using Sinkhorn Divergences*, 2019.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    D,
    M,
    N,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)
from trref.transport.sinkhorn import sinkhorn_log
from trref.transport.terms import (
    Regularisation,
    bounded_plan,
    log_plan,
    masses,
    squared_distances,
)


class CostGradient(NamedTuple):
    """Derivatives by cost and masses."""

    cost: Real[N, M]
    a: Real[N]
    b: Real[M]


class PointsGradient(NamedTuple):
    """Derivatives by two clouds of points."""

    x: Real[N, D]
    z: Real[M, D]


@checked(also=bounded_plan)
def optimal_cost(
    f: Real[N],
    g: Real[M],
    cost: Real[N, M],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: Regularisation,
) -> tuple[Scalar, CostGradient]:
    """The optimal cost by its dual, and its derivative by cost and masses.

    Parameters
    ----------
    f, g
        Optimal potentials, from a solver. (At others: the dual there, and its partial derivatives.)
    a, b
        Masses of the points, of sum 1.

    Returns
    -------
    value
        Transport cost plus the entropy term.
    gradient
    """
    P = xp.exp(log_plan(f, g, cost, reg))
    W = f @ a + g @ b - reg * P.sum()
    return W, CostGradient(P, f.copy(), g.copy())  # eq. sinkhorn-divergence-envelope


def _bounded_plan_of_points(x, z, f, g, reg, **_):
    """Potentials that make an entry of the plan too large."""
    return bounded_plan(f, g, lambda: squared_distances(x, z), reg)


@checked(also=_bounded_plan_of_points)
def optimal_cost_of_points(
    x: Real[N, D],
    z: Real[M, D],
    f: Real[N],
    g: Real[M],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: Regularisation,
) -> tuple[Scalar, PointsGradient]:
    """The optimal cost of moving points to points for the squared distance, and its derivative by the points.

    Parameters
    ----------
    x, z
        Two clouds of points.

    Returns
    -------
    value
        Transport cost plus the entropy term.
    gradient
    """
    P = xp.exp(log_plan(f, g, squared_distances(x, z), reg))
    W = f @ a + g @ b - reg * P.sum()
    # eq. sinkhorn-divergence-points
    dx = 2 * (P.sum(1)[:, None] * x - P @ z)
    dz = 2 * (P.sum(0)[:, None] * z - P.T @ x)
    return W, PointsGradient(dx, dz)


@checked(also=masses)
def sinkhorn_divergence(
    x: Real[N, D],
    z: Real[M, D],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: PositiveFloat,
    tol: PositiveFloat = 1e-12,
    max_iter: PositiveInt = 10000,
) -> Scalar:
    """The Sinkhorn divergence of two clouds for the squared distance.

    Parameters
    ----------
    tol
        Marginal error of the plans.
    max_iter
        Counts the sweeps for each of them.

    Returns
    -------
    divergence
        Not negative, to rounding.

    Warns
    -----
    ConvergenceWarning
        A plan is not as accurate as `tol`.
    """
    a, b = a / a.sum(), b / b.sum()
    options = {"reg": reg, "tol": tol, "max_iter": max_iter}

    def W(x, z, a, b):
        # less reg, the mass of the plan, which cancels
        found = sinkhorn_log(squared_distances(x, z), a, b, **options)
        return found.f @ a + found.g @ b

    # eq. sinkhorn-divergence-value
    return W(x, z, a, b) - W(x, x, a, a) / 2 - W(z, z, b, b) / 2


@checked(also=masses)
def sinkhorn_divergence_gradient(
    x: Real[N, D],
    z: Real[M, D],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: PositiveFloat,
    tol: PositiveFloat = 1e-12,
    max_iter: PositiveInt = 10000,
) -> Real[N, D]:
    """Derivative of the Sinkhorn divergence by the points of the first cloud."""
    options = {"reg": reg, "tol": tol, "max_iter": max_iter}
    P = sinkhorn_log(squared_distances(x, z), a, b, **options).plan
    Q = sinkhorn_log(squared_distances(x, x), a, a, **options).plan
    return 2 * (Q @ x - P @ z)  # eq. sinkhorn-divergence-gradient
