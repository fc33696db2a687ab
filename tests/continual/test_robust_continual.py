"""Projected updates leave outputs and input gradients alone; null spaces; the penalty by differences."""

import itertools

import numpy as np
import pytest
from scipy.linalg import null_space

from trref.continual.robust_continual import (
    change,
    compressed_jacobian,
    extended_projector,
    layer,
    layer_jacobian,
    penalised_objective,
    projected_gradient,
)
from trref.nn import mlp
from trref.problems.input_curved import InputCurvedClassifier


def _network(seed=0, n=4, sizes=(3, 8, 9, 2)):
    rng = np.random.default_rng(seed)
    Ws = [rng.standard_normal((a, b)) / a**0.5 for a, b in itertools.pairwise(sizes)]
    return rng, rng.standard_normal((n, sizes[0])), Ws


def _inputs(X, Ws):
    """Inputs and full Jacobians of each layer."""
    J = np.stack([np.eye(X.shape[1])] * len(X))
    told = [(X, J)]
    for W in Ws[:-1]:
        told.append((layer(told[-1][0], W), layer_jacobian(told[-1][1], told[-1][0], W)))
    return told


def _outputs(X, Ws):
    h, J = _inputs(X, Ws)[-1]
    return h @ Ws[-1], J @ Ws[-1]


def test_jacobians_by_differences_and_their_sums():
    _, X, Ws = _network()
    step, (_, J) = 1e-6, _inputs(X, Ws)[2]
    for a in range(3):
        ends = [_inputs(X + s * np.eye(3)[a], Ws)[2][0] for s in (step, -step)]
        assert np.allclose((ends[0] - ends[1]) / (2 * step), J[:, a], atol=1e-8, rtol=1e-9)
    tangent = np.ones_like(X)
    for (inputs, full), W in zip(_inputs(X, Ws), Ws, strict=True):
        assert np.allclose(tangent, full.sum(1), atol=1e-13, rtol=1e-9)
        tangent = compressed_jacobian(tangent, inputs, W)


@pytest.mark.parametrize("both", [True, False])
def test_projected_updates_change_nothing_that_is_kept(both):
    """However long; with outputs alone kept the Jacobians change."""
    rng, X, Ws = _network(1, n=2, sizes=(3, 12, 13, 2))
    new = [Ws[0]]
    for (inputs, J), W in zip(_inputs(X, Ws)[1:], Ws[1:], strict=True):
        P = extended_projector(np.zeros((len(W), len(W))), inputs, energy=1.0)
        if both:
            P = extended_projector(P, J.reshape(-1, len(W)), energy=1.0)
        update = projected_gradient(5 * rng.standard_normal(W.shape), P)
        assert np.allclose(change(inputs, update), 0, atol=1e-12, rtol=1e-9) and abs(update).max() > 0.1
        new.append(W + update)
    before, after = _outputs(X, Ws), _outputs(X, new)
    assert np.allclose(before[0], after[0], atol=1e-11, rtol=1e-9)
    assert (abs(before[1] - after[1]).max() < 1e-11) == both


def test_compressed_rows_keep_the_sum_alone():
    rng, X, Ws = _network(2)
    new, tangent = [Ws[0]], np.ones_like(X)
    for (inputs, _), W in zip(_inputs(X, Ws), Ws, strict=True):
        if inputs is not X and len(new) < 4:
            P = extended_projector(np.zeros((len(W), len(W))), inputs, energy=1.0)
            P = extended_projector(P, tangent, energy=1.0)
            new.append(W + projected_gradient(rng.standard_normal(W.shape), P))
        tangent = compressed_jacobian(tangent, inputs, W)
    before, after = _outputs(X, Ws)[1], _outputs(X, new)[1]
    assert np.allclose(before.sum(1), after.sum(1), atol=1e-11, rtol=1e-9) and abs(before - after).max() > 1e-3


def test_against_a_null_space():
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, 6)), rng.standard_normal((3, 6))
    P = extended_projector(extended_projector(np.zeros((6, 6)), first, energy=1.0), second, energy=1.0)
    N = null_space(np.vstack([first, second]))
    assert np.allclose(np.eye(6) - P, N @ N.T, atol=1e-12, rtol=1e-9)
    assert np.allclose(P @ P, P, atol=1e-12, rtol=1e-9) and np.array_equal(P, P.T)
    full = extended_projector(np.zeros((6, 6)), rng.standard_normal((9, 6)), energy=1.0)
    assert np.allclose(full, np.eye(6), atol=1e-12, rtol=1e-9)


def test_the_energy_by_hand():
    """Squares 9, 4, 1 of 14: one direction holds 0.64, two hold 0.93."""
    rows = np.diag([3.0, 2.0, 1.0])
    for energy, rank in ((0.0, 0), (0.6, 1), (0.7, 2), (0.92, 2), (0.95, 3)):
        P = extended_projector(np.zeros((3, 3)), rows, energy=energy)
        assert np.allclose(P, np.diag((np.arange(3) < rank).astype(float)), atol=1e-14, rtol=1e-9)
    held = np.diag([1.0, 0.0, 0.0])
    assert np.allclose(extended_projector(held, rows, energy=0.6), held, rtol=1e-9)
    assert np.allclose(extended_projector(held, rows, energy=0.7), np.diag([1.0, 1.0, 0.0]), atol=1e-14, rtol=1e-9)


def test_a_linear_network_adds_no_more_than_its_inputs():
    """There the Jacobian is one matrix for all samples: 3 rows."""
    _, _, Ws = _network(4, n=20)
    J = np.concatenate([np.eye(3) @ Ws[0]] * 20)
    P = extended_projector(np.zeros((8, 8)), J, energy=1.0)
    assert np.trace(P) == pytest.approx(3)


def test_the_penalty_by_differences():
    rng = np.random.default_rng(5)
    X, labels = rng.standard_normal((6, 3)), rng.integers(0, 2, 6)
    loss = InputCurvedClassifier(X, labels, (3, 4, 2))
    theta, step = mlp.init(rng, loss.sizes), 1e-6
    squares = 0.0
    for i in range(6):
        for a in range(3):
            ends = []
            for s in (step, -step):
                moved = X[i : i + 1] + s * np.eye(3)[a]
                ends.append(float(InputCurvedClassifier(moved, labels[i : i + 1], loss.sizes)(theta)[0]))
            squares += ((ends[0] - ends[1]) / (2 * step)) ** 2
    value, _ = penalised_objective(loss, theta, weight=0.7)
    assert value == pytest.approx(float(loss(theta)[0]) + 0.7 * squares / 6, rel=1e-7)


def test_bad_input():
    with pytest.raises(ValueError, match="energy must"):
        extended_projector(np.zeros((2, 2)), np.ones((1, 2)), energy=1.5)
    with pytest.raises(TypeError, match="loss"):
        penalised_objective(lambda theta: theta, np.ones(2), weight=1.0)
