"""A two-layer network by hand, its start at 0, and its gradient by differences of one weight."""

import numpy as np
import pytest

from trref.diffusion.two_layer import features, network, squared_loss, zero_start


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _units(seed, M, P, D):
    return _draws(seed, M, P), np.random.default_rng(seed + 1).choice((-1.0, 1.0), (M, D))


def test_by_hand():
    """Units (1, 1) and (-1, 0) of signs 1 and -1 at (2, 1): 3/sqrt 2; label 0, so that the first row is 3/2 (2, 1)."""
    W, a, Z = np.array([[1.0, 1.0], [-1.0, 0.0]]), np.array([[1.0], [-1.0]]), np.array([[2.0, 1.0]])
    assert network(W, a, Z) == pytest.approx(3 / np.sqrt(2))
    loss, gradient = squared_loss(W, a, Z, np.zeros((1, 1)))
    assert loss == pytest.approx(9 / 4)
    assert gradient == pytest.approx(np.array([[3.0, 1.5], [0.0, 0.0]]))


def test_it_starts_at_zero_and_learns():
    W, a, Z, Y = *_units(0, 50, 4, 2), _draws(2, 20, 4), _draws(3, 20, 2)
    doubled = zero_start(W, a)
    assert abs(network(*doubled, Z)).max() < 1e-14
    first, gradient = squared_loss(*doubled, Z, Y)
    assert first == pytest.approx((Y**2).sum() / 2)
    after, _ = squared_loss(doubled.W - 0.01 * gradient, doubled.a, Z, Y)
    assert after < first


def test_the_gradient_by_one_weight():
    W, a, Z, Y = *_units(4, 3, 2, 2), _draws(6, 5, 2), _draws(7, 5, 2)
    _, gradient = squared_loss(W, a, Z, Y)
    for r in range(3):
        for p in range(2):
            h = np.zeros_like(W)
            h[r, p] = 1e-6
            slope = (squared_loss(W + h, a, Z, Y)[0] - squared_loss(W - h, a, Z, Y)[0]) / 2e-6
            assert gradient[r, p] == pytest.approx(slope, abs=1e-7)


def test_it_is_homogeneous_without_the_constant():
    W, a, z = *_units(8, 10, 3, 2), _draws(10, 4, 3)
    assert np.allclose(network(W, a, 3 * z), 3 * network(W, a, z), rtol=1e-13)
    assert not network(W, a, 0 * z).any()
    seen = features(_draws(11, 4, 2), np.full(4, 0.5), t_min=0.1)
    assert np.allclose(seen[:, 2:], [0.4, 1.0])


def test_outputs_stay_of_order_one():
    """The variance of an output is |z|²/2 at every width."""
    z = np.array([[1.0, -2.0, 0.5]])
    for M in (10, 1000):
        values = [network(*_units(2 * seed, M, 3, 1), z)[0, 0] for seed in range(600)]
        assert np.var(values) == pytest.approx((z**2).sum() / 2, rel=0.25)


def test_bad_input():
    W, a = _units(12, 4, 3, 2)
    with pytest.raises(ValueError, match="Z must have shape"):
        network(W, a, np.ones((2, 4)))
    with pytest.raises(ValueError, match="t must lie in"):
        features(np.ones((2, 2)), np.array([0.5, 1.5]))
