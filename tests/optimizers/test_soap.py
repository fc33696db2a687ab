"""Theorems and limits of SOAP."""

import numpy as np
import pytest

from trref.optimizers import adam
from trref.optimizers.soap import init, turned, update

RNG = np.random.default_rng(0)


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path), state


def _orthogonal(n):
    return np.linalg.qr(RNG.standard_normal((n, n)))[0]


def test_matrices_in_the_words_of_the_page():
    """A loop over calls with NumPy's eigenvectors, another convention of signs, and renewal every second step."""
    gradients, W = RNG.standard_normal((7, 4, 3)), RNG.standard_normal((4, 3))
    how = {"lr": 0.05, "beta1": 0.8, "beta2": 0.7, "shampoo_beta": 0.6, "eps": 1e-3, "weight_decay": 0.2, "every": 2}
    path, _ = _run(gradients, W, **how)
    L, R = 0.4 * gradients[0] @ gradients[0].T, 0.4 * gradients[0].T @ gradients[0]
    QL, QR = -np.linalg.eigh(L)[1], np.linalg.eigh(R)[1]
    # the side of four has a null space of one dimension only: its basis is unique up to signs
    M, V = np.zeros((4, 3)), np.zeros((4, 3))
    assert np.array_equal(path[1], W)
    for k, G in enumerate(gradients[1:], start=1):
        view = QL.T @ G @ QR
        M, V = 0.8 * M + 0.2 * G, 0.7 * V + 0.3 * view**2
        N = QL.T @ M @ QR / (np.sqrt(V) + 1e-3)
        W = W - 0.05 * np.sqrt(1 - 0.7**k) / (1 - 0.8**k) * QL @ N @ QR.T
        W = (1 - 0.05 * 0.2) * W
        assert np.allclose(path[k + 1], W, rtol=1e-9, atol=1e-11), k
        L, R = 0.6 * L + 0.4 * G @ G.T, 0.6 * R + 0.4 * G.T @ G
        if k % 2 == 0:
            for axis, H in enumerate((L, R)):
                Q = (QL, QR)[axis]
                order = np.argsort(np.diag(Q.T @ H @ Q))[::-1]
                V, Q = np.take(V, order, axis), np.linalg.qr(H @ Q[:, order])[0]
                QL, QR = (Q, QR) if axis == 0 else (QL, Q)


@pytest.mark.parametrize("every", [1, 3])
def test_rotations_of_both_sides_are_followed(every):
    gradients, (Q, P) = RNG.standard_normal((6, 3, 3)), (_orthogonal(3), _orthogonal(3))
    how = {"lr": 0.05, "every": every, "weight_decay": 0.0, "eps": 1e-3}
    plain = _run(gradients, np.zeros((3, 3)), **how)[0]
    moved = _run([Q @ G @ P for G in gradients], np.zeros((3, 3)), **how)[0]
    assert np.allclose(moved, Q @ plain @ P, rtol=1e-8, atol=1e-10)


def test_signs_and_order_of_a_basis_do_not_matter():
    """In mid-run, with the second moment in the new order."""
    gradients = RNG.standard_normal((5, 3, 4))
    params, state = [np.zeros((3, 4))], init([np.zeros((3, 4))])
    for G in gradients[:4]:
        params, state = update(params, [G], state, lr=0.05, every=2)
    (QL, QR), order = state.bases[0], np.array([2, 0, 1])
    other = state._replace(bases=[[(QL * [1, -1, 1])[:, order], QR * -1]], v=[state.v[0][order]])
    a, b = (update(params, [gradients[4]], s, lr=0.05, every=9)[0][0] for s in (state, other))
    assert np.allclose(a, b, rtol=1e-11, atol=1e-13)
    stale = other._replace(v=state.v)
    assert not np.allclose(a, update(params, [gradients[4]], stale, lr=0.05, every=9)[0][0], rtol=1e-3)


def test_bases_are_orthonormal_and_turning_back_undoes_it():
    _, state = _run(RNG.standard_normal((6, 2, 3, 4)), np.zeros((2, 3, 4)), every=1)
    for Q in state.bases[0]:
        assert np.allclose(Q.T @ Q, np.eye(len(Q)), rtol=0, atol=1e-12)
    G = RNG.standard_normal((2, 3, 4))
    assert np.allclose(turned(turned(G, state.bases[0]), state.bases[0], back=True), G, rtol=1e-12, atol=1e-13)
    A, B, C = state.bases[0]
    assert np.allclose(turned(G, state.bases[0]), np.einsum("ax,by,cz,abc->xyz", A, B, C, G), rtol=1e-12, atol=1e-13)


def test_renewal_converges_to_the_eigenvectors():
    """One gradient for 80 calls: Q diagonalises its square, to the ratio of eigenvalues to the power of 80."""
    G = np.diag([3.0, 2.0, 1.0]) @ _orthogonal(3)
    start = RNG.standard_normal((3, 3))
    _, state = _run([start] + [G] * 80, np.zeros((3, 3)), every=1, shampoo_beta=0.5)
    D = state.bases[0][0].T @ (G @ G.T) @ state.bases[0][0]
    assert np.allclose(D, np.diag([9.0, 4.0, 1.0]), rtol=0, atol=1e-8)


def test_one_gradient_seen_twice_gives_the_polar_factor():
    """The second call sees a diagonal: its signs, turned back, with a rate that is Adam's first."""
    G = RNG.standard_normal((3, 3))
    U, _, Vt = np.linalg.svd(G)
    path, _ = _run([G, G], np.zeros((3, 3)), lr=1.0, eps=1e-8, weight_decay=0.0)
    assert np.array_equal(path[1], path[0]) and np.allclose(-path[2], U @ Vt, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_without_bases_it_is_adam_one_call_late(shape):
    """Vectors, or axes that are too long: Adam with an uncorrected epsilon, made tiny here, and decay afterwards."""
    gradients, start = RNG.standard_normal((6, *shape)), RNG.standard_normal(shape)
    how = {"lr": 0.05, "beta1": 0.8, "beta2": 0.7, "eps": 1e-30}
    path, _ = _run(gradients, start, **how, weight_decay=0.0, max_dim=1)
    params, state = [start], adam.init([start])
    for k, g in enumerate(gradients[1:], start=2):
        params, state = adam.update(params, [g], state, **how)
        assert np.allclose(path[k], params[0], rtol=1e-11, atol=1e-13)


def test_decay_acts_on_the_new_weights():
    gradients, start = RNG.standard_normal((2, 3, 3)), np.ones((3, 3))
    free, decayed = (_run(gradients, start, lr=0.1, weight_decay=w)[0][2] for w in (0.0, 0.5))
    assert np.allclose(decayed, 0.95 * free, rtol=1e-13)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"shampoo_beta": -0.1}, {"eps": 0.0}, {"every": 0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones((1, 1))], np.ones((1, 1)), **bad)
