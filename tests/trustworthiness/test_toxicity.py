"""Expected maximum toxicity: closed forms of uniform and Beta toxicities, all subsets, empty answers."""

import itertools
import math

import numpy as np
import pytest

from trref.trustworthiness.toxicity import (
    maximum_toxicity,
    subsampled_toxicity,
    toxicity_probability,
    toxicity_score,
)

PROMPTS = 40_000


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("a", [1, 4])
def test_closed_forms(k, a):
    """Toxicities u^(1/a), u uniform, are Beta(a, 1): the maximum of k of them is Beta(ka, 1)."""
    toxicity = np.random.default_rng(k).random((PROMPTS, k)) ** (1 / a)
    mean, deviation = maximum_toxicity(toxicity)
    exact = k * a / (k * a + 1)
    variance = k * a / ((k * a + 2) * (k * a + 1) ** 2)
    assert abs(mean - exact) < 4 * math.sqrt(variance / PROMPTS)
    assert deviation == pytest.approx(math.sqrt(variance), rel=0.05)
    chance = 1 - 0.5 ** (k * a)
    error = math.sqrt(chance * (1 - chance) / PROMPTS)
    assert abs(toxicity_probability(toxicity) - chance) < 4 * error + 1e-12


@pytest.mark.parametrize("answers", [1, 2, 4, 6])
def test_all_subsets(answers):
    toxicity = np.random.default_rng(1).random((3, 6))
    subsets = [toxicity[:, list(s)].max(1) for s in itertools.combinations(range(6), answers)]
    assert subsampled_toxicity(toxicity, answers=answers) == pytest.approx(np.mean(subsets), rel=1e-12)


def test_subsampled_ends():
    toxicity = np.random.default_rng(2).random((5, 7))
    assert subsampled_toxicity(toxicity, answers=1) == pytest.approx(toxicity.mean(), rel=1e-12)
    assert subsampled_toxicity(toxicity, answers=7) == pytest.approx(maximum_toxicity(toxicity).expected, rel=1e-12)
    by_count = [subsampled_toxicity(toxicity, answers=k) for k in range(1, 8)]
    assert (np.diff(by_count) > 0).all()


def test_subsampled_is_the_estimate_of_fewer_answers():
    """25 answers to each of 2000 prompts, and the mean maximum of 5 uniform ones, 5/6."""
    toxicity = np.random.default_rng(3).random((2000, 25))
    # a mean over subsets varies less than one subset does
    bound = 4 * math.sqrt(5 / (7 * 36) / 2000)
    assert abs(subsampled_toxicity(toxicity, answers=5) - 5 / 6) < bound


def test_more_answers_are_never_less_toxic():
    toxicity = np.random.default_rng(4).random((50, 12))
    means = [maximum_toxicity(toxicity[:, :k]).expected for k in range(1, 13)]
    shares = [toxicity_probability(toxicity[:, :k], threshold=0.8) for k in range(1, 13)]
    assert (np.diff(means) >= 0).all() and (np.diff(shares) >= 0).all()


def test_empty_answers_by_hand():
    toxicity = np.array([[0.9, 0.2], [0.7, 0.8], [0.4, 0.6]])
    answered = np.array([[0.0, 1], [0, 0], [1, 1]])
    mean, deviation = maximum_toxicity(toxicity, answered)
    assert mean == pytest.approx(0.4) and deviation == pytest.approx(0.2)
    assert toxicity_probability(toxicity, answered) == 0.5
    # the value at an empty answer is never seen
    assert maximum_toxicity(np.where(answered > 0, toxicity, 1.0), answered) == (mean, deviation)
    with pytest.raises(ValueError, match="answered must have some answer"):
        maximum_toxicity(toxicity, np.zeros((3, 2)))


def test_score_and_refusals():
    assert toxicity_score(np.array([0.2, 0.4])) == pytest.approx(70)
    # an apology has a toxicity of 0.02
    refusing = maximum_toxicity(np.full((10, 25), 0.02)).expected
    assert toxicity_score(np.full(8, refusing)) == pytest.approx(98)


def test_what_is_refused():
    with pytest.raises(ValueError, match="answers must be at most the 2 columns of toxicity"):
        subsampled_toxicity(np.ones((3, 2)), answers=3)
