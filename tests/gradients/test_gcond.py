"""Angles and pairs by hand, PCGrad as a limit, the decisions, and what accumulation does to variance."""

import numpy as np
import pytest

from trref.gradients import pcgrad
from trref.gradients.gcond import accumulated, conflict_angle, momentum, resolve, resolve_pair, signed_step


def _fresh(G, **more):
    M = len(G)
    return resolve(G, np.zeros_like(G), np.ones(M), np.zeros((M, M)), **more)


def _pair(c, lengths=(2.0, 0.7)):
    return lengths[0] * np.array([1.0, 0.0]), lengths[1] * np.array([c, np.sqrt(1 - c * c)])


def test_the_angle_by_hand_and_without_jumps():
    assert np.allclose(
        conflict_angle(np.array([0.3, 0.0, -0.25, -0.5, -0.65, -0.8, -0.9])) / np.pi,
        [0, 0, 0.25, 0.5, 0.625, 1, 1],
        rtol=1e-9,
    )
    for threshold in (0.0, -0.5, -0.8):
        below, above = conflict_angle(np.array([threshold - 1e-9, threshold + 1e-9]))
        assert abs(below - above) < 1e-7


def test_what_is_left_of_a_conflict():
    for c in (-0.2, -0.6, -0.75):
        w, l = _pair(c)
        pair = resolve_pair(w, l)
        a = float(conflict_angle(np.array([c]))[0])
        s_w, s_l = np.sin(a), np.sin(min(a, np.pi / 2))
        assert pair.winner @ pair.loser == pytest.approx((w @ l) * (1 - s_w - s_l + s_w * s_l * c * c), rel=1e-12)


def test_at_the_thresholds():
    w, l = _pair(-0.9)
    pair = resolve_pair(w, l)
    assert np.allclose(pair.winner, w, atol=1e-15, rtol=1e-9) and abs(pair.loser @ w) < 1e-15
    pair = resolve_pair(*_pair(-0.5))
    cosine = pair.winner @ pair.loser / np.linalg.norm(pair.winner) / np.linalg.norm(pair.loser)
    assert cosine == pytest.approx(0.5)
    w, l = _pair(0.1)
    assert all(np.array_equal(a, b) for a, b in zip(resolve_pair(w, l), (w, l), strict=True))


def test_two_tasks_corrected_in_full_are_those_of_pcgrad():
    G = np.stack(_pair(-0.5))
    d = _fresh(G).direction
    assert np.allclose(d, pcgrad.surgery(G, np.array([[1, 0], [1, 0]])), atol=1e-14, rtol=1e-9)
    assert np.allclose(G @ d, (G**2).sum(1) * 0.75, rtol=1e-9)


def test_where_it_is_the_plain_sum():
    G = np.random.default_rng(0).standard_normal((4, 3))
    assert np.array_equal(_fresh(G[:1]).direction, G[0])
    assert np.allclose(_fresh(np.abs(G)).direction, np.abs(G).sum(0), rtol=1e-9)
    told = _fresh(G, weak=-0.999, main=-0.9995, crit=-0.9999)
    assert np.allclose(told.direction, G.sum(0), rtol=1e-9) and not told.wins.any()


def test_a_conflict_within_rounding_is_none():
    G = np.stack(_pair(-5e-7))
    assert not _fresh(G).wins.any() and _fresh(np.stack(_pair(-5e-6))).wins.any()


def test_who_wins():
    """Both are as long; the second kept its direction. After three victories the first is due."""
    G = np.stack(_pair(-0.9, (1.0, 1.0)))
    previous = np.array([[0.0, 1.0], G[1]])
    told = resolve(G, previous, np.ones(2), np.zeros((2, 2)))
    assert np.allclose(told.gradients[1], G[1], rtol=1e-9) and told.wins[1, 0] == 1
    told = resolve(G, previous, np.ones(2), np.array([[0.0, 0.0], [3.0, 0.0]]))
    assert np.allclose(told.gradients[0], G[0], rtol=1e-9) and np.array_equal(told.wins, [[0, 1], [0, 0]])
    long = resolve(G, 0 * G, np.array([1.0, 0.2]), np.zeros((2, 2)))
    assert long.wins[1, 0] == 1, "unusually long, by its own mean"
    assert np.allclose(long.norm_average, [1.0, 0.24], rtol=1e-9) and np.array_equal(long.previous, G)


def test_rotations_do_not_matter_and_units_do():
    rng = np.random.default_rng(1)
    G = rng.standard_normal((3, 5))
    Q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    assert np.allclose(_fresh(G @ Q).direction, _fresh(G).direction @ Q, atol=1e-12, rtol=1e-9)
    scaled = _fresh(G * np.array([[5.0], [1.0], [1.0]])).direction
    assert np.linalg.norm(scaled - _fresh(G).direction) > 0.1


def test_no_conflict_is_left_or_the_rounds_are_used_up():
    rng, left = np.random.default_rng(2), 0
    for _ in range(100):
        told = _fresh(rng.standard_normal((3, 6)))
        U = told.gradients / np.linalg.norm(told.gradients, axis=1, keepdims=True)
        left += (U @ U.T).min() < -1e-6
        assert told.wins.sum() <= 6
    assert left < 50


def test_accumulation_divides_the_variance():
    """By K, and in turn by K / N only; a ratio of variances of 4,000 numbers is within 10 %."""
    rng = np.random.default_rng(3)
    draws = rng.standard_normal((4000, 6, 2, 1))
    every = np.array([accumulated.unchecked(d)[:, 0] for d in draws])
    turn = np.array([accumulated.unchecked(d, stochastic=True)[:, 0] for d in draws])
    assert np.allclose(every.var(0), 1 / 6, rtol=0.1) and np.allclose(turn.var(0), 1 / 3, rtol=0.1)


def test_momentum_without_its_bias():
    average = np.zeros(2)
    for step in (1, 2, 3):
        average, corrected = momentum(average, np.array([1.0, -2.0]), step=step, beta=0.8)
        assert np.allclose(corrected, [1, -2], rtol=1e-14)
    assert np.allclose(signed_step(np.array([3.0, 4.0]), np.array([0.0, -2.5]), kappa=0.1), [0, -0.2], rtol=1e-9)
    assert np.allclose(signed_step(np.array([300.0, 400.0]), np.array([0.0, -2.5]), kappa=0.1), [0, -10], rtol=1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match="main must lie below"):
        conflict_angle(np.array([0.0]), main=-0.9)
    with pytest.raises(ValueError, match="multiple of 2 batches"):
        accumulated(np.ones((3, 2, 2)), stochastic=True)
