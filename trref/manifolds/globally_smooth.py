r"""Globally smooth functions: the smallest slope that holds everywhere, by shares that move to where it is steep.

Laplacian regularisation makes the *mean* squared slope over a manifold small, and leaves a few places steep. Instead,
ask for the smallest bound that holds at every point, under a limit on the training loss:

.. math::
    :label: globally-smooth-problem

    \rho^* = \min_f\ \max_i\ g_i(f) \quad\text{so that}\quad \bar\ell(f) = \frac1{|\mathcal L|} \sum_{i \in \mathcal L}
    (f_i - y_i)^2 \le \epsilon

with the squared slopes :math:`g_i` of :mod:`trref.manifolds.weighted_laplacian`, so that the square root of
:math:`\rho^*` is a Lipschitz constant. With a bound :math:`\rho` as a variable, and multipliers :math:`\mu` of the loss
and :math:`\lambda_i` of the slopes, the Lagrangian is :math:`\rho + \mu (\bar\ell - \epsilon) + \sum_i \lambda_i (g_i -
\rho)`. It has a minimum over :math:`\rho` only if the multipliers are shares, of sum 1, and the dual problem is a
Laplacian penalty with the best weights:

.. math::
    :label: globally-smooth-dual

    \max_{\mu \ge 0,\ \lambda \in \Delta} D(\mu, \lambda), \qquad D(\mu, \lambda) = \min_f\ \mu (\bar\ell(f) - \epsilon)
    + \sum_i \lambda_i\, g_i(f)

The minimiser f is :func:`trref.manifolds.weighted_laplacian.exact_primal`, and the derivatives of D are what it
violates:

.. math::
    :label: globally-smooth-slopes

    \frac{\partial D}{\partial \mu} = \bar\ell(f) - \epsilon, \qquad \frac{\partial D}{\partial \lambda_i} = g_i(f)

Shares grow where f is steep, by projection to the simplex or by a factor:

.. math::
    :label: globally-smooth-projected

    \lambda \leftarrow \Pi_\Delta (\lambda + \eta\, g)

.. math::
    :label: globally-smooth-exponentiated

    \lambda_i \leftarrow \frac{\lambda_i e^{\eta g_i}}{\sum_j \lambda_j e^{\eta g_j}}

The authors keep :math:`\rho` and take one step of each,

.. math::
    :label: globally-smooth-authors

    \rho \leftarrow \mathrm{clip}\big( \rho - \eta_\rho (1 - \textstyle\sum_i \lambda_i), 0, 5 \big), \qquad \mu
    \leftarrow [\mu + \eta (\bar\ell - \epsilon)]_+, \qquad \lambda_i \leftarrow [\lambda_i + \eta (g_i - \rho)]_+

beside a step of f on the Lagrangian; the last iterate circles around the solution, and its mean over time goes there.
Whatever the way, two numbers enclose the solution:

.. math::
    :label: globally-smooth-certificate

    D(\mu, \lambda) \le \rho^* \le \max_i g_i(f) \quad\text{for all } \mu, \lambda \text{ and all } f \text{ with }
    \bar\ell(f) \le \epsilon

The solver here takes f exactly at each step, :math:`\eta = \eta_0 / (\sqrt k \max_i g_i)` for the shares (over N where
they are projected) and a factor for the loss,

.. math::
    :label: globally-smooth-multiplier

    \mu \leftarrow \mu\, (\bar\ell / \epsilon)^{0.3},

moves f towards the labels until its loss is allowed, and ends when the two numbers are near each other. At the
solution only points of the largest slope have shares: a map of where the data are critical. If the mean of the labels
has an allowed loss, the solution is constant and :math:`\rho^* = 0`.

=====================  ==================
:math:`\lambda`        ``share``
:math:`\eta_0`         ``lr``
:math:`\epsilon`       ``epsilon``
=====================  ==================

**Where implementations differ.** A variant of the authors' code without :math:`\rho` adds :math:`\eta \sqrt{g_i}` to
the shares and divides by their sum (a remark there says that the projection needs correcting). Dividing is not
projecting: the shares end proportional to the slopes, and the largest slope between those of equal and of best shares.

**Provenance.** Partly: problem, Lagrangian, dual and the authors' updates are confirmed by the abstract and by the
first author's code (JuanCervino/smoothbench); the certificate, the factor for the loss and the way to an allowed loss
are derived here. For a network the problem is not convex, and the certificate bounds its relaxation to free values.

Cerviño et al., *Learning Globally Smooth Functions on Manifolds*, 2023, arXiv:2210.00301.
"""

import math
import warnings
from typing import Annotated, Literal, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.manifolds.weighted_laplacian import (
    minimiser,
    quadratic_form,
    reaches_labels,
    slopes,
)
from trref.signature import (
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    Simplex,
    checked,
)

FLOOR = 1e-6
"""Share that all points together keep, so that the penalty is definite."""

Bound = Annotated[float, "[1e-6, 1e6]"]


def _moderate_slopes(slopes, **_):
    """Slopes beyond 1e6, whose exponentials would overflow."""
    return [(lambda: (slopes <= 1e6).all(), "slopes must be at most 1e6")]


@checked(also=_moderate_slopes)
def dual_step(
    share: Simplex[N],
    slopes: NonNegative[N],
    *,
    lr: NonNegativeFloat = 0.5,
    rule: Literal["exponentiated", "projected"] = "exponentiated",
) -> Simplex[N]:
    """Shares after a step towards the steep places.

    Parameters
    ----------
    share
        Of the points.
    slopes
        Squared slope at each.
    rule
        What keeps them shares.
    """
    return _moved(share, lr * slopes, rule)


def _moved(share, step, rule):
    if rule == "projected":
        return _project(share + step)
    # eq. globally-smooth-exponentiated
    grown = share * xp.exp(step - step.max())
    return grown / grown.sum()


def _project(z):
    """The nearest point of the simplex: what is above a level."""
    largest = xp.sort(z)[::-1]
    count = xp.arange(1, len(z) + 1, dtype=z.dtype)
    levels = (xp.cumsum(largest) - 1) / count
    # the level of the largest support is the highest
    return xp.maximum(z - levels.max(), 0)  # eq. globally-smooth-projected


class Multipliers(NamedTuple):
    """Of the slopes and of the loss, and the bound."""

    share: NonNegative[N]
    mu: Scalar
    rho: Scalar


@checked
def authors_step(
    share: NonNegative[N],
    mu: Scalar,
    rho: Scalar,
    slopes: NonNegative[N],
    loss: Scalar,
    *,
    epsilon: PositiveFloat = 0.01,
    lr: PositiveFloat = 0.5,
    lr_rho: PositiveFloat = 0.1,
) -> Multipliers:
    """Multipliers and bound after one of the authors' steps: the bound moves first.

    Parameters
    ----------
    share
        Multipliers of the slopes, whose sum need not be 1.
    mu
        Multiplier of the loss.
    rho
        Bound of the squared slopes.
    loss
        Mean loss on the labelled points.
    epsilon
        How large it may be.
    lr_rho
        Step size of the bound.
    """
    # eq. globally-smooth-authors
    rho = xp.clip(rho - lr_rho * (1 - share.sum()), 0, 5)
    mu = xp.maximum(mu + lr * (loss - epsilon), 0)
    share = xp.maximum(share + lr * (slopes - rho), 0)
    return Multipliers(share, xp.asarray(mu), xp.asarray(rho))


class DualValue(NamedTuple):
    """A lower bound of the smallest bound, and its derivatives by the shares and by the multiplier of the loss."""

    value: Scalar
    share: Real[N]
    mu: Scalar


class GloballySmooth(NamedTuple):
    """Values at the points; the shares and the multiplier that certify them; largest squared slope and its bound from
    below; the gap between the two, as a share of the first, at each iteration."""

    f: Real[N]
    share: Simplex[N]
    mu: Scalar
    rho: Scalar
    lower: Scalar
    gaps: list[float]
    iterations: int
    converged: bool


def _connected(weights, target, labelled, **_):
    """Weights that are no graph; no labelled point; a point that no weights connect with a label; extreme numbers."""
    return [
        *reaches_labels(weights, labelled),
        (lambda: weights.max() <= 1e6, "weights must be at most 1e6"),
        (lambda: abs(target).max() <= 1e6, "target must be at most 1e6 in size"),
    ]


def _with_share(weights, target, labelled, share, **_):
    """What `globally_smooth` refuses; a share of 0."""
    positive = lambda: (share > 0).all()  # noqa: E731
    return [
        *_connected(weights, target, labelled),
        (positive, "share must be positive"),
    ]


@checked(also=_with_share)
def dual_value(
    weights: NonNegative[N, N],
    share: Simplex[N],
    target: Real[N],
    labelled: Mask[N],
    *,
    mu: Bound = 1.0,
    epsilon: Bound = 0.01,
) -> DualValue:
    """Dual function: no f with an allowed loss has smaller squared slopes everywhere.

    Parameters
    ----------
    weights
        Of pairs of points.
    share
        Of the points.
    target
        Labels; any numbers where there are none.
    labelled
        1 where there are labels.
    mu
        Multiplier of the loss.
    epsilon
        Mean squared error that is allowed.
    """
    f = minimiser(weights, share, target, labelled, mu)
    g = slopes(f, weights)
    excess = _loss(f, target, labelled) - epsilon
    # eq. globally-smooth-dual, globally-smooth-slopes
    return DualValue(xp.asarray(mu * excess + share @ g), g, xp.asarray(excess))


def _loss(f, target, labelled):
    return (labelled * (f - target) ** 2).sum() / labelled.sum()


@checked(also=_connected)
def globally_smooth(
    weights: NonNegative[N, N],
    target: Real[N],
    labelled: Mask[N],
    *,
    epsilon: Bound = 0.01,
    rule: Literal["exponentiated", "projected"] = "exponentiated",
    lr: PositiveFloat = 2.0,
    rtol: OpenFraction = 0.05,
    max_iter: PositiveInt = 500,
) -> GloballySmooth:
    """Find the function whose largest slope is smallest, with a certificate.

    Parameters
    ----------
    lr
        Step size of the shares, in units of one over the largest squared slope.
    rtol
        Ends when the gap is at most this share of the largest squared slope.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached first.
    """
    N = len(weights)
    share, mu = xp.full_like(target, 1 / N), 1.0
    f = xp.full_like(target, 1) * ((labelled * target).sum() / labelled.sum())
    zero = 0 * f.sum()
    best = GloballySmooth(f, share, zero, zero, zero, [], 0, True)
    if float(_loss(f, target, labelled)) <= epsilon:
        return best
    rho, lower, gaps = math.inf, 0.0, []
    while len(gaps) < max_iter and 1 - lower / rho > rtol:
        f = minimiser(weights, share, target, labelled, mu)
        g, loss = slopes(f, weights), _loss(f, target, labelled)
        bound = mu * (loss - epsilon) + share @ g
        allowed = _allowed(f, weights, share, target, labelled, loss, epsilon)
        steepest = slopes(allowed, weights).max()
        # eq. globally-smooth-certificate
        host_loss, below, above = floats(loss, bound, steepest)
        if above < rho:
            rho, best = above, best._replace(f=allowed, rho=steepest)
        if below > lower:
            lower = below
            best = best._replace(share=share, mu=zero + mu, lower=bound)
        gaps.append(1 - lower / rho)
        # eq. globally-smooth-problem, globally-smooth-multiplier
        k = len(gaps)
        step = lr / math.sqrt(k) / (N if rule == "projected" else 1)
        share = _moved(share, step * g / g.max(), rule)
        share = (1 - FLOOR) * share + FLOOR / N
        mu = mu * min(max((host_loss / epsilon) ** 0.3, 0.1), 10.0)
    converged = 1 - lower / rho <= rtol
    if not converged:
        warnings.warn(
            f"globally_smooth: after {max_iter} iterations the gap is {gaps[-1]:.2g}",
            validate.ConvergenceWarning,
            stacklevel=3,
        )
    return best._replace(gaps=gaps, iterations=len(gaps), converged=converged)


def _allowed(f, weights, share, target, labelled, loss, epsilon):
    """On the way from f to the smoothest values that have the labels themselves, the first of an allowed loss."""
    part = xp.sqrt(epsilon / xp.maximum(loss, epsilon))
    form = quadratic_form(weights, share)
    free = 1 - labelled
    system = free[:, None] * form + xp.diag(labelled)
    exact = linalg.solve(system, labelled * target)
    return part * f + (1 - part) * exact
