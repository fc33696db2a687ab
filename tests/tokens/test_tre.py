"""Regions, the entropy inside them, the leak and its remedy; the loss as the clipped objective with a bonus."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from tests.tokens.batches import vocabulary_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.nn.heads import categorical_entropy
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.terms import logit_gradient
from trref.tokens.tre import mass_preserving, min_entropy, region, region_bonus, region_entropy, tail_mass_drift, tre

ONE = np.ones((1, 1))


def _logits(seed, *shape, scale=2.0):
    return scale * np.random.default_rng(seed).standard_normal(shape)


def test_regions_by_hand():
    z = np.log([0.1, 0.5, 0.25, 0.15])
    assert region(z, "top_k", 2, 0.9).tolist() == [0, 1, 1, 0]
    assert region(z, "top_p", 2, 0.75 - 1e-9).tolist() == [0, 1, 1, 0]
    assert region(z, "top_p", 2, 0.76).tolist() == [0, 1, 1, 1], "the token that crosses P is in"
    assert region(z, "top_p", 2, 0.3).tolist() == [0, 1, 0, 0], "at least one"
    assert region(z, "all", 2, 0.3).tolist() == [1, 1, 1, 1]


def test_ties_go_to_the_lower_index():
    z = np.zeros(40)
    assert region(z, "top_k", 3, 0.9).nonzero()[0].tolist() == [0, 1, 2]
    assert region(z, "top_p", 3, 0.04).nonzero()[0].tolist() == [0, 1]


@pytest.mark.parametrize(("rule", "K", "P"), [("top_k", 2, 0.9), ("top_k", 7, 0.9), ("top_p", 2, 0.8), ("all", 2, 0.9)])
def test_entropy_by_scipy(rule, K, P):
    z = _logits(0, 1, 1, 30)
    keep = region(z, rule, K, P)[0, 0] > 0
    H = entropy(softmax(z[0, 0][keep]))
    scaled = H * math.log(30) / math.log(keep.sum())
    loss, gradient = region_bonus(z, ONE, rule=rule, K=K, P=P)
    assert loss == pytest.approx(-scaled) and 0 <= scaled <= math.log(30)
    assert not gradient[0, 0][~keep].any() and gradient[0, 0][keep].all()
    assert gradient.sum() == pytest.approx(0, abs=1e-13)


def test_the_whole_vocabulary_is_the_ordinary_entropy():
    z = _logits(1, 2, 3, 8)
    H, dH = categorical_entropy(z)
    loss, gradient = region_bonus(z, np.ones((2, 3)), rule="all")
    assert loss == pytest.approx(-H.mean()) and np.allclose(gradient, -dH / 6, rtol=1e-12, atol=1e-15)


def test_at_mass_1_every_token_is_in():
    """Also one so rare that the mass before it rounds to 1: the number of tokens is in the scale."""
    z = np.array([[[20.0, 20.0, -20.0]]])
    assert region(z, "top_p", 2, 1.0).all(), "all three"
    assert region_bonus(z, ONE, rule="top_p", P=1.0)[0] == pytest.approx(-math.log(2)), "not log 3, the scale of two"


def test_uniform_inside_is_the_highest():
    z = np.array([[[3.0, 3.0, -1.0, -2.0, -5.0]]])
    loss, gradient = region_bonus(z, ONE)
    assert loss == pytest.approx(-math.log(5)) and abs(gradient).max() < 1e-15
    assert tail_mass_drift(z[0]) == pytest.approx([0], abs=1e-15)


def test_a_set_of_one_token_has_no_bonus():
    z = np.array([[[9.0, 0.0, 0.0]]])
    for hyper in ({"K": 1}, {"rule": "top_p", "P": 0.9}):
        loss, gradient = region_bonus(z, ONE, **hyper)
        assert loss == 0 and not gradient.any()
    assert min_entropy(z, ONE)[0] == pytest.approx(log_softmax(z[0, 0])[0])
    (one,) = find("tre.region_bonus").deviations
    assert one.f(z, ONE, K=1) == (pytest.approx(min_entropy(z, ONE)[0]), pytest.approx(min_entropy(z, ONE)[1]))


def test_the_mean_is_over_answers_tokens_only():
    z, mask = _logits(2, 2, 3, 6), np.array([[1.0, 1, 0], [1, 0, 0]])
    each = np.array([[region_bonus(z[i : i + 1, t : t + 1], ONE)[0] for t in range(3)] for i in range(2)])
    assert region_bonus(z, mask)[0] == pytest.approx((each * mask).sum() / 3)


# ---- the leak


@pytest.mark.parametrize(("rule", "K", "P"), [("top_k", 2, 0.9), ("top_k", 4, 0.9), ("top_p", 2, 0.8)])
def test_the_set_loses_mass(rule, K, P):
    """By differences along the gradient of the unscaled entropy; the remedy stops it."""
    for seed in range(8):
        z = _logits(seed, 1, 6)
        keep = region(z, rule, K, P)
        _, g, q = region_entropy(z, keep)
        drift = float(tail_mass_drift(z, rule=rule, K=K, P=P)[0])
        h = 1e-5

        def mass(direction, step, z=z, keep=keep):
            return float((keep * softmax(z + step * direction, -1)).sum())

        assert (mass(g, h) - mass(g, -h)) / (2 * h) == pytest.approx(drift, abs=1e-9) and drift <= 0
        remedied = mass_preserving(g, q)
        assert (mass(remedied, h) - mass(remedied, -h)) / (2 * h) == pytest.approx(0, abs=1e-9)
        assert (g * remedied).sum() >= 0, "still upwards"


def test_the_full_entropy_pushes_the_tail_up():
    """Every token with log p < -H, and more mass leaves the plausible set than under TRE."""
    for seed in range(5):
        z = _logits(seed, 1, 50, scale=0.3)
        z[0, :4] += 6
        H, dH = categorical_entropy(z)
        log_p = log_softmax(z[0])
        assert np.array_equal(dH[0] > 0, log_p < -H[0]) and (dH[0] > 0).sum() > 40
        _, inside, _ = region_entropy(z, region(z, "top_k", 4, 0.9))
        p, plausible = softmax(z[0]), np.arange(50) < 4
        M = p[plausible].sum()
        leak = [float((p * (plausible - M)) @ g[0]) for g in (dH, inside)]
        assert leak[0] < 1.5 * leak[1] < 0


# ---- the loss


@pytest.mark.parametrize("hyper", [{"rule": "top_k", "K": 3}, {"rule": "top_p", "P": 0.8}])
def test_loss_is_the_clipped_one_with_the_bonus(hyper):
    logits, old, actions, advantage, mask = vocabulary_batch(3, spread=0.3)
    ours = tre(logits, old, actions, advantage, mask, entropy_weight=0.3, **hyper)
    taken = [np.take_along_axis(log_softmax(z, -1), actions[..., None], 2)[..., 0] for z in (logits, old)]
    loss, g = dapo_over_batch(*taken, advantage, mask, clip_low=0.2, clip_high=0.2)
    bonus = region_bonus(logits, mask, **hyper)
    assert ours[0] == pytest.approx(loss + 0.3 * bonus[0])
    assert np.allclose(ours[1], logit_gradient(logits, actions, g) + 0.3 * bonus[1], rtol=1e-12, atol=1e-15)
    assert tre(logits, old, actions, advantage, mask, entropy_weight=0.0)[0] == pytest.approx(loss)


def test_gradient_where_the_region_does_not_change():
    z = np.array([[[2.0, 1.2, 0.1, -0.6, -2.0]]])
    for hyper in ({"K": 2}, {"K": 3}, {"rule": "top_p", "P": 0.9}):
        _, gradient = region_bonus(z, ONE, **hyper)
        check_gradient(lambda x, h=hyper: region_bonus(x, ONE, **h)[0], z, gradient, rng=np.random.default_rng(0))
