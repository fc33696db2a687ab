"""Adapters by hand, their rank, and what training with them can and cannot reach."""

import numpy as np
import pytest

from trref.diffusion.lora import lora_gradients, lora_weights

RNG = np.random.default_rng(0)


def test_numbers_by_hand():
    """alpha 6 over rank 2, half of it: 1.5 (B A)."""
    W, A, B = np.eye(2), np.array([[1.0, 2.0], [0.0, -1.0]]), np.array([[1.0, 0.0], [2.0, 4.0]])
    how = {"alpha": 6.0, "strength": 0.5}
    assert lora_weights(W, A, B, **how).tolist() == [[2.5, 3.0], [3.0, 1.0]]
    d_A, d_B = lora_gradients(np.array([[1.0, 0.0], [0.0, 2.0]]), A, B, **how)
    assert d_A.tolist() == [[1.5, 6.0], [0.0, 12.0]] and d_B.tolist() == [[1.5, 0.0], [6.0, -3.0]]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_change_has_the_rank(rank):
    W, A, B = RNG.standard_normal((5, 4)), RNG.standard_normal((rank, 4)), RNG.standard_normal((5, rank))
    assert np.linalg.matrix_rank(lora_weights(W, A, B) - W) == rank


def test_before_training_only_b_moves():
    d_W, A = RNG.standard_normal((5, 4)), RNG.standard_normal((2, 4))
    d_A, d_B = lora_gradients(d_W, A, np.zeros((5, 2)))
    assert not d_A.any() and np.linalg.matrix_rank(d_B) == 2


def test_differences():
    """The slope of a curved loss of the adapted matrix, along both factors."""
    W, A, B = RNG.standard_normal((3, 4)), RNG.standard_normal((2, 4)), RNG.standard_normal((3, 2))
    loss = lambda A, B: np.sin(lora_weights(W, A, B, alpha=2.5, strength=0.6)).sum()  # noqa: E731
    gradients = lora_gradients(np.cos(lora_weights(W, A, B, alpha=2.5, strength=0.6)), A, B, alpha=2.5, strength=0.6)
    dA, dB = RNG.standard_normal(A.shape), RNG.standard_normal(B.shape)
    slope = (loss(A + 1e-5 * dA, B + 1e-5 * dB) - loss(A - 1e-5 * dA, B - 1e-5 * dB)) / 2e-5
    assert (gradients.A * dA).sum() + (gradients.B * dB).sum() == pytest.approx(slope, rel=1e-8)


def test_a_rotation_of_the_inner_dimensions_changes_nothing():
    W, A, B = RNG.standard_normal((3, 4)), RNG.standard_normal((2, 4)), RNG.standard_normal((3, 2))
    Q = np.linalg.qr(RNG.standard_normal((2, 2)))[0]
    assert np.allclose(lora_weights(W, Q.T @ A, B @ Q), lora_weights(W, A, B), rtol=1e-12, atol=1e-13)


def test_the_best_change_is_the_truncated_singular_value_decomposition():
    """Gradient descent on |W' - target|² from B = 0 ends at the distance of Eckart and Young."""
    rng = np.random.default_rng(1)
    W, target, rank = rng.standard_normal((5, 4)), rng.standard_normal((5, 4)), 2
    A, B = rng.standard_normal((rank, 4)) / 2, np.zeros((5, rank))
    for _ in range(4000):
        d_A, d_B = lora_gradients(2 * (lora_weights(W, A, B, alpha=2.0) - target), A, B, alpha=2.0)
        A, B = A - 0.02 * d_A, B - 0.02 * d_B
    left = np.linalg.svd(target - W, compute_uv=False)[rank:]
    assert np.linalg.norm(lora_weights(W, A, B, alpha=2.0) - target) == pytest.approx(np.linalg.norm(left), rel=1e-6)


def test_bad_input():
    W, A, B = np.eye(2), np.ones((1, 2)), np.ones((2, 1))
    for wrong in ({"alpha": 0.0}, {"strength": 1.5}, {"strength": -0.1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must lie in"):
            lora_weights(W, A, B, **wrong)
    with pytest.raises(ValueError, match="B must have shape"):
        lora_weights(W, A, np.ones((2, 2)))
    with pytest.raises(ValueError, match="A must have shape"):
        lora_gradients(W, np.ones((1, 3)), B)
