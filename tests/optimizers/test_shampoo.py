"""Theorems and limits of Shampoo."""

import numpy as np
import pytest
from scipy import linalg

from trref.optimizers.shampoo import init, inverse_root, update

RNG = np.random.default_rng(0)


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path), state


def _orthogonal(n):
    return np.linalg.qr(RNG.standard_normal((n, n)))[0]


def test_the_root_against_scipy():
    U = RNG.standard_normal((5, 9))
    H = U @ U.T
    for power in (0.25, 0.5, 1 / 3):
        assert np.allclose(inverse_root(H, power), linalg.fractional_matrix_power(H, -power), rtol=1e-9, atol=1e-10)


def test_matrices_in_the_words_of_the_paper():
    gradients, start = RNG.standard_normal((6, 4, 3)), RNG.standard_normal((4, 3))
    path, _ = _run(gradients, start, lr=0.1, eps=0.02)
    L, R, W = 0.02 * np.eye(4), 0.02 * np.eye(3), start
    power = lambda H: linalg.fractional_matrix_power(H, -0.25)  # noqa: E731
    for t, G in enumerate(gradients, start=1):
        L, R = L + G @ G.T, R + G.T @ G
        W = W - 0.1 * power(L) @ G @ power(R)
        assert np.allclose(path[t], W, rtol=1e-10, atol=1e-12)


def test_the_first_step_is_the_polar_factor():
    """U V^T for ε to 0; with twice the exponent U S^-1 V^T."""
    G = RNG.standard_normal((4, 4))
    U, S, Vt = np.linalg.svd(G)
    path, _ = _run([G], np.zeros((4, 4)), lr=1.0, eps=1e-13)
    assert np.allclose(-path[1], U @ Vt, rtol=0, atol=1e-9)
    path, _ = _run([G], np.zeros((4, 4)), lr=1.0, eps=1e-13, root=1.0)
    assert np.allclose(-path[1], U / S @ Vt, rtol=1e-7, atol=1e-9 / S.min() ** 2)


def test_rotations_of_both_sides_are_followed():
    gradients, (Q, P) = RNG.standard_normal((5, 4, 3)), (_orthogonal(4), _orthogonal(3))
    plain = _run(gradients, np.zeros((4, 3)), eps=0.1, lr=0.1)[0]
    turned = _run([Q @ G @ P for G in gradients], np.zeros((4, 3)), eps=0.1, lr=0.1)[0]
    assert np.allclose(turned, Q @ plain @ P, rtol=1e-10, atol=1e-12)


def test_a_vector_has_adagrad_with_a_full_matrix():
    gradients = RNG.standard_normal((6, 3))
    path, _ = _run(gradients, np.zeros(3), lr=0.1, eps=0.05)
    H, x = 0.05 * np.eye(3), np.zeros(3)
    for t, g in enumerate(gradients, start=1):
        H = H + np.outer(g, g)
        x = x - 0.1 * linalg.fractional_matrix_power(H, -0.5) @ g
        assert np.allclose(path[t], x, rtol=1e-10, atol=1e-12)


def test_three_axes_by_einsum():
    gradients = RNG.standard_normal((3, 2, 3, 4))
    path, _ = _run(gradients, np.zeros((2, 3, 4)), lr=0.1, eps=0.1)
    sides, W = [0.1 * np.eye(n) for n in (2, 3, 4)], np.zeros((2, 3, 4))
    squares = ("abc,dbc->ad", "abc,adc->bd", "abc,abd->cd")
    for t, G in enumerate(gradients, start=1):
        sides = [H + np.einsum(s, G, G) for H, s in zip(sides, squares, strict=True)]
        roots = [linalg.fractional_matrix_power(H, -1 / 6) for H in sides]
        W = W - 0.1 * np.einsum("ax,by,cz,xyz->abc", *roots, G)
        assert np.allclose(path[t], W, rtol=1e-10, atol=1e-12)


def test_the_sides_bound_the_full_matrix():
    """ε I + Σ vec(G) vec(G)^T / r ≤ L^1/2 ⊗ R^1/2, with r the rank."""
    gradients, eps = RNG.standard_normal((4, 4, 3)), 0.01
    _, state = _run(gradients, np.zeros((4, 3)), eps=eps)
    L, R = (H + eps * np.eye(len(H)) for H in state.statistics[0])
    full = eps * np.eye(12) + sum(np.outer(G.ravel(), G.ravel()) for G in gradients) / 3
    assert np.linalg.eigvalsh(np.kron(linalg.sqrtm(L).real, linalg.sqrtm(R).real) - full).min() > -1e-10


def test_steps_of_one_gradient_fall_as_the_root_of_time():
    G = RNG.standard_normal((3, 3))
    steps = np.diff(_run([G] * 16, np.zeros((3, 3)), eps=1e-12)[0], axis=0)
    sizes = np.linalg.norm(steps, axis=(1, 2))
    assert np.allclose(sizes, sizes[0] / np.sqrt(np.arange(1, 17)), rtol=1e-6)


def test_averages_keep_their_length():
    """Corrected averages of one gradient are its square: every step is the first one, but for the fading ε."""
    G = RNG.standard_normal((3, 3))
    steps = np.diff(_run([G] * 12, np.zeros((3, 3)), eps=1e-13, beta2=0.9)[0], axis=0)
    assert np.allclose(steps, steps[0], rtol=1e-6, atol=1e-9)


def test_the_scale_does_not_matter():
    gradients = RNG.standard_normal((5, 3, 3))
    a, b = (_run(c * gradients, np.ones((3, 3)), eps=c * c * 1e-6)[0] for c in (1.0, 1e3))
    assert np.allclose(a, b, rtol=1e-8, atol=1e-10)


def test_grafted_steps_are_as_long_as_the_gradient():
    gradients = RNG.standard_normal((4, 4, 3))
    grafted = np.diff(_run(gradients, np.zeros((4, 3)), lr=0.1, eps=0.1, graft=True)[0], axis=0)
    plain = np.diff(_run(gradients, np.zeros((4, 3)), lr=0.1, eps=0.1)[0], axis=0)
    for G, a, b in zip(gradients, grafted, plain, strict=True):
        assert np.linalg.norm(a) == pytest.approx(0.1 * np.linalg.norm(G), rel=1e-12)
        assert np.allclose(a / np.linalg.norm(a), b / np.linalg.norm(b), rtol=1e-10, atol=1e-12)


def test_old_roots_serve_until_they_are_renewed():
    """With every = 3 the second and third steps are linear in the gradient: half of it gives half the step."""
    gradients = RNG.standard_normal((4, 3, 3))
    halved = [gradients[0], gradients[1] / 2, gradients[2] / 2, gradients[3]]
    how = {"eps": 0.1, "every": 3, "lr": 0.1}
    a, b = (np.diff(_run(g, np.zeros((3, 3)), **how)[0], axis=0) for g in (gradients, halved))
    assert np.allclose(b[1:3], a[1:3] / 2, rtol=1e-12) and not np.allclose(b[3], a[3], rtol=1e-3)


def test_zero_gradients_move_nothing_without_a_memory():
    """Nothing of ε is left where the average forgets all, or has long forgotten it: the root of zero is zero."""
    zero, start = np.zeros((3, 2)), np.ones((3, 2))
    path, state = _run([zero, zero], start, beta2=0.0)
    assert (path == 1).all()
    params, _ = update([start], [zero], state._replace(step=1100), beta2=0.5, graft=True)
    assert (params[0] == 1).all()
    path, _ = _run([start], start, lr=0.1, beta2=0.0)
    assert np.allclose(path[1], 1 - 0.1 / np.sqrt(6), rtol=1e-7)


def test_numbers_need_an_axis():
    with pytest.raises(ValueError, match=r"params\[1\] must have an axis"):
        two = [np.ones(1), np.array(1.0)]
        update(two, two, init(two))


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"eps": 0.0}, {"beta2": 1.1}, {"root": 0.0}, {"every": 0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones((1, 1))], np.ones((1, 1)), **bad)
