"""Histogram targets: masses of a normal law, their mean inside the range and at its ends, and a bounded gradient."""

import math

import numpy as np
import pytest
from scipy.stats import norm, truncnorm

from trref.manifolds.histogram_loss import histogram_loss, histogram_targets, histogram_value


def test_by_hand():
    """Two bins on [-1, 1] and ratio 1: σ = 1, and a target of 0 lies in the middle."""
    p = histogram_targets(np.array([0.0, 1.0]), bins=2, low=-1.0, high=1.0, ratio=1.0)
    assert p[0] == pytest.approx([0.5, 0.5], rel=1e-15)
    near, far = norm.cdf(0) - norm.cdf(-1), norm.cdf(-1) - norm.cdf(-2)
    assert p[1] == pytest.approx([far / (near + far), near / (near + far)], rel=1e-13)


def test_masses_of_a_truncated_normal_law():
    t = np.array([-9.0, 0.1, 6.3])
    sigma = 0.75 * 20 / 51
    edges = np.linspace(-10, 10, 52)
    for mean, row in zip(t, histogram_targets(t), strict=True):
        law = truncnorm((-10 - mean) / sigma, (10 - mean) / sigma, mean, sigma)
        assert row == pytest.approx(np.diff(law.cdf(edges)), abs=1e-12)


def test_the_mean_is_the_target_inside_and_not_at_the_ends():
    t = np.array([-7.0, 0.0, 0.123, 8.0])
    centres = np.linspace(-10, 10, 52)[:-1] + 10 / 51
    assert histogram_targets(t) @ centres == pytest.approx(t, abs=2e-6)
    ends = histogram_targets(np.array([9.9, 10.0, 12.0])) @ centres
    assert ends - [9.9, 10, 10] == pytest.approx([-0.20, -0.27, -0.27], abs=0.005)


def test_loss_value_and_gradient():
    t = np.array([0.3, -4.0])
    p = histogram_targets(t)
    loss, gradient = histogram_loss(np.log(p + 1e-300), t)
    entropy = -(p * np.log(p + 1e-300)).sum() / 2
    assert loss == pytest.approx(entropy, rel=1e-12), "at the target itself the loss is its entropy"
    assert abs(gradient).max() < 1e-15
    assert histogram_value(np.log(p + 1e-300)) == pytest.approx(t, abs=2e-6)


def test_the_gradient_is_bounded_however_wrong():
    rng = np.random.default_rng(0)
    logits = 100 * rng.standard_normal((20, 51))
    _, gradient = histogram_loss(logits, np.full(20, -10.0))
    assert (np.sqrt((gradient**2).sum(1)) <= math.sqrt(2) / 20).all()
    assert histogram_loss(logits, np.full(20, -25.0))[0] == histogram_loss(logits, np.full(20, -10.0))[0]


def test_what_is_refused():
    with pytest.raises(ValueError, match="low must be less than high"):
        histogram_targets(np.zeros(2), low=1.0, high=1.0)
