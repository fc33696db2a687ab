"""Seeing and setting on tables that a model has drawn, weights that cut an arrow, counterfactuals, and an adversary."""

import itertools

import numpy as np
import pytest
from scipy.spatial import distance

from trref.trustworthiness.causal_ladder import (
    adversary_floor,
    backdoor,
    flipped,
    intervention_weights,
    seen,
)


def _model(seed, S=3, K=4, C=2):
    """P(s), P(x | s), P(y | x, s), and the joint table."""
    rng = np.random.default_rng(seed)
    s, x, y = (rng.dirichlet(np.ones(k), n) for k, n in ((S, ()), (K, S), (C, (S, K))))
    return s, y, s[:, None, None] * x[:, :, None] * y


@pytest.mark.parametrize("seed", range(5))
def test_setting_is_what_the_model_does(seed):
    """With x set, s keeps its law: the sum over it of what the mechanism of y says."""
    s, y, joint = _model(seed)
    assert np.allclose(backdoor(joint), np.einsum("s,skc->kc", s, y), rtol=1e-12)
    assert np.allclose(backdoor(joint).sum(1), 1) and np.allclose(seen(joint).sum(1), 1)
    assert abs(backdoor(joint) - seen(joint)).max() > 0.01


def test_simpson():
    """x helps under each s, and is seen with fewer successes: the treatment of the severe cases."""
    counts = np.array([[[6, 81], [36, 234]], [[71, 192], [25, 55]]], dtype=float)
    joint = counts / counts.sum()
    each = joint[:, :, 1] / joint.sum(2)
    assert (each[:, 0] > each[:, 1]).all()
    assert seen(joint)[0, 1] < seen(joint)[1, 1]
    assert backdoor(joint)[0, 1] > backdoor(joint)[1, 1]


def test_equal_where_s_and_x_are_independent():
    rng = np.random.default_rng(1)
    s, x, y = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(2), (3, 4))
    joint = s[:, None, None] * x[:, None] * y
    assert np.allclose(seen(joint), backdoor(joint), rtol=1e-12)


def test_weights_make_independent_and_keep_the_laws():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 200)
    nuisance = np.where(rng.random(200) < 0.7, labels % 2, 1 - labels % 2)
    q = intervention_weights(labels, nuisance, classes=3)
    table = np.array([[q[(labels == y) & (nuisance == s)].sum() for s in range(2)] for y in range(3)])
    y, s = np.bincount(labels) / 200, np.bincount(nuisance) / 200
    assert np.allclose(table, np.outer(y, s), rtol=1e-12)
    plain = np.array([[np.mean((labels == a) & (nuisance == b)) for b in range(2)] for a in range(3)])
    assert abs(plain - np.outer(y, s)).max() > 0.05


def test_weights_are_the_intervention_on_the_label():
    """S causes Y and X: the weighted law of x given y is the adjusted one, on an exact population of 1000."""
    rng = np.random.default_rng(3)
    counts = rng.integers(5, 60, (2, 3, 2))  # s, y, x
    rows = np.concatenate([[cell] * counts[cell] for cell in itertools.product(range(2), range(3), range(2))])
    s, y, x = rows.T
    q = intervention_weights(y, s, classes=3)
    weighted = np.array([[q[(y == a) & (x == b)].sum() for b in range(2)] for a in range(3)])
    weighted /= weighted.sum(1, keepdims=True)
    assert np.allclose(weighted, backdoor(counts / counts.sum()), rtol=1e-12)


def test_counterfactuals_undo_themselves():
    rng = np.random.default_rng(4)
    y, s, u = rng.integers(0, 2, 50), rng.integers(0, 2, 50).astype(float), rng.standard_normal((50, 3))
    a, b = rng.standard_normal((2, 3))
    X = y[:, None] * a + s[:, None] * b + u
    other = flipped(X, s, b)
    assert np.allclose(other, y[:, None] * a + (1 - s)[:, None] * b + u)
    assert np.allclose(flipped(other, 1 - s, b), X)


@pytest.mark.parametrize("seed", range(5))
def test_floor_by_scipy(seed):
    p, q = np.random.default_rng(seed).dirichlet(np.ones(6), 2)
    js = distance.jensenshannon(p, q) ** 2
    assert adversary_floor(p, q) == pytest.approx(np.log(2) - js, rel=1e-12)
    # no chance of being the first domain does better than p / (p + q)
    best = p / (p + q)
    for d in np.random.default_rng(9).random((200, 6)):
        assert -(p @ np.log(d) + q @ np.log(1 - d)) / 2 >= adversary_floor(p, q)
    assert adversary_floor(p, q) == pytest.approx(-(p @ np.log(best) + q @ np.log(1 - best)) / 2)
    assert adversary_floor(p, p) == pytest.approx(np.log(2))
    assert adversary_floor(np.array([1.0, 0]), np.array([0.0, 1])) == 0


def test_what_is_refused():
    with pytest.raises(ValueError, match="joint must give every x a probability under every s"):
        backdoor(np.array([[[0.5, 0.5]], [[0.0, 0.0]]]))
    with pytest.raises(ValueError, match="joint must sum to 1"):
        seen(np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="nuisance must be less than 2"):
        intervention_weights(np.array([0]), np.array([2]))
