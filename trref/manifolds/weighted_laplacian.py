r"""Weighted Laplacian: how steep a function is at each point of a cloud, and a penalty that may weigh each point.

Points :math:`x_1, \dots, x_N` stand for a manifold. Their weights fall with distance as heat spreads, are cut below a
level, and are divided so that a linear function has its squared slope:

.. math::
    :label: weighted-laplacian-weights

    w_{ij} = \frac{k_{ij}}{2t\, \bar d}, \qquad k_{ij} = e^{-\|x_i - x_j\|^2 / 4t} \text{ where it is above the cutoff},
    \qquad \bar d = \frac1N \sum_{ij} k_{ij}, \quad k_{ii} = 0

The squared slope of the values f at a point is then a sum over its neighbours; another estimate is the steepest way to
any other point:

.. math::
    :label: weighted-laplacian-slopes

    g_i(f) = \sum_j w_{ij} (f_i - f_j)^2

.. math::
    :label: weighted-laplacian-steepest

    \max_{j \ne i} \frac{(f_i - f_j)^2}{\|x_i - x_j\|^2}

Shares :math:`\lambda_i` of the points, of sum 1, make one penalty of the slopes, which is a quadratic form:

.. math::
    :label: weighted-laplacian-form

    \sum_i \lambda_i\, g_i(f) = f^\top L_\lambda f, \qquad (L_\lambda)_{ij} = - (\lambda_i + \lambda_j)\, w_{ij}, \quad
    (L_\lambda)_{ii} = \sum_j (\lambda_i + \lambda_j)\, w_{ij}

since each pair is counted once at either end: :math:`L_\lambda` is the Laplacian of the graph with the weights
:math:`(\lambda_i + \lambda_j)\, w_{ij}`, positive semi-definite, and constants cost nothing. At equal shares it is
ordinary Laplacian regularisation. With a set of labelled points :math:`\mathcal L` and targets y the objective and its
gradient are

.. math::
    :label: weighted-laplacian-objective

    \mu\, \frac1{|\mathcal L|} \sum_{i \in \mathcal L} (f_i - y_i)^2 + f^\top L_\lambda f

.. math::
    :label: weighted-laplacian-gradient

    \frac{2 \mu}{|\mathcal L|}\, 1_{\mathcal L} \odot (f - y) + 2 L_\lambda f

with the minimum, the only one where weights connect every point with a label,

.. math::
    :label: weighted-laplacian-primal

    \Big( \frac\mu{|\mathcal L|}\, \mathrm{diag}(1_{\mathcal L}) + L_\lambda \Big) f = \frac\mu{|\mathcal L|}\,
    1_{\mathcal L} \odot y .

For values :math:`f_\theta(x_i)` of a network the gradient goes through its Jacobian, with shares and
:math:`\mu` held constant. :math:`L_\lambda` is nearly singular where shares are concentrated.

======================  ============
:math:`w`               ``weights``
:math:`\lambda`         ``share``
:math:`1_{\mathcal L}`  ``labelled``
:math:`y`               ``target``
======================  ============

**Where implementations differ.** The authors' code penalises :math:`\sum_i \lambda_i f_i (L f)_i` with the graph's own
Laplacian L. At equal shares that is half of the penalty above; at others it changes when a constant is added to f, and
can be negative without bound.

**Provenance.** Partly: the weights and the steepest slope are confirmed by the first author's code
(JuanCervino/smoothbench), the penalty by the abstract's description; the form, the calibration of the weights and the
exact minimum are derived here.

Cerviño et al., *Learning Globally Smooth Functions on Manifolds*, 2023, arXiv:2210.00301.
"""

from typing import Annotated

from trref.backend import linalg, xp
from trref.signature import (
    D,
    Decay,
    Mask,
    N,
    NonNegative,
    PositiveFloat,
    Real,
    Scalar,
    Simplex,
    checked,
)

Multiplier = Annotated[float, "(0, 1e50]"]


def squared_distances(X):
    """Between all rows."""
    difference = X[:, None] - X[None]
    return (difference * difference).sum(-1)


def _kernel(X, t, cutoff):
    k = xp.exp(-squared_distances(X) / (4 * t))
    return xp.where((k > cutoff) & ~xp.eye(len(X), dtype=bool), k, 0)


def _has_neighbours(X, t, cutoff, **_):
    """Rows of which no two are near each other: all weights would be 0."""
    message = f"X must have two rows within reach of each other at t = {t:g}"
    return [(lambda: (_kernel(X, t, cutoff) > 0).any(), message)]


@checked(also=_has_neighbours)
def heat_weights(
    X: Real[N, D], *, t: PositiveFloat = 0.05, cutoff: Decay = 0.1
) -> NonNegative[N, N]:
    """Weights of a graph on points.

    Parameters
    ----------
    X
        The points.
    t
        How far heat spreads, as a time.
    cutoff
        Smaller kernels count as 0.
    """
    k = _kernel(X, t, cutoff)
    return k / (2 * t * (k.sum() / len(X)))  # eq. weighted-laplacian-weights


def _graph(weights, **_):
    """Weights that differ in the two directions of a pair, or are not 0 at a point itself."""
    near = lambda: abs(weights - weights.T).max() <= 1e-6 * weights.max()  # noqa: E731
    alone = lambda: (weights.diagonal() == 0).all()  # noqa: E731
    return [
        (near, "weights must be symmetric"),
        (alone, "weights must be 0 on the diagonal"),
    ]


@checked(also=_graph)
def local_slopes(f: Real[N], weights: NonNegative[N, N]) -> NonNegative[N]:
    """Squared slope of a function at each point, by its neighbours.

    Parameters
    ----------
    f
        Values at the points.
    weights
        Of pairs of points, as `heat_weights` gives them.
    """
    return slopes(f, weights)


def slopes(f, weights):
    """`local_slopes`; unchecked."""
    difference = f[:, None] - f
    return (weights * difference**2).sum(1)  # eq. weighted-laplacian-slopes


def _apart(X, **_):
    """Equal rows."""
    other = ~xp.eye(len(X), dtype=bool)
    differ = lambda: (squared_distances(X) > 0)[other].all()  # noqa: E731
    return [(differ, "X must not have equal rows")]


@checked(also=_apart)
def steepest_slopes(f: Real[N], X: Real[N, D]) -> NonNegative[N]:
    """Squared slope at each point, on the straight way to the point where it is largest; 0 for a point alone.

    Parameters
    ----------
    f
        Values at the points.
    X
        The points.
    """
    difference = f[:, None] - f
    apart = squared_distances(X) + xp.eye(len(X), dtype=X.dtype)
    return (difference**2 / apart).max(1)  # eq. weighted-laplacian-steepest


@checked(also=_graph)
def laplacian(weights: NonNegative[N, N], share: Simplex[N]) -> Real[N, N]:
    """Matrix of the penalty that weighs each point's squared slope by its share.

    Parameters
    ----------
    weights
        Of pairs of points.
    share
        Of the points.
    """
    return quadratic_form(weights, share)


def quadratic_form(weights, share):
    """`laplacian`; unchecked."""
    # eq. weighted-laplacian-form
    pairs = (share[:, None] + share) * weights
    return xp.diag(pairs.sum(1)) - pairs


def _some_label(weights, labelled, **_):
    """Weights that are no graph; no labelled point."""
    some = lambda: labelled.sum() > 0  # noqa: E731
    return [*_graph(weights), (some, "labelled must be 1 somewhere")]


@checked(also=_some_label)
def smoothing_objective(
    f: Real[N],
    weights: NonNegative[N, N],
    share: Simplex[N],
    target: Real[N],
    labelled: Mask[N],
    *,
    mu: Multiplier = 1.0,
) -> tuple[Scalar, Real[N]]:
    """Squared error on the labelled points, and the weighted penalty of the slopes.

    Parameters
    ----------
    f
        Values at the points.
    target
        What f should be where there are labels; any numbers elsewhere.
    labelled
        1 where there are labels.
    mu
        Weight of the mean squared error.
    """
    count, Lf = labelled.sum(), quadratic_form(weights, share) @ f
    off = labelled * (f - target)
    # eq. weighted-laplacian-objective
    value = mu * (off * off).sum() / count + f @ Lf
    return value, 2 * mu / count * off + 2 * Lf  # eq. weighted-laplacian-gradient


def reaches_labels(weights, labelled, **_):
    """Weights that are no graph; no labelled point; a point that no weights connect with a label."""

    message = "weights must connect every point with a label"
    return [
        *_some_label(weights, labelled),
        (lambda: _connected(weights, labelled), message),
    ]


def _connected(pairs, labelled):
    """Whether the Laplacian with ones at the labels is definite, and that by more than rounding."""
    pairs, labelled = (xp.where(xp.isfinite(a), a, 0) for a in (pairs, labelled))
    unit = pairs / xp.maximum(pairs.max(), xp.finfo(pairs.dtype).tiny)
    form = xp.diag(labelled + unit.sum(1)) - (unit + unit.T) / 2
    values = linalg.eigvalsh(form)
    return values[0] > 10 * len(unit) * xp.finfo(unit.dtype).eps * values[-1]


def _everywhere(weights, share, labelled, mu, **_):
    """Weights that are no graph; no labelled point; a point that weights and shares do not connect with a label."""

    def reached():
        finite = xp.where(xp.isfinite(weights), weights, 0)
        return _connected((share[:, None] + share) * finite, labelled)

    message = "weights and share must connect every point with a label"
    return [*_some_label(weights, labelled), (reached, message)]


@checked(also=_everywhere)
def exact_primal(
    weights: NonNegative[N, N],
    share: Simplex[N],
    target: Real[N],
    labelled: Mask[N],
    *,
    mu: Multiplier = 1.0,
) -> Real[N]:
    """Values that minimise `smoothing_objective`."""
    return minimiser(weights, share, target, labelled, mu)


def minimiser(weights, share, target, labelled, mu):
    """`exact_primal`; unchecked."""
    pull = mu / labelled.sum() * labelled
    # eq. weighted-laplacian-primal
    return linalg.solve(xp.diag(pull) + quadratic_form(weights, share), pull * target)
