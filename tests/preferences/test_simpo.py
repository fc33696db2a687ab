"""Theorems and limits of simple preference optimisation."""

import math

import numpy as np
import pytest

from trref.catalog import find
from trref.preferences.simpo import simpo


def _pairs(seed, B=30):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 20, (2, B)).astype(float)
    return [*(-lengths * rng.uniform(0.2, 2.0, (2, B))), *lengths]


def _one(chosen, rejected, chosen_length, rejected_length):
    return [np.array([float(x)]) for x in (chosen, rejected, chosen_length, rejected_length)]


def test_numbers_by_hand():
    """-6 over 3 tokens against -3 over 1: means -2 and -3, z = 2 - 1 = 1; σ(-1) = 0.2689 at 2/3 and 2."""
    loss, gradient = simpo(*_one(-6, -3, 3, 1), beta=2.0, gamma=1.0)
    sigma = 1 / (1 + math.e)
    assert loss == pytest.approx(math.log1p(math.exp(-1)), rel=1e-14)
    assert gradient.chosen_log_prob == pytest.approx([-2 / 3 * sigma], rel=1e-14)
    assert gradient.rejected_log_prob == pytest.approx([2 * sigma], rel=1e-14)


def test_an_answer_said_twice_is_worth_the_same():
    chosen, rejected, chosen_length, rejected_length = _pairs(0)
    loss, gradient = simpo(chosen, rejected, chosen_length, rejected_length)
    twice, d_twice = simpo(2 * chosen, rejected, 2 * chosen_length, rejected_length)
    assert twice == pytest.approx(loss, rel=1e-14)
    assert d_twice.chosen_log_prob == pytest.approx(gradient.chosen_log_prob / 2, rel=1e-13)


def test_the_weight_is_one_half_where_rewards_are_the_margin_apart():
    chosen, rejected, chosen_length, rejected_length = _one(-4, -10, 4, 8)  # means -1 and -1.25: rewards 0.5 apart
    for gamma, below in ((0.5, None), (0.4, True), (0.6, False)):
        slope = -simpo(chosen, rejected, chosen_length, rejected_length, gamma=gamma)[1].chosen_log_prob[0] * 4 / 2
        assert slope == pytest.approx(0.5, rel=1e-14) if below is None else (slope < 0.5) == below


def test_a_shorter_rejected_answer_makes_both_fall():
    """The slope of a common shift is β σ(-z) (1/|y_l| - 1/|y_w|): positive if the rejected answer is shorter."""
    gradient = simpo(*_one(-8, -2, 8, 2), gamma=0.0)[1]
    assert gradient.chosen_log_prob[0] + gradient.rejected_log_prob[0] == pytest.approx(2 * 0.5 * (1 / 2 - 1 / 8))
    assert sum(g[0] for g in simpo(*_one(-2, -8, 2, 8), gamma=0.0)[1]) < 0


def test_the_flipped_term_keeps_the_margin():
    """Half the labels wrong: the minimum is where z = 0, with the chosen answer ahead by γ, not at a tie."""
    gradient = simpo(*_one(-4, -10, 4, 8), gamma=0.5, label_smoothing=0.5)[1]
    assert abs(gradient.chosen_log_prob[0]) < 1e-15
    assert simpo(*_one(-4, -8, 4, 8), gamma=0.5, label_smoothing=0.5)[1].chosen_log_prob[0] < 0


def test_margins_of_any_size():
    loss, gradient = simpo(*_one(-4000, -10, 4, 10), gamma=0.0)
    assert loss == pytest.approx(2 * 999) and gradient.chosen_log_prob == pytest.approx([-0.5])


def test_a_margin_as_a_ratio():
    """0.25 as a ratio is 0.5 at beta 2."""
    deviation = next(d for d in find("simpo.simpo").deviations if "multiplied" in d.name)
    names = "chosen_log_prob", "rejected_log_prob", "chosen_length", "rejected_length"
    pairs = _pairs(1)
    theirs = deviation.f(**dict(zip(names, pairs, strict=True)), beta=2.0, gamma=0.25)
    assert theirs[0] == simpo(*pairs, beta=2.0, gamma=0.5)[0]


def test_without_a_token_there_is_no_mean():
    with pytest.raises(ValueError, match="rejected_length"):
        simpo(*_one(-1, -1, 1, 0))
