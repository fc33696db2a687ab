"""Theorems and limits of ORPO."""

import math

import numpy as np
import pytest

from trref.catalog import find
from trref.preferences.orpo import odds_ratio_loss, orpo
from trref.preferences.simpo import simpo


def _one(chosen, rejected, chosen_length=1.0, rejected_length=1.0):
    return [np.array([float(x)]) for x in (chosen, rejected, chosen_length, rejected_length)]


def test_numbers_by_hand():
    """P = 3/4 and 1/2: odds 3 and 1, o = log 3, σ(-o) = 1/4; slopes -(1/4)/(1/4) and (1/4)/(1/2)."""
    pair = _one(2 * math.log(3 / 4), 4 * math.log(1 / 2), 2, 4)
    odds, gradient = odds_ratio_loss(*pair)
    assert odds == pytest.approx(math.log(4 / 3), rel=1e-13)
    assert gradient.chosen_log_prob == pytest.approx([-1 / 2], rel=1e-13)
    assert gradient.rejected_log_prob == pytest.approx([1 / 8], rel=1e-13)
    loss, whole = orpo(*pair, odds_weight=0.3)
    assert loss == pytest.approx(math.log(4 / 3) * 1.3, rel=1e-13)  # -log(3/4) is the same number
    assert whole.chosen_log_prob == pytest.approx([-1 / 2 - 0.3 / 2]) and whole.rejected_log_prob == pytest.approx(
        [0.3 / 8]
    )


def test_without_odds_it_is_the_likelihood():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, (2, 6)).astype(float)
    sums = -lengths * rng.uniform(0.1, 2.0, (2, 6))
    loss, gradient = orpo(*sums, *lengths, odds_weight=0.0)
    assert loss == pytest.approx(-(sums[0] / lengths[0]).mean(), rel=1e-14)
    assert gradient.chosen_log_prob == pytest.approx(-1 / (6 * lengths[0])) and not gradient.rejected_log_prob.any()


@pytest.mark.parametrize(
    ("a_w", "a_l"), [(-1e-9, -1e-3), (-1e-9, -40.0), (-40.0, -1e-9), (-math.log(2), -0.6931), (-700, -800)]
)
def test_against_sixty_digits(a_w, a_l):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        w, l = mpmath.mpf(a_w), mpmath.mpf(a_l)
        o = w - mpmath.log(1 - mpmath.exp(w)) - l + mpmath.log(1 - mpmath.exp(l))
        expected = mpmath.log(1 + mpmath.exp(-o))
        slopes = [s / (1 + mpmath.exp(o)) / (1 - mpmath.exp(x)) for s, x in ((-1, w), (1, l))]
    loss, gradient = odds_ratio_loss(*_one(a_w, a_l))
    assert loss == pytest.approx(float(expected), rel=1e-13)
    assert [g[0] for g in gradient] == pytest.approx([float(s) for s in slopes], rel=1e-12)


def test_it_falls_in_the_chosen_and_rises_in_the_rejected():
    grid = np.linspace(-5, -0.01, 40)
    by_chosen = [orpo(*_one(a, -1))[0] for a in grid]
    by_rejected = [orpo(*_one(-1, a))[0] for a in grid]
    assert (np.diff(by_chosen) < 0).all() and (np.diff(by_rejected) > 0).all()


def test_probable_answers_have_more_odds_than_probability():
    """P = 0.98 against 0.9: the log odds ratio is 1.7, the log-probability ratio 0.085."""
    pair = _one(math.log(0.98), math.log(0.9))
    assert odds_ratio_loss(*pair)[0] < 0.2 < simpo(*pair, beta=1.0, gamma=0.0)[0]
    improbable = _one(-30, -31)
    assert odds_ratio_loss(*improbable)[0] == pytest.approx(simpo(*improbable, beta=1.0, gamma=0.0)[0], rel=1e-12)


def test_a_bias_of_the_complement_bounds_the_odds():
    """With 1.0001 in the place of 1 the slope of a certain answer stays below 10,000."""
    deviation = next(d for d in find("orpo.orpo").deviations if d.name == "1.0001 - P")
    names = "chosen_log_prob", "rejected_log_prob", "chosen_length", "rejected_length"
    pair = dict(zip(names, _one(-1.0, -1e-9), strict=True))
    assert orpo(**pair)[1].rejected_log_prob[0] > 9e7 > 1e4 > deviation.f(**pair)[1].rejected_log_prob[0]


@pytest.mark.parametrize("certain", [0, 1])
def test_a_certain_answer_has_no_odds(certain):
    pair = _one(-1, -1)
    pair[certain] = np.zeros(1)
    with pytest.raises(ValueError, match=("chosen_log_prob", "rejected_log_prob")[certain] + " must be below 0"):
        orpo(*pair)
