"""LUSPO: the weight of a token, and its relations to GSPO and to the policy gradient."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.conformance import identify
from trref.tokens.gspo import gspo
from trref.tokens.luspo import luspo

WIDE = {"clip_low": 0.2, "clip_high": 0.25}


def _same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-12) and np.allclose(a[1], b[1], rtol=1e-12)


def test_by_hand():
    """Ratios 1.5 and 0.96 (geometric mean 1.2, two tokens, clipped at 1.1) and 1.05 (one token)."""
    log_prob = np.log([[1.5, 0.96, 7.0], [1.05, 3.0, 0.1]])
    mask = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    clips = {"clip_low": 0.1, "clip_high": 0.1}
    loss, gradient = luspo(log_prob, np.zeros((2, 3)), np.ones(2), mask, **clips)
    assert loss == pytest.approx(-(2 * 1.1 + 1.05) / 2)
    assert np.allclose(gradient, [[0, 0, 0], [-1.05 / 2, 0, 0]], rtol=1e-9)
    loss, gradient = luspo(log_prob, np.zeros((2, 3)), -np.ones(2), mask, **clips)
    assert loss == pytest.approx((2 * 1.2 + 1.05) / 2)
    assert np.allclose(gradient, [[0.6, 0.6, 0], [1.05 / 2, 0, 0]], rtol=1e-9)


def test_all_tokens_weigh_the_same():
    """Lengths 2 and 12, one ratio, opposite advantages: coefficients ±s/B; GSPO's differ by a factor of 6."""
    mask = (np.arange(12) < [[2], [12]]).astype(float)
    old, s = np.full((2, 12), -1.0), 1.1
    batch = old + math.log(s), old, np.array([1.0, -1.0]), mask
    assert np.allclose(luspo(*batch, **WIDE)[1], mask * [[-s / 2], [s / 2]], rtol=1e-9)
    other = gspo(*batch, **WIDE)[1]
    assert other[0, 0] == pytest.approx(-6 * other[1, 0])


def _by_loops(log_prob, old_log_prob, advantage, mask, clip_low=2e-3, clip_high=2.5e-3):
    """Value and gradient, answer by answer."""
    B = len(mask)
    value, gradient = 0.0, np.zeros_like(mask)
    for i in range(B):
        tokens = [t for t in range(mask.shape[1]) if mask[i, t]]
        if not tokens:
            continue
        s = math.exp(math.fsum(log_prob[i, t] - old_log_prob[i, t] for t in tokens) / len(tokens))
        inside = min(max(s, 1 - clip_low), 1 + clip_high)
        A = [advantage[i] if advantage.ndim == 1 else advantage[i, t] for t in tokens]
        value += sum(min(s * a, inside * a) for a in A) / B
        for t in tokens:
            gradient[i, t] = sum(s * a for a in A if s * a <= inside * a) / len(tokens) / B
    return -value, -gradient


def test_brute_force():
    batch = token_batch(0, spread=0.002)
    _same(luspo(*batch), _by_loops(*batch))
    _same(luspo(*batch, **WIDE), _by_loops(*batch, **WIDE))


def test_on_fresh_data_it_is_the_policy_gradient():
    """The coefficient of every token is its answer's advantage over B: the gradient of mean r log π(y)."""
    _, old, advantage, mask = token_batch(1)
    assert np.allclose(luspo(old, old, advantage, mask)[1], -mask * advantage[:, None] / len(mask), rtol=1e-14)


def test_where_the_deviations_part():
    token_ratios, padded, mean_length = (d.f for d in find("luspo.luspo").deviations)
    log_prob, old, advantage, mask = token_batch(2)
    alike = old + (log_prob - old)[:, :1]  # the tokens of an answer share their ratio
    _same(token_ratios(alike, old, advantage, mask), luspo(alike, old, advantage, mask))
    assert not np.allclose(token_ratios(log_prob, old, advantage, mask)[1], luspo(log_prob, old, advantage, mask)[1])
    ones = np.ones_like(mask)
    _same(padded(log_prob, old, advantage, ones), token_ratios(log_prob, old, advantage, ones))
    _same(
        mean_length(log_prob, old, advantage, ones),
        gspo(log_prob, old, advantage, ones, clip_low=2e-3, clip_high=2.5e-3),
    )


def test_an_independent_function_is_identified():
    found = identify(_by_loops, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["luspo.luspo"]
