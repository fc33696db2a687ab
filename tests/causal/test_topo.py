"""TOPO: all orders by brute force, the meaning of the gradient, and theorems of swaps."""

import itertools

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import minimize

from trref.causal.colide import log_det, to_dag
from trref.causal.topo import (
    acyclicity,
    augmented_lagrangian,
    candidates,
    logistic_score,
    order_of,
    score,
    solve_order,
    topo,
    walks,
)
from trref.problems.dags import erdos_renyi_dag, sample_sem, shd
from trref.validate import ConvergenceWarning

KINDS = ("exponential", "polynomial", "log_det")


def _moments(seed, *, nodes=5, edges=6, points=400):
    rng = np.random.default_rng(seed)
    W = erdos_renyi_dag(rng, nodes, edges)
    X = sample_sem(rng, W, points)
    return W, X.T @ X / points, X


def _regress(X, order):
    """Score by least squares on the data, column by column."""
    total = 0.0
    for k, j in enumerate(order):
        before = list(order[:k])
        fitted = X[:, before] @ np.linalg.lstsq(X[:, before], X[:, j], rcond=None)[0] if before else 0
        total += ((X[:, j] - fitted) ** 2).mean() / 2
    return total


def _of_magnitudes(B, kind):
    d = len(B)
    if kind == "exponential":
        return np.trace(expm(B)) - d
    if kind == "polynomial":
        return np.trace(np.linalg.matrix_power(np.eye(d) + B / d, d)) - d
    return -np.linalg.slogdet(np.eye(d) - B)[1]


def test_numbers_by_hand():
    """Two nodes, weight 2 from the first to the second, moments [[1, 3], [3, 10]]: residuals 1 and 10 - 12 + 4."""
    W, S = np.array([[0.0, 2.0], [0.0, 0.0]]), np.array([[1.0, 3.0], [3.0, 10.0]])
    value, gradient = score(W, S)
    assert value == 1.5 and (gradient == [[-1, -1], [-3, -4]]).all()
    assert solve_order(S, np.array([0, 1])) == pytest.approx(np.array([[0.0, 3.0], [0.0, 0.0]]))
    assert solve_order(S, np.array([1, 0])) == pytest.approx(np.array([[0.0, 0.0], [0.3, 0.0]]))
    # residual variances 1 and 1 in one order, 10 and 0.1 in the other
    fit = topo(S, np.array([1, 0]))
    assert fit.scores == pytest.approx([5.05, 1.0]) and fit.order.tolist() == [0, 1]
    cycle = np.array([[0.0, 0.5], [2.0, 0.0]])  # eigenvalues of the squares: 1 and -1
    assert acyclicity(cycle)[0] == pytest.approx(2 * np.cosh(1) - 2, rel=1e-14)
    assert acyclicity(cycle, kind="polynomial")[0] == pytest.approx(1.5**2 + 0.5**2 - 2)
    assert logistic_score(np.zeros((2, 2)), np.eye(2))[0] == pytest.approx(2 * np.log(2))


@pytest.mark.parametrize("seed", range(4))
def test_acyclicity_by_scipy(seed):
    W = np.random.default_rng(seed).standard_normal((5, 5)) * (0.3, 1.0, 1.5, 0.01)[seed]
    E = expm(W * W)
    h, gradient = acyclicity(W)
    assert h == pytest.approx(np.trace(E) - 5, rel=1e-9)
    assert gradient == pytest.approx(E.T * 2 * W, rel=1e-12)
    assert acyclicity(W, kind="polynomial")[0] == pytest.approx(_of_magnitudes(W * W, "polynomial"), rel=1e-9)


@pytest.mark.parametrize("kind", ["exponential", "polynomial"])
def test_acyclic_is_where_it_is_0(kind):
    for seed in range(6):
        W = erdos_renyi_dag(np.random.default_rng(seed), 6, 11)
        h, gradient = acyclicity(W, kind=kind)
        assert h == 0 and (gradient == 0).all(), "exactly"
        i, j = np.argwhere(W != 0)[0]
        W[j, i] = 0.1
        assert acyclicity(W, kind=kind)[0] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_walks_are_the_gradient_by_magnitudes(seed, kind):
    """By differences of the function at B = |W|, absent edges included; and 0 exactly where nothing leads back."""
    W = erdos_renyi_dag(np.random.default_rng(seed), 5, 6, low=0.3, high=1.0)
    B, G, h = abs(W), walks(W, kind=kind), 1e-4
    for i, j in itertools.product(range(5), repeat=2):
        step = np.zeros((5, 5))
        step[i, j] = h
        slope = (_of_magnitudes(B + step, kind) - _of_magnitudes(B - step, kind)) / (2 * h)
        assert G[i, j] == pytest.approx(slope, abs=1e-5)
    reach = sum(np.linalg.matrix_power((W != 0).astype(int), k) for k in range(5))
    assert ((G > 0) == (reach.T > 0)).all()
    for i, j in zip(*np.where(G == 0), strict=True):
        more = W.copy()
        more[i, j] = 1.0
        assert walks(more).shape == (5, 5), "such an edge closes no cycle"


def test_walks_agree_with_colide():
    """By W of the log-determinant of W∘W: the gradient by B at B = W∘W, times 2 W."""
    W = erdos_renyi_dag(np.random.default_rng(3), 6, 9)
    B = W * W
    assert walks(B) * 2 * W == pytest.approx(log_det(W)[1], abs=1e-9 * walks(B).max())


@pytest.mark.parametrize("seed", range(4))
def test_regression_in_every_order(seed):
    _, S, X = _moments(seed, nodes=4, edges=4)
    for order in itertools.permutations(range(4)):
        W = solve_order(S, np.array(order))
        value, gradient = score(W, S)
        assert value == pytest.approx(_regress(X, order), rel=1e-10)
        place = np.argsort(order)
        allowed = place[:, None] < place
        assert (W[~allowed] == 0).all()
        assert abs(gradient[allowed]).max() < 1e-12 * abs(S).max() * 100, "no slope along what is allowed"


@pytest.mark.parametrize(("seed", "nodes"), [(0, 5), (1, 5), (2, 6), (3, 6), (4, 7)])
def test_against_all_orders(seed, nodes):
    """With all pairs as candidates the search ends at the graph of the best order of all, from three starts.

    Orders of one graph differ in score by what their needless edges fit: shares of 1/n.
    """
    truth, S, X = _moments(seed, nodes=nodes, edges=nodes + 1)
    pairs, rng = nodes * (nodes - 1) // 2, np.random.default_rng(seed)
    every = [list(o) for o in itertools.permutations(range(nodes))]
    index = np.array(every)
    factors = np.linalg.cholesky(S[index[:, :, None], index[:, None, :]])
    least = (np.diagonal(factors, axis1=1, axis2=2) ** 2).sum(1).min() / 2
    for _ in range(3):
        fit = topo(S, rng.permutation(nodes), small=pairs)
        assert fit.converged and (np.diff(fit.scores) < 0).all()
        assert least * (1 - 1e-9) <= fit.scores[-1] <= least * (1 + 1 / 400)
        assert fit.scores[-1] == pytest.approx(_regress(X, fit.order.tolist()), rel=1e-9)
        assert shd(to_dag(fit.W), truth) == 0


@pytest.mark.parametrize("seed", range(5))
def test_swaps_in_disjoint_intervals_add_up(seed):
    _, S, X = _moments(seed, nodes=7, edges=10)
    order = np.random.default_rng(seed).permutation(7).tolist()

    def swapped(*pairs):
        new = list(order)
        for a, b in pairs:
            new[a], new[b] = new[b], new[a]
        return _regress(X, new)

    base = _regress(X, order)
    one, two = swapped((0, 2)) - base, swapped((3, 6)) - base
    assert swapped((0, 2), (3, 6)) - base == pytest.approx(one + two, abs=1e-9 * base)
    overlapping = swapped((0, 3)) - base, swapped((2, 6)) - base
    assert swapped((0, 3), (2, 6)) - base != pytest.approx(sum(overlapping), rel=1e-3)
    several = topo(S, np.array(order), accept="disjoint", small=21)
    assert several.scores[-1] == pytest.approx(_regress(X, several.order.tolist()), rel=1e-9)
    assert several.iterations <= topo(S, np.array(order), small=21).iterations


def test_candidates():
    """A chain 0 → 1 → 2 in its order: 2 → 0 closes a cycle of weight 2·3, 1 → 0 of 2, 2 → 1 of 3."""
    W, order = np.diag([2.0, 3.0], 1), np.arange(3)
    S = np.eye(3)
    pairs = [set(zip(*np.where(candidates(W, S, order, size=m)), strict=True)) for m in (1, 2, 3, 9)]
    assert pairs == [{(1, 0)}, {(1, 0), (2, 1)}, {(1, 0), (2, 1), (2, 0)}, {(1, 0), (2, 1), (2, 0)}]
    # equal entries are all of them candidates
    assert candidates(np.zeros((3, 3)), S, order, size=1).sum() == 3
    # the slope along i → j is -(S (I - W))_ij: -(-2) of 1 → 0? S = I: the entries of W - I
    assert candidates(W, S, order, size=3, slope=0.1).sum() == 0


def test_a_start_is_an_order():
    W = erdos_renyi_dag(np.random.default_rng(1), 6, 8)
    place = np.argsort(order_of(W))
    assert all(place[i] < place[j] for i, j in zip(*np.where(W), strict=True))
    assert order_of(np.zeros((3, 3))).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("dtype", "weight"), [(float, 1e-200), (np.float32, 0.1)])
def test_the_order_of_a_weak_chain(dtype, weight):
    """Products of its weights are below all numbers; its order is backwards."""
    W = np.diag(np.full(59, weight, dtype=dtype), -1)
    assert order_of(W).tolist() == list(range(60))[::-1]


def test_many_are_tried_when_few_fail():
    """A search that may look at all pairs once is never worse, and scores more orders."""
    better = 0
    for seed in range(8):
        _, S, _ = _moments(seed, nodes=7, edges=12)
        order = np.random.default_rng(seed).permutation(7)
        few = topo(S, order, small=2, large_searches=0)
        more = topo(S, order, small=2, large=21, large_searches=3)
        assert more.scores[-1] <= few.scores[-1] and more.evaluations > few.evaluations
        better += more.scores[-1] < few.scores[-1] * (1 - 1e-6)
    assert better > 0


def test_too_few_steps():
    _, S, _ = _moments(0)
    worst = max(itertools.permutations(range(5)), key=lambda o: topo_score(S, o))
    with pytest.warns(ConvergenceWarning, match="topo"):
        fit = topo(S, np.array(worst), max_iter=1)
    assert not fit.converged and fit.iterations == 1 and len(fit.scores) == 2


def topo_score(S, order):
    return score(solve_order(S, np.array(order)), S)[0]


def test_augmented_lagrangian_finds_the_graph():
    """Multipliers outside, L-BFGS of the split weights inside: the graph of NOTEARS, and h tends to 0."""
    truth, S, _ = _moments(2, nodes=4, edges=4, points=2000)
    off = ~np.eye(4, dtype=bool)

    def split(u, weights):
        W = np.zeros((4, 4))
        W[off] = u[:12] - u[12:]
        value, gradient = augmented_lagrangian(W, S, l1_weight=0.0, **weights)
        g = gradient[off]
        return value + 0.01 * u.sum(), np.concatenate([g, -g]) + 0.01

    u, rho, alpha, last = np.zeros(24), 1.0, 0.0, np.inf
    for _ in range(30):
        weights = {"h_weight": rho, "multiplier": alpha}
        u = minimize(split, u, args=(weights,), jac=True, method="L-BFGS-B", bounds=[(0, 3)] * 24).x
        W = np.zeros((4, 4))
        W[off] = u[:12] - u[12:]
        h = acyclicity(W)[0]
        alpha, rho, last = alpha + rho * h, rho * (10 if h > last / 4 else 1), h
        if h < 1e-8 or rho > 1e14:
            break
    assert h < 1e-6 and shd(to_dag(W), truth) == 0
    # its order is as good a start as any: nothing gets worse
    fit = topo(S, order_of(to_dag(W)))
    assert fit.scores[-1] <= fit.scores[0]
    assert shd(to_dag(fit.W), truth) == 0
