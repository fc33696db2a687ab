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

import math
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Method, Objective, Transform
from trref.transport import deviations
from trref.transport.interfaces import dual_cases

__all__ = ["DualGradient", "dual_gap", "dual_value", "hessian_product", "primal_value", "transport_plan"]


class DualGradient(NamedTuple):
    """Derivatives by the potentials f (n,) and g (m,)."""

    f: Any
    g: Any


def transport_plan(f, g, cost, *, reg):
    """The plan of two potentials.

    Parameters
    ----------
    f, g : arrays (n,), (m,)
    cost : array (n, m)
    reg : float
        Regularisation, in the units of the cost, in [1e-15, inf).

    Returns
    -------
    array (n, m)

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, potentials that make an entry of the plan larger than 1e100
        (float32: 1e15).
    """
    _, flags = validate.deferred(PLAN, f, g, cost)
    return xp.exp(log_plan(f, g, lambda: cost, reg, flags))  # eq. entropic-dual-plan


def log_plan(f, g, cost, reg, flags):
    """Require the flags and that no entry overflows; return the logarithm of the plan for ``cost()``."""
    validate.interval("[1e-15, inf)", reg=reg)
    bound = math.log(validate.LARGEST[f.dtype.itemsize])
    exponent = lambda: (f[:, None] + g - cost()) / reg - 1  # noqa: E731
    validate.require(*flags, (lambda: (exponent() <= bound).all(), "f and g make an entry of the plan too large"))
    return exponent()


def transport_plan_jvp(f, g, cost, tangent, *, reg):
    """Differential of the plan along a tangent of f."""
    return transport_plan(f, g, cost, reg=reg) * tangent[:, None] / reg


def transport_plan_vjp(f, g, cost, cotangent, *, reg):
    """Adjoint of `transport_plan_jvp`."""
    return (transport_plan(f, g, cost, reg=reg) * cotangent).sum(1) / reg


def primal_value(plan, cost, *, reg):
    """Cost of a plan plus its entropy term.

    Parameters
    ----------
    plan : array (n, m)
        Non-negative; 0 log 0 counts as 0.
    cost : array (n, m)
    reg : float
        Regularisation, in [1e-15, inf).

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, negative entries of the plan.
    """
    validate.inputs(VALUE, plan, cost)
    validate.interval("[1e-15, inf)", reg=reg)
    log_P = xp.log(xp.where(plan > 0, plan, 1))
    return (cost * plan + reg * plan * log_P).sum()  # eq. entropic-dual-primal


def dual_value(f, g, cost, a, b, *, reg):
    """The dual, as a loss, and its gradient.

    Parameters
    ----------
    f, g : arrays (n,), (m,)
    cost : array (n, m)
    a, b : arrays (n,), (m,)
        Positive masses.
    reg : float
        Regularisation, in [1e-15, inf).

    Returns
    -------
    loss : scalar array
        ``-D(f, g)``, to minimise.
    gradient : DualGradient
        With respect to `f` and `g`.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, masses that are not positive, an entry of the plan that is too large.
    """
    _, flags = validate.deferred(PROBLEM, f, g, cost, a, b)
    P = xp.exp(log_plan(f, g, lambda: cost, reg, flags))  # eq. entropic-dual-plan
    D = f @ a + g @ b - reg * P.sum()  # eq. entropic-dual-value
    dD = DualGradient(a - P.sum(1), b - P.sum(0))  # eq. entropic-dual-gradient
    return -D, DualGradient(-dD.f, -dD.g)


def hessian_product(f, g, cost, u, v, *, reg):
    """Product of the Hessian of the loss, positive semidefinite, with (u, v).

    Parameters
    ----------
    f, u : array (n,)
    g, v : array (m,)
    cost : array (n, m)
    reg : float
        Regularisation, in [1e-15, inf).

    Returns
    -------
    array (n + m,)

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, an entry of the plan that is too large.
    """
    _, flags = validate.deferred(PRODUCT, f, g, cost, u, v)
    P = xp.exp(log_plan(f, g, lambda: cost, reg, flags))  # eq. entropic-dual-plan
    return xp.concatenate([P.sum(1) * u + P @ v, u @ P + P.sum(0) * v]) / reg  # eq. entropic-dual-hessian


def dual_gap(plan, f, g, cost, *, reg):
    """How much the value of a plan exceeds the dual at two potentials, for the marginals of that plan.

    Parameters
    ----------
    plan : array (n, m)
        Non-negative; its marginals are those of the problem.
    f, g : arrays (n,), (m,)
    cost : array (n, m)
    reg : float
        Regularisation, in [1e-15, inf).

    Returns
    -------
    scalar array
        Not negative; 0 where both are optimal.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, negative entries of the plan, a plan of `f` and `g` with an entry
        that is too large.
    """
    _, flags = validate.deferred(GAP, plan, f, g, cost)
    log_P = log_plan(f, g, lambda: cost, reg, flags)
    log_Q = xp.log(xp.where(plan > 0, plan, 1))
    return reg * (plan * (log_Q - log_P) - plan + xp.exp(log_P)).sum()  # eq. entropic-dual-gap


PLAN = {"f": Input("N"), "g": Input("M"), "cost": Input("N M")}
PROBLEM = {**PLAN, "a": Input("N", "positive"), "b": Input("M", "positive")}
PRODUCT = {**PLAN, "u": Input("N"), "v": Input("M")}
VALUE = {"plan": Input("N M", "nonnegative"), "cost": Input("N M")}
GAP = {"plan": Input("N M", "nonnegative"), **PLAN}


def _primal_by_loops(plan, cost, reg):
    entries = zip(plan.ravel().tolist(), cost.ravel().tolist(), strict=True)
    return math.fsum(c * p + (reg * p * math.log(p) if p else 0.0) for p, c in entries)


def _dense_product(f, g, cost, u, v, reg):
    P = xp.exp((xp.add.outer(f, g) - cost) / reg - 1)
    H = xp.concatenate([xp.hstack([xp.diag(P.sum(1)), P]), xp.hstack([P.T, xp.diag(P.sum(0))])])
    return H @ xp.concatenate([u, v]) / reg


def _gap_by_values(plan, f, g, cost, reg):
    """Primal minus dual, for the marginals that the plan has."""
    dual = float(f @ plan.sum(1) + g @ plan.sum(0)) - reg * float(xp.exp((f[:, None] + g - cost) / reg - 1).sum())
    return _primal_by_loops(plan, cost, reg) - dual


SETTINGS = {"default": {"reg": 0.1}, "probe": {"reg": 0.3}}

METHOD = Method(
    key="peyre2019computational",
    provenance="confirmed",
    functions=(
        Transform(
            f=transport_plan,
            inputs=PLAN,
            **dual_cases(PLAN),
            settings=SETTINGS,
            wrt="f",
            jvp=transport_plan_jvp,
            vjp=transport_plan_vjp,
        ),
        Estimator(f=primal_value, inputs=VALUE, **dual_cases(VALUE), settings=SETTINGS, brute_force=_primal_by_loops),
        Objective(
            f=dual_value,
            inputs=PROBLEM,
            **dual_cases(PROBLEM),
            settings=SETTINGS,
            wrt=("f", "g"),
            deviations=(deviations.DUAL_WITHOUT_MINUS_ONE, deviations.DUAL_RELATIVE_TO_THE_PRODUCT),
        ),
        Estimator(
            f=hessian_product,
            inputs=PRODUCT,
            **dual_cases(PRODUCT),
            settings=SETTINGS,
            brute_force=_dense_product,
        ),
        Estimator(f=dual_gap, inputs=GAP, **dual_cases(GAP), settings=SETTINGS, brute_force=_gap_by_values),
    ),
)
