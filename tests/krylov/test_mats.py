"""Theorems and limits of mats."""

import warnings

import numpy as np
import pytest

from trref import validate
from trref.krylov.mats import diagonal_merge, mats, merge_objective, softmax_fisher_product

PRECISE = {"rtol": 1e-13, "max_iter": 400}


def _tasks(seed, K=3, D=5, N=2, rows=12):
    rng = np.random.default_rng(seed)
    X, delta = rng.standard_normal((K, rows, D)), rng.standard_normal((K, rows, N))
    moments = [x.swapaxes(1, 2) @ x / rows for x in (X, delta)]
    return rng.standard_normal((K, D, N)), *moments, rng.standard_normal((D, N))


def _dense(layers, G, H=None):
    """The matrix and the right-hand side of the system, in the order of rows."""
    N = layers.shape[2]
    C = [np.kron(G[m], np.eye(N) if H is None else H[m]) for m in range(len(G))]
    return sum(C), sum(c @ w.ravel() for c, w in zip(C, layers, strict=True))


def _ols(X, Y):
    return np.linalg.lstsq(X, Y, rcond=None)[0]


def test_numbers_by_hand():
    """One parameter: (2·1 + 1·4)/(2 + 1) = 2, and J = (2·1² + 1·2²)/2 = 3 there."""
    layers, G = np.array([[[1.0]], [[4.0]]]), np.array([[[2.0]], [[1.0]]])
    result = mats(layers, G)
    assert result.x == pytest.approx(np.array([[2.0]])) and result.iterations == 1 and result.converged
    assert result.residual_norms[0] == pytest.approx(3 * 2.5 - 6)
    value, gradient = merge_objective(result.x, layers, G)
    assert value == pytest.approx(3) and gradient == pytest.approx(np.array([[0.0]]))


def test_both_sides_by_hand():
    """G = diag(1, 2), D = diag(3, 1) and the identities: entry (i, j) weighs the tasks as G_ii D_jj to 1."""
    layers = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 5.0], [5.0, 5.0]]])
    G, H = np.stack([np.diag([1.0, 2.0]), np.eye(2)]), np.stack([np.diag([3.0, 1.0]), np.eye(2)])
    by_hand = [[(3 * 1 + 5) / 4, (1 * 2 + 5) / 2], [(6 * 3 + 5) / 7, (2 * 4 + 5) / 3]]
    assert np.allclose(mats(layers, G, H, **PRECISE).x, by_hand, rtol=1e-9)
    turned = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    value, gradient = merge_objective(np.zeros((2, 2)), turned, G[:1], H[:1])
    assert value == pytest.approx((1 * 3 + 2 * 1) / 2) and np.allclose(gradient, -np.diag([3.0, 2.0]), rtol=1e-9)


def test_diagonal_by_hand():
    """(1·2 + 3·6)/4 = 5, and the average where nothing is above the floor."""
    thetas, fisher = np.array([[2.0, 1.0], [6.0, 3.0]]), np.array([[1.0, 0.0], [3.0, 0.0]])
    assert diagonal_merge(thetas, fisher) == pytest.approx([5, 2])


@pytest.mark.parametrize("both_sides", [False, True])
def test_the_dense_system(both_sides):
    layers, G, H, x0 = _tasks(0)
    H = H if both_sides else None
    A, b = _dense(layers, G, H)
    result = mats(layers, G, H, x0=x0, **PRECISE)
    assert np.allclose(result.x.ravel(), np.linalg.solve(A, b), rtol=1e-10)
    theta = x0.ravel()
    value, gradient = merge_objective(x0, layers, G, H)
    C = [np.kron(g, np.eye(2) if H is None else h) for g, h in zip(G, G if H is None else H, strict=True)]
    by_brute_force = sum((theta - w.ravel()) @ c @ (theta - w.ravel()) for c, w in zip(C, layers, strict=True)) / 2
    assert value == pytest.approx(by_brute_force) and np.allclose(gradient.ravel(), A @ theta - b, rtol=1e-9)
    assert np.allclose(merge_objective(result.x, layers, G, H)[1], 0, rtol=0, atol=1e-10)


def test_least_squares_pooled():
    """Layers that fit their rows, moments not divided by the number of rows: the fit of all rows pooled."""
    rng = np.random.default_rng(1)
    X = [rng.standard_normal((rows, 4)) for rows in (9, 30, 6)]
    Y = [rng.standard_normal((len(x), 3)) for x in X]
    layers = np.stack([_ols(x, y) for x, y in zip(X, Y, strict=True)])
    pooled = _ols(np.concatenate(X), np.concatenate(Y))
    assert np.allclose(mats(layers, np.stack([x.T @ x for x in X]), **PRECISE).x, pooled, rtol=1e-9)
    balanced = mats(layers, np.stack([x.T @ x / len(x) for x in X]), **PRECISE).x
    scaled = [np.concatenate([rows / np.sqrt(len(rows)) for rows in tasks]) for tasks in (X, Y)]
    assert np.allclose(balanced, _ols(*scaled), rtol=1e-9)
    assert not np.allclose(balanced, pooled, rtol=1e-2)


def test_equal_layers_stop_at_once():
    layers, G, H, x0 = _tasks(2)
    same = np.stack([layers[0]] * 3)
    assert mats(same, G, H).iterations == 0
    assert np.allclose(mats(same, G, H, x0=x0, **PRECISE).x, layers[0], rtol=1e-9)
    result = mats(layers, G, H, x0=mats(layers, G, H, **PRECISE).x)
    assert result.iterations == 0 and result.converged


def test_identities_take_one_step():
    layers, _, _, x0 = _tasks(3)
    eye = np.stack([np.eye(5)] * 3)
    result = mats(layers, eye, x0=x0)
    assert result.iterations == 1 and np.allclose(result.x, layers.mean(0), rtol=1e-9)


def test_what_matters_to_no_task_stays():
    """One row a task: the start's part in the common null space is kept; from 0, the pseudo-inverse's solution."""
    layers, _, _, x0 = _tasks(4)
    X = np.random.default_rng(4).standard_normal((3, 1, 5))
    G = X.swapaxes(1, 2) @ X
    A, b = _dense(layers, G)
    result = mats(layers, G, x0=x0, **PRECISE)
    null = np.linalg.svd(X[:, 0])[2][3:]
    assert np.allclose(null @ result.x, null @ x0, rtol=1e-9) and np.allclose(A @ result.x.ravel(), b, rtol=1e-9)
    assert np.allclose(mats(layers, G, x0=0 * x0, **PRECISE).x.ravel(), np.linalg.pinv(A) @ b, rtol=1e-9)
    assert np.array_equal(mats(layers, 0 * G, x0=x0).x, x0)
    assert np.array_equal(mats(layers, 0 * G).x, layers.mean(0))


def test_the_objective_falls_at_each_iteration():
    layers, G, H, x0 = _tasks(5, K=4, D=8, N=3, rows=10)
    values = [merge_objective(x0, layers, G, H)[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", validate.ConvergenceWarning)
        for k in range(1, 25):
            result = mats(layers, G, H, x0=x0, rtol=1e-15, max_iter=k)
            assert result.iterations == k and len(result.residual_norms) == k + 1 and not result.converged
            values.append(merge_objective(result.x, layers, G, H)[0])
    assert (np.diff(values) < 1e-12 * values[0]).all()
    closed = [layers.mean(0), mats(layers, G, **PRECISE).x, mats(layers, G, H, off_diagonal=0.0, **PRECISE).x]
    best = merge_objective(mats(layers, G, H, **PRECISE).x, layers, G, H)[0]
    assert all(merge_objective(x, layers, G, H)[0] > best for x in closed)


def test_off_the_diagonal():
    """At 0.9 RegMean's closed form; at 0 diagonal merging, column by column."""
    layers, G, _, x0 = _tasks(6)
    scaled = 0.9 * G + 0.1 * np.stack([np.diag(np.diag(g)) for g in G])
    closed = np.linalg.solve(scaled.sum(0), (scaled @ layers).sum(0))
    assert np.allclose(mats(layers, G, x0=x0, off_diagonal=0.9, **PRECISE).x, closed, rtol=1e-9)
    diagonal = np.stack([np.diag(g) for g in G])
    columns = [diagonal_merge(layers[:, :, j].copy(), diagonal) for j in range(2)]
    assert np.allclose(mats(layers, G, x0=x0, off_diagonal=0.0, **PRECISE).x, np.stack(columns, 1), rtol=1e-9)


def test_the_inputs_side_comes_first():
    """A layer taken the other way round is merged with the two sides exchanged."""
    layers, G, H, x0 = _tasks(7)
    other = mats(layers.swapaxes(1, 2).copy(), H, G, x0=x0.T.copy(), **PRECISE).x
    assert np.allclose(mats(layers, G, H, x0=x0, **PRECISE).x, other.T, rtol=1e-9)


def test_the_fisher_product_is_the_curvature_of_cross_entropy():
    """Under the model's own labels the Hessian is the Fisher information: by differences of the gradient."""
    rng = np.random.default_rng(8)
    W, X, V = rng.standard_normal((4, 3)), rng.standard_normal((6, 4)), rng.standard_normal((4, 3))

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    target = softmax(X @ W)
    gradient = lambda W: X.T @ (softmax(X @ W) - target) / 6  # noqa: E731
    differences = (gradient(W + 1e-5 * V) - gradient(W - 1e-5 * V)) / 2e-5
    product = softmax_fisher_product(W, X, V)
    assert np.allclose(product, differences, rtol=0, atol=1e-8) and (product * V).sum() > 0
    assert np.allclose(softmax_fisher_product(W, X, np.ones((4, 3))), 0, rtol=1e-9)


def test_unfinished():
    layers, G, H, x0 = _tasks(9)
    with pytest.warns(validate.ConvergenceWarning, match="mats stopped after 2 iterations at a residual of"):
        result = mats(layers, G, H, x0=x0, max_iter=2)
    assert not result.converged and len(result.residual_norms) == 3
    A, b = _dense(layers, G, H)
    assert result.residual_norms[-1] == pytest.approx(np.linalg.norm(b - A @ result.x.ravel()))


def test_refused():
    layers, G, H, _ = _tasks(10)
    with pytest.raises(ValueError, match="input_gram and output_gram must be positive semi-definite"):
        mats(layers, G, -H)
    with pytest.raises(ValueError, match="output_gram must be symmetric"):
        mats(layers, G, np.triu(H))
    with pytest.raises(ValueError, match="input_gram must be symmetric"):
        merge_objective(layers[0], layers, np.tril(G))
    with pytest.raises(ValueError, match="input_gram"):
        mats(layers, H)
    with pytest.raises(ValueError, match="rtol"):
        mats(layers, G, rtol=1.0)
