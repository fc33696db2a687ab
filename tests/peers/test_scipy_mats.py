"""Merging against SciPy's conjugate gradients, as the authors' code calls them, and against dense least squares."""

import warnings

import numpy as np
import pytest
import scipy.sparse.linalg

from trref.krylov.mats import mats
from trref.validate import ConvergenceWarning

pytestmark = pytest.mark.peer


def _tasks(seed, K=3, D=6, N=4, rows=20):
    rng = np.random.default_rng(seed)
    X, delta = rng.standard_normal((K, rows, D)), rng.standard_normal((K, rows, N))
    moments = [x.swapaxes(1, 2) @ x / rows for x in (X, delta)]
    return rng.standard_normal((K, D, N)), *moments, rng.standard_normal((D, N))


def _theirs(layers, G, H, x0, **settings):
    """The products task by task, the layer flattened row by row."""
    K, D, N = layers.shape
    H = [np.eye(N)] * K if H is None else H

    def product(v):
        return sum(G[m] @ v.reshape(D, N) @ H[m] for m in range(K)).ravel()

    operator = scipy.sparse.linalg.LinearOperator((D * N, D * N), matvec=product, dtype=float)
    b = sum(G[m] @ layers[m] @ H[m] for m in range(K)).ravel()
    x, code = scipy.sparse.linalg.cg(operator, b, x0=x0.ravel(), **settings)
    return x.reshape(D, N), code


@pytest.mark.parametrize("both_sides", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_iterates(both_sides, k):
    layers, G, H, x0 = _tasks(k)
    H = H if both_sides else None
    theirs, code = _theirs(layers, G, H, x0, rtol=0, atol=0, maxiter=k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = mats(layers, G, H, x0=x0, rtol=1e-15, max_iter=k)
    assert ours.iterations == code == k and np.allclose(ours.x, theirs, rtol=1e-9)


def test_they_stop_where_we_do():
    """The default tolerance is SciPy's, which the authors' code leaves as it is."""
    for seed in range(5):
        layers, G, H, x0 = _tasks(seed)
        steps = []
        theirs, code = _theirs(layers, G, H, x0, maxiter=100, callback=lambda x, steps=steps: steps.append(1))
        ours = mats(layers, G, H, x0=x0)
        assert code == 0 and ours.converged and ours.iterations == len(steps) and np.allclose(ours.x, theirs, rtol=1e-8)


def _root(gram):
    values, vectors = np.linalg.eigh(gram)
    return vectors * np.sqrt(values.clip(0)) @ vectors.T


@pytest.mark.parametrize("rows", [2, 20])
def test_least_squares_in_one_matrix(rows):
    """Least squares with square roots of the moments; with two rows a task, the minimum nearest to the start."""
    layers, G, H, x0 = _tasks(7, K=2, rows=rows)
    roots = [np.kron(_root(g), _root(h)) for g, h in zip(G, H, strict=True)]
    shifted = np.concatenate([root @ (w - x0).ravel() for root, w in zip(roots, layers, strict=True)])
    step = np.linalg.lstsq(np.concatenate(roots), shifted, rcond=1e-6)[0]
    ours = mats(layers, G, H, x0=x0, rtol=1e-13, max_iter=500).x
    assert np.allclose(ours.ravel(), x0.ravel() + step, atol=1e-6, rtol=1e-9)
