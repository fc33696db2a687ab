r"""TOPO: a graph of causes by swaps in an order of its nodes.

A graph without cycles is a graph whose edges all go forward in some order of the nodes. Given the order nothing is
left of the constraint: each node is regressed on all that precede it. So search over orders, two nodes at a time, and
let the gradient of an acyclicity function say which swaps are worth a look.

Data X of n rows obey :math:`X = X W + Z` (:math:`W_{ij} \ne 0`: an edge from i to j), and :math:`S = X^\top X / n`.
The score and its gradient are

.. math::
    :label: topo-score

    Q = \tfrac12\, \mathrm{tr}\big[ (I - W)^\top S\, (I - W) \big], \qquad \nabla Q = -S (I - W)

and for observations that are 0 or 1, with :math:`M = X W`,

.. math::
    :label: topo-logistic

    Q = \frac1n \sum \big[ \log(1 + e^M) - X \circ M \big], \qquad \nabla Q = \frac1n X^\top (\sigma(M) - X) .

Two functions of :math:`B = W \circ W` are 0 where W has no cycle and positive elsewhere (a third is
`trref.causal.colide.log_det`):

.. math::
    :label: topo-exponential

    h = \mathrm{tr}\, e^B - d, \qquad \nabla_W h = (e^B)^\top \circ 2 W

.. math::
    :label: topo-polynomial

    h = \mathrm{tr}\, (I + B / d)^d - d, \qquad \nabla_W h = \big[ (I + B / d)^{d - 1} \big]^\top \circ 2 W .

NOTEARS minimises the score under such a constraint by the augmented Lagrangian

.. math::
    :label: topo-notears

    Q + \lambda \|W\|_1 + \frac\rho2 h^2 + \alpha h

for a rising :math:`\rho` and :math:`\alpha \leftarrow \alpha + \rho h` (the slope of :math:`|W_{ij}|` at 0 is 0).

The gradient by B, at a graph without cycles and at :math:`B = |W|`, is a sum over all walks from j to i of the product
of their weights, each with a factor of its length k:

.. math::
    :label: topo-walks

    [\nabla_B h]_{ij} = \sum_k c_k\, [\,|W|^k\,]_{ji}, \qquad
    c_k = \frac1{k!}, \quad \binom{d - 1}k d^{-k}, \quad 1

for the exponential, the polynomial and the log-determinant with s = 1. It is 0 exactly where a new edge from i to j
closes no cycle, and small where it closes a weak one. (By W it would be 0 wherever W is.)

Given an order, each column is a regression on the nodes before it:

.. math::
    :label: topo-order

    W_{\mathrm{pa}, j} = S_{\mathrm{pa}, \mathrm{pa}}^{-1} S_{\mathrm{pa}, j}

All of them are one Cholesky factor of S in that order: the squares of its diagonal are the variances of the residuals,
and with columns divided by it the inverse is :math:`(I - W)^\top`. The pairs to look at are those whose edge is
forbidden,

.. math::
    :label: topo-candidates

    \mathcal Y = \big\{ (i, j) : j \text{ precedes } i,\ [\nabla_B h]_{ij} \le \tau,\
    |[\nabla Q]_{ij}| \ge \xi \big\}

where :math:`\tau` is the m-th smallest of such entries: a few at first, and if none of these is of use, for a limited
number of times, many. What is tried is

.. math::
    :label: topo-swap

    \pi \leftarrow \pi \text{ with } i \text{ and } j \text{ exchanged.}

The best swap is made, or all that improve and whose intervals of positions do not overlap, the best first: only the
columns within an interval change, so these improvements add up exactly. It ends where no candidate improves.

==================  ======================================================
m                   ``size``, and ``small`` and ``large`` of the search
:math:`\xi`         ``slope``
:math:`\lambda`     ``l1_weight``
:math:`\rho`        ``h_weight``
:math:`\alpha`      ``multiplier``
==================  ======================================================

Equal entries of the gradient are all candidates, so there may be more than m. Sums over walks above 1e15 count as 1e15.
The score knows the order only where all noises are equal; with others its best graph may be a wrong one.

**Where implementations differ.** The authors' helper of the exponential with squares returns twice the gradient by B,
without the factor W.

**Provenance.** Scores, acyclicity functions, candidates, swaps, and the search of two sizes are confirmed in the
authors' code; the augmented Lagrangian is from memory. Other convex losses of a column are left out of the search.

Deng, Bello, Aragam and Ravikumar, *Optimizing NOTEARS Objectives via Topological Swaps*, 2023, arXiv:2305.17277.
"""

import warnings
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.signature import (
    Binary,
    D,
    FiniteFloat,
    Index,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

STRONGEST, MOST, TERMS, SQUARINGS = 50.0, 1e15, 18, 6


class OrderFit(NamedTuple):
    """The graph, its order, the score after each step, and how many orders were scored."""

    W: Real[D, D]
    order: Index[D]
    scores: list[float]
    evaluations: int
    iterations: int
    converged: bool


def _symmetric(S, **_):
    """Moments that are not symmetric."""
    near = 1e-6 if S.dtype.itemsize == 8 else 3e-4
    return [(lambda: abs(S - S.T).max() <= near * abs(S).max(), "S must be symmetric")]


@checked(also=_symmetric)
def score(W: Real[D, D], S: Real[D, D]) -> tuple[Scalar, Real[D, D]]:
    """Half the sum of the residuals' mean squares.

    Parameters
    ----------
    W
        Weights of the edges, from the row to the column.
    S
        Second moments of the data: symmetric.
    """
    R = xp.eye(len(W), dtype=W.dtype) - W
    SR = S @ R
    return (R * SR).sum() / 2, -SR  # eq. topo-score


@checked
def logistic_score(W: Real[D, D], X: Binary[N, D]) -> tuple[Scalar, Real[D, D]]:
    """Mean negative log-likelihood of binary data, summed over the nodes.

    Parameters
    ----------
    X
        The data.
    """
    M = X @ W
    softplus = xp.maximum(M, 0) + xp.log1p(xp.exp(-abs(M)))
    sigmoid = xp.exp(M - softplus)
    # eq. topo-logistic
    return (softplus - X * M).sum() / len(X), X.T @ (sigmoid - X) / len(X)


def _weak(W, **_):
    """A matrix whose exponential is too large."""
    message = f"W must have rows of a squared norm of at most {STRONGEST:g}"
    return [(lambda: (W * W).sum(1).max() <= STRONGEST, message)]


@checked(also=_weak)
def acyclicity(
    W: Real[D, D], *, kind: Literal["exponential", "polynomial"] = "exponential"
) -> tuple[Scalar, Real[D, D]]:
    """How far a graph is from acyclic; 0 where it is.

    Parameters
    ----------
    kind
        Which function of the weights' squares, or of their magnitudes.
    """
    B, d = W * W, len(W)
    less = _power_less_one(B / d, d - 1) if kind == "polynomial" else _expm1(B)
    G = xp.eye(d, dtype=W.dtype) + less
    if kind == "polynomial":  # eq. topo-polynomial
        h = (less + B / d + less @ B / d).trace()
    else:
        h = less.trace()  # eq. topo-exponential
    return h, G.T * 2 * W


def _expm1(B):
    """e^B - I for B ≥ 0: nothing cancels, and what is 0 stays 0."""
    A = B / 2**SQUARINGS
    F = xp.zeros_like(B)
    for k in range(TERMS, 0, -1):
        F = (A + A @ F) / k
    for _ in range(SQUARINGS):
        F = 2 * F + F @ F
    return F


def _power_less_one(A, k):
    """(I + A)^k - I."""
    F = xp.zeros_like(A)
    for _ in range(k):
        F = F + A + F @ A
    return F


def _weak_and_symmetric(W, S, **_):
    """A matrix whose exponential is too large, or moments that are not symmetric."""
    return _weak(W) + _symmetric(S)


@checked(also=_weak_and_symmetric)
def augmented_lagrangian(
    W: Real[D, D],
    S: Real[D, D],
    *,
    l1_weight: NonNegativeFloat = 0.1,
    h_weight: NonNegativeFloat = 1.0,
    multiplier: FiniteFloat = 0.0,
    kind: Literal["exponential", "polynomial"] = "exponential",
) -> tuple[Scalar, Real[D, D]]:
    """What NOTEARS minimises between two updates of the multiplier.

    Parameters
    ----------
    l1_weight
        Weight of the sum of the weights' magnitudes.
    h_weight
        Weight of the squared acyclicity.
    multiplier
        Of the acyclicity.
    """
    Q, d_Q = score.unchecked(W, S)
    h, d_h = acyclicity.unchecked(W, kind=kind)
    # eq. topo-notears
    value = Q + l1_weight * abs(W).sum() + h_weight / 2 * h * h + multiplier * h
    return value, d_Q + l1_weight * xp.sign(W) + (h_weight * h + multiplier) * d_h


def _acyclic(W, **_):
    """A cycle."""

    def holds():
        steps = xp.where(W != 0, xp.ones_like(W), 0)
        for _ in range(len(W).bit_length()):  # as many steps as nodes, or more
            steps = xp.minimum(steps @ steps, 1)
        return steps.sum() == 0

    return [(holds, "W must have no cycle")]


@checked(also=_acyclic)
def walks(
    W: Real[D, D],
    *,
    kind: Literal["exponential", "polynomial", "log_det"] = "log_det",
) -> NonNegative[D, D]:
    """Gradient of an acyclicity function by the magnitudes of the weights: what walks back from j to i."""
    d, A = len(W), abs(W)
    term = xp.eye(d, dtype=W.dtype)
    total = term
    for k in range(1, d):
        ratio = {"exponential": 1 / k, "polynomial": (d - k) / (k * d), "log_det": 1}
        term = xp.minimum(term @ A * ratio[kind], MOST)
        total = total + term  # eq. topo-walks
    return xp.minimum(total, MOST).T.copy()


@checked(also=_acyclic)
def order_of(W: Real[D, D]) -> Index[D]:
    """Order in which all edges go forward: by the number of a node's ancestors, then by its index."""
    edges = xp.where(W != 0, xp.ones_like(W), 0)  # products of small weights vanish
    ancestors = (walks.unchecked(edges) > 0).sum(1)
    return xp.argsort(ancestors, kind="stable")


def _definite(S, **_):
    """Moments that are not definite."""

    def holds():
        finite = xp.where(xp.isfinite(S), S, 0)
        values = linalg.eigvalsh((finite + finite.T) / 2)
        return values[0] > 100 * xp.finfo(S.dtype).eps * values[-1]

    return [*_symmetric(S), (holds, "S must be positive definite")]


def _complete(order, **_):
    """An order in which a node is missing."""
    nodes = xp.arange(len(order))
    return [(lambda: (xp.sort(order) == nodes).all(), "order must name each node once")]


def _solvable(S, order, **_):
    """Moments that are not definite, or an order in which a node is missing."""
    return _definite(S) + _complete(order)


def _factor(S, orders):
    """Cholesky factors of S in each of the orders."""
    return linalg.cholesky(S[orders[..., :, None], orders[..., None, :]])


@checked(also=_solvable)
def solve_order(S: Real[D, D], order: Index[D]) -> Real[D, D]:
    """Best weights among those whose edges go forward in an order.

    Parameters
    ----------
    S
        Second moments of the data: symmetric, positive definite.
    order
        The nodes, first to last.
    """
    L = _factor(S, order)
    W = -xp.tril(linalg.inv(L / xp.diagonal(L)), -1).T  # eq. topo-order
    place = xp.argsort(order)
    return W[place][:, place]


def _order_scores(S, orders):
    """Score of the best weights of each order."""
    pivots = xp.diagonal(_factor(S, orders), axis1=-2, axis2=-1)
    return (pivots * pivots).sum(-1) / 2


def _ordered(W, S, order, **_):
    """A cycle, moments that are not symmetric, or an order in which a node is missing."""
    return _acyclic(W) + _symmetric(S) + _complete(order)


@checked(also=_ordered)
def candidates(
    W: Real[D, D],
    S: Real[D, D],
    order: Index[D],
    *,
    size: PositiveInt = 10,
    slope: NonNegativeFloat = 0.0,
    kind: Literal["exponential", "polynomial", "log_det"] = "log_det",
) -> Mask[D, D]:
    """Pairs that are worth a swap.

    Parameters
    ----------
    size
        How many pairs, or more if the last ones are equal.
    slope
        Least slope of the score along the new edge.

    Returns
    -------
    mask
        1 where i and j may be swapped so that i comes before j.
    """
    place = xp.argsort(order)
    forbidden = place[:, None] > place
    G = xp.where(forbidden, walks.unchecked(W, kind=kind), xp.inf)
    tau = xp.sort(G.ravel())[min(size, G.size) - 1]
    steep = abs(score.unchecked(W, S)[1]) >= slope
    return (forbidden & (G <= tau) & steep).astype(W.dtype)  # eq. topo-candidates


@checked(also=_solvable)
def topo(
    S: Real[D, D],
    order: Index[D],
    *,
    small: PositiveInt = 10,
    large: PositiveInt = 40,
    large_searches: NonNegativeInt = 1,
    accept: Literal["best", "disjoint"] = "best",
    rtol: OpenFraction = 1e-6,
    max_iter: PositiveInt = 1000,
) -> OrderFit:
    """Search for the best order by swaps.

    Parameters
    ----------
    order
        Where the search begins, as from `order_of`.
    small
        Candidates that are always tried.
    large
        Candidates that are tried where the few have failed.
    large_searches
        How often.
    accept
        The best swap, or all that improve in intervals that do not overlap.
    rtol
        Least relative improvement.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached.
    """
    scores = _order_scores(S, order[None]).tolist()
    evaluations, iterations, converged = 1, 0, False
    while True:
        W = solve_order.unchecked(S, order)
        swaps, tried = _improving(S, W, order, small, scores[-1] * (1 - rtol))
        evaluations += tried
        if not swaps and large_searches:
            swaps, tried = _improving(S, W, order, large, scores[-1] * (1 - rtol))
            evaluations, large_searches = evaluations + tried, large_searches - 1
        converged = not swaps
        if converged or iterations == max_iter:
            break
        chosen = swaps[:1] if accept == "best" else _disjoint(swaps)
        places = list(range(len(S)))
        for _, low, high in chosen:
            places[low], places[high] = high, low  # eq. topo-swap
        order = order[xp.asarray(places)]
        scores.append(scores[-1] - sum(scores[-1] - Q for Q, _, _ in chosen))
        iterations += 1
    if not converged:
        warnings.warn(
            f"topo: swaps still improve after {iterations} steps",
            validate.ConvergenceWarning,
            stacklevel=3,
        )
    return OrderFit(W, order.copy(), scores, evaluations, iterations, converged)


def _improving(S, W, order, size, target):
    """Swaps below the target as (score, first place, second place), the best first; and how many were tried."""
    i, j = xp.nonzero(candidates.unchecked(W, S, order, size=size))
    if not len(i):
        return [], 0
    place, row = xp.argsort(order), xp.arange(len(i))
    orders = xp.tile(order, (len(i), 1))
    orders[row, place[i]], orders[row, place[j]] = j, i
    Q = _order_scores(S, orders)
    table = xp.stack([Q, place[j].astype(Q.dtype), place[i].astype(Q.dtype)], 1)
    swaps = [(Q, int(low), int(high)) for Q, low, high in table.tolist() if Q < target]
    return sorted(swaps), len(orders)


def _disjoint(swaps):
    """Those whose intervals of places do not meet any before them."""
    chosen = []
    for swap in swaps:
        if all(swap[2] < low or swap[1] > high for _, low, high in chosen):
            chosen.append(swap)
    return chosen
