"""Surgery by hand, in closed form for two tasks, and where the order matters."""

import numpy as np
import pytest

from trref.gradients.pcgrad import surgery

PAIR = np.array([[0, 1], [1, 0]])


def test_numbers_by_hand():
    """(2, 0) and (-1, 1): projections (1, 1) and (0, 1)."""
    assert np.allclose(surgery(np.array([[2.0, 0.0], [-1.0, 1.0]]), PAIR), [1, 2], rtol=1e-15)


def test_two_tasks_both_gain():
    rng = np.random.default_rng(0)
    for _ in range(50):
        G = rng.standard_normal((2, 5))
        c = G[0] @ G[1] / np.prod(np.linalg.norm(G, axis=1))
        d = surgery(G, PAIR)
        expected = (G**2).sum(1) * (1 - c * c) if c < 0 else G @ G.sum(0)
        assert np.allclose(G @ d, expected, rtol=1e-11)


def test_without_conflict_it_is_the_sum():
    G = np.abs(np.random.default_rng(1).standard_normal((4, 3)))
    order = np.stack([np.random.default_rng(k).permutation(4) for k in range(4)])
    assert np.allclose(surgery(G, order), G.sum(0), rtol=1e-9)


def test_of_three_the_order_matters():
    G = np.array([[1.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])
    one = surgery(G, np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]]))
    other = surgery(G, np.array([[2, 1, 0], [0, 2, 1], [0, 1, 2]]))
    assert np.linalg.norm(one - other) > 0.1


def test_bad_input():
    with pytest.raises(ValueError, match="order must be less than 2"):
        surgery(np.ones((2, 3)), np.array([[0, 2], [1, 0]]))
