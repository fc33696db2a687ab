"""The contrastive loss by log-sum-exp, Dempster's rule by enumeration, what the gate does and what it must not."""

import itertools

import numpy as np
import pytest
from scipy import special

from trref.shift.trust_ssl import (
    conflict,
    cosine_gate,
    fused_ignorance,
    nt_xent,
    opinions,
    residual,
    trust_gate,
    trust_objective,
)


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_contrastive_loss_row_by_row():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 3))
    G = _unit(np.concatenate([a, b]))
    losses = []
    for i in range(10):
        others = [j for j in range(10) if j != i]
        s = G @ G[i] / 0.3
        losses.append(special.logsumexp(s[others]) - s[(i + 5) % 10])
    assert nt_xent(a, b, temperature=0.3)[0] == pytest.approx(np.mean(losses), rel=1e-12)


def test_of_one_image_there_is_nothing_to_contrast():
    value, gradient = nt_xent(np.array([[1.0, 2.0]]), np.array([[0.3, -1.0]]))
    assert value == pytest.approx(0, abs=1e-14) and abs(gradient.first).max() < 1e-14


def test_lengths_do_not_count():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 4, 3))
    value, gradient = nt_xent(a, b)
    assert nt_xent(7 * a, b / 3)[0] == pytest.approx(value)
    assert np.allclose((a * gradient.first).sum(1), 0, atol=1e-13, rtol=1e-9)


def _dempster(b1, u1, b2, u2):
    """By enumeration of all pairs of sets: singletons, and the whole frame, whose mass is the ignorance."""
    M = len(b1)
    frame = frozenset(range(M))
    first = {frozenset([m]): v for m, v in enumerate(b1)} | {frame: u1} if M > 1 else {frame: b1[0] + u1}
    second = {frozenset([m]): v for m, v in enumerate(b2)} | {frame: u2} if M > 1 else {frame: b2[0] + u2}
    masses, K = {}, 0.0
    for (s, v), (t, w) in itertools.product(first.items(), second.items()):
        if s & t:
            masses[s & t] = masses.get(s & t, 0) + v * w
        else:
            K += v * w
    return K, {s: v / (1 - K) for s, v in masses.items()}


def test_conflict_and_ignorance_by_dempsters_rule():
    rng = np.random.default_rng(2)
    first, second = (opinions(rng.gamma(0.5, 1.0, (6, 4)), prior=0.2) for _ in range(2))
    assert np.allclose(first.belief.sum(1) + first.ignorance, 1, rtol=1e-14)
    K = conflict(first.belief, second.belief)
    together = fused_ignorance(first.ignorance, second.ignorance, K, asymmetry=0.0)
    for i in range(6):
        expected, masses = _dempster(first.belief[i], first.ignorance[i], second.belief[i], second.ignorance[i])
        assert sum(masses.values()) == pytest.approx(1)
        assert K[i] == pytest.approx(expected) and together[i] == pytest.approx(masses[frozenset(range(4))])
    assert np.allclose(conflict(second.belief, first.belief), K, rtol=1e-13)


def test_two_identical_diffuse_opinions_conflict():
    """softplus(0) for each of 64 prototypes: ignorance 0.067, conflict 0.86, trust 0.21; K is no distance."""
    evidence = np.full((1, 1, 64), np.log(2))
    opinion = opinions(evidence[0])
    K = conflict(opinion.belief, opinion.belief)
    u = opinion.ignorance[0]
    assert u == pytest.approx(0.067, abs=5e-4) and K[0] == pytest.approx((1 - u) ** 2 * (1 - 1 / 64))
    assert K[0] == pytest.approx(0.86, abs=5e-3)
    assert trust_gate(evidence, evidence)[0, 0] == pytest.approx(0.21, abs=5e-3)


def test_trust_at_its_ends():
    sure, other = np.array([[[1e9, 0.0]]]), np.array([[[0.0, 1e9]]])
    none = np.zeros((1, 1, 2))
    assert trust_gate(sure, sure)[0, 0] == pytest.approx(1, abs=1e-8)
    assert trust_gate(sure, other)[0, 0] == pytest.approx(0.05 + 0.95 * np.exp(-2 * 0.999), rel=1e-6)
    assert trust_gate(none, none)[0, 0] == pytest.approx(0.05 + 0.95 * np.exp(-3))
    assert trust_gate(none, none, conflict_weight=0.0, ignorance_weight=0.0)[0, 0] == 1
    assert trust_gate(sure, other, floor=1.0)[0, 0] == 1


def test_a_prior_of_nothing_leaves_no_ignorance_and_a_large_one_nothing_else():
    evidence = np.random.default_rng(3).gamma(1.0, 1.0, (4, 3))
    assert opinions(evidence, prior=1e-12).ignorance.max() < 1e-10
    much = opinions(evidence, prior=1e12)
    assert much.ignorance.min() > 1 - 1e-10 and conflict(much.belief, much.belief).max() < 1e-20


def _views(seed=4, B=5, T=2, M=3):
    rng = np.random.default_rng(seed)
    vectors = [rng.standard_normal((B, 4)) for _ in range(2)]
    factors = [rng.standard_normal((B, T, 3)) for _ in range(2)]
    return [*vectors, *factors, *rng.gamma(0.5, 1.0, (2, B, T, M))]


def test_the_objective_is_the_sum():
    given = _views()
    trust = trust_gate(given[4], given[5])
    cosine = (_unit(given[2]) * _unit(given[3])).sum(2)
    expected = nt_xent(given[0], given[1])[0] + 0.2 * (trust * (1 - cosine)).mean()
    value, gradient = trust_objective(*given)
    assert value == pytest.approx(expected)
    base = nt_xent(given[0], given[1])[1]
    assert np.array_equal(gradient.first, base.first) and np.array_equal(gradient.second, base.second)
    assert trust_objective(*given, residual_weight=0.0)[0] == pytest.approx(nt_xent(given[0], given[1])[0])


def test_without_the_stop_the_loss_falls_by_closing_the_gate():
    """More conflicting evidence: the loss itself is smaller, though nothing agrees better."""
    given = _views(5)
    opposite = given[:4] + [np.tile([9.0, 0, 0], (5, 2, 1)), np.tile([0, 9.0, 0], (5, 2, 1))]
    agreeing = given[:4] + [np.tile([9.0, 0, 0], (5, 2, 1))] * 2
    assert trust_objective(*opposite)[0] < trust_objective(*agreeing)[0]


def test_the_residual_by_hand():
    """Unit vectors at 60 degrees: 1 - 1/2, times the trust."""
    x, y = np.array([[[2.0, 0.0]]]), np.array([[[1.5, 1.5 * np.sqrt(3)]]])
    value, gradient = residual(x, y, np.array([[0.4]]))
    assert value == pytest.approx(0.2)
    assert np.allclose(gradient.first, [[[0.0, -0.4 * np.sqrt(3) / 2 / 2]]], rtol=1e-9)


def test_the_cosine_gate():
    x, y = np.array([[[1.0, 0.0]]]), np.array([[[0.0, 3.0]]])
    assert cosine_gate(x, y, floor=0.1)[0, 0] == pytest.approx(0.55)
    assert cosine_gate(x, x, floor=0.0)[0, 0] == pytest.approx(special.expit(2.0))


def test_bad_input():
    with pytest.raises(ValueError, match="second must not have a vector of 0"):
        nt_xent(np.ones((1, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="evidence must be non-negative"):
        opinions(-np.ones((1, 2)))
