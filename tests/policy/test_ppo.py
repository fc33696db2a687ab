"""Theorems and limits of the clipped surrogate."""

import math

import numpy as np
import pytest

from trref.catalog import find
from trref.policy.ppo import clip_fraction, clipped_surrogate, total_objective, unclipped_surrogate


def _batch(seed, n=200, spread=0.5):
    rng = np.random.default_rng(seed)
    old = -rng.exponential(1.5, n)
    return old + spread * rng.standard_normal(n), old, rng.standard_normal(n)


def test_numbers_by_hand():
    """Ratios 1.5 and 0.5, advantages ±1, all four corners: min(1.5, 1.2), min(-1.5, -1.2), min(.5, .8), …"""
    log_prob = np.log([1.5, 1.5, 0.5, 0.5])
    loss, gradient = clipped_surrogate(log_prob, np.zeros(4), np.array([1.0, -1.0, 1.0, -1.0]))
    assert loss == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4, rel=1e-15)
    assert np.allclose(gradient, [0, 1.5 / 4, -0.5 / 4, 0], rtol=1e-15)


def test_brute_force_minimum():
    log_prob, old, advantage = _batch(0)
    total = 0.0
    for lp, lo, a in zip(log_prob, old, advantage, strict=True):
        r = math.exp(lp - lo)
        total += min(r * a, min(max(r, 0.7), 1.3) * a)
    assert clipped_surrogate(log_prob, old, advantage, clip=0.3)[0] == pytest.approx(-total / 200, rel=1e-13)


def test_equivalent_form():
    """r A - |A| max(0, sign(A)(r - 1) - clip)."""
    log_prob, old, advantage = _batch(1)
    r = np.exp(log_prob - old)
    J = np.mean(r * advantage - abs(advantage) * np.maximum(0, np.sign(advantage) * (r - 1) - 0.2))
    assert clipped_surrogate(log_prob, old, advantage)[0] == pytest.approx(-J, rel=1e-13)


@pytest.mark.parametrize("seed", range(20))
def test_pessimistic_bound(seed):
    log_prob, old, advantage = _batch(seed)
    assert clipped_surrogate(log_prob, old, advantage)[0] >= unclipped_surrogate(log_prob, old, advantage)[0]


def test_on_policy_it_is_the_policy_gradient():
    _, old, advantage = _batch(2)
    loss, gradient = clipped_surrogate(old, old, advantage)
    assert loss == pytest.approx(-advantage.mean(), rel=1e-13)
    assert np.allclose(gradient, -advantage / 200, rtol=1e-13)


def test_the_minimum_matters():
    """A bad action whose ratio has grown is pulled back; without the minimum it would not be."""
    deviation = next(d for d in find("ppo.clipped_surrogate").deviations if d.name == "without the minimum")
    bad = (np.array([math.log(2.0)]), np.zeros(1), np.array([-1.0]))
    assert clipped_surrogate(*bad)[1] == pytest.approx([2.0])
    assert deviation.f(*bad)[1] == pytest.approx([0.0])


@pytest.mark.parametrize("clip", [0.0, -0.2, math.nan, math.inf])
def test_clip_out_of_range(clip):
    with pytest.raises(ValueError, match="clip must lie in"):
        clipped_surrogate(*_batch(0), clip=clip)


def _total_batch(seed, n=50):
    rng = np.random.default_rng(seed)
    return (*_batch(seed, n), rng.standard_normal(n), rng.standard_normal(n), rng.exponential(1.0, n))


def test_total_by_hand():
    """On-policy with advantages ±1: surrogate 0; errors 3 and 1: mean square 5; entropy 0.5: -5 + 2·0.5."""
    zero = np.zeros(2)
    value, target, entropy = np.array([3.0, 0.0]), np.array([0.0, 1.0]), np.array([0.25, 0.75])
    loss, gradient = total_objective(
        zero, zero, np.array([1.0, -1.0]), value, target, entropy, value_weight=1.0, entropy_weight=2.0
    )
    assert loss == pytest.approx(5 - 2 * 0.5)
    assert gradient.value == pytest.approx([3.0, -1.0]) and gradient.entropy == pytest.approx([-1.0, -1.0])


def test_total_without_value_and_entropy_is_the_clipped_surrogate():
    batch = _total_batch(4)
    loss, gradient = total_objective(*batch, value_weight=0.0, entropy_weight=0.0)
    expected, d_log_prob = clipped_surrogate(*batch[:3])
    assert loss == expected and np.array_equal(gradient.log_prob, d_log_prob)
    assert not gradient.value.any() and not gradient.entropy.any()


def test_public_value_clipping():
    """Old value 0, clip 0.2, target 1: once the value has moved to 0.5, one variant pulls on and the other is stuck."""
    known = {d.name: d.f for d in find("ppo.total_objective").deviations}
    clipped, branch = known["value clipping"], known["value clipping without the maximum"]
    halved = known["half the squared error"]
    batch = {"log_prob": np.zeros(1), "old_log_prob": np.zeros(1), "advantage": np.ones(1), "entropy": np.zeros(1)}
    batch |= {"value": np.array([0.5]), "value_target": np.ones(1)}
    paper = total_objective(**batch, value_weight=0.5)[1].value
    assert paper == pytest.approx([-0.5]) and halved(**batch, value_weight=0.5)[1][1] == pytest.approx([-0.25])
    # the clipped value 0.2 is further off than the value 0.5: the larger error wins, and has no gradient
    assert clipped(**batch)[1][1] == pytest.approx([0.0]) and branch(**batch)[1][1] == pytest.approx([0.0])
    # overshooting, the value itself is further off: only the maximum pulls it back
    batch["value"] = np.array([2.5])
    assert clipped(**batch)[1][1] == pytest.approx([0.75]) and branch(**batch)[1][1] == pytest.approx([0.0])


def test_clip_fraction():
    log_prob, old, _ = _batch(5)
    r = np.exp(log_prob - old)
    assert clip_fraction(log_prob, old, clip=0.3) == pytest.approx(((r < 0.7) | (r > 1.3)).mean())
    assert clip_fraction(old, old) == 0
