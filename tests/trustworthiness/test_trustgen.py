"""The toolkit's public tables from their columns, expectations, and averages that are no proportions."""

import itertools

import numpy as np
import pytest

from trref.trustworthiness.trustgen import (
    aspect_score,
    image_robustness,
    injection_score,
    judge_rate,
    object_score,
    overall_score,
    pairwise_shares,
    refusal_shares,
    relative_change,
    safety_score,
    same_correctness,
    sycophancy_similarity,
    toxicity_spread,
    truthfulness,
)

# src/report/data of TrustGen/TrustEval-toolkit: 16 language models (truthfulness, safety, fairness, privacy,
# robustness, ethics, advanced AI risk) and 10 of vision and language (safety, robustness, privacy, truthfulness,
# fairness, ethics); the last column is their 'Avg.'
LANGUAGE = """
6401 9365 8028 8028 9904 7846 8277 8264
6612 9116 7479 7479 9936 7736 7866 8032
5854 8733 7304 7304 9263 7720 7531 7673
5970 9438 8116 8116 9936 7846 5570 7856
5940 8759 7314 7314 9295 7779 6052 7493
6483 9483 8165 8165 9551 7365 8661 8268
5989 9165 7594 7594 9936 7449 8661 8055
6080 9119 8059 8059 9295 7627 8908 8164
6596 9189 7944 7944 9679 8007 8326 8241
6194 9396 7405 7405 9071 7213 6910 7656
6613 8849 7771 7771 9487 7855 8410 8108
6569 8262 7305 7305 8878 7584 7899 7686
6818 8847 8151 8151 9840 7931 5852 7941
6164 9206 7848 7848 9615 7965 7027 7953
5906 8842 7290 7290 9776 7948 7448 7786
6051 8608 7429 7429 9712 7973 7908 7873
"""
VISION = """
9720 6664 5667 6592 5974 7433 7008
9630 6970 6351 5299 7636 8068 7326
9990 6548 6171 6667 8124 7775 7546
9040 6071 8227 4876 6115 7359 6948
9780 5515 4452 6443 9296 5575 6843
7780 5412 5935 5548 9057 6196 6655
4890 6320 5137 6269 6034 9267 6319
4300 6032 5128 6194 5465 8753 5979
6120 4972 9381 4976 5209 8289 6491
7920 5134 8291 5597 1260 0196 4733
"""


def _table(text):
    return np.array([[int(number) / 10_000 for number in row.split()] for row in text.strip().splitlines()])


@pytest.mark.parametrize("text", [LANGUAGE, VISION])
def test_public_averages(text):
    """To the four digits that the tables have."""
    table = _table(text)
    scores, published = table[:, :-1].copy(), table[:, -1]
    assert abs(overall_score(scores, np.zeros_like(scores)).score - published).max() < 0.5e-4 + 1e-9


def test_two_columns_are_one():
    """Fairness and privacy of all sixteen models: with one of them, the first place changes hands."""
    table = _table(LANGUAGE)
    assert (table[:, 2] == table[:, 3]).all()
    once = np.delete(table[:, :-1], 3, axis=1)
    both = table[:, :-1].copy()
    ranks = [np.argsort(-overall_score(s, np.zeros_like(s)).score, kind="stable") for s in (both, once)]
    assert (ranks[0] != ranks[1]).any()


def test_leaders_are_within_noise():
    """With 300 items a dimension, the standard error of a mean is 0.008: the first six of the table are as one."""
    scores = _table(LANGUAGE)[:, :-1].copy()
    result = overall_score(scores, np.sqrt(scores * (1 - scores) / 300))
    order = np.argsort(-result.score)
    top, sixth = order[0], order[5]
    apart = result.score[top] - result.score[sixth]
    assert apart < 1.96 * np.hypot(result.error[top], result.error[sixth])


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (1.0, 0.0), (0.9, 0.8), (0.2, 0.1)])
def test_same_correctness_in_expectation(p, q):
    """All pairs; at p = q = ½ there is a saddle, with 0 on one side and 1 on the other."""
    mean = sum(
        (p if a else 1 - p) * (q if b else 1 - q) * same_correctness(np.array([float(a)]), np.array([float(b)]))
        for a, b in itertools.product((0, 1), repeat=2)
    )
    assert mean == pytest.approx(0.5 + 2 * (p - 0.5) * (q - 0.5), rel=1e-12, abs=1e-15)
    assert same_correctness(np.zeros(5), np.zeros(5)) == 1, "always wrong, and robust"


def test_missing_verdicts_drop_out():
    verdict, credit = np.array([0, 1, 1, 0]), np.array([1.0, 0.0])
    judged = np.array([1.0, 1, 1, 0])
    assert judge_rate(verdict, credit) == 0.5
    assert judge_rate(verdict, credit, judged) == pytest.approx(1 / 3)
    assert judge_rate(verdict, 1 - credit, judged) == pytest.approx(2 / 3)
    assert injection_score(np.array([0, 1, 2, 2]), np.array([1.0, 1, 1, 0])) == 0.5
    plain = np.array([0, 2, 2, 0, 0])
    assert injection_score(plain, np.ones(5)) == judge_rate(plain, np.array([1.0, 0, 0])) == 0.6


def test_swaps_are_undone():
    """One truth, two orders: the same shares."""
    verdict = np.array([0, 0, 1, 2, 0])
    swapped = np.array([1.0, 0, 1, 1, 0])
    seen = np.where((swapped > 0) & (verdict < 2), 1 - verdict, verdict)
    assert pairwise_shares(seen, swapped) == pytest.approx(pairwise_shares(verdict, np.zeros(5)))
    assert pairwise_shares(verdict, np.zeros(5)) == pytest.approx((0.6, 0.2, 0.2))
    # a judge who always takes the first, asked in random order, prefers nobody
    always = pairwise_shares(np.zeros(6, dtype=int), np.array([1.0, 0] * 3))
    assert always == pytest.approx((0.5, 0.5, 0))


def test_safety():
    result = refusal_shares(np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 1]), groups=2)
    assert result.overall == 0.75 and result.each.tolist() == [1, 0]
    everything = safety_score(np.ones(3), np.array([1, 1]))
    assert everything == 0.5 < safety_score(np.array([1.0, 1, 0]), np.array([0, 2]))
    assert toxicity_spread(np.array([0.0, 0.2, 0.4])) == pytest.approx((0.2, 0, 0.4, 0.2))
    assert toxicity_spread(np.array([0.3])).deviation == 0


def test_a_similarity_is_no_proportion():
    """Eleven shares of 0 or 1 and one similarity in [-2, 2]: the mean leaves [0, 1] at both ends."""
    response = np.array([[1.0, 0.0]])
    low = sycophancy_similarity(response, -response, 5 * response)
    high = sycophancy_similarity(response, 5 * response, -response)
    assert (low, high) == (-2, 2)
    assert truthfulness(np.append(np.zeros(11), low)) < 0
    assert truthfulness(np.append(np.ones(11), high)) > 1
    assert sycophancy_similarity(0 * response, response, -response) == 0


def test_changes_look_alike():
    """Better and worse under pressure have one number; a small base makes it large."""
    assert relative_change(np.array([0.5, 0.5]), np.array([0.75, 0.25])).tolist() == [0.5, 0.5]
    assert relative_change(np.array([0.01]), np.array([0.06]))[0] == pytest.approx(5)


def test_images():
    assert image_robustness(np.array([0.2, 0.4]), np.array([0.4, 0.2])) == 1
    assert image_robustness(np.array([0.25]), np.array([0.5])) == 0
    found, asked = np.array([[1.0, 0, 1], [1, 0, 0]]), np.array([[1.0, 1, 0], [1, 1, 1]])
    assert object_score(found, asked) == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_small_files_weigh_as_large_ones():
    result = aspect_score(np.array([[1.0, 0.5]]), np.array([10.0, 990.0]))
    assert result.plain[0] == 0.75 and result.pooled[0] == pytest.approx(0.505)
    equal = aspect_score(np.array([[1.0, 0.5]]), np.array([10.0, 10.0]))
    assert equal.plain == pytest.approx(equal.pooled)


def test_what_is_refused():
    with pytest.raises(ValueError, match="judged must have some item"):
        judge_rate(np.array([0]), np.ones(1), np.zeros(1))
    with pytest.raises(ValueError, match="verdict must be less than 2"):
        judge_rate(np.array([2]), np.ones(2))
    with pytest.raises(ValueError, match="group must have a member of each of the 2 groups"):
        refusal_shares(np.ones(2), np.array([0, 0]), groups=2)
    with pytest.raises(ValueError, match="base must be at least"):
        relative_change(np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="asked must have an object for each image"):
        object_score(np.ones((1, 2)), np.zeros((1, 2)))
