"""Theorems and limits of Adafactor."""

import math

import numpy as np
import pytest

from trref.optimizers.adafactor import init, update

RNG = np.random.default_rng(0)


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path), state


def _rms(x):
    return math.sqrt((x * x).mean())


def test_a_matrix_by_hand():
    """Squares 1, 4, 9, 16: rows 2.5 and 12.5, columns 5 and 10; V = R C / 7.5; two weights of 3 and 4, rms 2.5."""
    W, G = np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([[1.0, -2.0], [3.0, 4.0]])
    V = np.outer([2.5, 12.5], [5.0, 10.0]) / 7.5
    U = G / np.sqrt(V)
    U = U / max(1.0, _rms(U))
    path, _ = _run([G], W, lr=0.01, weight_decay=0.5)
    assert np.allclose(path[1], (1 - 0.025 * 0.5) * W - 0.025 * U, rtol=1e-13, atol=1e-15)


def test_two_steps_of_a_vector_by_hand():
    """Gradients 1 and 2: the second decay is 1 - 2^-0.8; the first update is a sign; neither weight nor scale."""
    b = 1 - 2**-0.8
    second = 2 / math.sqrt(b * 1 + (1 - b) * 4)
    path, _ = _run([np.ones(1), np.full(1, 2.0)], np.zeros(1), lr=0.1, scaled=False, clip=9.0)
    assert path[:, 0] == pytest.approx([0.0, -0.1, -0.1 - 0.1 * second], rel=1e-13)


def test_the_rebuilt_moment_has_the_means_of_rows_and_columns():
    gradients = RNG.standard_normal((5, 4, 3))
    _, state = _run(gradients, np.ones((4, 3)))
    rows, columns = state.moments[0]
    V = np.outer(rows, columns) / rows.mean()
    assert np.allclose(V.mean(1), rows, rtol=1e-12) and np.allclose(V.mean(0), columns, rtol=1e-12)


def test_rank_one_squares_are_as_good_as_the_whole_moment():
    """A matrix whose squares have rank one, and the same as a vector: the same path."""
    a, b = np.exp(RNG.standard_normal(4)), np.exp(RNG.standard_normal(3))
    gradients = [c * np.outer(a, b) * RNG.choice((-1.0, 1.0), (4, 3)) for c in (1.0, 0.3, 2.0)]
    start = RNG.standard_normal((4, 3))
    matrix, _ = _run(gradients, start)
    vector, _ = _run([g.ravel() for g in gradients], start.ravel())
    assert np.allclose(matrix.reshape(4, 12), vector, rtol=1e-11, atol=1e-13)


def test_no_step_is_longer_than_its_bound():
    """d α_t in the root mean square; a jump of a hundredfold reaches it."""
    gradients = np.exp(2 * RNG.standard_normal((20, 6, 5))) * RNG.choice((-1.0, 1.0), (20, 6, 5))
    gradients[10] *= 100
    path, _ = _run(gradients, RNG.standard_normal((6, 5)), lr=0.05, clip=0.7)
    sizes = np.array([_rms(step) for step in np.diff(path, axis=0)])
    rates = [max(1e-3, _rms(x)) * min(0.05, t**-0.5) for t, x in enumerate(path[:-1], start=1)]
    assert (sizes <= 0.7 * np.array(rates) * (1 + 1e-12)).all()
    assert sizes[10] == pytest.approx(0.7 * rates[10], rel=1e-9)


def test_scales_of_gradients_and_of_weights():
    """Gradients of another size change nothing; weights twice as large move twice as far."""
    gradients, start = RNG.standard_normal((6, 4, 3)), RNG.standard_normal((4, 3))
    plain = _run(gradients, start, lr=0.1)[0]
    assert np.allclose(_run(1e4 * gradients, start, lr=0.1)[0], plain, rtol=1e-11, atol=1e-13)
    assert np.allclose(_run(gradients, 2 * start, lr=0.1)[0], 2 * plain, rtol=1e-11, atol=1e-13)


def test_a_transposed_matrix_takes_transposed_steps():
    gradients, start = RNG.standard_normal((6, 4, 3)), RNG.standard_normal((4, 3))
    turned = _run([g.T for g in gradients], start.T)[0]
    assert np.allclose(turned, np.swapaxes(_run(gradients, start)[0], 1, 2), rtol=1e-12, atol=1e-14)


def test_of_three_axes_the_last_two_are_factored():
    """A stack of matrices: each has its own moments; the clip and the weights' size are those of the whole."""
    gradients, start = RNG.standard_normal((4, 2, 3, 5)), RNG.standard_normal((2, 3, 5))
    how = {"lr": 0.1, "clip": 1e9, "scaled": False}
    whole = _run(gradients, start, **how)[0]
    for k in range(2):
        assert np.allclose(whole[:, k], _run(gradients[:, k], start[k], **how)[0], rtol=1e-12, atol=1e-14)


def test_warm_up_and_fall():
    """1e-6 t first, then one over the root: sign gradients and a free step."""
    path, _ = _run([np.ones(3)] * 30, np.ones(3), warm_up=True, scaled=False)
    assert np.allclose(-np.diff(path[:, 0]), 1e-6 * np.arange(1, 31), rtol=1e-6)
    path, _ = _run([np.ones(3)] * 30, np.ones(3), lr=0.3, scaled=False)
    assert np.allclose(-np.diff(path[:, 0]), np.minimum(0.3, np.arange(1, 31) ** -0.5), rtol=1e-12)


def test_bounded_decay_is_rmsprop_begun_at_the_first_square():
    """c = 1e3: 0 at the first step, the bound from then on."""
    gradients = RNG.standard_normal((8, 4))
    path, _ = _run(gradients, np.zeros(4), lr=0.1, decay=1e3, longest=0.9, relative=False, scaled=False, clip=1e9)
    v, x = gradients[0] ** 2, np.zeros(4)
    for t, g in enumerate(gradients):
        v = g**2 if t == 0 else 0.9 * v + 0.1 * g**2
        x = x - 0.1 * g / np.sqrt(v)
        assert np.allclose(path[t + 1], x, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"beta1": 1.0}, {"longest": 1.1}, {"clip": 0.0}, {"eps2": -1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones(1)], np.ones(1), **bad)
