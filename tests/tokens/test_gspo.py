"""Limits of GSPO."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.tokens.grpo import grpo
from trref.tokens.gspo import gspo, mean_log_ratio

WIDE = {"clip_low": 0.2, "clip_high": 0.2}


def _same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-12) and np.allclose(a[1], b[1], rtol=1e-12)


def test_loss_by_hand():
    """Ratios 1.5 and 0.96: geometric mean 1.2; advantage -1; both tokens share the coefficient."""
    log_prob = np.log([[1.5, 0.96, 7.0]])
    loss, gradient = gspo(log_prob, np.zeros((1, 3)), -np.ones(1), np.array([[1.0, 1.0, 0.0]]))
    assert loss == pytest.approx(1.2) and np.allclose(gradient, [[0.6, 0.6, 0]], rtol=1e-9)


def test_brute_force():
    log_prob, old, advantage, mask = token_batch(0, spread=0.002)
    total = 0.0
    for i in range(8):
        n = int(mask[i].sum())
        s = math.prod(math.exp(x) for x in (log_prob - old)[i, :n]) ** (1 / n)
        total += min(s * advantage[i], min(max(s, 1 - 3e-4), 1 + 4e-4) * advantage[i])
    assert gspo(log_prob, old, advantage, mask)[0] == pytest.approx(-total / 8, rel=1e-12)


def test_it_does_not_matter_where_the_ratio_moved():
    """Only the mean over the answer counts; GRPO tells the tokens apart."""
    old, mask = np.zeros((1, 4)), np.ones((1, 4))
    here, there = np.array([[0.4, 0.0, 0.0, 0.0]]), np.full((1, 4), 0.1)
    _same(gspo(here, old, np.ones(1), mask), gspo(there, old, np.ones(1), mask))
    assert grpo(here, old, np.ones(1), mask)[0] != pytest.approx(grpo(there, old, np.ones(1), mask)[0], rel=1e-2)


def test_a_mean_moves_less_than_a_token():
    """Independent token log-ratios of deviation 0.1: that of the mean over 256 tokens is 16 times smaller."""
    d = 0.1 * np.random.default_rng(4).standard_normal((4000, 256))
    assert mean_log_ratio(d, 0 * d, np.ones_like(d)).std() == pytest.approx(0.1 / 16, rel=0.05)


def test_deviations_where_they_agree():
    by_name = {d.name: d.f for d in find("gspo.gspo").deviations}
    batch = token_batch(5, spread=0.4)
    clamp = by_name["log-ratio of the answer clamped at 10"]
    _same(clamp(*batch, **WIDE), gspo(*batch, **WIDE))
    far = np.zeros((1, 2)), np.full((1, 2), -12.0), -np.ones(1), np.ones((1, 2))
    assert clamp(*far)[0] == pytest.approx(math.exp(10)) and not clamp(*far)[1].any()
    assert gspo(*far)[0] == pytest.approx(math.exp(12))
    log_prob, old, advantage, _ = batch
    _same(
        by_name["answers weighted by their lengths"](log_prob, old, advantage, np.ones((8, 5)), **WIDE),
        gspo(log_prob, old, advantage, np.ones((8, 5)), **WIDE),
    )
    product = by_name["ratio of the whole answer, not normalised by its length"]
    one = np.log([[1.05, 1.1]]), np.zeros((1, 2)), np.ones(1), np.ones((1, 2))
    assert product(*one, **WIDE)[0] == pytest.approx(-1.155)
