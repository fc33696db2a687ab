"""Weights and surgery by hand, their symmetries, the best of all weights, and the hard rule as a limit."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.gradients.cg2a import agreement_weights, diagnostics, direction, rescaled, soft_surgery


def _rows(seed, M=4, P=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(P) + rng.standard_normal((M, P)) * rng.choice((0.3, 2.0), (M, 1))


def test_numbers_by_hand():
    """Directions (1, 0), (0.6, 0.8), (0, -1): a = 1.6, 1.6 + 0.2 - 1, and -0.8 + 1."""
    G = np.array([[2.0, 0.0], [3.0, 4.0], [0.0, -5.0]])
    assert np.allclose(agreement_weights(G), np.array([1.6, 0.8, 0.2]) / 2.6, rtol=1e-14)
    assert np.allclose(rescaled(G)[1], 12 * 0.8 / 2.6 * np.array([0.6, 0.8]), rtol=1e-14)
    # sums 5 and -1 of absolute sums 5 and 9
    assert np.allclose(soft_surgery(G, tau=2.0), [5 / 3, -1 / 81 / 3], rtol=1e-14)
    told = diagnostics(G)
    assert np.allclose(told.norms, [2, 5, 5], rtol=1e-9) and told.conflicts == pytest.approx(1 / 3)
    assert np.allclose(told.cosines, [[1, 0.6, 0], [0.6, 1, -0.8], [0, -0.8, 1]], rtol=1e-9)
    assert np.allclose(told.sign_agreement, [2 / 3, 0], rtol=1e-9)


def test_weights_by_length_as_well():
    """a = (2, 1)·(5, -1), (3, 4)·(5, -1) and (0, -5)·(5, -1) for rows of that sum."""
    G = np.array([[2.0, 0.0], [3.0, 4.0], [0.0, -5.0]])
    assert np.allclose(agreement_weights(G, normalise=False), np.array([10.0, 11.0, 5.0]) / 26, rtol=1e-14)
    assert agreement_weights(np.array([[1.0], [-3.0]]), normalise=False) == pytest.approx([-0.25, 0.75])


def test_order_scale_and_one_long_gradient():
    G = _rows(0)
    order = np.array([2, 0, 3, 1])
    assert np.allclose(direction(G[order]), direction(G), rtol=1e-12, atol=1e-14)
    assert np.allclose(direction(7 * G), 7 * direction(G), rtol=1e-12, atol=1e-14)
    longer = G * np.array([1.0, 100.0, 1.0, 1.0])[:, None]
    assert np.allclose(agreement_weights(longer), agreement_weights(G), rtol=1e-12)
    ratio = np.linalg.norm(longer, axis=1).mean() / np.linalg.norm(G, axis=1).mean()
    assert np.allclose(direction(longer), ratio * direction(G), rtol=1e-12, atol=1e-14)


def test_identical_alone_opposite_and_disjoint():
    g = np.array([0.5, -2.0, 1.0])
    assert np.allclose(direction(np.stack([g] * 3)), g, rtol=1e-14)
    assert np.allclose(direction(g[None]), g, rtol=1e-14)
    opposite = np.stack([g, -g])
    assert np.array_equal(agreement_weights(opposite), [0.5, 0.5]) and not direction(opposite).any()
    disjoint = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, -1.0]])
    assert np.allclose(soft_surgery(disjoint, tau=3.0), disjoint.mean(0), rtol=1e-9)
    assert not direction(np.zeros((2, 3))).any()


def test_no_weights_of_length_1_promise_more():
    """Where no agreement is negative, w ∝ a maximises the promised decrease Σ w a."""
    G = np.abs(_rows(1))
    units = G / np.linalg.norm(G, axis=1, keepdims=True)
    promise = lambda w: -(w @ units @ units.sum(0)) / np.linalg.norm(w)  # noqa: E731
    best = minimize(promise, np.ones(len(G)), tol=1e-14)
    w = agreement_weights(G)
    assert promise(w) <= best.fun + 1e-9
    assert np.allclose(w / np.linalg.norm(w), best.x / np.linalg.norm(best.x), atol=1e-5, rtol=1e-9)


def test_the_hard_rule_is_the_limit():
    G = _rows(2)
    agree = np.all(G > 0, 0) | np.all(G < 0, 0)
    assert 0 < agree.sum() < 6
    assert np.allclose(soft_surgery(G, tau=1e5), np.where(agree, G.mean(0), 0), atol=1e-12, rtol=1e-9)


def test_it_never_ascends_on_the_sum_but_may_on_one():
    ascends = 0
    for seed in range(200):
        G = _rows(seed)
        M = rescaled(G)
        g = direction(G)
        assert g @ M.sum(0) >= 0
        ascends += (G @ g < -1e-12).any()
    assert 10 < ascends < 190


def test_of_noise_the_agreement_is_that_of_a_random_walk():
    """E|Σ x|/Σ|x| of n normal numbers nears 1/√n · √(2/π)/√(2/π) as n grows."""
    G = np.random.default_rng(3).standard_normal((50, 4000))
    kappa = np.abs(soft_surgery(G, tau=1.0)) / np.abs(G.mean(0))
    assert kappa.mean() == pytest.approx(1 / np.sqrt(50), rel=0.06)


def test_bad_input():
    with pytest.raises(ValueError, match="tau must lie in"):
        direction(_rows(0), tau=-1.0)
    with pytest.raises(ValueError, match="gradients must have shape"):
        rescaled(np.ones(3))
