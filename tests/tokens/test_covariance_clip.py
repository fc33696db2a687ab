"""Clip-Cov and KL-Cov: by hand, what drives the entropy, and that KL-Cov is silent on fresh data."""

import numpy as np
import pytest
from scipy.special import softmax

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.conformance import identify
from trref.tokens.covariance_clip import clip_cov, clip_cov_choice, kl_cov, kl_cov_choice, token_covariance
from trref.tokens.dapo import dapo_over_batch


def test_covariance_by_hand():
    """Log-probabilities -1, -2, -6 (mean -3), advantages 2, 2, -1 (mean 1); the last position is padding."""
    log_prob, mask = np.array([[-1.0, -2.0], [-6.0, -9.0]]), np.array([[1.0, 1.0], [1.0, 0.0]])
    assert np.allclose(token_covariance(log_prob, np.array([2.0, -1.0]), mask), [[2, 1], [6, 0]], rtol=1e-9)


def test_its_mean_is_the_covariance_of_the_batch():
    log_prob, _, advantage, mask = token_batch(0)
    A = np.broadcast_to(advantage[:, None], mask.shape)[mask == 1]
    kappa = token_covariance(log_prob, advantage, mask)
    assert kappa.sum() / mask.sum() == pytest.approx(np.cov(log_prob[mask == 1], A, ddof=0)[0, 1])
    assert np.allclose(kappa, token_covariance(log_prob - 3.0, advantage + 7.0, mask), rtol=1e-9), (
        "shifts do not matter"
    )


def test_choices_by_hand():
    """Covariances 2, 1, 6: Clip-Cov's candidates lie between 1 and 5, KL-Cov takes the largest."""
    log_prob, mask, A = (
        np.array([[-1.0, -2.0], [-6.0, -9.0]]),
        np.array([[1.0, 1.0], [1.0, 0.0]]),
        np.array([2.0, -1.0]),
    )
    noise = np.array([[0.9, 0.1], [0.2, 0.0]])
    one = {"share": 0.1, "lowest": 0.5}
    assert np.array_equal(clip_cov_choice(log_prob, log_prob, A, mask, noise, **one), [[0, 1], [0, 0]])
    assert np.array_equal(clip_cov_choice(log_prob, log_prob, A, mask, noise), [[1, 0], [0, 0]])  # 1 is on the bound
    two = clip_cov_choice(log_prob, log_prob, A, mask, noise, share=0.7, lowest=0.5)
    assert np.array_equal(two, [[1, 1], [0, 0]])
    risen = log_prob - np.array([[0.5, 0.0], [0.0, 0.0]])  # the first token's ratio is beyond the clip
    assert np.array_equal(clip_cov_choice(log_prob, risen, A, mask, noise), [[0, 0], [0, 0]])
    assert np.array_equal(kl_cov_choice(log_prob, A, mask), [[0, 0], [1, 0]])
    assert np.array_equal(kl_cov_choice(log_prob, A, mask, share=0.7), [[1, 0], [1, 0]])


def test_losses_by_hand():
    """Ratios 1.1 and 0.5, advantages 1: dropping the first, or penalising both."""
    log_prob, old, one = np.log([[1.1, 0.5]]), np.zeros((1, 2)), np.ones((1, 2))
    loss, gradient = clip_cov(log_prob, old, np.ones(1), one, np.array([[1.0, 0.0]]))
    assert loss == pytest.approx(-0.25) and np.allclose(gradient, [[0, -0.25]], rtol=1e-9)
    loss, gradient = kl_cov(log_prob, old, np.ones(1), one, one, kl_weight=0.5)
    assert loss == pytest.approx(-(1.6 - 0.5 * (np.log(1.1) + np.log(2))) / 2)
    assert np.allclose(gradient, [[-(1.1 - 0.5) / 2, -(0.5 + 0.5) / 2]], rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_what_drives_the_entropy(seed):
    """A step of the logits by A lowers it by the covariance of log-probability and A; by p A, of p A."""
    rng = np.random.default_rng(seed)
    z, A = rng.standard_normal((2, 7))
    p = softmax(z)
    A = A - p @ A

    def entropy(logits):
        q = softmax(logits)
        return -q @ np.log(q)

    def covariance(x, y):
        return p @ ((x - p @ x) * (y - p @ y))

    for direction in (A, p * A):
        slope = (entropy(z + 1e-5 * direction) - entropy(z - 1e-5 * direction)) / 2e-5
        assert slope == pytest.approx(-covariance(np.log(p), direction), rel=1e-7)


def test_on_fresh_data_kl_cov_does_nothing():
    _, old, advantage, mask = token_batch(1)
    chosen, free = kl_cov_choice(old, advantage, mask, share=0.5), {"clip_low": 1e9, "clip_high": 1e9}
    ours, plain = kl_cov(old, old, advantage, mask, chosen), dapo_over_batch(old, old, advantage, mask, **free)
    assert ours[0] == pytest.approx(plain[0]) and np.allclose(ours[1], plain[1], rtol=1e-14)


def test_its_pull_does_not_fade():
    squared = find("covariance_clip.kl_cov").deviations[0].f
    old, mask, A = np.full((1, 1), -1.0), np.ones((1, 1)), np.zeros(1)
    for d in (1e-1, 1e-6):
        assert kl_cov(old + d, old, A, mask, mask)[1] == pytest.approx(1.0)
        assert squared(old + d, old, A, mask, mask)[1] == pytest.approx(d)


def _mine(log_prob, old_log_prob, advantage, mask, chosen, kl_weight=1.0):
    count, value, gradient = max(mask.sum(), 1), 0.0, np.zeros_like(mask)
    for i, t in zip(*np.nonzero(mask), strict=True):
        A = advantage[i] if advantage.ndim == 1 else advantage[i, t]
        d = log_prob[i, t] - old_log_prob[i, t]
        pull = kl_weight if chosen[i, t] else 0.0
        value += (np.exp(d) * A - pull * abs(d)) / count
        gradient[i, t] = (np.exp(d) * A - pull * np.sign(d)) / count
    return -value, -gradient


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["covariance_clip.kl_cov"]
