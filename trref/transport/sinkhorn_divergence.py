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

from typing import Any, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Estimator, Input, Method, Objective
from trref.transport import deviations
from trref.transport.entropic_dual import PROBLEM, log_plan
from trref.transport.interfaces import TRANSPORT, dual_cases, squared_distances
from trref.transport.sinkhorn import sinkhorn_log

__all__ = [
    "CostGradient",
    "PointsGradient",
    "optimal_cost",
    "optimal_cost_of_points",
    "sinkhorn_divergence",
    "sinkhorn_divergence_gradient",
]


class CostGradient(NamedTuple):
    """Derivatives by cost (n, m) and masses a (n,), b (m,)."""

    cost: Any
    a: Any
    b: Any


class PointsGradient(NamedTuple):
    """Derivatives by clouds x (n, d) and z (m, d)."""

    x: Any
    z: Any


def optimal_cost(f, g, cost, a, b, *, reg):
    """The optimal cost by its dual, and its derivative by cost and masses.

    Parameters
    ----------
    f, g : arrays (n,), (m,)
        Optimal potentials, from a solver. (At others: the dual there, and its partial derivatives.)
    cost : array (n, m)
    a, b : arrays (n,), (m,)
        Positive masses.
    reg : float
        Regularisation, in [1e-15, inf).

    Returns
    -------
    value : scalar array
        Transport cost plus the entropy term.
    gradient : CostGradient
        With respect to `cost`, `a` and `b`.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, masses that are not positive, an entry of the plan that is too large.
    """
    _, flags = validate.deferred(PROBLEM, f, g, cost, a, b)
    P = xp.exp(log_plan(f, g, lambda: cost, reg, flags))
    W = f @ a + g @ b - reg * P.sum()
    return W, CostGradient(P, f.copy(), g.copy())  # eq. sinkhorn-divergence-envelope


def optimal_cost_of_points(x, z, f, g, a, b, *, reg):
    """The optimal cost of moving points to points for the squared distance, and its derivative by the points.

    Parameters
    ----------
    x, z : arrays (n, d), (m, d)
    f, g : arrays (n,), (m,)
        Optimal potentials, from a solver. (At others: the dual there, and its partial derivatives.)
    a, b : arrays (n,), (m,)
        Positive masses.
    reg : float
        Regularisation, in units of a squared distance, in [1e-15, inf).

    Returns
    -------
    value : scalar array
        Transport cost plus the entropy term.
    gradient : PointsGradient
        With respect to `x` and `z`.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, masses that are not positive, an entry of the plan that is too large.
    """
    _, flags = validate.deferred(POINTS, x, z, f, g, a, b)
    P = xp.exp(log_plan(f, g, lambda: squared_distances(x, z), reg, flags))
    W = f @ a + g @ b - reg * P.sum()
    # eq. sinkhorn-divergence-points
    dx = 2 * (P.sum(1)[:, None] * x - P @ z)
    dz = 2 * (P.sum(0)[:, None] * z - P.T @ x)
    return W, PointsGradient(dx, dz)


def sinkhorn_divergence(x, z, a, b, *, reg, tol=1e-12, max_iter=10000):
    """The Sinkhorn divergence of two clouds for the squared distance.

    Parameters
    ----------
    x, z : arrays (n, d), (m, d)
    a, b : arrays (n,), (m,)
        Masses, positive, with a sum of 1 to 1e-5; they are divided by their sums.
    reg : float
        Regularisation, in units of a squared distance, in (0, inf).
    tol : float
        Marginal error of the three plans, in (0, inf).
    max_iter : int
        Sweeps for each of them, in [1, inf).

    Returns
    -------
    scalar array
        Not negative, to rounding.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, masses that are not positive or do not sum to 1.

    Warns
    -----
    ConvergenceWarning
        A plan is not as accurate as `tol`.
    """
    validate.inputs(CLOUDS, x, z, a, b)

    a, b = a / a.sum(), b / b.sum()

    def W(x, z, a, b):
        found = sinkhorn_log(squared_distances(x, z), a, b, reg=reg, tol=tol, max_iter=max_iter)
        return found.f @ a + found.g @ b  # less reg, the mass of the plan, which cancels

    return W(x, z, a, b) - W(x, x, a, a) / 2 - W(z, z, b, b) / 2  # eq. sinkhorn-divergence-value


def sinkhorn_divergence_gradient(x, z, a, b, *, reg, tol=1e-12, max_iter=10000):
    """Derivative of the Sinkhorn divergence by the points of the first cloud.

    Parameters
    ----------
    x, z : arrays (n, d), (m, d)
    a, b : arrays (n,), (m,)
        Masses, positive, with a sum of 1 to 1e-5; they are divided by their sums.
    reg : float
        Regularisation, in units of a squared distance, in (0, inf).
    tol : float
        Marginal error of the two plans, in (0, inf).
    max_iter : int
        Sweeps for each of them, in [1, inf).

    Returns
    -------
    array (n, d)

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, masses that are not positive or do not sum to 1.
    """
    validate.inputs(CLOUDS, x, z, a, b)
    options = {"reg": reg, "tol": tol, "max_iter": max_iter}
    P = sinkhorn_log(squared_distances(x, z), a, b, **options).plan
    Q = sinkhorn_log(squared_distances(x, x), a, a, **options).plan
    return 2 * (Q @ x - P @ z)  # eq. sinkhorn-divergence-gradient


CLOUDS = {"x": Input("N D"), "z": Input("M D"), "a": Input("N", "positive"), "b": Input("M", "positive")}
POINTS = {"x": Input("N D"), "z": Input("M D"), **{k: PROBLEM[k] for k in ("f", "g", "a", "b")}}


def _clouds(rng, size):
    problem = TRANSPORT.example(rng, size)
    n, m = problem["cost"].shape
    x, z = rng.standard_normal((n, 2)) / 2, rng.standard_normal((m, 2)) / 2 + rng.uniform(0.5, 1.5, 2)
    return {"x": x, "z": z, "a": problem["a"], "b": problem["b"]}


def _points_example(rng, size):
    drawn = {**_clouds(rng, size), **dual_cases(("f", "g"))["example"](rng, size)}
    return {name: drawn[name] for name in POINTS}


def _newton_optimum(cost, a, b, reg):
    """Optimal value and plan by dense Newton steps on the dual, in units of reg."""
    z, n = xp.zeros(len(a) + len(b)), len(a)
    w = xp.concatenate([xp.ones(n), -xp.ones(len(b))])

    def evaluate(z):
        P = xp.exp(xp.clip(z[:n, None] + z[n:] - cost / reg - 1, -700, 50))
        return z[:n] @ a + z[n:] @ b - P.sum(), P

    value, P = evaluate(z)
    for _ in range(100):
        q = xp.concatenate([a - P.sum(1), b - P.sum(0)])
        M = xp.concatenate([xp.hstack([xp.diag(P.sum(1)), P]), xp.hstack([P.T, xp.diag(P.sum(0))])])
        step = linalg.solve(M + xp.outer(w, w) / len(w) ** 2, q)
        for halvings in range(40):
            following = evaluate(z + 0.5**halvings * step)
            if following[0] >= value - 1e-13:
                break
        z, (value, P) = z + 0.5**halvings * step, following
    return reg * value, P


def _divergence_by_newton(x, z, a, b, reg, **_):
    W = lambda x, z, a, b: _newton_optimum(squared_distances(x, z), a, b, reg)[0]  # noqa: E731
    return W(x, z, a, b) - W(x, x, a, a) / 2 - W(z, z, b, b) / 2


def _gradient_by_newton(x, z, a, b, reg, **_):
    P = _newton_optimum(squared_distances(x, z), a, b, reg)[1]
    Q = _newton_optimum(squared_distances(x, x), a, a, reg)[1]
    pull = [sum(P[i, j] * (x[i] - z[j]) for j in range(len(z))) for i in range(len(x))]
    return 2 * xp.array([p - sum(Q[i, j] * (x[i] - x[j]) for j in range(len(x))) for i, p in enumerate(pull)])


SETTINGS = {"default": {"reg": 0.5}, "probe": {"reg": 0.8, "tol": 1e-11, "max_iter": 2000}}
DUAL_SETTINGS = {"default": {"reg": 0.5}, "probe": {"reg": 0.8}}

METHOD = Method(
    key="genevay2018learning",
    provenance="confirmed",
    functions=(
        Objective(
            f=optimal_cost, inputs=PROBLEM, **dual_cases(PROBLEM), settings=DUAL_SETTINGS, wrt=("cost", "a", "b")
        ),
        Objective(
            f=optimal_cost_of_points, inputs=POINTS, example=_points_example, settings=DUAL_SETTINGS, wrt=("x", "z")
        ),
        Estimator(
            f=sinkhorn_divergence,
            inputs=CLOUDS,
            example=_clouds,
            settings=SETTINGS,
            brute_force=_divergence_by_newton,
            deviations=(deviations.DIVERGENCE_OF_TRANSPORT_COSTS,),
        ),
        Estimator(
            f=sinkhorn_divergence_gradient,
            inputs=CLOUDS,
            example=_clouds,
            settings=SETTINGS,
            brute_force=_gradient_by_newton,
        ),
    ),
)
