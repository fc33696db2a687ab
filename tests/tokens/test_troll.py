"""TROLL's limits, its gradient inside and outside the ball, the support, and what public code has instead."""

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.tokens.batches import vocabulary_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.troll import troll
from trref.tokens.troll_projection import multiplier, project_kl


def test_a_tiny_ball_leaves_only_the_pull_back():
    batch = vocabulary_batch(1, spread=0.8)
    with_pull, without = (troll(*batch, radius=1e-10, kl_weight=a)[1] for a in (1.0, 0.0))
    assert abs(without).max() < 1e-4 < 0.01 < abs(with_pull).max()
    logits, old = batch[0], batch[1]
    p = np.exp(log_softmax(logits, -1))
    gap = log_softmax(logits, -1) - log_softmax(old, -1)
    kl = (p * gap).sum(-1, keepdims=True)
    w = batch[4] / batch[4].sum()
    assert np.allclose(with_pull, w[..., None] * p * (gap - kl), atol=1e-3, rtol=1e-9)


def test_inside_the_ball_nothing_pulls():
    batch = vocabulary_batch(2, spread=0.05)
    assert not multiplier(*batch[:2]).any()
    for a, b in zip(troll(*batch, kl_weight=1.0), troll(*batch, kl_weight=7.0), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("kl_weight", [0.0, 1.0])
@pytest.mark.parametrize("step", [0.1, 2.0])
def test_gradient_of_one_position(kl_weight, step):
    """Outside: at a fixed projection for the second term; the first goes through the multiplier."""
    rng = np.random.default_rng(3)
    old = rng.standard_normal((1, 1, 5))
    z = old + step * rng.standard_normal((1, 1, 5))
    args = old, np.array([[2]]), np.array([1.3]), np.ones((1, 1))
    target = project_kl(z, old)
    _, gradient = troll(z, *args, kl_weight=kl_weight)
    check_gradient(lambda x: troll(x, *args, kl_weight=kl_weight, projection=target)[0], z, gradient, rng=rng)
    assert gradient.sum() == pytest.approx(0, abs=1e-14)


def test_it_is_the_projected_policy_that_counts():
    """Moving on along old-to-new changes nothing but the pull."""
    logits, old, actions, advantage, mask = vocabulary_batch(4, spread=1.5)
    further = old + 1.3 * (logits - old)
    outside = multiplier(logits, old) > 0
    assert outside.all()
    ours, other = (troll(z, old, actions, advantage, mask, kl_weight=0.0) for z in (logits, further))
    assert ours[0] == pytest.approx(other[0], rel=1e-9)


def test_the_multiplier_matters():
    by_name = {d.name: d.f for d in find("troll.troll").deviations}
    constant, detached = (by_name[n] for n in ("no gradient through the multiplier", list(by_name)[1]))
    batch = vocabulary_batch(5, spread=1.5)
    ours = troll(*batch)
    assert constant(*batch)[0] == pytest.approx(ours[0], rel=1e-9)
    assert not np.allclose(constant(*batch)[1], ours[1], atol=1e-3)
    near = vocabulary_batch(5, spread=0.05)
    for f in (constant, detached):
        assert np.allclose(f(*near)[1], troll(*near)[1], atol=1e-12, rtol=1e-9), "alike where nothing is projected"
