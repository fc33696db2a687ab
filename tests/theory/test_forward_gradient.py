"""Derivatives along directions: against all directions of a law, and against a network's own gradients."""

import itertools

import numpy as np
import pytest

from trref.nn import mlp, per_sample
from trref.nn.losses import softmax_cross_entropy
from trref.problems.blocks import BlockNetwork
from trref.theory.forward_gradient import (
    activity_signal,
    cosine_square,
    directional,
    expected_square,
    project,
    weight_update,
)


def test_by_hand():
    assert directional(np.array([1.0, 2]), np.array([[1.0, 1], [3, -1]])).tolist() == [3.0, 1.0]
    assert project(np.array([1.0, 2]), np.array([0.0, -5])).tolist() == [0, 2]
    assert cosine_square(np.array([3.0, 4]), np.array([2.0, 0])) == pytest.approx(9 / 25, rel=1e-15)


@pytest.mark.parametrize("k", [1, 2])
def test_moments_over_all_sign_vectors(k):
    g = np.array([0.5, -1.0, 2.0])
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    estimates = np.array([directional(g, np.array(u)) for u in itertools.product(signs, repeat=k)])
    assert estimates.mean(0) == pytest.approx(g, rel=1e-13)
    square = (estimates**2).sum(1).mean()
    assert expected_square(g, directions=k, law="signs") == pytest.approx(square, rel=1e-13)


@pytest.mark.parametrize("k", [1, 2])
def test_moments_over_a_quadrature_of_the_normal_law(k):
    """Three nodes a coordinate have the normal law's moments up to the fifth; the square is of the fourth degree."""
    g = np.array([0.5, -2.0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    square = mean = 0.0
    for index in itertools.product(range(3), repeat=2 * k):
        estimate = directional(g, nodes[list(index)].reshape(k, 2))
        probability = np.prod(weights[list(index)])
        mean, square = mean + probability * estimate, square + probability * (estimate @ estimate)
    assert mean == pytest.approx(g, rel=1e-13)
    assert expected_square(g, directions=k) == pytest.approx(square, rel=1e-13)


def test_error_and_descent():
    rng = np.random.default_rng(0)
    g, G = rng.standard_normal((2, 7))
    left, share = project(g, G), cosine_square(g, G)
    assert (left - g) @ (left - g) == pytest.approx(g @ g * (1 - share), rel=1e-13)
    assert left @ g == pytest.approx(g @ g * share, rel=1e-13)
    assert project(g, -3 * G) == pytest.approx(left, rel=1e-13)
    assert project(g, g) == pytest.approx(g, rel=1e-14)
    assert not project(g, np.zeros(7)).any()
    basis = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    assert 7 * directional(g, basis) == pytest.approx(g, rel=1e-13)


def test_updates_from_gradients_of_each_sample():
    """Of a linear layer with a softmax, from the gradients of every sample by `per_sample`."""
    rng = np.random.default_rng(1)
    X, y, z = rng.standard_normal((5, 3)), np.array([0, 1, 3, 2, 1]), rng.standard_normal((5, 4))
    theta = rng.standard_normal(mlp.size((3, 4)))
    logits, cache = mlp.forward(theta, X, (3, 4))
    target = 5 * softmax_cross_entropy(logits, y)[1]
    g, G = per_sample.gradients(cache, target), per_sample.gradients(cache, z)
    split = 12

    def along(a, b):
        return (a @ b) / (b @ b) * b

    each = weight_update(X, target, z)
    assert each.weight.ravel() == pytest.approx(
        sum(along(a[:split], b[:split]) for a, b in zip(g, G, strict=True)), rel=1e-12
    )
    assert each.bias == pytest.approx(sum(along(a[split:], b[split:]) for a, b in zip(g, G, strict=True)), rel=1e-12)
    once = weight_update(X, target, z, of="batch")
    assert once.weight.ravel() == pytest.approx(along(g.sum(0)[:split], G.sum(0)[:split]), rel=1e-12)
    assert once.bias == pytest.approx(along(g.sum(0)[split:], G.sum(0)[split:]), rel=1e-12)


NETWORK = BlockNetwork((4, 6, 5, 3))


def _task(seed=2):
    rng = np.random.default_rng(seed)
    return NETWORK.init(rng), rng.standard_normal((7, 4)), rng.integers(0, 3, 7)


def test_the_network_has_its_gradients():
    """Sums over samples: signals of the whole loss and of each block's own, by central differences of the outputs."""
    params, X, y = _task()
    state = NETWORK.forward(params, X, y)
    h = 1e-6
    for block in range(2):
        for n, j in ((0, 1), (3, 4)):
            step = np.zeros_like(state.outputs[block])
            step[n, j] = h
            ends = [NETWORK.from_block(params, block, state.outputs[block] + s, y) for s in (step, -step)]
            assert state.targets[block][n, j] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-9)
            local = [NETWORK.local_loss(params, block, state.outputs[block] + s, y) for s in (step, -step)]
            assert state.guesses[block][n, j] == pytest.approx((local[0] - local[1]) / (2 * h), rel=1e-6, abs=1e-9)


def test_forward_mode_gives_the_inner_products():
    """A tangent pushed through the blocks above gives ⟨g, G⟩ of each sample, without back-propagation."""
    params, X, y = _task(3)
    state = NETWORK.forward(params, X, y)
    for block in range(2):
        pushed = NETWORK.push(params, state, block, state.guesses[block], y)
        assert pushed == pytest.approx((state.targets[block] * state.guesses[block]).sum(1), rel=1e-10, abs=1e-14)
        along = pushed / (state.guesses[block] ** 2).sum(1)
        signal = activity_signal(state.targets[block], state.guesses[block])
        assert signal == pytest.approx(along[:, None] * state.guesses[block], rel=1e-10, abs=1e-14)


def test_guess_equal_to_the_target_is_back_propagation():
    params, X, y = _task(4)
    state = NETWORK.forward(params, X, y)
    plain = NETWORK.layer_signals(params, state, state.targets)
    for signal, inputs in zip(plain, state.inputs[:-1], strict=True):
        update = weight_update(inputs, signal, signal, of="batch")
        assert update.weight == pytest.approx(inputs.T @ signal, rel=1e-12)
        assert update.bias == pytest.approx(signal.sum(0), rel=1e-12)
