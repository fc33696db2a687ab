"""Noise of a benchmark: simulated redraws against the formula, SciPy's intervals and ranks, a judge undone."""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from trref.trustworthiness.dynamic_evaluation import (
    dynamic_estimate,
    judge_corrected,
    rank_stability,
    wilson_interval,
    win_probability,
)


def _answers(rng, redraws, cases, wordings, *, spread=1.0, effect=0.8):
    """A logit a case, a shift a wording; right with that chance."""
    logits = 0.5 + spread * rng.standard_normal((redraws, cases, 1))
    shifted = logits + effect * rng.standard_normal((redraws, cases, wordings))
    return (rng.random(shifted.shape) < special.expit(shifted)).astype(float)


def _truth(spread, effect):
    """The two variances by quadrature over cases and wordings."""
    x, w = np.polynomial.hermite_e.hermegauss(60)
    w = w / w.sum()
    chance = special.expit(0.5 + spread * x[:, None] + effect * x)
    by_case = chance @ w
    share = w @ by_case
    within = w @ (by_case - by_case**2)  # an answer to a case is right with the chance by_case
    return share, w @ by_case**2 - share**2, within


def test_formula_against_redraws():
    """4000 redraws of 30 cases in 3 wordings: the variance of a share has a relative error of √(2/4000)."""
    share, case, wording = _truth(1.0, 0.8)
    result = dynamic_estimate(_answers(np.random.default_rng(0), 4000, 30, 3), cases=30, wordings=3)
    assert abs(result.share - share) < 4 * math.sqrt(result.observed / 4000)
    assert result.case == pytest.approx(case, rel=0.05) and result.wording == pytest.approx(wording, rel=0.01)
    assert result.observed == pytest.approx(case / 30 + wording / 90, rel=4 * math.sqrt(2 / 4000))
    assert result.planned == pytest.approx(result.observed, rel=4 * math.sqrt(2 / 4000))


def test_the_chance_of_one_answer_belongs_to_wordings():
    """Without any effect of wordings there is still a variance of p (1 - p) within a case."""
    _, case, within = _truth(1.0, 0.0)
    result = dynamic_estimate(_answers(np.random.default_rng(1), 200, 50, 4, effect=0.0))
    assert result.wording == pytest.approx(within, rel=0.02) and within > 2 * case
    # and the planned variance of a design is more than the cases' own
    assert result.planned > 3 * result.case / 100


def test_no_number_of_wordings_helps_beyond_the_cases():
    correct = _answers(np.random.default_rng(2), 20, 40, 5)
    planned = [dynamic_estimate(correct, cases=50, wordings=v).planned for v in (1, 10, 100, 10**9)]
    assert planned == sorted(planned, reverse=True)
    assert planned[-1] == pytest.approx(dynamic_estimate(correct).case / 50, rel=1e-6)


def test_estimates_have_no_bias():
    """All tables of two redraws of two cases in two wordings, with chances 0.2 or 0.9 a case."""
    total, case, wording = 0.0, 0.0, 0.0
    for chances in itertools.product((0.2, 0.9), repeat=4):
        p = np.repeat(chances, 2)
        for bits in itertools.product((0.0, 1.0), repeat=8):
            x = np.array(bits)
            weight = np.where(x > 0, p, 1 - p).prod() / 16
            result = dynamic_estimate(x.reshape(2, 2, 2))
            total, case = total + weight, case + weight * result.case
            wording += weight * result.wording
    assert total == pytest.approx(1, rel=1e-12)
    assert case == pytest.approx(np.var([0.2, 0.9]), rel=1e-10)
    assert wording == pytest.approx((0.2 * 0.8 + 0.9 * 0.1) / 2, rel=1e-10)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (7, 10), (480, 512)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_interval_by_scipy(right, n, level):
    theirs = stats.binomtest(right, n).proportion_ci(level, method="wilson")
    ours = wilson_interval(np.array([right / n]), np.array([float(n)]), level=level)
    assert ours.low[0] == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high[0] == pytest.approx(theirs.high, abs=1e-12)


@pytest.mark.parametrize("p", [0.02, 0.5, 0.9])
def test_interval_holds_the_truth_as_often_as_it_says(p):
    """Summed over the binomial; the normal interval falls short near the ends."""
    n = 100
    k = np.arange(n + 1)
    ours = wilson_interval(k / n, np.full(n + 1, float(n)))
    covered = stats.binom(n, p).pmf(k) @ ((ours.low <= p) & (p <= ours.high))
    assert 0.93 < covered < 0.97
    half = 1.96 * np.sqrt(k / n * (1 - k / n) / n)
    normal = stats.binom(n, p).pmf(k) @ (abs(k / n - p) <= half)
    assert p != 0.02 or normal < 0.9


def test_a_judge_is_undone_without_bias():
    """Of n items, all numbers of observed successes; the corrected rate leaves [0, 1] at the ends."""
    n, p, fpr, fnr = 20, 0.8, 0.15, 0.2
    seen = p * (1 - fnr) + (1 - p) * fpr
    k = np.arange(n + 1)
    chance = stats.binom(n, seen).pmf(k)
    variance = np.full(n + 1, seen * (1 - seen) / n)
    result = judge_corrected(k / n, variance, false_positive=fpr, false_negative=fnr)
    assert chance @ result.rate == pytest.approx(p, rel=1e-12)
    assert chance @ (result.rate - p) ** 2 == pytest.approx(result.variance[0], rel=1e-10)
    assert result.rate.min() < 0 and result.rate.max() > 1
    assert result.variance[0] == pytest.approx(variance[0] / 0.65**2)


@pytest.mark.parametrize("seed", range(6))
def test_stability_by_scipy(seed):
    rng = np.random.default_rng(seed)
    scores = np.round(2 * rng.standard_normal((4, 6)))
    taus = [stats.kendalltau(a, b).statistic for a, b in itertools.combinations(scores, 2)]
    assert rank_stability(scores) == pytest.approx(np.mean(taus), rel=1e-10)
    assert rank_stability(np.stack([scores[0], 3 * scores[0] + 1])) == pytest.approx(1)
    assert rank_stability(np.stack([scores[0], -scores[0]])) == pytest.approx(-1)


def test_wins():
    rng = np.random.default_rng(3)
    correct = np.stack([np.ones(50), (rng.random(50) < 0.7), np.zeros(50), np.zeros(50)]).astype(float)
    P = win_probability(correct, rng.integers(0, 50, (400, 50)))
    assert P[0, 1] == 1 and P[2, 3] == 0.5 and (np.diag(P) == 0.5).all()
    assert np.allclose(P + P.T, 1)
    # one resampled item: who is right more often is ahead by half of the difference
    one = win_probability(correct, np.arange(50)[:, None])
    assert one[0, 1] == pytest.approx(0.5 + (1 - correct[1].mean()) / 2)


def test_what_is_refused():
    with pytest.raises(ValueError, match="correct must have two redraws and two wordings"):
        dynamic_estimate(np.ones((1, 5, 2)))
    with pytest.raises(ValueError, match="must not sum to 1"):
        judge_corrected(np.ones(1), np.ones(1), false_positive=0.5, false_negative=0.5)
    with pytest.raises(ValueError, match="rows must be less than the 3 items"):
        win_probability(np.ones((2, 3)), np.array([[3]]))
    with pytest.raises(ValueError, match="scores must have two redraws"):
        rank_stability(np.ones((1, 3)))
