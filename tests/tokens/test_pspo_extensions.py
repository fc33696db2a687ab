"""The smoothed ratio of answers and under a clip: by hand, in their limits, and where they are not PSPO."""

import itertools
import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.pspo import pspo_clipped, pspo_sequence


def test_product_by_hand():
    """Ratios 2 and 0.5 at alpha = 0.5: smoothed 1.5 and 0.75, product 1.125, shares 2/3 and 1/3."""
    log_prob = np.log([[2.0, 0.5, 9.0]])
    loss, gradient = pspo_sequence(log_prob, np.zeros((1, 3)), np.ones(1), np.array([[1.0, 1.0, 0.0]]), alpha=0.5)
    assert loss == pytest.approx(-1.125) and np.allclose(gradient, [[-0.75, -0.375, 0]], rtol=1e-9)


def test_product_is_a_mean_over_which_tokens_come_from_the_old_policy():
    """Expand the product: a mean over subsets of tokens, each kept with probability 1 - alpha."""
    log_prob, old, advantage, mask = token_batch(0)
    alpha, total = 0.3, 0.0
    for i in range(8):
        n = int(mask[i].sum())
        for kept in itertools.product((0, 1), repeat=n):
            chance = math.prod((alpha, 1 - alpha)[k] for k in kept)
            total += advantage[i] * chance * math.exp(float((np.array(kept) * (log_prob - old)[i, :n]).sum()))
    assert pspo_sequence(log_prob, old, advantage, mask, alpha=alpha)[0] == pytest.approx(-total / 8, rel=1e-12)


def test_without_smoothing_it_is_the_ratio_of_the_answer():
    log_prob, old, advantage, mask = token_batch(2)
    ratio = np.exp(((log_prob - old) * mask).sum(1))
    loss, gradient = pspo_sequence(log_prob, old, advantage, mask, alpha=0.0)
    assert loss == pytest.approx(-(ratio * advantage).mean())
    assert np.allclose(gradient, -mask * (ratio * advantage)[:, None] / 8, rtol=1e-12)


def test_it_changes_the_direction():
    """Tokens that moved up carry more of the gradient; PSPO's direction is that without smoothing."""
    log_prob = np.log([[3.0, 1.0, 0.2]])
    batch = log_prob, np.zeros((1, 3)), np.ones(1), np.ones((1, 3))
    plain, smoothed = (-pspo_sequence(*batch, alpha=a)[1][0] for a in (0.0, 0.5))
    assert np.ptp(plain) < 1e-15 and smoothed[0] > smoothed[1] > smoothed[2]
    assert smoothed / smoothed.sum() * 3 != pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_clip_of_the_smoothed_ratio_is_a_wider_clip(alpha):
    batch = token_batch(3, spread=1.0)
    log_prob, old, advantage, mask = (x[:, :5] if x.ndim == 2 else x for x in batch)
    mask = np.ones_like(mask)  # equal lengths: one mean
    loss, gradient = pspo_clipped(log_prob, old, advantage, mask, alpha=alpha, clip=0.2)
    width = 0.2 / (1 - alpha)
    wide, direction = dapo_over_batch(log_prob, old, advantage, mask, clip_low=width, clip_high=width)
    assert np.allclose(gradient, (1 - alpha) * direction, rtol=1e-12)
    assert loss == pytest.approx((1 - alpha) * wide - alpha * advantage.mean(), rel=1e-12)
    assert 0 < (gradient == 0).sum() < gradient.size


def test_products_that_explode_are_refused():
    log_prob = np.zeros((2, 3))
    old = np.full((2, 3), -11.0)
    with pytest.raises(ValueError, match="log_prob must give no answer a product"):
        pspo_sequence(log_prob, old, np.ones(2), np.ones((2, 3)))
    two = np.array([[1.0, 1.0, 0.0]] * 2)
    assert math.isfinite(pspo_sequence(log_prob, old, np.ones(2), two)[0])
