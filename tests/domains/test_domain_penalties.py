"""Penalties by hand, against loops over pairs and rows, and where they vanish."""

import itertools

import numpy as np
import pytest

from trref.domains.domain_penalties import coral, fishr, irm, vrex
from trref.nn.losses import softmax_cross_entropy


def _head(seed=0, E=3, N=12, D=3, K=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((D, K)), rng.standard_normal((E, N, D)), rng.integers(0, K, (E, N))


def test_coral_by_hand_and_by_pairs():
    """Means 1 and 3, variances 2 and 8: 4 + 36."""
    features = np.array([[[0.0], [2.0]], [[1.0], [5.0]]])
    value, gradient = coral(features)
    assert value == pytest.approx(40) and gradient[1, 1, 0] == pytest.approx(2 * 2 / 2 + 2 * 6 * 2 * 2)
    _, features, _ = _head(E=4)
    pairs = [
        np.sum((a.mean(0) - b.mean(0)) ** 2) + np.sum((np.cov(a.T) - np.cov(b.T)) ** 2)
        for a, b in itertools.combinations(features, 2)
    ]
    assert coral(features)[0] == pytest.approx(np.mean(pairs), rel=1e-12)


def test_irm_is_the_slope_along_the_heads_scale():
    theta, features, labels = _head()
    step, slopes = 1e-5, []
    for Z, y in zip(features, labels, strict=True):
        ends = [softmax_cross_entropy((1 + s) * Z @ theta, y)[0] for s in (step, -step)]
        slopes.append((ends[0] - ends[1]) / (2 * step))
    assert irm(theta, features, labels)[0] == pytest.approx(np.mean(np.square(slopes)), rel=1e-7)
    assert irm(0 * theta, features, labels)[0] == 0


def test_vrex_is_the_variance_of_the_losses():
    theta, features, labels = _head(1)
    losses = [softmax_cross_entropy(Z @ theta, y)[0] for Z, y in zip(features, labels, strict=True)]
    assert vrex(theta, features, labels)[0] == pytest.approx(np.var(losses), rel=1e-12)


def test_fishr_compares_variances_of_single_gradients():
    theta, features, labels = _head(2)
    v = []
    for Z, y in zip(features, labels, strict=True):
        p = np.exp(Z @ theta) / np.exp(Z @ theta).sum(1, keepdims=True)
        rows = [np.outer(z, q - np.eye(3)[k]).ravel() for z, q, k in zip(Z, p, y, strict=True)]
        v.append(np.var(rows, 0))
    assert fishr(theta, features, labels)[0] == pytest.approx(np.var(v, 0).sum(), rel=1e-12)


def test_identical_domains_and_a_single_one():
    theta, features, labels = _head(3)
    same, alike = np.stack([features[0]] * 2), np.stack([labels[0]] * 2)
    for Z, y in ((same, alike), (features[:1], labels[:1])):
        assert coral(Z)[0] == 0 and vrex(theta, Z, y)[0] == 0 and fishr(theta, Z, y)[0] == 0
        assert not vrex(theta, Z, y)[1].features.any() and not fishr(theta, Z, y)[1].theta.any()
        assert irm(theta, Z, y)[0] > 0


def test_bad_input():
    theta, features, labels = _head()
    with pytest.raises(ValueError, match="labels must be less than 3"):
        fishr(theta, features, labels + 1)
