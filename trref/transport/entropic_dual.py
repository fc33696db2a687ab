r"""The dual of transport with entropy: value, gradient, Hessian, duality gap.

The linear program with entropy

.. math::
    :label: entropic-dual-primal

    \min_{P \ge 0}\; \langle C, P\rangle + \varepsilon \sum_{ij} P_{ij} \log P_{ij}
    \qquad\text{with}\quad P 1 = a,\; P^\top 1 = b

has a dual without constraints. One potential a point gives the plan

.. math::
    :label: entropic-dual-plan

    P_{ij} = \exp\big( (f_i + g_j - C_{ij}) / \varepsilon - 1 \big)

and the concave function

.. math::
    :label: entropic-dual-value

    D(f, g) = -\varepsilon \sum_{ij} P_{ij} + \langle f, a\rangle + \langle g, b\rangle,

whose maximum is the minimum of the primal, with no constant in between. Its gradient is what the marginals lack,

.. math::
    :label: entropic-dual-gradient

    \nabla_f D = a - P 1, \qquad \nabla_g D = b - P^\top 1,

and its Hessian, negative semidefinite with the null vector :math:`(1, -1)`,

.. math::
    :label: entropic-dual-hessian

    \nabla^2 D = -\frac1\varepsilon \begin{pmatrix} \mathrm{diag}(P 1) & P \\ P^\top & \mathrm{diag}(P^\top 1)
    \end{pmatrix} .

The functions return :math:`-D`, a loss, and products with :math:`-\nabla^2 D`. For any plan :math:`Q` with the right
marginals, the gap between its value and that of any potentials is a divergence,

.. math::
    :label: entropic-dual-gap

    \langle C, Q\rangle + \varepsilon \sum Q \log Q - D(f, g) =
    \varepsilon \sum_{ij} \Big( Q_{ij} \log\frac{Q_{ij}}{P_{ij}} - Q_{ij} + P_{ij} \Big) ,

which bounds how far both are from the optimum. Where the plan is optimal it is the distance of the dual from its
maximum.

**Where implementations differ.** With :math:`\sum P (\log P - 1)`, as in POT, or entropy relative to
:math:`a b^\top`, as in GeomLoss and OTT, the plan loses its :math:`-1` or gains a factor :math:`a_i b_j`, and
potentials and value change by constants: values of two libraries can be compared only after that.

**Provenance.** Confirmed: textbook formulas; derivatives and gap are checked.

Peyré and Cuturi, *Computational Optimal Transport*, 2019, arXiv:1803.00567.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import M, N, NonNegative, P, Positive, Real, Scalar, checked
from trref.transport.terms import Regularisation, bounded_plan, log_plan


class DualGradient(NamedTuple):
    """Derivatives by the potentials."""

    f: Real[N]
    g: Real[M]


@checked(also=bounded_plan)
def transport_plan(
    f: Real[N], g: Real[M], cost: Real[N, M], *, reg: Regularisation
) -> Real[N, M]:
    """The plan of two potentials.

    Parameters
    ----------
    f, g
        Potentials, one a point.
    """
    return xp.exp(log_plan(f, g, cost, reg))  # eq. entropic-dual-plan


@checked
def primal_value(
    plan: NonNegative[N, M], cost: Real[N, M], *, reg: Regularisation
) -> Scalar:
    """Cost of a plan plus its entropy term.

    Parameters
    ----------
    plan
        0 log 0 counts as 0.
    """
    log_P = xp.log(xp.where(plan > 0, plan, 1))
    return (cost * plan + reg * plan * log_P).sum()  # eq. entropic-dual-primal


@checked(also=bounded_plan)
def dual_value(
    f: Real[N],
    g: Real[M],
    cost: Real[N, M],
    a: Positive[N],
    b: Positive[M],
    *,
    reg: Regularisation,
) -> tuple[Scalar, DualGradient]:
    """The dual, as a loss, and its gradient.

    Parameters
    ----------
    a, b
        Masses of the points.
    """
    P = xp.exp(log_plan(f, g, cost, reg))
    D = f @ a + g @ b - reg * P.sum()  # eq. entropic-dual-value
    dD = DualGradient(a - P.sum(1), b - P.sum(0))  # eq. entropic-dual-gradient
    return -D, DualGradient(-dD.f, -dD.g)


@checked(also=bounded_plan)
def hessian_product(
    f: Real[N],
    g: Real[M],
    cost: Real[N, M],
    u: Real[N],
    v: Real[M],
    *,
    reg: Regularisation,
) -> Real[P]:
    """Product of the Hessian of the loss, positive semidefinite, with (u, v), P = N + M.

    Parameters
    ----------
    u, v
        A vector, in two parts.
    """
    P = xp.exp(log_plan(f, g, cost, reg))
    # eq. entropic-dual-hessian
    return xp.concatenate([P.sum(1) * u + P @ v, u @ P + P.sum(0) * v]) / reg


@checked(also=bounded_plan)
def dual_gap(
    plan: NonNegative[N, M],
    f: Real[N],
    g: Real[M],
    cost: Real[N, M],
    *,
    reg: Regularisation,
) -> Scalar:
    """How much the value of a plan exceeds the dual at two potentials, for the marginals of that plan.

    Returns
    -------
    gap
        Not negative; 0 where both are optimal.
    """
    log_P = log_plan(f, g, cost, reg)
    log_Q = xp.log(xp.where(plan > 0, plan, 1))
    # eq. entropic-dual-gap
    return reg * (plan * (log_Q - log_P) - plan + xp.exp(log_P)).sum()
