"""Signs, bounds and order of the calibrated rewards; groups of wrong answers; the limits of the loss."""

import numpy as np
import pytest

from trref.catalog import find
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.lens import calibrated_reward, estimate_difficulty, length_normalised_prob, lens, lens_advantage


def _groups(seed, B=60, T=6, G=10):
    rng = np.random.default_rng(seed)
    old = -rng.exponential(rng.choice((0.2, 1.0, 4.0), (B, 1)), (B, T)) - 1e-3
    mask = (np.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    group = np.arange(B) // G
    reward = (rng.random(B) < 0.3).astype(float)
    reward[:G], reward[G : 2 * G] = 0, 1
    reward[2 * G], reward[2 * G + 1] = 0, 1
    return old, mask, group, reward


def _one_token(p, reward):
    n = len(p)
    return np.log(np.array(p))[:, None], np.ones((n, 1)), np.zeros(n, int), np.array(reward, dtype=float)


def test_by_hand():
    """Confidences 0.4, 0.2, 0.1, the last one right: D = max(1/(10/3), 0.8) = 0.8."""
    batch = _one_token([0.4, 0.2, 0.1], [0, 0, 1])
    assert length_normalised_prob(*batch[:2]) == pytest.approx([0.4, 0.2, 0.1])
    assert estimate_difficulty(*batch) == pytest.approx(0.8)
    assert calibrated_reward(*batch) == pytest.approx([-1 / 3, -1 / 9, 1])
    r = np.array([-1 / 3, -1 / 9, 1])
    assert lens_advantage(*batch) == pytest.approx((r - r.mean()) / r.std(ddof=1))
    assert estimate_difficulty(*_one_token([0.1, 0.2], [0, 1])) == pytest.approx(0.4)
    assert estimate_difficulty(*_one_token([0.1, 0.4, 0.1, 0.1], [0, 1, 0, 0])) == pytest.approx(1.6), "1 right of 4"


def test_a_group_of_wrong_answers_by_hand():
    batch = _one_token([0.4, 0.2, 0.1, 0.1], [0, 0, 0, 0])
    r = -np.array([1, 1 / 3, 1 / 7, 1 / 7]) / 4
    assert calibrated_reward(*batch) == pytest.approx(r)
    assert lens_advantage(*batch) == pytest.approx(0.25 * (r - r.mean()))


@pytest.mark.parametrize("seed", range(10))
def test_signs_and_bounds(seed):
    old, mask, group, reward = _groups(seed)
    r, A = calibrated_reward(old, mask, group, reward), lens_advantage(old, mask, group, reward)
    wrong = reward == 0
    assert (r[~wrong] == 1).all() and (r[wrong] <= 0).all() and (r[wrong] >= -0.1 - 1e-15).all()
    assert (estimate_difficulty(old, mask, group, reward) >= 2 * length_normalised_prob(old, mask) * (1 - 1e-12)).all()
    for g in range(6):
        rows = group == g
        assert abs(A[rows].sum()) < 1e-12
        share = reward[rows].mean()
        if 0 < share < 1:
            assert (A[rows & ~wrong] > 0).all() and (A[rows & wrong] < 0).all()
            assert A[rows].std(ddof=1) == pytest.approx(1)
        if share == 1:
            assert not A[rows].any()


@pytest.mark.parametrize("seed", range(5))
def test_a_group_of_wrong_answers_is_ordered_by_confidence(seed):
    """The surest is pushed down, the least sure one up."""
    old, mask, group, reward = _groups(seed)
    A, p = lens_advantage(old, mask, group, reward)[:10], length_normalised_prob(old, mask)[:10]
    order = np.argsort(p)
    assert (np.diff(A[order]) <= 1e-15).all() and A[order[-1]] < 0 < A[order[0]]


def test_no_contrast_no_advantage():
    """Exactly, though the mean of fourteen times 1/14 is not quite 1/14."""
    for n in (2, 7, 14):
        assert not lens_advantage(*_one_token([0.3] * n, [0] * n)).any()
    assert not lens_advantage(*_one_token([0.3], [0])).any() and not lens_advantage(*_one_token([0.3], [1])).any()


def test_length_normalised():
    """An answer of n tokens of one probability has that confidence, whatever n; none at all has 1."""
    mask = (np.arange(5) < np.array([[0], [1], [5]])).astype(float)
    assert length_normalised_prob(np.full((3, 5), np.log(0.3)), mask) == pytest.approx([1, 0.3, 0.3])


def test_without_the_negative_groups_it_is_nearly_grpo():
    """Rewards differ by at most 1/G: so do the advantages, by about that, and groups that agree have none."""
    old, mask, group, reward = _groups(3)
    A, plain = lens_advantage(old, mask, group, reward, alpha=0.0), group_advantage(reward, group)
    assert ((A == 0) == (plain == 0)).all() and abs(A - plain).max() < 0.5 and np.corrcoef(A, plain)[0, 1] > 0.99


def test_groups_of_wrong_answers_have_a_gradient():
    old, mask, group, reward = _groups(4)
    log_prob = old + 0.4 * np.random.default_rng(0).standard_normal(old.shape)
    ours = lens(log_prob, old, mask, group, reward)
    assert ours[1][:10].any() and not grpo(log_prob, old, group_advantage(reward, group), mask)[1][:10].any()


def test_twice_the_largest_confidence_is_needed():
    """With a difficulty just above it, a mixed group may reward its second-surest mistake."""
    slip = {d.name: d.f for d in find("lens.lens").deviations}["a difficulty only just above the largest confidence"]
    old, mask, group, reward = _one_token([0.5, 0.05, 0.1], [0, 0, 1])
    ours = -lens(old, old, mask, group, reward)[1][:, 0]
    theirs = -slip(old, old, mask, group, reward)[1][:, 0]
    assert ours[0] < 0 > ours[1] and theirs[1] > 0
