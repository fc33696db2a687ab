"""Entropy and weight against SciPy, the global term by enumeration, and what becomes of groups that agree."""

import itertools

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import entropy, zscore

from tests.tokens.batches import token_batch
from trref.tokens.copo import consistency_entropy, copo, global_advantage, local_weight, prompt_reward
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.terms import logit_gradient


def _batch(seed, spread=0.5):
    """Three prompts of four answers: none right, one of the first two right, at random."""
    log_prob, old, _, mask = token_batch(seed, B=12, spread=spread)
    rng = np.random.default_rng(seed)
    group, reward = np.repeat([0, 1, 2], 4), (rng.random(12) < 0.5).astype(float)
    reward[:4] = 0
    reward[4:6] = 1, 0
    return log_prob, old, group_advantage(reward, group), mask, group, reward, rng.integers(0, 4, 12)


def test_zscore_of_the_prompts():
    """Every prompt counts once, whatever its number of answers."""
    rng = np.random.default_rng(0)
    group, reward = np.repeat([3, 1, 8, 5], [2, 7, 3, 4]), rng.standard_normal(16)
    R = {g: reward[group == g].mean() for g in group}
    expected = dict(zip(R, zscore(list(R.values())), strict=True))
    assert np.allclose(global_advantage(reward, group), [expected[g] for g in group], rtol=1e-12)
    assert np.allclose(prompt_reward(reward, group), [R[g] for g in group], rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_equal_prompts_and_single_prompts_have_none(value):
    assert not global_advantage(np.full(7, value), np.array([0, 0, 0, 1, 1, 2, 2])).any()
    assert not global_advantage(np.array([1.0, 0, 0, 1, 0, 1]), np.zeros(6, int)).any()
    assert not global_advantage(np.array([1.0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0]), np.repeat([0, 1], [3, 9])).any()


def test_expected_global_gradient():
    """Over all groups of three from four answers: 1/G of the gradient of the probability of being right."""
    V, G = 4, 3
    rng = np.random.default_rng(1)
    z, right = rng.standard_normal(V), np.array([0.0, 1.0, 0.0, 1.0])
    p = np.exp(z) / np.exp(z).sum()
    mean = np.zeros(V)
    for group in itertools.product(range(V), repeat=G):
        scores = np.eye(V)[list(group)] - p
        R = prompt_reward(right[list(group)], np.zeros(G, int))
        mean += p[list(group)].prod() * (R[:, None] * scores).mean(0)
    assert np.allclose(mean, p * (right - p @ right) / G, atol=1e-15, rtol=1e-9)


def test_unanimous_groups():
    """All wrong: every sampled answer is pushed down alike; all right: up; and GRPO does nothing."""
    old = np.log(np.array([0.5, 0.2, 0.5, 0.2]))[:, None]
    group, reward = np.array([0, 0, 1, 1]), np.array([0.0, 0, 1, 1])
    A = group_advantage(reward, group)
    assert not A.any()
    _, gradient = copo(old, old, A, np.ones((4, 1)), group, reward, np.array([1, 1, 2, 2]))
    assert gradient[:, 0] == pytest.approx([0.25, 0.25, -0.25, -0.25])
    moved = logit_gradient(np.zeros((1, 1, 3)), np.array([[0]]), -gradient[:1])[0, 0]
    assert moved[0] < 0 < moved[1] == moved[2], "probability goes to answers that were not sampled"


@pytest.mark.parametrize("blend", ["losses", "advantages"])
def test_different_wrong_answers_learn_from_the_others_if_told_to(blend):
    """Six different wrong answers have the local weight 0.997, and no advantage of their own."""
    old, group = np.full((12, 1), -1.0), np.repeat([0, 1], 6)
    reward, answer = np.repeat([0.0, 1.0], 6), np.arange(12)
    batch = old, old, group_advantage(reward, group), np.ones((12, 1)), group, reward, answer
    told = copo(*batch, blend=blend, global_if_all_wrong=True)[1][:, 0]
    left = copo(*batch, blend=blend)[1][:, 0]
    assert told[:6] == pytest.approx(1 / 12) and abs(left[:6]).max() < 0.003 / 12 * 1.2
    assert np.array_equal(told[6:], left[6:]), "right answers are left alone"


def test_by_hand():
    """Two prompts: one half right with a weight of 0.25, one all wrong."""
    old, group, reward = np.full((4, 1), -1.0), np.array([0, 0, 1, 1]), np.array([1.0, 0, 0, 0])
    A, answer = np.array([1.0, -1, 0, 0]), np.array([0, 1, 2, 2])
    hyper = {"gamma": 1.0, "threshold": float(np.log(2) + np.log(3))}
    assert local_weight(group, answer, **hyper)[0] == pytest.approx(0.25)
    loss, gradient = copo(old, old, A, np.ones((4, 1)), group, reward, answer, **hyper)
    w1 = 1 / 7  # the logistic function at -log 6
    assert -4 * gradient[:, 0] == pytest.approx([0.25 + 0.75, -0.25 + 0.75, -(1 - w1), -(1 - w1)])
    assert loss == pytest.approx(-(1.5 - 2 * (1 - w1)) / 4)


def test_groups_of_one_are_reinforce_with_a_batch_baseline():
    log_prob, old, _, mask, _, reward, answer = _batch(3, spread=0.0)
    batch = log_prob, old, np.zeros(12), mask, np.arange(12), reward, answer
    theirs = grpo(log_prob, old, zscore(reward), mask)
    assert np.allclose(copo(*batch)[1], theirs[1], rtol=1e-9, atol=1e-15)


def test_blending_losses_or_advantages():
    """One and the same wherever both advantages have one sign."""
    batch = _batch(4, spread=1.0)
    A, other = batch[2], global_advantage(batch[5], batch[4])
    two = [copo(*batch, gamma=1.0, blend=b)[1] for b in ("losses", "advantages")]
    one_sign = A * other >= 0
    assert np.allclose(two[0][one_sign], two[1][one_sign], rtol=1e-12)
    assert not np.allclose(two[0][~one_sign], two[1][~one_sign])


# ---- the weight


def _weight(*answers, **hyper):
    return local_weight(np.zeros(len(answers), int), np.array(answers), **hyper)[0]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [((0, 1, 2, 3, 4, 5), 0.997), ((0, 0, 1, 2, 3, 4), 0.77), ((0, 0, 1, 1, 2, 3), 0.03), ((7,) * 6, 9.4e-14)],
)
def test_published_constants(answers, expected):
    assert _weight(*answers) == pytest.approx(expected, rel=0.12)


def test_against_scipy():
    rng = np.random.default_rng(0)
    group, answer = rng.integers(0, 6, 60), rng.integers(0, 5, 60)
    H, w = consistency_entropy(group, answer), local_weight(group, answer, gamma=3.0, threshold=0.9)
    for g in set(group.tolist()):
        expected = entropy(np.unique(answer[group == g], return_counts=True)[1])
        assert np.allclose(H[group == g], expected, rtol=1e-12)
        assert np.allclose(w[group == g], expit(3.0 * (expected - 0.9)), rtol=1e-12)


def test_range_and_order():
    """Each further agreement lowers entropy and weight; the largest entropy is log G."""
    groups = [(0, 1, 2, 3), (0, 0, 1, 2), (0, 0, 1, 1), (0, 0, 0, 1), (0, 0, 0, 0)]
    H = [consistency_entropy(np.zeros(4, int), np.array(a))[0] for a in groups]
    assert pytest.approx(np.log(4)) == H[0] and H[-1] == 0 and (np.diff(H) < 0).all()
    assert (np.diff([_weight(*a, gamma=2.0) for a in groups]) < 0).all()


def test_labels_do_not_matter():
    rng = np.random.default_rng(1)
    group, answer, names = rng.integers(0, 4, 40), rng.integers(0, 5, 40), rng.permutation(100)[:5]
    assert np.array_equal(local_weight(group, answer), local_weight(group, names[answer]))
    assert np.array_equal(local_weight(group, answer), local_weight(9 - group, answer))


def test_the_threshold_depends_on_the_group():
    """Of four answers all different the default weight is below 0.1; in units of log G it is that of six."""
    assert _weight(0, 1, 2, 3) < 0.1
    relative = {"unit": "log_group", "threshold": 1.5 / np.log(6)}
    assert _weight(0, 1, 2, 3, **relative) > 0.98 and _weight(0, 1, 2, 3, 4, 5, **relative) == pytest.approx(
        0.997, 1e-3
    )
