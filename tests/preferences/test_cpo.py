"""Theorems and limits of contrastive preference optimisation."""

import math

import numpy as np
import pytest

from trref.preferences.cpo import arpo, arpo_penalty, cpo
from trref.preferences.dpo import dpo


def _one(*numbers):
    return [np.array([float(x)]) for x in numbers]


def _pairs(seed, B=20):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, (2, B)).astype(float)
    return [*(-lengths * rng.uniform(0.2, 2.0, (2, B))), *lengths]


def test_numbers_by_hand():
    """Log-probabilities -4 and -4 - log 3: contrast log 4/3 with slope 1/4; the likelihood 4 at weight 1/2."""
    loss, gradient = cpo(*_one(-4, -4 - math.log(3), 5), beta=1.0, likelihood_weight=0.5)
    assert loss == pytest.approx(math.log(4 / 3) + 2, rel=1e-14)
    assert gradient.chosen_log_prob == pytest.approx([-1 / 4 - 1 / 2]) and gradient.rejected_log_prob == pytest.approx(
        [1 / 4]
    )


def test_three_likelihoods_by_hand():
    """Sums -6 and -2 over 3 and 1 tokens: (6 + 2)/2, (2 + 2)/2 and 8/4."""
    pair = np.array([-6.0, -2.0]), np.array([-6.0, -2.0]), np.array([3.0, 1.0])
    expected = {"sum": (4.0, [0.5, 0.5]), "answer_mean": (2.0, [1 / 6, 0.5]), "batch_mean": (2.0, [0.25, 0.25])}
    for likelihood, (value, slopes) in expected.items():
        loss, gradient = cpo(*pair, likelihood=likelihood, beta=1e-9)
        assert loss == pytest.approx(math.log(2) + value) and gradient.chosen_log_prob == pytest.approx(
            -np.array(slopes)
        )


def test_only_the_likelihood_moves_both():
    chosen, rejected, length, _ = _pairs(0)
    contrast = cpo(chosen, rejected, length, likelihood_weight=0.0)[1]
    assert abs(contrast.chosen_log_prob + contrast.rejected_log_prob).max() < 1e-17
    both = cpo(chosen, rejected, length, likelihood_weight=0.7)[1]
    assert both.chosen_log_prob + both.rejected_log_prob == pytest.approx(np.full(20, -0.7 / 20))


def test_it_is_dpo_with_each_pairs_reference_margin_at_zero():
    chosen, rejected, length, _ = _pairs(1)
    reference = np.random.default_rng(1).standard_normal(20)
    loss, gradient = cpo(chosen, rejected, length, likelihood_weight=0.0)
    theirs, d_theirs = dpo(chosen, rejected, reference, reference)
    assert loss == pytest.approx(theirs, rel=1e-13)
    assert gradient.rejected_log_prob == pytest.approx(d_theirs.rejected_log_prob, rel=1e-12)


def test_a_longer_rejected_answer_is_silent_soon():
    """The same mean of -1 a token: 10 tokens against 10, and against 40."""
    weights = [cpo(*_one(-10, -n, 10), beta=0.3)[1].rejected_log_prob[0] / 0.3 for n in (10, 40)]
    assert weights[0] == pytest.approx(0.5) and weights[1] < 2e-4


def test_the_penalty_by_hand():
    """-0.1 for equal averages; 0 at log(10/9)/0.4 = 0.2634; 1 from log(20/9)/0.4 = 1.996 on."""
    zero, one = math.log(10 / 9) / 0.4, math.log(20 / 9) / 0.4
    distance = np.array([0.0, zero, -zero, one, 2 * one, 1e6])
    penalty = arpo_penalty(-1 - np.maximum(distance, 0), -1 + np.minimum(distance, 0), np.ones(6), np.ones(6))
    assert penalty == pytest.approx([-0.1, 0, 0, 1, 1, 1], abs=1e-14)


def test_a_close_pairs_rejected_answer_is_pulled_up():
    """At equal averages: the slope of its log-probability is -β σ(-βh) τ of τ = -0.1, downwards."""
    gradient = arpo(*_one(-8, -4, 8, 4), likelihood_weight=0.0)[1]
    h = -8 - 0.1 * 4
    assert gradient.rejected_log_prob == pytest.approx([-0.1 * 0.1 / (1 + math.exp(0.1 * h))])
    assert cpo(*_one(-8, -4, 8))[1].rejected_log_prob[0] > 0


def test_the_gradient_through_the_penalty_is_not_small():
    """Held constant, the slope of the chosen answer would be -β σ(-βh)."""
    pair = _one(-10, -60, 10, 40)  # averages half a nat apart
    tau = arpo_penalty(*pair)[0]
    h = -10 + 60 * tau
    held = -0.1 / (1 + math.exp(0.1 * h))
    through = 1 + 60 / 10 * 0.4 * (tau + 1)  # d τ / d a_w = η2 (τ + 1), and log π(y_l) = -60
    assert arpo(*pair, likelihood_weight=0.0)[1].chosen_log_prob[0] == pytest.approx(held * through)


def test_out_of_range():
    with pytest.raises(ValueError, match="likelihood must be one of"):
        cpo(*_one(-1, -1, 1), likelihood="mean")
    with pytest.raises(ValueError, match="chosen_length"):
        cpo(*_one(-1, -1, 0))
