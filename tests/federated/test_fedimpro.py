"""Statistics against those of all data, the distance against SciPy, and the exact ratio of variances."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from trref.federated.fedimpro import (
    client_statistics,
    conditional_distance,
    drawn_features,
    gradient_variance,
    joint_loss,
    linear_margin,
    pooled_statistics,
    server_statistics,
)


def _network(seed=0, N=8, M=5):
    rng = np.random.default_rng(seed)
    shapes = {"W1": (4, 3), "b1": (3,), "W2": (3, 6), "b2": (6,), "W3": (6, 2), "b3": (2,)}
    weights = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    data = {"X": rng.standard_normal((N, 4)), "labels": rng.integers(0, 2, N)}
    return rng, weights, data, {"sampled": rng.standard_normal((M, 3)), "sampled_labels": rng.integers(0, 2, M)}


def _upper(told):
    return np.concatenate([part.ravel() for part in told[1][2:]])


def test_drawn_features_do_not_move_the_lower_part():
    _, weights, data, drawn = _network()
    other = {**drawn, "sampled": drawn["sampled"] + 1}
    a, b = (joint_loss(**weights, **data, **d) for d in (drawn, other))
    assert np.array_equal(a[1].W1, b[1].W1) and abs(_upper(a) - _upper(b)).max() > 0.01


def test_features_of_the_samples_themselves_count_twice():
    """Drawn features that are the samples' own double the upper gradient, and leave the lower one."""
    _, weights, data, _ = _network(1)
    h = np.tanh(data["X"] @ weights["W1"] + weights["b1"])
    own = {"sampled": h, "sampled_labels": data["labels"]}
    joint = joint_loss(**weights, **data, **own, weighting="joint")
    both = joint_loss(**weights, **data, **own)
    assert both[0] == pytest.approx(2 * joint[0]) and np.allclose(_upper(both), 2 * _upper(joint), rtol=1e-9)
    assert np.allclose(both[1].W1, 2 * joint[1].W1, rtol=1e-9)


def test_moments_by_hand_and_of_absent_classes():
    features, labels = np.array([[1.0], [3.0], [7.0]]), np.array([0, 0, 2])
    told = client_statistics(np.full((3, 1), 4.0), np.full((3, 1), 2.0), features, labels, beta=0.75)
    assert np.allclose(told.means[:, 0], [3.5, 4, 4.75], rtol=1e-9) and np.allclose(
        told.variances[:, 0], [1.75, 2, 1.5], rtol=1e-9
    )
    told = server_statistics(
        np.zeros((1, 1)), np.ones((1, 1)), np.array([[[2.0]], [[4.0]]]), np.array([[[1.0]], [[5.0]]]), beta=0.5
    )
    assert np.allclose(told.means, 1.5, rtol=1e-9) and np.allclose(told.variances, 2, rtol=1e-9)


def test_pooled_statistics_are_those_of_all_samples():
    rng = np.random.default_rng(2)
    parts = [rng.standard_normal((n, 2, 3)) * s + s for n, s in ((4, 1.0), (9, 3.0))]
    counts = np.array([[4.0, 4.0], [9.0, 9.0]])
    told = pooled_statistics(counts, np.stack([p.mean(0) for p in parts]), np.stack([p.var(0) for p in parts]))
    everything = np.concatenate(parts)
    assert np.allclose(told.means, everything.mean(0), rtol=1e-9) and np.allclose(
        told.variances, everything.var(0), rtol=1e-9
    )


def test_drawn_features_have_these_moments():
    rng = np.random.default_rng(3)
    means, variances = np.array([[1.0], [-2.0]]), np.array([[4.0], [0.25]])
    labels = np.repeat([0, 1], 20000)
    h = drawn_features(means, variances, labels, rng.standard_normal((40000, 1)))[:, 0]
    for k in (0, 1):
        draws = h[labels == k]
        assert draws.mean() == pytest.approx(means[k, 0], abs=4.5 * np.sqrt(variances[k, 0] / 20000))
        assert draws.var() == pytest.approx(variances[k, 0], rel=0.05)


def test_the_distance_against_scipy():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal(30), rng.standard_normal(17) + 0.5
    a, b = np.arange(30) % 3, np.arange(17) % 3
    expected = sum(
        wasserstein_distance(x[a == k], y[b == k]) * ((a == k).mean() + (b == k).mean()) / 2 for k in range(3)
    )
    assert conditional_distance(x, a, y, b) == pytest.approx(expected, rel=1e-12)
    assert conditional_distance(x, a, x, a) == 0
    big = rng.standard_normal(3000)
    none = np.zeros(3000, int)
    assert conditional_distance(big, none, big + 0.7, none) == pytest.approx(0.7, rel=1e-9)


def test_the_margin_by_search():
    rng = np.random.default_rng(5)
    w, b, x = np.array([1.0, 2.0]), np.asarray(-0.5), rng.uniform(1, 3, (1, 2))
    angles = np.linspace(0, 2 * np.pi, 2001)
    sphere = np.stack([np.cos(angles), np.sin(angles)], 1)
    margin = float(linear_margin(w, b, x, np.ones(1)))
    assert ((x + 0.999 * margin * sphere) @ w + b > 0).all()
    assert ((x + 1.001 * margin * sphere) @ w + b < 0).any()
    assert linear_margin(w, b, x, -np.ones(1)) == 0


def test_the_ratio_of_variances():
    """(N/(N + N̂))² if n̂ is in proportion to n, whatever the common gradient; not if n̂ is the same for all."""
    rng = np.random.default_rng(6)
    own, common = rng.standard_normal((4, 7)), 5 * rng.standard_normal(7)
    n = np.array([10.0, 20.0, 30.0, 140.0])

    def after(more):
        mixed = (n[:, None] * own + more[:, None] * common) / (n + more)[:, None]
        whole = ((n + more)[:, None] * mixed).sum(0) / (n + more).sum()
        before = own - (n[:, None] * own).sum(0) / n.sum()
        return ((mixed - whole) ** 2).sum(1) / (before**2).sum(1)

    assert np.allclose(after(n), 0.25, rtol=1e-9) and np.allclose(after(0.5 * n), (1 / 1.5) ** 2, rtol=1e-9)
    assert np.ptp(after(np.full(4, 50.0))) > 0.1
    mixed = (own + common) / 2
    assert gradient_variance(mixed, n) == pytest.approx(float(gradient_variance(own, n)) / 4)


def test_bad_input():
    with pytest.raises(ValueError, match="the same classes"):
        conditional_distance(np.ones(1), np.array([0]), np.ones(1), np.array([1]))
    with pytest.raises(ValueError, match="labels must be less than 1"):
        client_statistics(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.array([1]), beta=0.5)
