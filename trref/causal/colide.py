r"""CoLiDE: the graph of a linear structural equation model, and the noise of its nodes with it.

Data X of n rows obey :math:`X = X W + Z` for a graph W of weights (:math:`W_{ij} \ne 0`: an edge from i to j). Least
squares weighs its sparsity penalty against the noise, so that the weight must be tuned again whenever the noise
changes. Here the standard deviation of the noise is estimated with the graph. With the mean squares of the residuals

.. math::
    :label: colide-residuals

    v_j = \frac1n \| (X - X W)_j \|^2

the score for equal noise, and its gradient, are

.. math::
    :label: colide-equal

    \mathcal S = \frac1{2 \sigma} \sum_j v_j + \frac{d\, \sigma}2, \qquad
    \nabla_W \mathcal S = -\frac1{n\, \sigma}\, X^\top (X - X W)

and those for a noise of each node's own

.. math::
    :label: colide-each

    \mathcal S = \frac12 \sum_j \Big[ \frac{v_j}{\sigma_j} + \sigma_j \Big], \qquad
    \nabla_W \mathcal S = -\frac1n\, X^\top (X - X W)\, \mathrm{diag}(1/\sigma) .

Both are jointly convex in W and :math:`\sigma`. For a given graph the best noise is

.. math::
    :label: colide-noise-equal

    \hat\sigma = \max\Big( \sqrt{\textstyle\sum_j v_j / d},\ \sigma_0 \Big)

.. math::
    :label: colide-noise-each

    \hat\sigma_j = \max\big( \sqrt{v_j},\ \sigma_0 \big)

and there, by the envelope theorem, the gradients above are those of the scores as functions of W alone: above the
floor :math:`\sigma_0` these are :math:`d\, \hat\sigma` and :math:`\sum_j \hat\sigma_j`, so the score grows by c when
the data do, where least squares grows by :math:`c^2`. Acyclic is W where

.. math::
    :label: colide-barrier

    h = d \log s - \log\det(s I - W \circ W), \qquad \nabla h = 2\, W \circ (s I - W \circ W)^{-\top}

is 0; h is a barrier on the matrices for which :math:`W \circ W` has a spectral radius below s, that is, for which all
pivots of :math:`s I - W \circ W` are positive. What is minimised is

.. math::
    :label: colide-objective

    \mu\, \big[ \mathcal S + \lambda \|W\|_1 \big] + h

(the slope of :math:`|W_{ij}|` at 0 is 0), along a path of stages, each started where the last one ended:

.. math::
    :label: colide-stages

    \mu = 1,\ 0.1,\ 0.01,\ 0.001, \qquad s = 1,\ 0.9,\ 0.8,\ 0.7

by steps of Adam, from :math:`W = 0`:

.. math::
    :label: colide-adam

    m \leftarrow \beta_1 m + (1 - \beta_1) G, \quad a \leftarrow \beta_2 a + (1 - \beta_2) G^2, \quad
    W \leftarrow W - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{a / (1 - \beta_2^t)} + 10^{-8}}

with :math:`\beta = (0.99, 0.999)`; each stage begins with m = a = 0, and may take 3.5 times as many steps if it is the
last. A step that leaves the domain is taken back and tried at half the rate; a stage that begins outside of it gets an
s larger by 0.1. Since the noise is estimated anew after each step, this is descent on the score of W alone. In the
end weights below a threshold go, and then the smallest ones, until no cycle is left.

==================  =========================
:math:`\sigma`      ``sigma``, a deviation, not a variance
:math:`\sigma_0`    ``floor``
:math:`\lambda`     ``l1_weight``
:math:`\eta`        ``lr``
==================  =========================

**Where implementations differ.** The authors' code never applies the floor: the noise of a node that others explain
exactly tends to 0, and its gradient to infinity. DAGMA is the same with :math:`\sigma = 1`, plain least squares.

**Provenance.** Confirmed in the authors' code. The size of the floor is reconstructed. Their noise starts at the
smallest deviation of a column, here at the estimate for W = 0; that matters to the first step alone.

Saboksayr, Mateos and Tepper, *CoLiDE: Concomitant Linear DAG Estimation*, 2024, arXiv:2310.02895.
"""

import warnings
from typing import Annotated, Literal, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.signature import (
    D,
    N,
    NonNegativeFloat,
    OpenFraction,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

Noise = Literal["equal", "each", "fixed"]
BETA1, BETA2, LAST, TOLERANCE = 0.99, 0.999, 3.5, 1e-6


class GraphFit(NamedTuple):
    """The graph, the weights before they were thresholded, and the noise with these; the objective at the checks."""

    W: Real[D, D]
    weights: Real[D, D]
    noise: Positive[D]
    objectives: list[float]
    iterations: int
    converged: bool


def _residuals(W, X):
    """Residuals and their mean squares."""
    R = X - X @ W
    return R, (R * R).mean(0)  # eq. colide-residuals


@checked
def noise_equal(W: Real[D, D], X: Real[N, D], *, floor: PositiveFloat = 1e-3) -> Scalar:
    """Standard deviation of the noise, if it is the same at all nodes.

    Parameters
    ----------
    W
        Weights of the edges, from the row to the column.
    X
        The data, centred.
    floor
        The smallest noise there is.
    """
    v = _residuals(W, X)[1]
    return xp.maximum(xp.sqrt(v.mean()), floor)  # eq. colide-noise-equal


@checked
def noise_each(
    W: Real[D, D], X: Real[N, D], *, floor: PositiveFloat = 1e-3
) -> Positive[D]:
    """Standard deviation of each node's noise."""
    v = _residuals(W, X)[1]
    return xp.maximum(xp.sqrt(v), floor)  # eq. colide-noise-each


@checked
def score_equal(
    W: Real[D, D],
    X: Real[N, D],
    *,
    sigma: PositiveFloat | None = None,
    floor: PositiveFloat = 1e-3,
) -> tuple[Scalar, Real[D, D]]:
    """Score of a graph whose nodes have equal noise.

    Parameters
    ----------
    sigma
        The noise; the best one for W if None.
    """
    n, d = X.shape
    R, v = _residuals(W, X)
    size = noise_equal.unchecked(W, X, floor=floor) if sigma is None else sigma
    # eq. colide-equal
    return v.sum() / (2 * size) + d * size / 2, -(X.T @ R) / (n * size)


@checked
def score_each(
    W: Real[D, D],
    X: Real[N, D],
    sigma: Positive[D] | None = None,
    *,
    floor: PositiveFloat = 1e-3,
) -> tuple[Scalar, Real[D, D]]:
    """Score of a graph whose nodes have noises of their own.

    Parameters
    ----------
    sigma
        The noise of each node; the best ones for W if None.
    """
    R, v = _residuals(W, X)
    sigma = noise_each.unchecked(W, X, floor=floor) if sigma is None else sigma
    # eq. colide-each
    return (v / sigma + sigma).sum() / 2, -(X.T @ R) / (len(X) * sigma)


def _inside(W, s, **_):
    """A matrix outside the barrier."""
    message = "W must have a spectral radius of W∘W below s"
    return [(lambda: (_pivots(xp.where(xp.isfinite(W), W, 0), s) > 0).all(), message)]


def _pivots(W, s):
    """Pivots of s I - W∘W in the order of the nodes; after one that is not positive, whatever."""
    A, pivots = s * xp.eye(len(W), dtype=W.dtype) - W * W, []
    for _ in range(len(W)):
        pivots.append(A[0, 0])
        divisor = xp.where(A[0, 0] > 0, A[0, 0], 1)
        A = A[1:, 1:] - A[1:, :1] * (A[:1, 1:] / divisor)
    return xp.stack(pivots)


@checked(also=_inside)
def log_det(W: Real[D, D], *, s: PositiveFloat = 1.0) -> tuple[Scalar, Real[D, D]]:
    """How far a graph is from acyclic; 0 where it is.

    Parameters
    ----------
    s
        Bound of the spectral radius of W∘W.
    """
    # eq. colide-barrier
    M = xp.eye(len(W), dtype=W.dtype) - W * W / s
    return -linalg.slogdet(M)[1], 2 * W * linalg.inv(M).T / s


@checked(also=_inside)
def penalised_score(
    W: Real[D, D],
    X: Real[N, D],
    *,
    noise: Noise = "equal",
    mu: PositiveFloat = 1.0,
    s: PositiveFloat = 1.0,
    l1_weight: NonNegativeFloat = 0.05,
    floor: PositiveFloat = 1e-3,
) -> tuple[Scalar, Real[D, D]]:
    """What a stage minimises.

    Parameters
    ----------
    noise
        The same at all nodes, each node's own, or 1.
    mu
        Weight of score and sparsity against the barrier.
    l1_weight
        Weight of the sum of the weights' magnitudes.
    """
    if noise == "each":
        value, gradient = score_each.unchecked(W, X, floor=floor)
    else:
        sigma = 1.0 if noise == "fixed" else None
        value, gradient = score_equal.unchecked(W, X, sigma=sigma, floor=floor)
    h, d_h = log_det.unchecked(W, s=s)
    # eq. colide-objective
    value = mu * (value + l1_weight * abs(W).sum()) + h
    return value, mu * (gradient + l1_weight * xp.sign(W)) + d_h


@checked
def to_dag(W: Real[D, D], *, threshold: NonNegativeFloat = 0.3) -> Real[D, D]:
    """Graph without the edges below a threshold, and then without the smallest ones until no cycle is left.

    Parameters
    ----------
    threshold
        Smallest weight that counts as an edge.
    """
    sizes = xp.where(abs(W) >= threshold, abs(W), 0)
    levels = xp.concatenate([xp.zeros_like(sizes[0, :1]), xp.sort(sizes.ravel())])
    low, high = xp.asarray(0), xp.asarray(len(levels) - 1)
    for _ in range(
        len(levels).bit_length()
    ):  # bisection: the more go, the fewer cycles
        middle = (low + high) // 2
        cyclic = _has_cycle(sizes > xp.take(levels, middle))
        low, high = xp.where(cyclic, middle + 1, low), xp.where(cyclic, high, middle)
    return xp.where(sizes > xp.take(levels, low), W, 0)


def _has_cycle(edges):
    """Whether there are walks of as many steps as nodes, or more: such a walk meets a node twice."""
    walks = xp.asarray(edges, dtype=float)
    for _ in range(len(edges).bit_length()):
        walks = xp.minimum(walks @ walks, 1)
    return walks.sum() > 0


@checked
def colide(
    X: Real[N, D],
    *,
    noise: Noise = "equal",
    l1_weight: NonNegativeFloat = 0.05,
    stages: Annotated[int, "[1, 9]"] = 4,
    lr: PositiveFloat = 3e-4,
    max_iter: PositiveInt = 20_000,
    check_every: PositiveInt = 1000,
    rtol: OpenFraction = 1e-6,
    threshold: NonNegativeFloat = 0.3,
    floor: PositiveFloat = 1e-3,
) -> GraphFit:
    """Estimate a graph and its noise.

    Parameters
    ----------
    X
        The data; they are centred here.
    stages
        How many weights of the barrier.
    max_iter
        Most steps of a stage; the last one may take 3.5 times as many.
    check_every
        Steps between looks at the objective.
    rtol
        Relative change of the objective between two looks at which a stage ends.

    Warns
    -----
    ConvergenceWarning
        The last stage has taken all of its steps.
    """
    X = X - X.mean(0)
    W = xp.zeros((X.shape[1],) * 2, dtype=X.dtype)
    objectives, iterations, converged = [], 0, False
    for k in range(stages):
        mu, s = 10.0**-k, 1 - 0.1 * k  # eq. colide-stages
        most = max_iter if k < stages - 1 else int(LAST * max_iter)
        weights = {"noise": noise, "mu": mu, "l1_weight": l1_weight, "floor": floor}
        W, values, taken, converged = _stage(
            X, W, s, lr, most, check_every, rtol, weights
        )
        objectives += values
        iterations += taken
    if not converged:
        warnings.warn(
            f"colide: the last stage did not settle within {most} steps",
            validate.ConvergenceWarning,
            stacklevel=3,
        )
    sigma = xp.ones_like(W[0])
    if noise == "each":
        sigma = noise_each.unchecked(W, X, floor=floor)
    elif noise == "equal":
        sigma = sigma * noise_equal.unchecked(W, X, floor=floor)
    graph = to_dag.unchecked(W, threshold=threshold)
    return GraphFit(graph, W, sigma, objectives, iterations, converged)


def _stage(X, W, s, lr, most, check_every, rtol, weights):
    """One weight of the barrier: W, the objective at the looks, steps taken, and whether it settled."""
    m = a = step = xp.zeros_like(W)
    values, taken = [], 0
    while taken <= most:
        while not _is_inside(W, s):  # never at s of the stage before
            lr = lr / 2
            if taken:
                W, step = W + step / 2, step / 2
            else:
                s += 0.1
        value, G = penalised_score.unchecked(W, X, s=s, **weights)
        if taken % check_every == 0 or taken == most:
            values.append(float(value))
            if taken and abs(values[-1] - values[-2]) <= rtol * abs(values[-2]):
                return W, values, taken, True
        taken += 1
        if taken > most:
            break
        # eq. colide-adam
        m, a = BETA1 * m + (1 - BETA1) * G, BETA2 * a + (1 - BETA2) * G * G
        mean, square = m / (1 - BETA1**taken), a / (1 - BETA2**taken)
        step = lr * mean / (xp.sqrt(square) + 1e-8)
        W = W - step
    return W, values, most, False


def _is_inside(W, s):
    """Whether the inverse of s I - W∘W has no negative entry, up to rounding: then it is within the barrier."""
    inverse = linalg.inv(s * xp.eye(len(W), dtype=W.dtype) - W * W)
    return float(inverse.min()) >= -TOLERANCE
